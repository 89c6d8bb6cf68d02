"""The pages about tasks in docs/: what they print runs, and their tables agree with the code."""

import ast
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import bcrypt
import boto3
import google.auth.jwt
import google.oauth2.id_token
import jwt
import jwt.api_jws
import pytest
from botocore.stub import Stubber
from botocore.validate import ParamValidator

ROOT = Path(__file__).parent.parent
NAMES = [
    "caching",
    "cors",
    "custom-authorizer",
    "google",
    "moving-to-cognito",
    "permissions",
    "revoking-tokens",
    "rotating-secrets",
    "securing-login",
    "testing",
    "websocket",
]
PAGES = {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in NAMES}
TROUBLESHOOTING = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
SECRET = "s3cr3t-that-signs-tokens-0123456789abcdef"
STAGE = "arn:aws:execute-api:eu-west-1:111122223333:abcdef1234/$default"


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give boto3 a region and credentials, which nothing here uses."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")


class Fence(NamedTuple):
    """A fenced block: its language, the line above it, and its text."""

    language: str
    above: str
    text: str


def fences(page: str) -> list[Fence]:
    """Return the fenced blocks of a page."""
    pattern = r"^ *([^\n]*)\n *```(\w+)\n(.*?)^ *```$"
    found = re.findall(pattern, PAGES[page], re.MULTILINE | re.DOTALL)
    return [Fence(language, above, dedent(text)) for above, language, text in found]


def blocks(page: str, language: str) -> list[str]:
    """Return the text of the fenced blocks of a page in one language."""
    return [fence.text for fence in fences(page) if fence.language == language]


def commands(page: str, program: str) -> list[str]:
    """Return the commands of a page that run a program, each in one line."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    return re.findall(rf"\b{program} .*", text)


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its first two rows."""
    section = PAGES[page].split(f"\n{heading}\n")[1]
    table = section.split("\n|", 1)[1].split("\n\n")[0]
    lines = table.splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split(" |")] for line in lines]


def imported(name: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> ModuleType:
    """Import a script of the kit afresh, with these environment variables."""
    for variable in ("ALLOWED_RESOURCE_ARNS", "USER_CREDENTIALS_TABLE_NAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("JWT_SECRET", SECRET)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    return module_at(ROOT / f"{name}.py")


def module_at(path: Path) -> ModuleType:
    """Return the module in a file."""
    module = ModuleType(path.stem)
    SourceFileLoader(path.stem, str(path)).exec_module(module)
    return module


def token(**claims: str) -> str:
    """Return a valid token with these claims, without those that are empty."""
    given = {name: value for name, value in claims.items() if value}
    return jwt.encode({"user_id": "anna", "exp": 9999999999} | given, SECRET, "HS256")


def test_the_table_of_permissions_is_what_the_authorizer_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [listed] = [text for text in blocks("permissions", "text") if "ALLOWED_RESOURCE_ARNS=" in text]
    authorizer = imported(
        "jwt_auth_token", monkeypatch, ALLOWED_RESOURCE_ARNS=listed.partition("=")[2]
    )
    made = {}
    for command in commands("permissions", "python create_password.py"):
        words = shlex.split(command)
        if "--keep-password" not in words and "--revoke-tokens" not in words:
            made[words[3]] = words[words.index("--scope") + 1] if "--scope" in words else ""
    for user, *statuses in rows("permissions", "## Example: three users, two scopes"):
        allowed = []
        for method in ("GET/api", "GET/api/orders", "DELETE/api/admin/7"):
            event = {
                "authorizationToken": token(scope=made[user]),
                "methodArn": f"{STAGE}/{method}",
            }
            answer = authorizer.lambda_handler(event, None)
            first = answer["policyDocument"]["Statement"][0]
            allowed.append("200" if first["Effect"] == "Allow" else "403")
        assert allowed == statuses


def test_who_may_call_prints_what_the_page_shows() -> None:
    commands = [text for text in blocks("permissions", "sh") if "/GET/" in text]
    shown = [text for text in blocks("permissions", "text") if text.startswith("route ")]
    script = "".join(commands).replace("python ", f"{sys.executable} ")
    said = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True)
    # Only the last command has a warning.
    assert (len(commands), said.returncode, said.stdout) == (2, 1, "".join(shown))


def test_wildcards_match_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    covers = imported("jwt_auth_token", monkeypatch).covers
    for _, _, pattern, also in rows("permissions", "## Wildcards in `ALLOWED_RESOURCE_ARNS`"):
        for path in also.split("`, `"):
            assert covers(f"{STAGE}/{pattern}", f"{STAGE}/{path}")
    said = PAGES["permissions"].split("Four mistakes")[1].split("\n## ")[0]
    for pattern, also in re.findall(r"`(\S+\*\S*)`\s+(?:also )?matches\s+`([^`]+)`", said):
        stage = STAGE.removesuffix("/$default") if pattern.startswith("$default") else STAGE
        assert covers(f"{stage}/{pattern}", f"{stage}/{also}")
    crossing = "arn:aws:execute-api:*:*:abcdef1234/$default/GET/api"
    assert crossing in said
    assert covers(crossing, f"{STAGE}/DELETE/x/:abcdef1234/$default/GET/api")
    assert not covers(f"{STAGE}/GET/admin/*", f"{STAGE}/GET/admin")
    assert covers(f"{STAGE}/GET/admin*", f"{STAGE}/GET/administrators")


def test_an_entry_that_matches_nothing_is_refused_with_the_printed_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = rows("permissions", "## The function doesn't start")
    assert len(table) == 8
    special = {
        "nothing between two commas": "",
        "an ARN that is too long": f"{STAGE}/GET/{'x' * 600}",
        "admin:arn:aws:...": f"admin:{STAGE}/GET/api",
        "...:abcdef1234/GET/users` (no stage)": STAGE.replace("/$default", "/GET/users"),
    }
    for entry, message in table:
        text = special.get(entry, entry.replace(".../$default", STAGE))
        listed = f"{STAGE}/GET/api,{text},{STAGE}/GET/other"
        with pytest.raises(ValueError, match=r"^ALLOWED_RESOURCE_ARNS: entry 2 ") as error:
            imported("jwt_auth_token", monkeypatch, ALLOWED_RESOURCE_ARNS=listed)
        assert str(error.value).endswith(message)


def test_corrected_policy_of_the_page_is_the_same_for_every_method(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("".join(blocks("caching", "python")))
    policy = module_at(tmp_path / "own.py").policy
    methods = ["GET/api", "POST/orders"]
    first = policy("anna", f"{STAGE}/GET/api", methods)
    assert policy("anna", f"{STAGE}/POST/orders", methods) == first
    allow, deny = first["policyDocument"]["Statement"]
    assert (allow["Effect"], deny["Effect"]) == ("Allow", "Deny")
    assert allow["Resource"] == [f"{STAGE}/GET/api", f"{STAGE}/POST/orders"] == deny["NotResource"]
    assert policy("anna", f"{STAGE}/GET/api", ["*"])["policyDocument"]["Statement"][0] == {
        "Effect": "Allow",
        "Action": "execute-api:Invoke",
        "Resource": [f"{STAGE}/*"],
    }


def test_the_table_of_token_versions_is_what_the_authorizer_decides(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authorizer = imported(
        "jwt_auth_token", monkeypatch, USER_CREDENTIALS_TABLE_NAME="user_credentials"
    )
    items: dict[str, Any] = {"missing": {}, "no such user": None}
    table = rows("revoking-tokens", "## How it works")
    assert len(table) == 6
    for claim, attribute, outcome in table:
        item = items.get(attribute, {"tokenVersion": {"S": attribute}})
        monkeypatch.setattr(authorizer, "user_item", lambda *_, item=item: item)
        version = "" if claim == "missing" else claim
        event = {
            "authorizationToken": token(token_version=version),
            "methodArn": f"{STAGE}/GET/api",
        }
        caplog.clear()
        if outcome == "accepted":
            authorizer.lambda_handler(event, None)
            continue
        with pytest.raises(Exception, match=r"^Unauthorized$"):
            authorizer.lambda_handler(event, None)
        assert outcome == f"rejected: `{caplog.messages[-1]}"


@pytest.mark.parametrize("command", commands("rotating-secrets", "make deploy"))
def test_rotation_deploys_nothing_if_a_secret_is_missing(command: str) -> None:
    script = 'make() { echo deployed "$@"; }\n' + command.replace("<your-bucket>", "bucket")
    shell = ["sh", "-c", script]
    secrets = {"OLD": "old-secret", "NEW": "new-secret"}
    printed = subprocess.check_output(shell, env=secrets, text=True)
    assert printed.startswith("deployed deploy BUCKET=bucket PARAMETERS=JwtSecret=")
    for missing in re.findall(r"\$\W?(\w+)", command):
        said = subprocess.run(shell, env=secrets | {missing: ""}, capture_output=True, text=True)
        assert (said.returncode != 0, said.stdout) == (True, "")


class Table:
    """DynamoDB in memory, as far as create_password.py needs it: which users there are."""

    def __init__(self, *users: str) -> None:
        self.users = set(users)

    def update_item(self, **request: Any) -> dict[str, Any]:
        user = request["Key"]["user_id"]["S"]
        known = user in self.users
        assert known or "ConditionExpression" not in request, f"{user} doesn't exist"
        self.users.add(user)
        return {"Attributes": {}} if known else {}

    def delete_item(self, **request: Any) -> dict[str, Any]:
        self.users.remove(request["Key"]["user_id"]["S"])
        return {}


@pytest.mark.parametrize(
    "page", [name for name in NAMES if commands(name, "python create_password.py")]
)
def test_create_password_prints_what_the_page_shows(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = imported("create_password", monkeypatch)
    table = Table("testuser")
    monkeypatch.setattr(script, "dynamodb_client", lambda: table)
    monkeypatch.setattr(script, "read_password", lambda: "correct horse battery")
    found = [fence for fence in fences(page) if fence.language in ("sh", "text")]
    ours = [number for number, fence in enumerate(found) if "create_password.py" in fence.text]
    shown = 0
    for number in ours:
        if found[number].language != "sh":
            continue
        for line in found[number].text.splitlines():
            assert script.main(shlex.split(line)[2:]) == 0
        said = capsys.readouterr().err
        following = found[number + 1 : number + 2]
        if following and re.match("(Created|Changed|Set|Revoked|Deleted) ", following[0].text):
            assert following[0].text == said
            shown += 1
        if "--delete" in found[number].text:
            table.users.add("testuser")
    assert shown == len([fence for fence in found if re.match("[A-Z][a-z]+ed |Set ", fence.text)])


OFFERED = {"Sec-WebSocket-Protocol": "access_token, eyJ.eyJ.abc"}
CONFIRMED = {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "access_token"}}
TABLE = {"TableName": "websocket_connections"}
KEY = {"connectionId": {"S": "L0SM9cOFvHcCIhw="}}
ITEM = KEY | {"userId": {"S": "anna"}, "expiresAt": {"N": "1795305600"}}
CONNECTION = {
    "connectionId": "L0SM9cOFvHcCIhw=",
    "authorizer": {"principalId": "anna", "userId": "anna", "exp": "1795305600"},
}


def websocket_code(position: int, folder: Path) -> ModuleType:
    """Import a block of Python of the page about WebSocket APIs."""
    path = folder / "code.py"
    path.write_text(blocks("websocket", "python")[position])
    return module_at(path)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setenv("CONNECTIONS_TABLE_NAME", "websocket_connections")
    monkeypatch.setenv("CONNECTIONS_URL", "https://abcdef1234.execute-api.example.com/prod")
    module: Any = websocket_code(-1, tmp_path)
    module.table = Stubber(module.dynamodb)
    module.api = Stubber(module.gateway)
    with module.table, module.api:
        yield module
        module.table.assert_no_pending_responses()
        module.api.assert_no_pending_responses()


def test_connect_function_confirms_the_subprotocol_only_if_it_is_offered(tmp_path: Path) -> None:
    handler = websocket_code(0, tmp_path).lambda_handler
    assert handler({"headers": OFFERED}, None) == CONFIRMED
    assert handler({"headers": {"Host": "example.com"}}, None) == {"statusCode": 200}


def test_connection_is_stored_and_confirmed(connections: Any) -> None:
    connections.table.add_response("put_item", {}, TABLE | {"Item": ITEM})
    event = {"requestContext": CONNECTION | {"routeKey": "$connect"}, "headers": OFFERED}
    assert connections.lambda_handler(event, None) == CONFIRMED


def test_closed_connection_is_forgotten(connections: Any) -> None:
    connections.table.add_response("delete_item", {}, TABLE | {"Key": KEY})
    event = {"requestContext": CONNECTION | {"routeKey": "$disconnect"}}
    assert connections.lambda_handler(event, None) == {"statusCode": 200}


@pytest.mark.parametrize("gone", [False, True])
def test_expired_connection_is_closed_and_forgotten(connections: Any, gone: bool) -> None:
    connections.table.add_response("scan", {"Items": [ITEM]})
    connection = {"ConnectionId": "L0SM9cOFvHcCIhw="}
    if gone:
        connections.api.add_client_error("delete_connection", "GoneException")
    else:
        connections.api.add_response("delete_connection", {}, connection)
    connections.table.add_response("delete_item", {}, TABLE | {"Key": KEY})
    connections.lambda_handler({"source": "aws.scheduler"}, None)


@pytest.mark.parametrize(("page", "position"), [("testing", 0), ("testing", 1)])
def test_examples_of_tests_pass(page: str, position: int, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(blocks(page, "python")[position])
    require_pytest_passes(tmp_path)


def test_own_authorizer_passes_its_tests(tmp_path: Path) -> None:
    authorizer, tests = blocks("custom-authorizer", "python")
    (tmp_path / "api_key_authorizer.py").write_text(authorizer)
    (tmp_path / "test_example.py").write_text(tests)
    require_pytest_passes(tmp_path)


def require_pytest_passes(folder: Path) -> None:
    """Run the tests in a folder, as a reader does who has the handlers there."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


PASSWORD_HASH = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()


@pytest.mark.parametrize("password", ["correct horse", "wrong", "", "x" * 73])
def test_migration_trigger_accepts_only_the_right_password(
    password: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("USER_CREDENTIALS_TABLE_NAME", "user_credentials")
    (tmp_path / "trigger.py").write_text(blocks("moving-to-cognito", "python")[1])
    trigger: Any = module_at(tmp_path / "trigger.py")
    item = {"passwordHash": {"S": PASSWORD_HASH}}
    event = {
        "triggerSource": "UserMigration_Authentication",
        "userName": "anna@example.com",
        "request": {"password": password},
        "response": {},
    }
    with Stubber(trigger.dynamodb) as table:
        table.add_response("get_item", {"Item": item})
        if password != "correct horse":
            with pytest.raises(ValueError, match="Invalid user_id or password"):
                trigger.lambda_handler(event, None)
            return
        response = trigger.lambda_handler(event, None)["response"]
    assert response["finalUserStatus"] == "CONFIRMED"
    assert response["userAttributes"] == {"email": "anna@example.com", "email_verified": "true"}


def test_export_writes_the_users_with_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    users: list[dict[str, Any]] = [
        {"user_id": {"S": "anna"}, "passwordHash": {"S": PASSWORD_HASH}},
        {"user_id": {"S": "a b"}, "passwordHash": {"S": PASSWORD_HASH}},
        {"user_id": {"S": "1139"}},
    ]
    client = mock.Mock()
    client.get_paginator.return_value.paginate.return_value = [{"Items": users}]
    monkeypatch.setattr(boto3, "client", lambda _: client)
    monkeypatch.setattr(sys, "argv", ["export_users.py", "user_credentials", "hash"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("cognito:username,name,hash,email\n"))
    (tmp_path / "export_users.py").write_text(blocks("moving-to-cognito", "python")[0])
    module_at(tmp_path / "export_users.py")
    rows = capsys.readouterr().out.splitlines()
    assert rows == ["cognito:username,name,hash,email", f"anna,,{PASSWORD_HASH},"]


@pytest.mark.parametrize("page", NAMES)
def test_json_is_json_and_python_compiles(page: str) -> None:
    for text in blocks(page, "json"):
        json.loads(text)
    for text in blocks(page, "python"):
        compile("def page(event):\n    " + text.replace("\n", "\n    "), page, "exec")


AWS_COMMANDS = sorted({line for page in NAMES for line in commands(page, "aws")})


@pytest.mark.parametrize("command", AWS_COMMANDS)
def test_aws_commands_name_operations_and_options_that_exist(command: str) -> None:
    command = command.partition(" |")[0].removesuffix(")")
    program, service, operation, *words = shlex.split(command)
    assert program == "aws"
    client = boto3.client(service, "eu-west-1")
    method = operation.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    members = {re.sub(r"[^a-z0-9]", "", name.lower()) for name in model.input_shape.members}
    options = [word for word in words if word.startswith("--")]
    for option in options:
        name = option.removeprefix("--").replace("-", "")
        assert name in members or option in ("--query", "--output", "--endpoint-url")


def test_the_web_acl_rule_fits_the_service() -> None:
    rules = json.loads(next(text for text in blocks("securing-login", "json") if "Rate" in text))
    client = boto3.client("wafv2", "eu-west-1")
    shape = client.meta.service_model.operation_model("CreateWebACL").input_shape.members["Rules"]
    assert not ParamValidator().validate(rules, shape).has_errors()


@pytest.mark.parametrize("page", NAMES)
def test_commands_that_need_aws_are_marked(page: str) -> None:
    for fence in fences(page):
        if fence.language != "sh":
            continue
        pattern = r"^(\w+=\$\()?(aws|curl|wscat|make deploy|python export_users.py) "
        needs = bool(re.search(pattern, fence.text, re.MULTILINE))
        assert needs == (fence.above == "<!-- needs AWS -->"), fence.text


# troubleshooting.md has every message.

SCRIPTS = [
    *[path.name for path in ROOT.glob("*.py")],
    *["tools/deploy.py", "tools/environment.py", "tools/layers.py", "tools/release.py"],
    *["demo/__main__.py", "demo/emulator.py", "demo/kit.py", "demo/package.py", "demo/serve.py"],
]
RAISES = re.compile(r"\w*(Error|Exit)|stop|sys\.exit|parser\.error")
NOT_AN_ERROR = ["Ctrl-C ends it all.", "dist/ has * files, for Python *."]


def text_of(node: ast.AST) -> str:
    """Return a string constant, or an f-string with * in place of each value."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "*"


def messages(script: str) -> list[str]:
    """Return the messages of a script: what its errors say, and all other sentences in strings."""
    found: list[str] = []
    explained: list[str] = []
    for node in ast.walk(ast.parse((ROOT / script).read_text(encoding="utf-8"))):
        explained.append(explanation(node))
        if isinstance(node, ast.JoinedStr):
            explained += map(text_of, node.values)  # parts of a message
        elif isinstance(node, ast.Call) and RAISES.fullmatch(ast.unparse(node.func)):
            found += map(text_of, node.args)
        if is_sentence(text_of(node)):
            found.append(text_of(node))
    worded = {text.strip() for text in found if " " in text.strip("* .:")}
    return sorted(worded - set(explained) - set(NOT_AN_ERROR))


def explanation(node: ast.AST) -> str:
    """Return a docstring, or a text that --help or an agent shows, "" for anything else."""
    if isinstance(node, ast.Expr):
        return text_of(node.value)
    if isinstance(node, ast.keyword) and node.arg in ("description", "help"):
        return text_of(node.value)
    return ""


def is_sentence(text: str) -> bool:
    """Tell whether a text is at least four words in one line, with a full stop."""
    is_one_line = "\n" not in text.strip()
    return is_one_line and len(text.split()) > 3 and text.endswith(".") and text[-3:] != "..."


QUOTED = re.findall(r"`([^`\n]+)`", TROUBLESHOOTING)
MESSAGES = sorted({text for script in SCRIPTS for text in messages(script)})


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_in_the_troubleshooting(message: str) -> None:
    expression = re.escape(message).replace(r"\*", ".+").replace(r"\{\}", ".+")
    # In front of it, a program or another part of the message may stand.
    assert any(re.fullmatch(rf"(.* )?{expression}", text) for text in QUOTED)


def test_there_are_messages_to_compare() -> None:
    assert len(MESSAGES) > 90
    assert "DynamoDB failed (*). *" in MESSAGES  # an argument of an exception
    assert "Check the credentials and the region." in MESSAGES  # a value of a dictionary


def library_texts() -> list[str]:
    """Return what the headings about tokens quote from PyJWT and google-auth."""
    section = TROUBLESHOOTING.split("\n## 401: ")[1].split("\n## 403")[0]
    headings = [line for line in section.splitlines() if line.startswith("### `refused: ")]
    quoted = re.findall(r"`([^`]+)`", "".join(headings))
    return [text for text in quoted if not text.startswith("refused: ")]


def test_texts_of_the_libraries_are_theirs() -> None:
    modules = [jwt.api_jws, jwt.api_jwt, jwt.exceptions, google.auth.jwt, google.oauth2.id_token]
    source = "".join(map(inspect.getsource, modules))
    texts = library_texts()
    assert len(texts) > 15
    for text in texts:
        text = text.replace("<claim>", "{self.claim}")
        text = text.replace("Invalid header string", "Invalid header string: {e}")
        assert text.partition(" (")[0] in source, text
