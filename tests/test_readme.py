"""The README: every command that can run here is run as printed, and its answer compared with the printed one."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ARN, ROOT, SECRET, Function, decision, make_jwt, token_event

import demo

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("    #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
LOGIN = """curl -X POST <invoke_url>/auth -d '{"user_id": "testuser", "password": "password123"}'"""
CALL = 'curl -H "Authorization: Bearer <jwt_token>" <invoke_url>/api'
# What other tests run, and where.
RUN_ELSEWHERE = {
    "make demo": "test_demo.py",
    "make test": "this run",
    "make layer": "test_build_layer.py",
    "make dynamodb": "test_dynamodb_local.py uses what it fetches",
    "python create_password.py --user-id testuser": "test_create_password.py",
    "python create_password.py --user-id testuser --table user_credentials": "test_create_password.py",
    **dict.fromkeys([line for line in COMMANDS if re.match(r"(docker|cp requirements)", line)], "test_build_layer.py"),
}
NEEDS = {
    "make lint": "checks that are no test",
    "make soak": "minutes",
    "make bench": "minutes",
    "CI=true make test": "this run, in CI",
    "make deploy BUCKET=<your-bucket>": "an AWS account; its refusals are tested here",
    "pip install -r requirements_basic_auth.txt": "done by make",
    "python3 -m venv .venv && . .venv/bin/activate": "done by make",
    'wscat -c <websocket_url> -H "Authorization: Bearer <jwt_token>"': "wscat; test_demo.py uses another client",
    'wscat -c "<websocket_url>?access_token=<jwt_token>"': "wscat; test_demo.py uses another client",
    **dict.fromkeys([line for line in COMMANDS if line.startswith("aws ")], "an AWS account"),
}


@pytest.fixture(scope="module")
def stack() -> Iterator[demo.Stack]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in demo.aws_settings().items():
            environment.setenv(name, value)
        with demo.emulator() as endpoint:
            allowed = "*/prod/GET/api"
            deployed = demo.deploy(endpoint, AllowedResourceArns=allowed, AuthRateLimit="1000", AuthBurstLimit="1000")
            demo.create_user(endpoint, demo.USER, demo.PASSWORD)
            yield deployed


def run(command: str, stack: demo.Stack, **values: str) -> Any:
    """Run a command of the README with its <placeholders> filled in, and return status and body of the answer."""
    if not shutil.which("curl") and not os.environ.get("CI"):
        pytest.skip("curl is not installed")
    for name, value in {"invoke_url": stack.api, **values}.items():
        command = command.replace(f"<{name}>", value)
    done = subprocess.run(
        [*shlex.split(command), "-s", "--noproxy", "*", "-w", "\n%{http_code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def printed_after(command: str) -> dict[str, Any]:
    """Return the JSON that the README prints below a command."""
    found = re.search(re.escape(command) + r"\n```\n\n```json\n(.*?)\n```", README)
    assert found, command
    printed: dict[str, Any] = json.loads(found[1])
    return printed


def answer_in_table(call: str) -> tuple[int, str]:
    """Return status and body that the README's table has for a call."""
    found = re.search(rf"^\| {re.escape(call)}[^|]*\| (\d+) `(.*?)` \|$", README, re.MULTILINE)
    assert found, call
    return int(found[1]), found[2]


def test_every_command_is_run_by_a_test_or_says_what_it_needs() -> None:
    assert LOGIN in COMMANDS
    assert CALL in COMMANDS
    unknown = [line for line in COMMANDS if line and line not in {LOGIN, CALL} | set(RUN_ELSEWHERE) | set(NEEDS)]
    assert unknown == []


def test_login_and_call_answer_as_printed(stack: demo.Stack) -> None:
    status, body = run(LOGIN, stack)
    login, printed = json.loads(body), printed_after(LOGIN)
    assert status == 200
    assert list(login) == list(printed)
    assert (login["token_type"], login["expires_in"]) == (printed["token_type"], printed["expires_in"])
    assert login["token"].startswith(printed["token"].removesuffix("..."))
    status, body = run(CALL, stack, jwt_token=login["token"])
    assert status == 200
    assert list(json.loads(body)) == list(printed_after(CALL))
    assert json.loads(body)["caller"] == printed_after(CALL)["caller"]


def test_refusals_answer_as_printed(stack: demo.Stack) -> None:
    assert run("curl <invoke_url>/api", stack) == answer_in_table("`curl <invoke_url>/api`")
    forged = demo.forge(make_jwt(SECRET))
    assert run(CALL, stack, jwt_token=forged) == answer_in_table("the same with a forged or expired token")
    wrong = LOGIN.replace("password123", "wrong")
    assert run(wrong, stack) == answer_in_table("`POST /auth` with a wrong password")
    assert run("curl -X POST <invoke_url>/auth -d hello", stack) == answer_in_table("`POST /auth` with something else")
    token = json.loads(run(LOGIN, stack)[1])["token"]
    status, body = run(CALL + "/other", stack, jwt_token=token)
    printed_status, printed_body = answer_in_table("with a valid token, and a method that `ALLOWED_RESOURCE_ARNS`")
    assert status == printed_status
    # The emulator does not know NotResource, so its words lack the end.
    assert json.loads(printed_body)["Message"].startswith(json.loads(body)["Message"])


def test_example_of_allowed_resource_arns_allows_what_it_says(deploy: Callable[..., Function]) -> None:
    example = re.search(r"^ALLOWED_RESOURCE_ARNS=(\S+)$", README, re.MULTILINE)
    assert example
    answer = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=example[1])(token_event(make_jwt()))
    assert decision(answer, example[1]) == "Allow"
    assert decision(answer, ARN.replace("GET/api", "POST/orders")) == "Deny"


def test_token_validation_expression_takes_tokens_and_nothing_else() -> None:
    expression = re.search(r"use `(\^\[Bb\].*?\$)`", README)
    assert expression
    for scheme in ("Bearer ", "bearer ", "BEARER  "):
        assert re.search(expression[1], scheme + make_jwt())
    for other in (make_jwt(), "Bearer x", "Basic " + make_jwt(), f"Bearer {make_jwt()} x"):
        assert not re.search(expression[1], other)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_proposed_secret_is_one_that_the_handlers_take(deploy: Callable[..., Function]) -> None:
    assert "openssl rand -hex 32" in README
    secret = subprocess.run(
        ["openssl", "rand", "-hex", "32"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert deploy("jwt_auth_token", JWT_SECRET=secret)(token_event(make_jwt(secret)))["principalId"] == "testuser"


def test_links_within_the_readme_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_parameters_are_those_of_the_template() -> None:
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    section = template[template.index("\nParameters:\n") : template.index("\nConditions:\n")]
    parameters = re.findall(r"^  (\w+):\n", section, re.MULTILINE)
    chapter = README[README.index("## Deploy with the template") : README.index("## Deploy with the console")]
    assert sorted(re.findall(r"^\| `(\w+)` \|", chapter, re.MULTILINE)) == sorted(parameters)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        pytest.param([], "needs an S3 bucket", id="no bucket"),
        pytest.param(["BUCKET=b"], "make layer", id="no layers"),
        pytest.param(["BUCKET=b", "PARAMETERS=Architecture=x86_64"], "ARCH= and PYTHON=", id="architecture by hand"),
    ],
)
def test_deploy_refuses_with_a_sentence(tmp_path: Path, settings: list[str], sentence: str) -> None:
    for name in ("Makefile", "build_layer.py", "template.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    aws = tmp_path / "aws"
    aws.write_text("#!/bin/sh\necho deployed\n")
    aws.chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHON3": sys.executable}
    command = ["make", "--no-print-directory", "deploy", *settings]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "deployed" not in done.stdout
