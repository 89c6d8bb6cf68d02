"""The kit as a whole: what holds between its files, and what was said in the whole test run."""

import ast
import re
import sys
from collections import defaultdict

import pytest
from support.functions import WATCH
from support.kit import HANDLERS, ROOT

SCRIPTS = [*HANDLERS, "create_password"]
HEADINGS = ["Environment", "Layer", "Permissions", "Answers", "Caching"]


def parsed(script: str) -> ast.Module:
    return ast.parse((ROOT / f"{script}.py").read_text())


def environment(script: str) -> set[str]:
    """Return the environment variables that a script reads: os.environ[...], os.environ.get(...)."""
    reads = set()
    for node in ast.walk(parsed(script)):
        text = ast.unparse(node)
        if isinstance(node, ast.Call | ast.Subscript) and re.match(r"os\.environ|signing_secret", text):
            found = re.match(r"(?:os\.environ(?:\.get\(|\[)|signing_secret\()'?(\w+)", text)
            assert found, f"{script}.py reads the environment in a way that this test cannot follow: {text}"
            reads.add(found[1])
    return reads - {"name"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_imports_no_other_file_of_the_kit(script: str) -> None:
    imported = set()
    for node in ast.walk(parsed(script)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).split(".")[0])
    assert not imported & {path.stem for path in ROOT.glob("*.py")}
    assert imported <= sys.stdlib_module_names | {"jwt", "bcrypt", "boto3", "botocore", "google", "requests"}


def test_secrets_are_checked_the_same_in_both_authorizers() -> None:
    checks = [
        re.search(r"^DER_KEY = .*?^SCOPE", (ROOT / f"{script}.py").read_text(), re.M | re.S) for script in HANDLERS[:2]
    ]
    assert checks[0]
    assert checks[1]
    assert checks[0][0] == checks[1][0]


def test_functions_of_the_same_name_are_the_same_letter_for_letter() -> None:
    sources = defaultdict(set)
    for script in HANDLERS:
        text = (ROOT / f"{script}.py").read_text()
        for node in parsed(script).body:
            if isinstance(node, ast.FunctionDef) and node.name != "lambda_handler":
                sources[node.name].add(ast.get_source_segment(text, node))
    assert len(sources["bearer_token"]) == len(sources["verified_claims"]) == len(sources["policy"]) == 1
    assert {name: len(versions) for name, versions in sources.items() if len(versions) > 1} == {}


@pytest.mark.parametrize("script", HANDLERS)
def test_handler_opens_with_its_manual_in_the_fixed_order(script: str) -> None:
    manual = ast.get_docstring(parsed(script)) or ""
    places = [re.search(rf"^{heading}\b", manual, re.MULTILINE) for heading in HEADINGS]
    assert all(places)
    assert sorted(places, key=lambda place: place.start() if place else 0) == places


@pytest.mark.parametrize("script", HANDLERS)
def test_manual_names_every_variable_that_the_code_reads_and_no_other(script: str) -> None:
    manual = ast.get_docstring(parsed(script)) or ""
    assert set(re.findall(r"^ +([A-Z][A-Z0-9_]+) +(?:required|optional)", manual, re.MULTILINE)) == environment(script)


def test_readme_lists_every_variable_and_no_other() -> None:
    table = set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert table == set().union(*map(environment, SCRIPTS))


def test_every_package_is_pinned() -> None:
    for requirements in ROOT.glob("requirements_*.txt"):
        for line in requirements.read_text().splitlines():
            if line and not line.startswith(("#", "-r ")):
                assert re.match(r"[\w.-]+==[\w.]+( *[;#].*)?$", line), line


def test_nothing_secret_was_said_in_the_whole_run() -> None:
    if not WATCH.said:
        pytest.skip("no handler was deployed in this run")
    assert WATCH.secrets
    assert WATCH.leaks() == []
