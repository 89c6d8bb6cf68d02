"""The manual: what can run here is run as printed, and what it says is compared with the code that it is about."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from samtranslator.yaml_helper import yaml_parse
from support.deploy import API, SECRET, Deploy
from support.events import token_event
from support.files import HANDLERS, ROOT
from support.iam import decision
from support.tokens import AUTHORIZERS, Target, make_jwt

from demo import emulator as demo

PAGES = {
    path: path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}
README, OPERATIONS = PAGES[ROOT / "README.md"], PAGES[ROOT / "docs/operations.md"]
PROGRAMS = (
    r"(CI=true )?(make|(\.venv/bin/)?python[\d.]*|pip|aws|curl|docker|openssl|wscat|sam|mv|cp) "
)
BLOCKS = "\n".join(
    re.findall(r"```sh\n(.*?)```", "\n".join(PAGES.values()), re.DOTALL)
).splitlines()
INLINE = [
    code
    for page in PAGES.values()
    for code in re.findall(r"`([^`\n]+)`", page)
    if re.match(PROGRAMS, code)
]
COMMANDS = {re.split(r"  +#", line)[0].strip() for line in BLOCKS + INLINE}
LOGIN = """curl -X POST <invoke_url>/auth -d '{"user_id": "testuser", "password": "password123"}'"""
CALL = 'curl -H "Authorization: Bearer <jwt_token>" <invoke_url>/api'
USERS = sorted(
    line
    for line in COMMANDS
    if re.match("python create_password.py .*--table user_credentials", line)
)
HERE = {LOGIN, CALL, "curl <invoke_url>/api", "openssl rand -hex 32", *USERS}
NOT_HERE = {  # how a command begins: the test module that runs it, or what it needs
    r"make (demo|serve)": "test_demo.py",
    r"make layer|python3 build_layer.py |docker |cp requirements": "test_build_layer.py",
    r"make (deploy|awscli|clean)": "test_template.py",
    r"make dynamodb": "test_dynamodb_local.py",
    r"python create_password.py": "test_create_password.py",
    r"(CI=true )?make (test|lint|bench|soak|mutants)": "minutes: they are the checks themselves",
    r"aws |sam |\.venv/bin/python create_password.py": "an AWS account",
    r"pip |python3? -m |mv ": "nothing of the kit",
    r"wscat |curl .*/google|python3.13 ": "another program, a token of Google's, another Python",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[demo.Stack]:
    with demo.emulator() as endpoint:
        listed = "arn:aws:execute-api:*:*:*/prod/GET/api"
        deployed = demo.deploy(
            endpoint, AllowedResourceArns=listed, AuthRateLimit="1000", AuthBurstLimit="1000"
        )
        demo.create_user(endpoint, "testuser", "password123")
        yield deployed


def run(command: str, stack: demo.Stack, token: str = "") -> tuple[int, str]:
    """Run a curl command of the manual with its <placeholders> filled in; return status and body of the answer."""
    command = command.replace("<invoke_url>", stack.api).replace("<jwt_token>", token)
    command = f"{command} -s --noproxy '*' -w '\n%{{http_code}}'"
    body, _, status = subprocess.check_output(shlex.split(command), text=True).rpartition("\n")
    return int(status), body


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of the first table below a heading."""
    rows = page.split(f"\n{heading}\n")[1].split("\n|---")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows]


def test_every_command_is_run_by_a_test_or_says_what_it_needs() -> None:
    assert [
        line for line in COMMANDS - HERE if line and not re.match("|".join(NOT_HERE), line)
    ] == []
    assert HERE <= COMMANDS
    assert all(
        (ROOT / "tests" / module).exists() for module in NOT_HERE.values() if module.endswith(".py")
    )
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {
        target for line in COMMANDS for target in re.findall(r"^(?:CI=true )?make (\w+)", line)
    } <= targets


def test_login_and_call_answer_as_printed(stack: demo.Stack) -> None:
    login_printed, call_printed = map(json.loads, re.findall(r"```json\n(.*?)\n```", README))
    status, body = run(LOGIN, stack)
    login = json.loads(body)
    assert status == 200
    assert login | {"token": login["token"][:20] + "..."} == login_printed
    status, body = run(CALL, stack, login["token"])
    assert (status, json.loads(body) | {"timestamp": call_printed["timestamp"]}) == (
        200,
        call_printed,
    )


def test_refusals_answer_as_printed(stack: demo.Stack) -> None:
    token, forged = (
        json.loads(run(LOGIN, stack)[1])["token"],
        make_jwt("another secret, of 32 bytes or more"),
    )
    calls = [("curl <invoke_url>/api", ""), (CALL, forged), (f"{CALL}/7", token)]
    calls += [
        (LOGIN.replace("password123", "wrong"), ""),
        ("curl -X POST <invoke_url>/auth -d hello", ""),
    ]
    answers = [run(command, stack, bearer) for command, bearer in calls]
    # The emulator does not know NotResource, so its words lack the end.
    ours = [f"{status} `{body}`".replace(' resource"}`', " resource") for status, body in answers]
    printed = [row[1] for row in table(README, "## Try it in one minute")]
    assert [text[: len(our)] for our, text in zip(ours, printed, strict=True)] == ours


@pytest.mark.parametrize("command", USERS)
def test_command_that_makes_or_changes_a_user_works_as_printed(
    stack: demo.Stack, command: str
) -> None:
    environment = os.environ | demo.NOBODY | {"AWS_ENDPOINT_URL": stack.endpoint, "NO_PROXY": "*"}
    line = [sys.executable, *shlex.split(command)[1:]]
    subprocess.run(line, input="password123\n", text=True, check=True, cwd=ROOT, env=environment)


def test_worked_example_of_rights_allows_what_it_says(deploy: Deploy) -> None:
    listed = OPERATIONS.split("ALLOWED_RESOURCE_ARNS=")[1].split("\n```")[0]
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=listed)
    for name, *statuses in table(OPERATIONS, "## Rights per user"):
        scope = re.search(rf'--user-id {name} .*--scope "(.*)"', OPERATIONS)
        answer = authorize(token_event(make_jwt(user_id=name, scope=scope[1] if scope else ...)))
        calls = ["GET/api", "GET/api/orders", "DELETE/api/admin/7"]
        assert [
            {"Allow": "200", "Deny": "403"}[decision(answer, f"{API}/prod/{call}")]
            for call in calls
        ] == statuses


def test_context_values_are_those_of_the_comparison(target: Target) -> None:
    rows = {row[0]: row[1:] for row in table(README, "## The three authorizers")}
    column = AUTHORIZERS.index(target.function.module.__name__)
    answer = target.call(target.token())
    assert re.findall(r"`(\w+)`", rows["context values"][column]) == list(answer["context"])
    assert answer["principalId"] == target.claims[rows["principal"][column].strip("`")]


def test_token_validation_expression_takes_tokens_and_nothing_else() -> None:
    expression = re.search(r"`(\^\[Bb\].*?\$)`", PAGES[ROOT / "docs/console.md"])
    assert expression
    good = [scheme + make_jwt() for scheme in ("Bearer ", "bearer ", "BEARER  ")]
    bad = [make_jwt(), "Bearer x", "Basic " + make_jwt(), f"Bearer {make_jwt()} x"]
    assert [bool(re.search(expression[1], text)) for text in good + bad] == [True] * 3 + [False] * 4


def test_proposed_secret_is_one_that_the_handlers_take(deploy: Deploy) -> None:
    secret = subprocess.check_output(["openssl", "rand", "-hex", "32"], text=True).strip()
    assert (
        deploy("jwt_auth_token", JWT_SECRET=secret)(token_event(make_jwt(secret)))["principalId"]
        == "testuser"
    )


def test_every_link_leads_somewhere() -> None:
    headings = {
        page: re.findall("^#+ (.+)$", text.lower(), re.MULTILINE) for page, text in PAGES.items()
    }
    for page, text in PAGES.items():
        for path, anchor in re.findall(r"\]\((?!https://)([^)#]*)#?([^)]*)\)", text):
            place = (page.parent / path).resolve() if path else page
            assert place.exists(), f"{page.name}: {path}"
            anchors = [
                re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
                for heading in headings.get(place, [])
            ]
            assert anchor in ["", *anchors], f"{page.name}: {path}#{anchor}"


def test_parameters_and_their_defaults_are_those_of_the_templates() -> None:
    parameters: dict[str, set[str]] = {}
    for template in ("template.yaml", "template_http.yaml"):
        for name, described in yaml_parse((ROOT / template).read_text())["Parameters"].items():
            parameters.setdefault(name, set()).add(str(described["Default"]) or "empty")
    documented: dict[str, set[str]] = {}
    for names, defaults, _ in table(OPERATIONS, "## Template parameters"):
        for i, name in enumerate(names.replace("`", "").split(", ")):
            documented[name] = set(
                defaults.replace("`", "").split(", ")[i if ", " in defaults else 0].split(" or ")
            )
    assert documented == parameters


def test_log_lines_of_the_troubleshooting_are_those_that_the_handlers_write() -> None:
    sources = "".join((ROOT / f"{script}.py").read_text() for script in HANDLERS)
    quoted = re.findall(r"log: `([^`]+)`((?:, `[^`]+`)*)", OPERATIONS)
    lines = [
        re.sub("^refused: ", "", line)
        for first, more in quoted
        for line in [first, *re.findall("`(.+?)`", more)]
    ]
    assert [line for line in lines if re.search("[a-z] [a-z]", line) and line not in sources] == []
