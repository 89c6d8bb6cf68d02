"""The documentation: its commands run as printed, and what it says is compared with the code.

A block of commands below a mark such as `<!-- needs AWS -->` isn't run. The other ones run here, or
in the test module that ELSEWHERE names.
"""

import ast
import functools
import json
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from samtranslator.yaml_helper import yaml_parse
from support.deploy import SECRET, Deploy
from support.events import token_event
from support.files import HANDLERS, ROOT
from support.pipe import pipe
from support.tokens import AUTHORIZERS, Target, make_jwt

import create_password
from demo import story
from demo.emulator import Stack, emulator
from demo.kit import deploy_kit
from demo.transcript import Transcript, Variable


def read(name: str) -> str:
    """Return the text of a file of the kit."""
    return (ROOT / name).read_text(encoding="utf-8")


FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "llms.txt"]
NAMES = sorted(str(path.relative_to(ROOT)) for path in FILES)
PAGES = {name: read(name) for name in NAMES}
README = PAGES["README.md"]
CONSOLE = PAGES["docs/console.md"]
CONFIGURATION = PAGES["docs/configuration.md"]
TEMPLATES = ["template.yaml", "template_http.yaml"]

ELSEWHERE = {  # how a command begins: the test that runs it, or why none does
    r"make (demo|serve)": "test_demo.py",
    r"make (layer|release)|python[\d.]* build_layer.py": "test_build_layer.py",
    r"docker |cp requirements|mv python_dependencies": "test_build_layer.py",
    r"make deploy": "test_deploy.py",
    r"(CI=true )?make ": "a check itself, or a tool for one",
    r"python3? -m |\. \.venv|(uv )?pip ": "Python itself",
    r"python who_may_call.py": "test_task_pages.py",  # and here, for the console guide
    r"openssl ": "the test of the proposed secret",
    r"sha256sum |zip ": "programs of others",
}


class Command(NamedTuple):
    """A command of the documentation."""

    page: str
    line: str
    is_marked: bool


def commands() -> list[Command]:
    """Return every command in the shell blocks of the documentation."""
    block = re.compile(r"(<!-- needs [^>]+ -->\n)? *```sh\n(.*?)\n *```", re.DOTALL)
    return [
        Command(page, line, bool(mark))
        for page, text in PAGES.items()
        for mark, script in block.findall(text)
        for line in command_lines(script)
    ]


def command_lines(script: str) -> list[str]:
    """Return the commands of a block, without comments and without lines that set a variable."""
    joined = re.sub(r" *\\\n *", " ", script)
    lines = [re.sub(r"(^|\s+)# .*", "", line).strip() for line in joined.splitlines()]
    variable = r"[A-Z_]+=([^\s$]+|'[^']+')"
    return [line for line in lines if line and not re.fullmatch(variable, line)]


COMMANDS = commands()
LOGIN = """curl -X POST <invoke_url>/auth -d '{"user_id": "testuser", "password": "password123"}'"""
CALL = 'curl -H "Authorization: Bearer <jwt_token>" <invoke_url>/api'


def running(program: str) -> list[Any]:
    """Return the commands that run a program, as parameters of a test."""
    found = [each for each in COMMANDS if re.match(rf"(\.venv/bin/)?{program}", each.line)]
    return [pytest.param(each, id=f"{each.page}: {each.line}") for each in found]


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without the titles."""
    below = f"\n{PAGES[page]}".split(f"\n{heading}\n")[1]
    found = re.search(r"(^\|.*\n)+", below, re.MULTILINE)
    assert found
    _titles, _line, *rows = found[0].splitlines()
    return [cells(row) for row in rows]


def cells(row: str) -> list[str]:
    """Return the cells of a row of a table."""
    return [cell.strip() for cell in row.strip("|").split(" |")]


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of code of a page in one language."""
    block = rf"^ *```{language}\n(.*?)\n *```$"
    return re.findall(block, PAGES[page], re.MULTILINE | re.DOTALL)


def head(script: str) -> str:
    """Return the docstring at the top of a script."""
    return ast.get_docstring(ast.parse(read(f"{script}.py"))) or ""


@functools.cache
def parameters(template: str) -> dict[str, Any]:
    """Return the parameters of a template."""
    found: dict[str, Any] = yaml_parse(read(template))["Parameters"]
    return found


# The commands


def test_every_command_is_run_or_marked() -> None:
    run_here = [LOGIN, CALL]
    for command in COMMANDS:
        if command.is_marked or command.line in run_here:
            continue
        own = re.match(r"(\.venv/bin/)?python create_password\.py", command.line)
        assert own or re.match("|".join(ELSEWHERE), command.line), command
    assert set(run_here) < {command.line for command in COMMANDS}
    modules = [each for each in ELSEWHERE.values() if each.endswith(".py")]
    assert all((ROOT / "tests" / module).exists() for module in modules)


@pytest.mark.parametrize("command", running("make "))
def test_target_and_parameters_of_make_exist(command: Command) -> None:
    target = shlex.split(command.line)[1]
    assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE)
    template = "template.yaml"
    if "template_http.yaml" in command.line:
        template = "template_http.yaml"
    _, _, value = command.line.partition("PARAMETERS=")
    given = re.findall(r"\b([A-Z][a-z]\w+)=", value)
    assert set(given) <= set(parameters(template))


def test_proposed_secret_is_accepted(deploy: Deploy) -> None:
    assert "openssl rand -hex 32" in CONSOLE
    secret = subprocess.check_output(["openssl", "rand", "-hex", "32"], text=True).strip()
    authorize = deploy("jwt_auth_token", JWT_SECRET=secret)
    assert authorize(token_event(make_jwt(secret)))["principalId"] == "testuser"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The REST API of `make serve`."""
    with emulator() as endpoint:
        rest, _ = deploy_kit(endpoint, {})
        yield rest


def run(command: str, stack: Stack, token: str = "") -> tuple[int, str]:
    """Run a curl command with its placeholders filled in, and return status and body."""
    command = command.replace("<invoke_url>", stack.api).replace("<jwt_token>", token)
    command = f"{command} -s --noproxy '*' -w '\n%{{http_code}}'"
    printed = subprocess.check_output(shlex.split(command), text=True)
    body, _, status = printed.rpartition("\n")
    return int(status), body


def log_in(stack: Stack) -> str:
    """Return the token of testuser."""
    _, body = run(LOGIN, stack)
    return str(json.loads(body)["token"])


def test_login_and_call_respond_as_printed(stack: Stack) -> None:
    login_printed, call_printed = map(json.loads, blocks("README.md", "json"))
    status, body = run(LOGIN, stack)
    login = json.loads(body)
    token = login["token"]
    assert (status, login | {"token": token[:20] + "..."}) == (200, login_printed)
    status, body = run(CALL, stack, token)
    call = json.loads(body) | {"timestamp": call_printed["timestamp"]}
    assert (status, call) == (200, call_printed)


def test_errors_respond_as_printed(stack: Stack) -> None:
    calls = [
        ("curl <invoke_url>/api", ""),
        (CALL, make_jwt("another secret, of 32 bytes or more")),
        (f"{CALL}/admin", log_in(stack)),
        (LOGIN.replace("password123", "wrong"), ""),
        ("curl -X POST <invoke_url>/auth -d hello", ""),
    ]
    rows = table("README.md", "## Try it locally")
    for (command, token), (_, printed) in zip(calls, rows, strict=True):
        status, body = run(command, stack, token)
        # The emulator omits the words of the 403 after "resource".
        response = f"{status} `{body}`".replace(' resource"}`', " resource")
        assert printed.startswith(response)


def test_demo_prints_what_the_readme_shows(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    [shown] = blocks("README.md", "text")
    token = Variable("TOKEN", log_in(stack))
    story.permissions(Transcript(), Variable("URL", stack.api), token)
    assert shown in capsys.readouterr().out


# These commands change users, so the tests above that log in come first.
@pytest.mark.parametrize("command", running(r"python create_password\.py"))
def test_create_password_accepts_what_is_printed(
    command: Command, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack.endpoint)
    arguments = shlex.split(command.line.replace("<table>", "user_credentials"))[2:]
    if "--table" in arguments:
        user_id = arguments[arguments.index("--user-id") + 1]
        name = arguments[arguments.index("--table") + 1]
        create_password.main(["--user-id", user_id, "--table", name, "--no-password"])
    monkeypatch.setattr(sys, "stdin", pipe("a password of 28 characters.\n"))
    assert create_password.main(arguments) == 0


# The links


def anchors(text: str) -> list[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = []
    for heading in re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE):
        title = without_addresses(heading).lower()
        found.append(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return found


def without_addresses(text: str) -> str:
    """Return a text with the words of each link only."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def without_code(text: str) -> str:
    """Return a page without its blocks of code and its comments."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[page])):
        if link.startswith("https://") or link == "../../releases":  # of the site that hosts it
            continue
        path, _, anchor = link.partition("#")
        target = ROOT / page
        if path:
            target = target.parent / path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_llms_txt_and_readme_list_every_page() -> None:
    pages = {page for page in PAGES if page.startswith("docs/")}
    moved = {page for page in pages if "has moved" in PAGES[page]}
    for index in (README, PAGES["llms.txt"]):
        assert pages - moved <= set(re.findall(r"\]\((docs/[\w-]+\.md)", index))


def test_llms_txt_and_readme_call_every_page_by_its_title() -> None:
    for index in (README.split("\n## Documentation\n")[1], PAGES["llms.txt"]):
        for text, page in re.findall(r"^- \[(.+)\]\((docs/[\w-]+\.md)\)", index, re.MULTILINE):
            title, _, _ = PAGES[page].partition("\n")
            assert f"# {text}" == title


# The settings


SECTIONS = {  # of the page about variables, by the name of the variable
    section.partition("`")[0]: section for section in CONFIGURATION.split("\n## `")[1:]
}


def used_by(section: str) -> dict[str, str]:
    """Return the scripts that use a variable, with "required" or "optional"."""
    line = section.split("- **Used by:** ")[1].split("\n")[0]
    found = {}
    for script, required in re.findall(r"`(\w+)\.py`( \(required\))?", line):
        found[script] = "required" if required else "optional"
    return found


@pytest.mark.parametrize("script", HANDLERS)
def test_configuration_names_the_variables_of_the_script_and_no_other(script: str) -> None:
    rows = re.findall(r"^ +([A-Z][A-Z_]+) +(required|optional)", head(script), re.MULTILINE)
    documented = {}
    for name, section in SECTIONS.items():
        if script in used_by(section):
            documented[name] = used_by(section)[script]
    assert documented == dict(rows)


def test_table_of_variables_has_every_variable() -> None:
    rows = table("docs/configuration.md", "# Environment variables and user attributes")
    assert [re.findall(r"`(\w+)`", row[0]) for row in rows] == [[name] for name in SECTIONS]


def wrong_values() -> list[Any]:
    """Return each wrong value that the page shows, with the script and the message."""
    found = []
    for name, section in SECTIONS.items():
        script = next(iter(used_by(section)))
        rows = re.findall(r"^\| (not set.*?|`.*?`) \| `(.*)` \|$", section, re.MULTILINE)
        for shown, message in rows:
            value = shown.strip("`")
            if shown.startswith("not set"):
                value = ""
            found.append(pytest.param(script, name, value, message, id=f"{name}={value}"))
    return found


@pytest.mark.parametrize(("script", "name", "value", "message"), wrong_values())
def test_wrong_value_stops_the_function_with_the_message_of_the_page(
    deploy: Deploy, script: str, name: str, value: str, message: str
) -> None:
    good = {
        "JWT_SECRET": SECRET,
        "GOOGLE_CLIENT_ID": "123456789012-abcdef.apps.googleusercontent.com",
        "USER_CREDENTIALS_TABLE_NAME": "user_credentials",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        deploy(script, **good | {name: value})


def test_parameters_and_their_defaults_are_those_of_the_templates() -> None:
    rows = table("docs/deploy.md", "## Parameters")
    documented = {name.strip("`"): (where, default) for name, where, default, _ in rows}
    names = {name for template in TEMPLATES for name in parameters(template)}
    assert set(documented) == names
    for name, shown in documented.items():
        holders = [each for each in TEMPLATES if name in parameters(each)]
        where = "both" if len(holders) == 2 else f"`{holders[0]}`"
        defaults = [default_of(name, each) for each in holders]
        assert shown == (where, " or ".join(dict.fromkeys(defaults))), name


def default_of(name: str, template: str) -> str:
    """Return the default of a parameter, as the page shows it."""
    default = parameters(template)[name]["Default"]
    if default == "":
        return "empty"
    return f"`{default}`"


# What the functions say


def log_lines(script: str) -> list[str]:
    """Return the log lines of a script, with * in place of each value."""
    lines = []
    for node in ast.walk(ast.parse(read(f"{script}.py"))):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        if function.startswith("logger.") and function != "logger.setLevel":
            lines.append(re.sub(r"%[.\d]*[rsd]", "*", text_of(node.args[0])))
        elif function == "refuse":
            lines.append(f"refused: {text_of(node.args[0])}")
    return [line for line in lines if line != "refused: *"]


def text_of(node: ast.expr) -> str:
    """Return a string constant, or an f-string with * in place of each value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return "*"


def as_expression(line: str) -> str:
    """Return a regular expression for a log line with values."""
    return re.escape(line).replace(r"\*", ".+")


LOG_LINES = sorted({line for script in HANDLERS for line in log_lines(script)})


@pytest.mark.parametrize("line", LOG_LINES)
def test_log_line_is_in_the_troubleshooting(line: str) -> None:
    quoted = re.findall(r"`([^`\n]+)`", PAGES["docs/troubleshooting.md"])
    assert any(re.fullmatch(as_expression(line), text) for text in quoted)


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"CHANGELOG.md"}))
def test_page_quotes_only_log_lines_that_exist(page: str) -> None:
    for text in re.findall(r"`((?:refused|admitted|denied by|ignored the)[^`\n]+)`", PAGES[page]):
        without_values = re.sub(r"'[^']*'|<[^>]*>", "*", text).removesuffix(" ...")
        is_class = re.fullmatch(r"refused: ([A-Z]\w+|\*)", without_values)
        is_line = any(re.fullmatch(as_expression(line), text) for line in LOG_LINES)
        is_beginning = any(line.startswith(without_values) for line in LOG_LINES)
        assert is_class or is_line or is_beginning, text


def test_status_codes_are_those_of_the_scripts_and_of_api_gateway() -> None:
    documented = set()
    for status, *_ in table("docs/api-types.md", "## Status codes"):
        documented.update(status.split(", "))
    of_scripts = set()
    for script in set(HANDLERS) - {"restricted_access_mcp"}:  # docs/mcp.md has its own
        responses = head(script).split("\nResponses")[1].split("\nCaching")[0]
        of_scripts |= set(re.findall(r"^ +(\d{3})  ", responses, re.MULTILINE))
    assert documented == of_scripts | {"404", "429", "503", "504"}


# What the pages promise


def test_context_values_are_those_of_the_comparison(target: Target) -> None:
    rows = {row[0]: row[1:] for row in table("README.md", "## Compare the authorizers")}
    column = AUTHORIZERS.index(target.function.module.__name__)
    response = target.call(target.token())
    assert re.findall(r"`(\w+)`", rows["Context values"][column]) == list(response["context"])
    assert response["principalId"] == target.claims[rows["Principal"][column].strip("`")]


def test_test_event_of_the_console_guide_is_accepted(deploy: Deploy) -> None:
    [event] = [block for block in blocks("docs/console.md", "json") if "methodArn" in block]
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET)
    response = authorize(json.loads(event.replace("<jwt_token>", make_jwt())))
    assert response["policyDocument"]["Statement"][0]["Effect"] == "Allow"


def test_token_validation_expression_matches_tokens_only() -> None:
    [expression] = [block for block in blocks("docs/console.md", "text") if block[0] == "^"]
    token = make_jwt()
    for header in (f"Bearer {token}", f"bearer {token}", f"BEARER  {token}"):
        assert re.search(expression, header)
    for header in (token, "Bearer x", f"Basic {token}", f"Bearer {token} x"):
        assert not re.search(expression, header)


def test_policies_of_the_console_guide_are_those_of_the_template() -> None:
    lists = re.findall(r"dynamodb:Attributes:\n((?: +- \w+\n)+)", read("template.yaml"))
    login, authorizer, google, websocket = [re.findall(r"\w+", each) for each in lists]
    assert websocket == authorizer  # the guide names the authorizer's policy for both
    policies = [block for block in blocks("docs/console.md", "json") if "Statement" in block]
    for policy, names in zip(policies, [login, authorizer, google], strict=True):
        assert json.loads(policy)["Statement"][0]["Condition"] == {
            "ForAllValues:StringEquals": {"dynamodb:Attributes": names},
            "StringEquals": {"dynamodb:Select": "SPECIFIC_ATTRIBUTES"},
        }


@pytest.mark.parametrize("template", TEMPLATES)
def test_log_format_of_the_console_guide_is_that_of_the_template(template: str) -> None:
    texts = blocks("docs/console.md", "text")
    shown = [json.loads(text) for text in texts if '"time"' in text]
    formats = re.findall(r"Format: >-\n(.*?\})\n", read(template), re.DOTALL)
    assert formats
    for each in formats:
        assert json.loads(each) in shown


def test_list_of_the_console_guide_allows_what_the_guide_says() -> None:
    [listed] = [text for text in blocks("docs/console.md", "text") if "ALLOWED_RESOURCE" in text]
    [command] = [text for text in blocks("docs/console.md", "sh") if "who_may_call.py" in text]
    [shown] = [text for text in blocks("docs/console.md", "text") if "(no scope)" in text]
    arguments = shlex.split(shell(command.replace("python who_may_call.py", "printf '%q '")))
    assert arguments[0] == re.sub(r"ALLOWED_RESOURCE_ARNS=|\s", "", listed)
    printed = shell(command.replace("python ", f"{sys.executable} "))
    assert printed.splitlines() == textwrap.dedent(shown).splitlines()


def shell(command: str) -> str:
    """Run a block of commands in the folder of the kit, and return what it prints."""
    return subprocess.check_output(["bash", "-c", command], cwd=ROOT, text=True)


def test_console_guide_sets_what_the_checklist_asks_for() -> None:
    checklist = README.split("\n## Production checklist\n")[1].split("\n## ")[0]
    for name in re.findall(r"\*\*[^*]*?`([A-Z_]+)`", checklist):
        assert re.search(rf"\| `{name}` \| .+ \|", CONSOLE), name


def test_python_example_finds_the_caller_in_both_events(tmp_path: Path) -> None:
    [example] = blocks("docs/api-types.md", "python")
    (tmp_path / "example.py").write_text(example)
    user_id = runpy.run_path(str(tmp_path / "example.py"))["user_id"]
    context = {"user_id": "anna", "scope": "", "authorized": True}
    for authorizer in ({"lambda": context}, {"principalId": "anna", **context}):
        event = {"requestContext": {"authorizer": authorizer}}
        assert user_id(event) == "anna"


# How the text reads

MISLEADING = {  # words that readers misunderstood, and what to write
    r"remember(s|ed)?\b": "caches, cached policy",
    r"(whoever|whom)\b": "the thing's name",
    r"(as|the) on the left": "the thing's name",
    r"by hand\b": "manually, in the console",
    r"rights\b": "permissions",
    r"tokensValidFrom|--log-out": "tokenVersion, --revoke-tokens",
    r"(native|API Gateway's own) JWT": "API Gateway's built-in JWT authorizer",
}


def sentences(text: str) -> list[str]:
    """Return the sentences of a page, without code, headings, tables and addresses."""
    text = re.sub(r"`[^`\n]+`", "code", without_code(text))
    text = without_addresses(text).replace("*", "")
    text = re.sub(r"^ *> ?", "", text, flags=re.MULTILINE)
    found = []
    for block in re.split(r"\n\s*\n|\n(?= *(?:- |\d+\. |\||#))", text):
        if not block.lstrip().startswith(("|", "#")):
            found += re.split(r"(?<=[.!?])\s+", block)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page: str) -> None:
    for sentence in sentences(PAGES[page]):
        assert len(sentence.split()) <= 30, sentence
        assert ";" not in sentence, sentence


@pytest.mark.parametrize("page", PAGES)
def test_cells_of_tables_are_short(page: str) -> None:
    text = re.sub(r"`[^`\n]+`", "code", without_code(PAGES[page]))
    for row in re.findall(r"^ *\|.*\|$", text, re.MULTILINE):
        for cell in row.split("|"):
            assert len(cell.split()) <= 25, cell


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"CHANGELOG.md"}))
def test_no_misleading_word_comes_back(page: str) -> None:
    for expression, better in MISLEADING.items():
        found = re.search(rf"\b{expression}", without_code(PAGES[page]), re.IGNORECASE)
        assert not found, f"{found[0]}: write {better}"
