"""The whole kit on the emulator, both templates side by side; the demo, `make serve`, and what may be in their way."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from support.kit import ROOT

import demo.__main__ as demo
from demo.emulator import DemoError, Stack, authorizer_runs, aws, create_user, deploy, emulator, physical_ids

USER, PASSWORD = "testuser", "password123"
TEMPLATES = {"REST": "template.yaml", "HTTP": "template_http.yaml"}
NEW = "the-secret-of-this-month-fedcba9876543210"
each_kind = pytest.mark.parametrize("kind", TEMPLATES)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def stacks(endpoint: str) -> dict[str, Stack]:
    """Both templates with their defaults, side by side in one account."""
    found = {kind: deploy(endpoint, template, f"kit-{kind}") for kind, template in TEMPLATES.items()}
    create_user(endpoint, USER, PASSWORD)
    create_user(endpoint, USER, PASSWORD, table="user_credentials_http")
    return found


def stack_of(endpoint: str, name: str, kind: str = "REST", **parameters: str) -> Stack:
    """Deploy a template with parameters of its own, and a table of its own with one user in it."""
    stack = deploy(endpoint, TEMPLATES[kind], name, UserTableName=f"users.{name}", **parameters)
    create_user(endpoint, USER, PASSWORD, table=f"users.{name}")
    return stack


def new_token(stack: Stack) -> str:
    """Log in; every token is another, so API Gateway has not seen it."""
    answer = requests.post(f"{stack.api}/auth", json={"user_id": USER, "password": PASSWORD}, timeout=60)
    return str(answer.json()["token"])


def status(stack: Stack, path: str, token: str) -> int:
    """Call a route, and return the status of the answer."""
    return requests.get(stack.api + path, headers={"Authorization": f"Bearer {token}"}, timeout=60).status_code


# --- The templates in one account ---


def test_each_stack_takes_its_own_tokens_and_not_the_others(stacks: dict[str, Stack]) -> None:
    rest, http = stacks.values()
    assert [status(stack, "/api", new_token(stack)) for stack in (rest, http)] == [200, 200]
    assert status(rest, "/api", new_token(http)) == 401
    assert status(http, "/api", new_token(rest)) == 500  # 401 on AWS


@each_kind
@pytest.mark.parametrize(("seconds", "runs"), [("300", 1), ("0", 2)], ids=["cache on", "cache off"])
def test_two_routes_with_one_token_ask_the_authorizer(endpoint: str, kind: str, seconds: str, runs: int) -> None:
    stack = stack_of(endpoint, f"{kind}-{seconds}", kind, ReauthorizeEvery=seconds)
    token = new_token(stack)
    assert [status(stack, path, token) for path in ("/api", "/api/other")] == [200, 200]
    assert authorizer_runs(stack) == runs


def test_what_is_allowed_does_not_depend_on_which_route_was_called_first(endpoint: str) -> None:
    stack = stack_of(endpoint, "listed", AllowedResourceArns="arn:aws:execute-api:*:*:*/prod/GET/api")
    for order in (["/api", "/api/other"], ["/api/other", "/api"]):
        token = new_token(stack)
        assert {path: status(stack, path, token) for path in order} == {"/api": 200, "/api/other": 403}
    assert authorizer_runs(stack) == 2


def test_generated_secret_is_replaced_in_two_deployments_and_nobody_is_logged_out(endpoint: str) -> None:
    tokens = [new_token(stack_of(endpoint, "rotation", ReauthorizeEvery="0"))]
    secret = physical_ids(endpoint, "rotation")["GeneratedSecret"]
    old = aws(endpoint, "secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    for secrets, expected in [
        ({"JwtSecret": old, "JwtSecretPrevious": NEW}, [200, 200]),
        ({"JwtSecret": NEW, "JwtSecretPrevious": old}, [200, 200, 200]),
        ({"JwtSecret": NEW}, [401, 401, 200, 200]),
    ]:
        stack = stack_of(endpoint, "rotation", ReauthorizeEvery="0", **secrets)
        tokens.append(new_token(stack))
        assert [status(stack, "/api", token) for token in tokens] == expected


def test_google_route_is_there_with_a_client_id_only(endpoint: str, stacks: dict[str, Stack]) -> None:
    google = stack_of(endpoint, "google", GoogleClientId="1-a.apps.googleusercontent.com")
    # API Gateway says 403 of a route that is not there.
    assert [status(stack, "/google", "junk") for stack in (google, stacks["REST"])] == [401, 403]


def test_http_api_answers_preflights_of_the_one_origin(endpoint: str) -> None:
    stack = stack_of(endpoint, "cors", "HTTP", CorsAllowOrigin="https://app.example")
    for origin, expected in [("https://app.example", 204), ("https://evil.example", 403)]:
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        answer = requests.options(f"{stack.api}/api", headers=asked, timeout=60)
        allowed = answer.headers.get("Access-Control-Allow-Origin")
        assert (answer.status_code, allowed) == (expected, origin if expected == 204 else None)


def test_deployment_that_is_refused_ends_in_the_reason(endpoint: str) -> None:
    with pytest.raises(DemoError, match=r"^CloudFormation does not take template\.yaml: .*Architecture"):
        deploy(endpoint, name="refused", Architecture="sparc")
    with pytest.raises(DemoError, match=r"^template\.yaml has no parameter Jwt\.$"):
        deploy(endpoint, name="refused", Jwt="x")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_emulator_listens_on_loopback_alone(stacks: dict[str, Stack]) -> None:
    port = urllib.parse.urlsplit(stacks["REST"].endpoint).port
    pids = processes_with(f"GATEWAY_PORT={port}")
    assert len(pids) > 1  # the emulator and its functions
    assert listening(pids) == {f"0100007F:{port:04X}"}


# --- The demo and make serve, as their user runs them ---


def test_demo_tells_the_whole_story_whatever_the_user_has_set_and_leaves_nothing(tmp_path: Path) -> None:
    users = {"HTTP_PROXY": "http://127.0.0.1:9", "AWS_PROFILE": "nobody", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = run_demo(tmp_path, **users)
    assert (done.returncode, done.stderr) == (0, "")
    verdicts = re.findall(r"^[✓✗].*", done.stdout, re.MULTILINE)
    assert [verdict for verdict in verdicts if not re.fullmatch(r"✓ .+, as it should be", verdict)] == []
    assert f"{len(verdicts)} of {len(verdicts)} answers were right" in done.stdout
    assert len(verdicts) >= 20
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and not line.startswith("TOKEN=")] == []
    assert not left_behind(tmp_path)


def test_demo_with_a_wrong_answer_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "RIGHT", [True])
    monkeypatch.setattr(demo, "story", lambda endpoint: demo.step("A call", 200, 500))
    assert demo.demo("") == 1
    assert "✗ 500, and it should be 200\n\n1 of 2 answers were right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "moment", "number", "expected"),
    [
        pytest.param([], "Deploying", signal.SIGINT, 130, id="Ctrl-C while deploying"),
        pytest.param([], "A password", signal.SIGTERM, 130, id="terminated in the story"),
        pytest.param(["--serve"], "Ctrl-C ends", signal.SIGINT, 0, id="Ctrl-C while serving"),
    ],
)
def test_demo_ends_quietly_and_with_all_that_it_started(
    tmp_path: Path, arguments: list[str], moment: str, number: int, expected: int
) -> None:
    with start_demo(tmp_path, *arguments) as process:
        printed_until(process, moment)
        process.send_signal(number)
        assert (process.wait(60), process.stderr and process.stderr.read()) == (expected, "")
    assert not left_behind(tmp_path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_what_serve_prints_works_as_printed_and_the_page_comes_first(tmp_path: Path) -> None:
    with start_demo(tmp_path, "--serve", "JwtTtlSeconds=60") as process:
        printed = printed_until(process, "Ctrl-C ends")
        page, *commands = re.findall(r"^  (.+)", printed, re.MULTILINE)
        shell = "\n".join(re.sub("^curl ", "curl -s -w ' %{http_code}\\n' ", command) for command in commands)
        said = subprocess.run(["sh"], input=shell, capture_output=True, text=True, check=False).stdout
        shown = requests.get(page, timeout=60)
        process.send_signal(signal.SIGINT)
    assert re.findall(r" (\d{3})$", said, re.MULTILINE) == ["401", "401", "200", "403", "200"]
    assert "Connected to ws://" in said
    assert shown.headers["Content-Type"].startswith("text/html")
    assert (ROOT / "try.html").read_text() == shown.text


def test_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_demo(tmp_path, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"demo: Port {port} of 127.0.0.1 is in use or not allowed: choose another with PORT=.\n"


def test_missing_package_is_one_sentence() -> None:
    command = [sys.executable, "-S", "-m", "demo"]  # -S: without the installed packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"demo: \w+ cannot be imported: run `make demo`, which installs .*\n", done.stderr)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        pytest.param("OSError: [Errno 28] No space left on device", "The disk is full.", id="full disk"),
        pytest.param(
            "Error: [Errno 13] Permission denied: '.venv'", "The folder {} cannot be written.", id="read-only"
        ),
        pytest.param("No module named ensurepip", "Python's venv module is missing .*", id="no venv"),
        pytest.param(
            "WARNING: Retrying (Retry(total=4\nERROR: No x", "The package index cannot be reached.*", id="no network"
        ),
        pytest.param("ERROR: No matching distribution found for x", "No matching distribution found for x", id="else"),
        pytest.param("old", "This needs Python 3.11 or newer: make PYTHON3=.*", id="old Python"),
    ],
)
def test_what_is_in_the_way_of_an_installation_is_one_sentence(tmp_path: Path, said: str, sentence: str) -> None:
    python = tmp_path / "python"
    patched = "import sys; sys.version_info = (3, 10); exec(sys.argv[1])"
    old = f"exec '{sys.executable}' -c '{patched}' \"$2\"" if said == "old" else "exit 0"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && {old}\nprintf \'%s\\n\' "{said}"\nexit 1\n')
    python.chmod(0o755)
    done = make(tmp_path, "demo", f"PYTHON3={python}")
    assert done.returncode == 2
    assert done.stdout.startswith("Installing what the demo needs into .venv")
    assert re.fullmatch(sentence.format(re.escape(str(tmp_path))), done.stderr.splitlines()[0])


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a folder with the Makefile, and with what its targets depend on."""
    for file in [ROOT / "Makefile", *ROOT.glob("requirements_*.txt"), ROOT / "build_layer.py"]:
        shutil.copy(file, folder)
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("broken", [False, True])
def test_environment_whose_python_is_gone_is_made_again(tmp_path: Path, broken: bool) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to("/nowhere/python" if broken else sys.executable)
    make(tmp_path, "help")
    (tmp_path / ".venv/demo").touch()
    assert ("--clear" in make(tmp_path, "-n", "demo").stdout) == broken


def run_demo(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end, with its temporary files in a folder."""
    with start_demo(folder, *arguments, **settings) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@contextlib.contextmanager
def start_demo(folder: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Start the demo, with its temporary files in a folder, and see that it ends."""
    command, pipe = [sys.executable, "-m", "demo", *arguments], subprocess.PIPE
    environment = os.environ | {"TMPDIR": str(folder)} | settings
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=pipe) as process:
        yield process
        process.terminate()


def printed_until(process: subprocess.Popen[str], moment: str) -> str:
    """Return what a process prints before a line that begins with a text."""
    return "".join(itertools.takewhile(lambda line: not line.startswith(moment), process.stdout or []))


def left_behind(folder: Path) -> list[object]:
    """Return the files and the processes that were started with a folder and are still there."""
    return [*folder.iterdir(), *processes_with(str(folder))]


def processes_with(setting: str) -> list[int]:
    """Return the processes that have a text in their environment, this one aside."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if setting.encode() in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def listening(pids: list[int]) -> set[str]:
    """Return the addresses that processes listen on, in the kernel's notation (127.0.0.1 is 0100007F)."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.update(re.findall(r"socket:\[(\d+)\]", str(descriptor.readlink())))
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and row[9] in inodes}
