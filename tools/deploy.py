"""Deploys a template to AWS with the AWS CLI: make deploy.

PARAMETERS="Name=value Name=value" python3 -m tools.deploy BUCKET TEMPLATE STACK ARCH PYTHON

What could fail halfway is checked first. An empty STACK is the template's own: jwt-kit or
jwt-kit-http.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGED = Path("packaged")
# What sets these parameters. The layers must match them.
SET_BY_MAKE = {"Architecture": "ARCH=arm64", "PythonRuntime": "PYTHON=3.14"}


def main() -> None:
    """Run the command line."""
    bucket, template, stack, architecture, python = sys.argv[1:]
    words = os.environ.get("PARAMETERS", "").split()
    content = read_template(template)
    stack = stack or default_stack(content)
    check_parameters(words, template, content)
    check_tools(bucket)
    check_layers(content, architecture, python)
    check_stack(stack, template, content)

    copy_files(template, content)
    package = ["--template-file", template, "--output-template-file", "deploy.yaml"]
    cloudformation("package", "--s3-bucket", bucket, *package)

    parameters = [f"Architecture={architecture}", f"PythonRuntime=python{python}", *words]
    deploy = ["--template-file", "deploy.yaml", "--no-fail-on-empty-changeset"]
    deploy += ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    deploy += ["--parameter-overrides", *parameters]
    cloudformation("deploy", "--stack-name", stack, *deploy)

    outputs = ["--query", "Stacks[0].Outputs[].[OutputKey, OutputValue]", "--output", "text"]
    cloudformation("describe-stacks", "--stack-name", stack, *outputs)


def stop(sentence: str) -> None:
    """End with a sentence that says what is wrong and how to fix it."""
    print(f"make deploy: {sentence}", file=sys.stderr)
    sys.exit(2)


def read_template(template: str) -> str:
    """Return the text of a template."""
    path = Path(template)
    if not path.is_file():
        stop(f"there is no file {template}. TEMPLATE is template.yaml or template_http.yaml.")
    return path.read_text(encoding="utf-8")


def has_http_api(content: str) -> bool:
    """Return whether a template is template_http.yaml, or a copy of it."""
    return "\n  HttpApi:\n" in content


def default_stack(content: str) -> str:
    """Return the name of the stack for a template, which is never the other template's."""
    if has_http_api(content):
        return "jwt-kit-http"
    return "jwt-kit"


def check_parameters(words: list[str], template: str, content: str) -> None:
    """Stop if a word of PARAMETERS isn't Name=value. No value is printed: it can be a secret."""
    names = parameter_names(content)
    for number, word in enumerate(words, start=1):
        name, equals, value = word.partition("=")
        if not equals:
            stop(f"word {number} of PARAMETERS isn't Name=value. A value can't contain spaces.")
        if name not in names:
            stop(f"{template} has no parameter {name}. It has {', '.join(names)}.")
        if value.startswith(("'", '"')):
            stop(f"write the value of {name} without quotes around it.")
        if name in SET_BY_MAKE:
            stop(f"write {SET_BY_MAKE[name]} in place of {name}: the layers must match.")


def parameter_names(content: str) -> list[str]:
    """Return the names of a template's parameters."""
    _, _, rest = content.partition("\nParameters:\n")
    parameters, _, _ = rest.partition("\nConditions:\n")
    return re.findall(r"^  (\w+):$", parameters, re.MULTILINE)


def check_tools(bucket: str) -> None:
    """Stop if the AWS CLI or the bucket is missing."""
    if shutil.which("aws") is None:
        stop("install the AWS CLI first: https://aws.amazon.com/cli")
    if not bucket:
        stop("name an S3 bucket for the upload: make deploy BUCKET=your-bucket")


def check_layers(content: str, architecture: str, python: str) -> None:
    """Stop if a layer is missing or doesn't fit. build_layer.py says what is wrong with it."""
    for layer in re.findall(r"^ +ContentUri: (\S+)", content, re.MULTILINE):
        fits = [layer, "--arch", architecture, "--python", python]
        if subprocess.run([sys.executable, "build_layer.py", "check", *fits]).returncode != 0:
            sys.exit(2)


def check_stack(stack: str, template: str, content: str) -> None:
    """Stop if the stack has the API of the other template, which CloudFormation would delete."""
    others_api = "Api" if has_http_api(content) else "HttpApi"
    question = ["--stack-name", stack, "--logical-resource-id", others_api]
    command = ["aws", "cloudformation", "describe-stack-resource", *question]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode == 0:
        stop(
            f"the stack {stack} was deployed with another template. {template} would delete its "
            "API, and its URL would be lost. Add TEMPLATE= with the stack's template, or STACK= "
            "with the name of another stack."
        )
    if "does not exist" not in answer.stderr:  # neither the stack nor the resource exists
        stop(f"can't ask CloudFormation about the stack {stack}. {answer.stderr.strip()}")


def copy_files(template: str, content: str) -> None:
    """Copy what is uploaded to a folder of its own, readable for Lambda whatever the umask."""
    shutil.rmtree(PACKAGED, ignore_errors=True)
    for file in [template, *re.findall(r"^ +(?:Code|Content)Uri: (\S+)", content, re.MULTILINE)]:
        if not Path(file).is_file():
            stop(f"{template} deploys the file {file}, which isn't here.")
        copy = PACKAGED / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(0o644)


def cloudformation(*arguments: str) -> None:
    """Run a command of `aws cloudformation`, and end with its exit status if it fails."""
    # In this folder, because "package" looks for a script in the current folder first.
    status = subprocess.run(["aws", "cloudformation", *arguments], cwd=PACKAGED).returncode
    if status != 0:
        sys.exit(status)


if __name__ == "__main__":
    main()
