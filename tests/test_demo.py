"""The whole kit on the emulator, both templates side by side; the demo, `make serve`, and what may be in their way."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from support.files import ROOT

from demo.emulator import (
    DemoError,
    Stack,
    authorizer_runs,
    aws,
    create_user,
    deploy,
    emulator,
    physical_ids,
)

USER, PASSWORD = "testuser", "password123"
TEMPLATES = {"REST": "template.yaml", "HTTP": "template_http.yaml"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def stacks(endpoint: str) -> dict[str, Stack]:
    found = {
        kind: deploy(endpoint, template, f"kit-{kind}") for kind, template in TEMPLATES.items()
    }
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
    answer = requests.post(
        f"{stack.api}/auth", json={"user_id": USER, "password": PASSWORD}, timeout=60
    )
    return str(answer.json()["token"])


def status(stack: Stack, path: str, token: str) -> int:
    """Call a route, and return the status of the answer."""
    return requests.get(
        stack.api + path, headers={"Authorization": f"Bearer {token}"}, timeout=60
    ).status_code


def test_each_stack_takes_its_own_tokens_and_not_the_others(stacks: dict[str, Stack]) -> None:
    rest, http = stacks.values()
    assert [status(stack, "/api", new_token(stack)) for stack in (rest, http)] == [200, 200]
    assert status(rest, "/api", new_token(http)) == 401
    assert status(http, "/api", new_token(rest)) == 500  # 401 on AWS


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize(("seconds", "runs"), [("300", 1), ("0", 2)], ids=["cache on", "cache off"])
def test_two_routes_with_one_token_ask_the_authorizer(
    endpoint: str, kind: str, seconds: str, runs: int
) -> None:
    stack = stack_of(endpoint, f"{kind}-{seconds}", kind, ReauthorizeEvery=seconds)
    token = new_token(stack)
    assert [status(stack, path, token) for path in ("/api", "/api/other")] == [200, 200]
    assert authorizer_runs(stack) == runs


def test_what_is_allowed_does_not_depend_on_which_route_was_called_first(endpoint: str) -> None:
    stack = stack_of(
        endpoint, "listed", AllowedResourceArns="arn:aws:execute-api:*:*:*/prod/GET/api"
    )
    for order in (["/api", "/api/other"], ["/api/other", "/api"]):
        token = new_token(stack)
        assert {path: status(stack, path, token) for path in order} == {
            "/api": 200,
            "/api/other": 403,
        }
    assert authorizer_runs(stack) == 2


def test_generated_secret_is_replaced_in_two_deployments_and_nobody_is_logged_out(
    endpoint: str,
) -> None:
    tokens = [new_token(stack_of(endpoint, "rotation", ReauthorizeEvery="0"))]
    generated = physical_ids(endpoint, "rotation")["GeneratedSecret"]
    old = aws(endpoint, "secretsmanager").get_secret_value(SecretId=generated)["SecretString"]
    for secrets, expected in [
        ({"JwtSecret": old, "JwtSecretPrevious": f"new-{old}"}, [200, 200]),
        ({"JwtSecret": f"new-{old}", "JwtSecretPrevious": old}, [200, 200, 200]),
        ({"JwtSecret": f"new-{old}"}, [401, 401, 200, 200]),
    ]:
        stack = stack_of(endpoint, "rotation", ReauthorizeEvery="0", **secrets)
        tokens.append(new_token(stack))
        assert [status(stack, "/api", token) for token in tokens] == expected


def test_google_route_is_there_with_a_client_id_only(
    endpoint: str, stacks: dict[str, Stack]
) -> None:
    google = stack_of(endpoint, "google", GoogleClientId="1-a.apps.googleusercontent.com")
    assert [status(stack, "/google", "junk") for stack in (google, stacks["REST"])] == [
        401,
        403,
    ]  # 403: no such route


def test_http_api_answers_preflights_of_the_one_origin(endpoint: str) -> None:
    stack = stack_of(endpoint, "cors", "HTTP", CorsAllowOrigin="https://app.example")
    for origin, expected in [("https://app.example", 204), ("https://evil.example", 403)]:
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        answer = requests.options(f"{stack.api}/api", headers=asked, timeout=60)
        allowed = origin if expected == 204 else None
        assert (answer.status_code, answer.headers.get("Access-Control-Allow-Origin")) == (
            expected,
            allowed,
        )


def test_deployment_that_is_refused_ends_in_the_reason(endpoint: str) -> None:
    with pytest.raises(
        DemoError, match=r"^CloudFormation does not take template\.yaml: .*Architecture"
    ):
        deploy(endpoint, name="refused", Architecture="sparc")
    with pytest.raises(DemoError, match=r"^template\.yaml has no parameter Jwt\.$"):
        deploy(endpoint, name="refused", Jwt="x")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_emulator_listens_on_loopback_alone(stacks: dict[str, Stack]) -> None:
    port = stacks["REST"].endpoint.rpartition(":")[2]
    processes = processes_with(f"GATEWAY_PORT={port}")
    assert len(processes) > 1  # the emulator and its functions
    assert listening(processes) == {f"0100007F:{int(port):04X}"}


@pytest.mark.parametrize(
    ("patch", "wrong"), [("", 0), ("demo.ADA = demo.LOGIN", 1)], ids=["as it is", "broken"]
)
def test_demo_tells_the_whole_story_whatever_the_user_has_set(
    tmp_path: Path, patch: str, wrong: int
) -> None:
    users = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    with start_demo(tmp_path, patch=patch, **users) as process:
        told, errors = process.communicate()
    assert (process.returncode, errors) == (wrong, "")
    assert re.findall(r"^✗.+", told, re.MULTILINE) == ["✗ 403, and it should be 200"] * wrong
    right = len(re.findall(r"^✓ .+, as it should be$", told, re.MULTILINE))
    assert right >= 17
    assert f"{right} of {right + wrong} answers were right" in told
    assert [
        line for line in told.splitlines() if len(line) > 80 and not line.startswith("TOKEN=")
    ] == []
    assert [*tmp_path.iterdir(), *processes_with(str(tmp_path))] == []


@pytest.mark.parametrize(
    ("mode", "moment", "number", "expected"),
    [
        pytest.param("", "Deploying", signal.SIGINT, 130, id="Ctrl-C while deploying"),
        pytest.param("", "A password", signal.SIGTERM, 130, id="terminated in the story"),
        pytest.param("--serve", "Ctrl-C ends", signal.SIGINT, 0, id="Ctrl-C while serving"),
    ],
)
def test_demo_ends_quietly_and_wholly(
    tmp_path: Path, mode: str, moment: str, number: int, expected: int
) -> None:
    with start_demo(tmp_path, *mode.split()) as process:
        printed_until(process, moment)
        process.send_signal(number)
        assert (process.wait(60), process.stderr and process.stderr.read()) == (expected, "")
    assert [*tmp_path.iterdir(), *processes_with(str(tmp_path))] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_what_serve_prints_works_as_printed_and_the_page_comes_first(tmp_path: Path) -> None:
    with start_demo(tmp_path, "--serve", "JwtTtlSeconds=60") as process:
        printed = printed_until(process, "Ctrl-C ends")
        page, *commands = re.findall(r"^  (.+)", printed, re.MULTILINE)
        shell = "\n".join(
            re.sub("^curl ", "curl -s -w ' %{http_code}\\n' ", command) for command in commands
        )
        said = subprocess.run(
            ["sh"], input=shell, capture_output=True, text=True, check=False
        ).stdout
        shown = requests.get(page, timeout=60)
    assert re.findall(r" (\d{3})$", said, re.MULTILINE) == [
        "401",
        "401",
        "200",
        "403",
        "200",
        "200",
    ]
    assert "Connected to ws://" in said
    assert shown.headers["Content-Type"].startswith("text/html")
    assert (ROOT / "try.html").read_text() == shown.text


def test_port_in_use_is_one_sentence(tmp_path: Path, endpoint: str) -> None:
    port = endpoint.rpartition(":")[2]
    with start_demo(tmp_path, "--port", port) as process:
        told, errors = process.communicate()
    assert (process.returncode, told) == (1, "")
    assert re.fullmatch(rf"demo: .*Address already in use .*\b{port}\b.*\n", errors)


def test_missing_package_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "demo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"demo: \w+ cannot be imported: run `make demo`, which installs .*\n", done.stderr
    )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        pytest.param(
            "OSError: [Errno 28] No space left on device", "The disk is full.", id="full disk"
        ),
        pytest.param(
            "Error: Permission denied: '.venv'", "The folder {} cannot be written.", id="read-only"
        ),
        pytest.param(
            "No module named ensurepip", "Python's venv module is missing .*", id="no venv"
        ),
        pytest.param(
            "Retrying (Retry(\nERROR: No x",
            "The package index cannot be reached.*",
            id="no network",
        ),
        pytest.param(
            "ERROR: No matching distribution found for x",
            "No matching distribution found for x",
            id="else",
        ),
        pytest.param("old", "This needs Python 3.11 or newer: make PYTHON3=.*", id="old Python"),
    ],
)
def test_what_is_in_the_way_of_an_installation_is_one_sentence(
    tmp_path: Path, said: str, sentence: str
) -> None:
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
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=own, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("broken", [False, True])
def test_environment_whose_python_is_gone_is_made_again(tmp_path: Path, broken: bool) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to("/nowhere/python" if broken else sys.executable)
    make(tmp_path, "help")
    (tmp_path / ".venv/demo").touch()
    assert ("--clear" in make(tmp_path, "-n", "demo").stdout) == broken


@contextlib.contextmanager
def start_demo(
    folder: Path, *arguments: str, patch: str = "", **settings: str
) -> Iterator[subprocess.Popen[str]]:
    """Start the demo, with its temporary files in a folder, and see that it ends."""
    code = f"import sys, demo.__main__ as demo\n{patch}\nsys.exit(demo.main())"
    environment = os.environ | {"TMPDIR": str(folder)} | settings
    command, pipe = [sys.executable, "-c", code, *arguments], subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=pipe
    ) as process:
        yield process
        process.terminate()


def printed_until(process: subprocess.Popen[str], moment: str) -> str:
    """Return what a process prints before a line that begins with a text."""
    return "".join(
        itertools.takewhile(lambda line: not line.startswith(moment), process.stdout or [])
    )


def processes_with(setting: str) -> list[Path]:
    """Return the folders in /proc of the processes that were started with a text in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += [environment.parent] if setting.encode() in environment.read_bytes() else []
    return found


def listening(processes: list[Path]) -> set[str]:
    """Return the addresses that processes listen on, in the kernel's notation (127.0.0.1 is 0100007F)."""
    opened = {
        descriptor.resolve().name
        for process in processes
        for descriptor in (process / "fd").iterdir()
    }
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in opened}
