"""What holds between the files of the kit: shared blocks, imports, docstrings and settings."""

import ast
import re
import sys
from collections import Counter

import pytest
from support.files import HANDLERS, ROOT, SCRIPTS, environment, manual, source

PACKAGES = {"jwt", "bcrypt", "boto3", "botocore", "google", "requests"}
GROUPS = {  # how a marker names several files
    "all authorizers": [name for name in HANDLERS if name.startswith("jwt_auth_token")],
    "all handlers that have settings": [
        name for name in HANDLERS if environment(name) != {"AWS_LAMBDA_LOG_LEVEL"}
    ],
}
HEADINGS = "Environment|Runtime|Layer|Permissions|Memory|Event|Responses|Token source|Caching"
HEADINGS += "|Certificates|Context|Throttling|Revoking|Rotation|Copies|Version"


def blocks(script: str) -> list[tuple[str, str]]:
    """Return the shared blocks of a script: the files that the marker names, and the text."""
    found = []
    for part in re.split(r"^# ---- ", source(script), flags=re.MULTILINE)[1:]:
        marker, _, text = part.partition(" ----\n")
        if marker.startswith("The same in "):  # the others only end a block
            found.append((marker.removeprefix("The same in "), text.strip()))
    return found


def named(marker: str) -> set[str]:
    """Return the scripts that a marker names: groups and files, with commas and "and"."""
    scripts: set[str] = set()
    for name in re.split(r", | and ", marker):
        scripts |= set(GROUPS.get(name, [name.removesuffix(".py")]))
    assert scripts <= set(SCRIPTS), f"A marker names unknown files: {marker}"
    return scripts


def functions(code: str) -> dict[str, str]:
    """Return the functions of a script by name."""
    nodes = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_source_segment(code, node) or "" for node in nodes}


def test_shared_blocks_are_the_same_in_all_files_that_their_marker_names() -> None:
    for marker in {marker for script in HANDLERS for marker, _ in blocks(script)}:
        texts = {
            script: [text for each, text in blocks(script) if each == marker] for script in HANDLERS
        }
        holders = {script: found for script, found in texts.items() if found}
        assert set(holders) == named(marker), f"The same in {marker}"
        first, *others = holders.values()
        assert others == [first] * len(others), f"The same in {marker}"


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - set(HANDLERS)))
def test_shared_block_of_a_laptop_script_has_a_handlers_functions(script: str) -> None:
    for marker, text in blocks(script):
        for handler in named(marker) - {script}:
            assert functions(text).items() <= functions(source(handler)).items()


def test_function_of_two_handlers_stands_in_a_shared_block() -> None:
    counted = Counter(name for script in HANDLERS for name in functions(source(script)))
    repeated = {name for name, count in counted.items() if count > 1} - {"lambda_handler"}
    for script in HANDLERS:
        shared = {name for _, text in blocks(script) for name in functions(text)}
        assert repeated & set(functions(source(script))) <= shared, script
        assert shared <= repeated, script


def test_clients_and_loggers_are_the_same_in_all_handlers() -> None:
    """They stand outside of functions, and some are indented."""
    client, logger = set(), set()
    for script in HANDLERS:
        for node in ast.walk(ast.parse(source(script))):
            text = ast.unparse(node) if isinstance(node, ast.Assign | ast.If) else ""
            if text.startswith("dynamodb ="):
                client.add(text)
            if "AWS_LAMBDA_LOG_LEVEL" in text:
                logger.add(text)
    assert len(client) == len(logger) == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_imports_no_other_file_of_the_kit(script: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse(source(script))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).split(".")[0])
    assert imported <= sys.stdlib_module_names | PACKAGES


@pytest.mark.parametrize("script", HANDLERS)
def test_docstring_has_its_headings_in_the_fixed_order(script: str) -> None:
    headings = re.findall(rf"^({HEADINGS})\b", manual(script), re.MULTILINE)
    assert headings == [each for each in HEADINGS.split("|") if each in headings]
    required = {"Environment", "Layer", "Permissions", "Memory", "Responses", "Caching"}
    assert required <= set(headings)


@pytest.mark.parametrize("script", HANDLERS)
def test_docstring_ends_with_the_version_of_the_changelog(script: str) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (version, *_) = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    last = f"Version      {version} (CHANGELOG.md says what changed)"
    assert manual(script).splitlines()[-1] == last


@pytest.mark.parametrize("script", HANDLERS)
def test_docstring_names_every_variable_that_the_code_reads(script: str) -> None:
    row = r"^ +([A-Z][A-Z0-9_]+) +(?:required|optional)"
    assert set(re.findall(row, manual(script), re.MULTILINE)) == environment(script)


def test_configuration_page_has_a_heading_for_every_variable() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ `([A-Z][A-Z0-9_]+)`$", page, re.MULTILINE)
    assert set(headings) == set().union(*map(environment, HANDLERS))


def test_every_package_is_pinned() -> None:
    for requirements in [*ROOT.glob("requirements_*.txt"), *ROOT.glob("*/requirements_*.txt")]:
        for line in requirements.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-r ")):
                assert re.match(r"[\w.\[\]-]+==[\w.]+( *[;#].*)?$", line), line
