"""The emulator and what it lets in, the kit on it, the demo, and `make serve`."""

import base64
import contextlib
import io
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from support.files import ROOT

from demo import DemoError
from demo.emulator import (
    CREDENTIALS,
    Stack,
    authorizer_runs,
    aws,
    create_user,
    deploy,
    emulator,
    physical_ids,
    publish_page,
)

USER, PASSWORD = "testuser", "password123"
LOGIN = {"user_id": USER, "password": PASSWORD}
TEMPLATES = {"REST": "template.yaml", "HTTP": "template_http.yaml"}
ONLY_API = "arn:aws:execute-api:*:*:*/prod/GET/api"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def stacks(endpoint: str) -> dict[str, Stack]:
    """Return both stacks of the kit, each with one user."""
    found = {kind: deploy(endpoint, file, f"kit-{kind}") for kind, file in TEMPLATES.items()}
    create_user(endpoint, USER, PASSWORD)
    create_user(endpoint, USER, PASSWORD, table="user_credentials_http")
    return found


def stack_of(endpoint: str, name: str, kind: str = "REST", **parameters: str) -> Stack:
    """Deploy a template with these parameters, and with a table of its own that has one user."""
    table = f"users.{name}"
    stack = deploy(endpoint, TEMPLATES[kind], name, UserTableName=table, **parameters)
    create_user(endpoint, USER, PASSWORD, table=table)
    return stack


def new_token(stack: Stack) -> str:
    """Log in, and return a token that API Gateway hasn't seen yet."""
    response = requests.post(f"{stack.api}/auth", json=LOGIN, timeout=60)
    return str(response.json()["token"])


def status(stack: Stack, path: str, token: str) -> int:
    """Call a route, and return the status of the response."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(stack.api + path, headers=headers, timeout=60).status_code


# The emulator runs programs. A web page in any tab, and any user of this machine, can reach it.
FOREIGN = {"Origin": "https://evil.example", "Content-Type": "text/plain;charset=UTF-8"}


def test_foreign_page_cannot_create_a_function(endpoint: str) -> None:
    program = io.BytesIO()
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr("pwn.py", "def handler(event, context): pass")
    function = {
        "FunctionName": "pwn",
        "Runtime": "python3.14",
        "Handler": "pwn.handler",
        "Role": "arn:aws:iam::000000000000:role/r",
        "Code": {"ZipFile": base64.b64encode(program.getvalue()).decode()},
    }
    url = f"{endpoint}/2015-03-31/functions"
    assert requests.post(url, json=function, headers=FOREIGN, timeout=60).status_code == 403
    assert requests.get(url, headers=FOREIGN, timeout=60).status_code == 403
    names = [each["FunctionName"] for each in aws(endpoint, "lambda").list_functions()["Functions"]]
    assert "pwn" not in names


def test_foreign_page_cannot_read_the_table(endpoint: str, stacks: dict[str, Stack]) -> None:
    scan = {**FOREIGN, "X-Amz-Target": "DynamoDB_20120810.Scan"}
    body = '{"TableName": "user_credentials"}'
    response = requests.post(endpoint, data=body, headers=scan, timeout=60)
    # DynamoDB says this with 400, where the other services say 403. So does AWS.
    assert response.status_code == 400
    assert response.json()["__type"] == "MissingAuthenticationTokenException"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_foreign_page_cannot_touch_what_is_deployed(
    endpoint: str, stacks: dict[str, Stack], method: str
) -> None:
    url = f"{endpoint}/artifacts/jwt_auth_token.py"
    assert requests.request(method, url, headers=FOREIGN, timeout=60).status_code == 403


def test_only_the_page_is_public(endpoint: str) -> None:
    page = publish_page(endpoint)
    response = requests.get(page, headers=FOREIGN, timeout=60)
    assert response.text == (ROOT / "try.html").read_text(encoding="utf-8")
    assert response.headers["Content-Type"].startswith("text/html")
    assert requests.put(page, "mine", headers=FOREIGN, timeout=60).status_code == 403
    folder = page.rpartition("/")[0]
    for url in (folder, f"{folder}/other.html"):
        assert requests.get(url, headers=FOREIGN, timeout=60).status_code == 403


def test_keys_are_new_in_every_run() -> None:
    code = "from demo.emulator import CREDENTIALS; print(CREDENTIALS['AWS_SECRET_ACCESS_KEY'])"
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(other.strip()) >= 40
    assert other.strip() != CREDENTIALS["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="/proc/net is a part of Linux")
def test_emulator_listens_on_loopback_only(stacks: dict[str, Stack]) -> None:
    new_token(stacks["REST"])  # starts a function
    port = stacks["REST"].endpoint.rpartition(":")[2]
    processes = processes_with(f"GATEWAY_PORT={port}")
    assert len(processes) > 1, "the emulator and its functions"
    assert listening(processes) == {f"0100007F:{int(port):04X}"}


def test_each_stack_accepts_its_own_tokens_only(stacks: dict[str, Stack]) -> None:
    rest, http = stacks["REST"], stacks["HTTP"]
    assert status(rest, "/api", new_token(rest)) == 200
    assert status(http, "/api", new_token(http)) == 200
    assert status(rest, "/api", new_token(http)) == 401
    assert status(http, "/api", new_token(rest)) == 500, "401 on AWS"


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize(("seconds", "runs"), [("300", 1), ("0", 2)], ids=["cache on", "cache off"])
def test_two_routes_with_one_token_invoke_the_authorizer(
    endpoint: str, kind: str, seconds: str, runs: int
) -> None:
    stack = stack_of(endpoint, f"{kind}-{seconds}", kind, ReauthorizeEvery=seconds)
    token = new_token(stack)
    assert status(stack, "/api", token) == 200
    assert status(stack, "/api/other", token) == 200
    assert authorizer_runs(stack) == runs


@pytest.mark.parametrize("first", ["/api", "/api/other"])
def test_cached_policy_is_the_same_whichever_route_was_called_first(
    endpoint: str, first: str
) -> None:
    stack = stack_of(endpoint, "listed", AllowedResourceArns=ONLY_API)
    token = new_token(stack)
    status(stack, first, token)
    assert status(stack, "/api", token) == 200
    assert status(stack, "/api/other", token) == 403


def test_generated_secret_has_letters_and_digits_only(
    endpoint: str, stacks: dict[str, Stack]
) -> None:
    generated = physical_ids(endpoint, stacks["REST"].name)["GeneratedSecret"]
    secret = aws(endpoint, "secretsmanager").get_secret_value(SecretId=generated)["SecretString"]
    assert len(secret) == 64
    assert secret.isalnum()


def test_generated_secret_is_rotated_in_three_deployments_and_nobody_is_logged_out(
    endpoint: str,
) -> None:
    tokens = [new_token(stack_of(endpoint, "rotation", ReauthorizeEvery="0"))]
    generated = physical_ids(endpoint, "rotation")["GeneratedSecret"]
    old = aws(endpoint, "secretsmanager").get_secret_value(SecretId=generated)["SecretString"]
    new = f"new-{old}"
    for secrets, expected in [
        ({"JwtSecret": old, "JwtSecretPrevious": new}, [200, 200]),
        ({"JwtSecret": new, "JwtSecretPrevious": old}, [200, 200, 200]),
        ({"JwtSecret": new, "JwtSecretPrevious": ""}, [401, 401, 200, 200]),
    ]:
        stack = stack_of(endpoint, "rotation", ReauthorizeEvery="0", **secrets)
        tokens.append(new_token(stack))
        assert [status(stack, "/api", token) for token in tokens] == expected


def test_google_route_needs_a_client_id(endpoint: str, stacks: dict[str, Stack]) -> None:
    google = stack_of(endpoint, "google", GoogleClientId="1-a.apps.googleusercontent.com")
    assert status(google, "/google", "junk") == 401
    assert status(stacks["REST"], "/google", "junk") == 403, "there is no such route"


@pytest.mark.parametrize(
    ("origin", "expected"), [("https://app.example", 204), ("https://evil.example", 403)]
)
def test_http_api_answers_preflights_of_the_configured_origin_only(
    endpoint: str, origin: str, expected: int
) -> None:
    stack = stack_of(endpoint, "cors", "HTTP", CorsAllowOrigin="https://app.example")
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    response = requests.options(f"{stack.api}/api", headers=asked, timeout=60)
    assert response.status_code == expected
    allowed = response.headers.get("Access-Control-Allow-Origin")
    assert (allowed == origin) == (expected == 204)


def test_rejected_deployment_says_why(endpoint: str) -> None:
    with pytest.raises(DemoError, match=r"^CloudFormation rejects template\.yaml: .*Architecture"):
        deploy(endpoint, name="rejected", Architecture="sparc")


def test_unknown_parameter_is_named_with_the_known_ones(endpoint: str) -> None:
    with pytest.raises(DemoError, match=r"has no parameter JwtTTL\. It has .*JwtTtlSeconds"):
        deploy(endpoint, name="rejected", JwtTTL="60")


@contextlib.contextmanager
def start_demo(
    folder: Path, *arguments: str, patch: str = "", **settings: str
) -> Iterator[subprocess.Popen[str]]:
    """Start the demo with its temporary files in a folder, and end it if it still runs."""
    code = (
        f"import sys, demo.__main__, demo.story as story\n{patch}\nsys.exit(demo.__main__.main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)} | settings,
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def printed_until(process: subprocess.Popen[str], moment: str) -> str:
    """Return what a process prints before a line that begins with a text."""
    lines = itertools.takewhile(lambda line: not line.startswith(moment), process.stdout or [])
    return "".join(lines)


def assert_nothing_is_left(folder: Path) -> None:
    assert list(folder.iterdir()) == []
    assert processes_with(str(folder)) == []


@pytest.mark.parametrize(
    ("patch", "wrong"), [("", 0), ("story.WRONG = story.TESTUSER", 1)], ids=["as it is", "broken"]
)
def test_demo_tells_the_whole_story_whatever_the_user_has_set(
    tmp_path: Path, patch: str, wrong: int
) -> None:
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "config").write_text("this is no configuration")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings = {
        "HOME": str(home),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "PYTHONIOENCODING": "latin-1",
    }
    with start_demo(temporary, patch=patch, **settings) as process:
        told, errors = process.communicate()
    assert (process.returncode, errors) == (wrong, "")
    assert re.findall(r"^✗.+", told, re.MULTILINE) == ["✗ 200, expected 401"] * wrong
    right = len(re.findall(r"^✓ .+, as expected$", told, re.MULTILINE))
    assert right >= 22
    assert f"{right} of {right + wrong} responses were as expected" in told
    assert_nothing_is_left(temporary)


@pytest.mark.parametrize(
    ("mode", "moment", "number", "expected"),
    [
        pytest.param("", "Deploying", signal.SIGINT, 130, id="Ctrl-C while deploying"),
        pytest.param("", "The right password", signal.SIGTERM, 130, id="terminated in the story"),
        pytest.param("--serve", "Ctrl-C ends", signal.SIGINT, 0, id="Ctrl-C while serving"),
    ],
)
def test_demo_ends_without_a_word_and_leaves_nothing(
    tmp_path: Path, mode: str, moment: str, number: int, expected: int
) -> None:
    with start_demo(tmp_path, *mode.split()) as process:
        printed_until(process, moment)
        process.send_signal(number)
        assert process.wait(60) == expected
        assert process.stderr
        assert process.stderr.read() == ""
    assert_nothing_is_left(tmp_path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
def test_what_serve_prints_can_be_pasted_and_works(tmp_path: Path) -> None:
    with start_demo(tmp_path, "--serve", "JwtTtlSeconds=60") as process:
        page = printed_until(process, "Or paste").split()[-1]
        block = printed_until(process, "Ctrl-C ends")
        with_status = re.sub("^curl ", "curl -s -w ' %{http_code}\\n' ", block, flags=re.MULTILINE)
        pasted = subprocess.run(
            ["sh"], input=with_status, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "<title>" in requests.get(page, timeout=60).text
        invoke_url = re.findall(r"^URL=(.+)", block, re.MULTILINE)[0]
        login = requests.post(f"{invoke_url}/auth", json=LOGIN, timeout=60).json()
    assert pasted.returncode == 0
    statuses = re.findall(r" (\d{3})$", pasted.stdout, re.MULTILINE)
    assert statuses == ["401", "401", "200", "403", "200", "200"]
    assert "Connected to ws://" in pasted.stdout
    assert login["expires_in"] == 60
    assert login["scope"] == "admin"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        (
            "AllowedResourceArns=GET",
            "The function JwtAuthToken doesn't start: ALLOWED_RESOURCE_ARN",
        ),
        ("JwtIssuers=me", "template.yaml has no parameter JwtIssuers. It has "),
        ("JwtIssuer", "JwtIssuer isn't Name=value."),
    ],
    ids=["invalid setting", "misspelled parameter", "no value"],
)
def test_serve_says_what_is_wrong_with_a_parameter(
    tmp_path: Path, word: str, sentence: str
) -> None:
    with start_demo(tmp_path, "--serve", word) as process:
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith(f"demo: {sentence}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("port", ["taken", "80000"])
def test_port_that_cannot_be_used_is_one_sentence_with_the_option(
    tmp_path: Path, endpoint: str, port: str
) -> None:
    if port == "taken":
        port = endpoint.rpartition(":")[2]
    with start_demo(tmp_path, "--port", port) as process:
        told, errors = process.communicate()
    assert (process.returncode, told) == (1, "")
    assert re.fullmatch(rf"demo: Port {port} can't be used: .+ PORT=8123, .+\n", errors)


def test_missing_package_is_one_sentence() -> None:
    command = [sys.executable, "-S", "-m", "demo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"demo: \w+ isn't installed\. Run make demo, .+\n", done.stderr)


def processes_with(setting: str) -> list[Path]:
    """Return the folders in /proc of the processes with a text in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if setting.encode() in environment.read_bytes():
                found.append(environment.parent)
    return found


def listening(processes: list[Path]) -> set[str]:
    """Return where processes listen, in the kernel's notation: 127.0.0.1 is 0100007F."""
    opened = set()
    for process in processes:
        opened |= {descriptor.resolve().name for descriptor in (process / "fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines():
            row = line.split()
            if row[3] == "0A" and f"socket:[{row[9]}]" in opened:
                found.add(row[1])
    return found
