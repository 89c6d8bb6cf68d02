"""The templates as CloudFormation deploys them.

`deployed()` returns the resources of a stack. It translates the template with SAM, leaves out the
resources whose condition doesn't hold, and replaces functions such as Fn::If by their values. Names
that AWS would choose are logical IDs, for example "JwtAuthToken" and "JwtAuthToken.Arn".
"""

import functools
import re
from types import SimpleNamespace
from typing import Any

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from support.files import ROOT

REST, HTTP = "template.yaml", "template_http.yaml"
TEMPLATES = [REST, HTTP]
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "kit",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()  # AWS::NoValue: CloudFormation leaves out what has this value


@functools.cache
def written(template: str) -> Any:
    """Return a template as it is written."""
    return yaml_parse((ROOT / template).read_text(encoding="utf-8"))


def parameters(template: str) -> dict[str, Any]:
    """Return the parameters of a template, by name."""
    found: dict[str, Any] = written(template)["Parameters"]
    return found


def translated(template: str, **values: str) -> Any:
    """Return SAM's translation of a packaged template. The S3 keys are the names of the files."""
    text = (ROOT / template).read_text(encoding="utf-8")
    packaged = re.sub(r"(CodeUri|ContentUri): (\S+)", r"\1: s3://bucket/\2", text)
    logs = "AWSLambdaBasicExecutionRole"
    policies = {logs: f"arn:aws:iam::aws:policy/service-role/{logs}"}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return transform(yaml_parse(packaged), values, SimpleNamespace(load=lambda: policies))


@functools.cache
def deployed(template: str, **values: str) -> dict[str, Any]:
    """Return the resources of a stack with these parameters, by logical ID."""
    content = translated(template, **values)
    stack = Stack(content, values)
    return {
        name: stack.value(resource)
        for name, resource in content["Resources"].items()
        if stack.holds(resource.get("Condition"))
    }


def of_type(kind: str, template: str, **values: str) -> dict[str, Any]:
    """Return the properties of all resources of a type, by logical ID."""
    return {
        name: resource["Properties"]
        for name, resource in deployed(template, **values).items()
        if resource["Type"] == kind
    }


class Stack:
    """The values of a stack's parameters and conditions."""

    def __init__(self, content: Any, values: dict[str, str]) -> None:
        defaults = {name: each["Default"] for name, each in content["Parameters"].items()}
        self.values = PSEUDO_PARAMETERS | defaults | values
        self.conditions = content["Conditions"]

    def holds(self, condition: str | None) -> bool:
        """Return whether a condition is true. A resource without one is always there."""
        return condition is None or self.value(self.conditions[condition]) is True

    def value(self, node: Any) -> Any:
        """Return a part of the template with its functions replaced by their values."""
        if isinstance(node, list):
            items = [self.value(item) for item in node]
            return [item for item in items if item is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            function, argument = next(iter(node.items()))
            if function == "Ref" or function.startswith("Fn::"):
                return self.call(function, argument)
        members = {key: self.value(member) for key, member in node.items()}
        return {key: member for key, member in members.items() if member is not NO_VALUE}

    def call(self, function: str, argument: Any) -> Any:
        """Return the value of a function."""
        match function:
            case "Ref":
                return self.reference(argument)
            case "Fn::GetAtt":
                return ".".join(argument)
            case "Fn::Sub":
                return self.substitute(argument)
            case "Fn::If":
                condition, yes, no = argument
                return self.value(yes if self.holds(condition) else no)
            case "Fn::Equals":
                left, right = self.value(argument)
                return str(left) == str(right)
            case "Fn::Not":
                return not self.value(argument[0])
        raise NotImplementedError(function)

    def reference(self, name: str) -> Any:
        """Return the value of a parameter, or the logical ID of a resource."""
        if name == "AWS::NoValue":
            return NO_VALUE
        return self.values.get(name, name)

    def substitute(self, argument: Any) -> str:
        """Return a text with its ${references} replaced."""
        text, names = argument if isinstance(argument, list) else (argument, {})
        names = self.value(names)
        return re.sub(
            r"\$\{([\w:.]+)\}",
            lambda found: str(names.get(found[1], self.reference(found[1]))),
            text,
        )
