"""Checks the template parameters that are given to make, before anything is deployed.

PARAMETERS="Name=value Name=value" python3 -m tools.parameters TARGET TEMPLATE [VARIABLE ...]

TARGET is the target of make, and the VARIABLEs are those on make's command line. make would ignore
a misspelled one, and it takes `PARAMETERS=A=1 B=2` without quotes for PARAMETERS and B.
"""

import os
import re
import sys
from pathlib import Path

VARIABLES = {
    "deploy": ["BUCKET", "TEMPLATE", "STACK", "ARCH", "PYTHON", "PARAMETERS", "PYTHON3"],
    "serve": ["PORT", "PARAMETERS", "PYTHON3"],
}
# make deploy sets these itself, because the layers have to match.
SET_BY_DEPLOY = {"Architecture": "ARCH=arm64", "PythonRuntime": "PYTHON=3.14"}


class UsageError(Exception):
    """A mistake on the command line; the message is a sentence for whoever typed it."""


def main() -> None:
    """Run the command line."""
    target, template, *variables = sys.argv[1:]
    try:
        names = parameter_names(Path(template))
        check_variables(variables, VARIABLES[target], names)
        check_words(os.environ.get("PARAMETERS", "").split(), target, template, names)
    except UsageError as mistake:
        print(f"make {target}: {mistake}", file=sys.stderr)
        sys.exit(2)


def parameter_names(template: Path) -> list[str]:
    """Return the names of a template's parameters."""
    if not template.is_file():
        raise UsageError(
            f"there is no file {template}. TEMPLATE is template.yaml or template_http.yaml."
        )
    _, _, rest = template.read_text(encoding="utf-8").partition("\nParameters:\n")
    parameters, _, _ = rest.partition("\nConditions:\n")
    return re.findall(r"^  (\w+):$", parameters, re.MULTILINE)


def check_variables(variables: list[str], known: list[str], names: list[str]) -> None:
    """Raise UsageError if make doesn't use one of the variables on its command line."""
    for variable in variables:
        if variable in names:
            raise UsageError(
                f"{variable} is a parameter of the template. Write all parameters between quotes: "
                'PARAMETERS="Name=value Name=value".'
            )
        if variable not in known and not variable.startswith("AWS_"):
            raise UsageError(f"there is no variable {variable}. Use {', '.join(known)}.")


def check_words(words: list[str], target: str, template: str, names: list[str]) -> None:
    """Raise UsageError, without any value, if a word of PARAMETERS isn't Name=value."""
    for number, word in enumerate(words, start=1):
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(
                f"word {number} of PARAMETERS isn't Name=value. A value can't contain spaces."
            )
        if name not in names:
            raise UsageError(f"{template} has no parameter {name}. It has {', '.join(names)}.")
        if value.startswith(("'", '"')):
            raise UsageError(f"write the value of {name} without quotes around it.")
        if target == "deploy" and name in SET_BY_DEPLOY:
            raise UsageError(
                f"write {SET_BY_DEPLOY[name]} in place of {name}: the layers must match."
            )


if __name__ == "__main__":
    main()
