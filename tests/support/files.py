"""The files of the kit: the handlers, the layer and the environment variables of each."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))
HANDLERS = [name for name in SCRIPTS if name.startswith(("jwt_", "restricted_access_"))]


def source(script: str) -> str:
    """Return the text of a script."""
    return (ROOT / f"{script}.py").read_text(encoding="utf-8")


def manual(script: str) -> str:
    """Return the docstring at the head of a script."""
    return ast.get_docstring(ast.parse(source(script))) or ""


def layer(script: str) -> str | None:
    """Return the name of a handler's layer, as its docstring says, or None."""
    named = re.search(r"^Layer +(\w+)", manual(script), re.MULTILINE)
    assert named, f"The docstring of {script}.py names no layer."
    return None if named[1] == "none" else named[1]


def environment(script: str) -> set[str]:
    """Return the environment variables that a script reads: names in capitals given to a call."""
    nodes = ast.walk(ast.parse(source(script)))
    arguments = [each for node in nodes if isinstance(node, ast.Call) for each in node.args]
    texts = {str(each.value) for each in arguments if isinstance(each, ast.Constant)}
    return {text for text in texts if re.fullmatch("[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", text)}


LAYERS = {script: layer(script) for script in HANDLERS}
