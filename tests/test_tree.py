"""The kit as a whole: what holds between its files, and what was said in the whole test run."""

import ast
import re
import sys
from collections import defaultdict

import pytest
from support.deploy import WATCH
from support.files import HANDLERS, ROOT, environment

SCRIPTS = [*HANDLERS, "create_password"]
SHORT = [
    "jwt_auth_token",
    "jwt_create_token",
    "restricted_access_lambda",
]  # what template_http.yaml deploys
HEADINGS = [
    "Environment",
    "Layer",
    "Permissions",
    "Answers",
    "Token source",
    "Caching",
    "Rotation",
    "Version",
]
PACKAGES = {"jwt", "bcrypt", "boto3", "botocore", "google", "requests"}


def source(script: str) -> str:
    return (ROOT / f"{script}.py").read_text()


def manual(script: str) -> str:
    return ast.get_docstring(ast.parse(source(script))) or ""


def variables_of(scripts: list[str]) -> set[str]:
    return set().union(*map(environment, scripts))


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_imports_the_standard_library_and_its_packages_alone(script: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse(source(script))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + str(node.module).split(".")[0])
    assert imported <= sys.stdlib_module_names | PACKAGES


def test_what_has_the_same_name_in_two_handlers_is_the_same_letter_for_letter() -> None:
    own = ("def lambda_handler", "ENTRY", "if LISTED", "ALLOWED_RESOURCE_ARNS")
    sources = defaultdict(set)
    for script in HANDLERS:
        body = ast.parse(source(script)).body
        for node in [
            *body,
            *(inner for outer in body if isinstance(outer, ast.If) for inner in outer.body),
        ]:
            text = ast.get_source_segment(source(script), node) or ""
            if isinstance(node, ast.FunctionDef | ast.Assign | ast.AnnAssign | ast.If):
                name = (
                    text.splitlines()[0]
                    if isinstance(node, ast.If)
                    else re.split(r" = |: |\(", text)[0]
                )
                sources[name].add(text)
    assert {"def presented_token", "COMPACT_JWS", "timeouts"} <= set(sources)
    assert not [
        name for name, versions in sources.items() if len(versions) > 1 and not name.startswith(own)
    ]


@pytest.mark.parametrize("script", HANDLERS)
def test_manual_has_its_headings_in_the_fixed_order_and_ends_with_the_version_of_the_changelog(
    script: str,
) -> None:
    headings = re.findall(rf"^({'|'.join(HEADINGS)})\b", manual(script), re.MULTILINE)
    assert headings == [heading for heading in HEADINGS if heading in headings]
    assert {"Environment", "Layer", "Permissions", "Answers", "Caching"} <= set(headings)
    version = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert (
        manual(script).splitlines()[-1]
        == f"Version      {version} (CHANGELOG.md says what changed)"
    )


@pytest.mark.parametrize("script", HANDLERS)
def test_manual_names_every_variable_that_the_code_reads_and_no_other(script: str) -> None:
    named = re.findall(r"^ +([A-Z][A-Z0-9_]+) +(?:required|optional)", manual(script), re.MULTILINE)
    assert set(named) == environment(script)


@pytest.mark.parametrize(
    ("page", "row", "variables"),
    [
        ("README.md", r"^\| `([A-Z][A-Z0-9_]+)`", variables_of(HANDLERS)),
        ("template.yaml", r"^ +([A-Z][A-Z0-9_]+): ", variables_of(HANDLERS)),
        ("template_http.yaml", r"\b([A-Z][A-Z0-9]*_[A-Z0-9_]+): ", variables_of(SHORT)),
    ],
)
def test_page_names_every_variable_and_no_other(page: str, row: str, variables: set[str]) -> None:
    assert set(re.findall(row, (ROOT / page).read_text(), re.MULTILINE)) == variables


def test_every_package_is_pinned() -> None:
    for requirements in [*ROOT.glob("requirements_*.txt"), *ROOT.glob("tests/requirements_*.txt")]:
        for line in requirements.read_text().splitlines():
            if line and not line.startswith(("#", "-r ")):
                assert re.match(r"[\w.-]+==[\w.]+( *[;#].*)?$", line), line


def test_nothing_secret_was_said_in_the_whole_run() -> None:
    if not WATCH.said:
        pytest.skip("no handler was deployed in this run")
    assert WATCH.secrets
    assert not [
        f"{secret} by {who}"
        for who, text in WATCH.said
        for secret in WATCH.secrets
        if secret in text
    ]
