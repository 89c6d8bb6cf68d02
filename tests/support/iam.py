"""What a policy means to IAM: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html"""

import re
from typing import Any


def decision(answer: dict[str, Any], method_arn: str) -> str:
    """Return what IAM decides about a method under an authorizer's policy: "Allow", "Deny", or "silent"."""
    effects = {
        statement["Effect"]
        for statement in answer["policyDocument"]["Statement"]
        if statement["Action"] == "execute-api:Invoke" and concerns(statement, method_arn)
    }
    return "Deny" if "Deny" in effects else "Allow" if "Allow" in effects else "silent"


def concerns(statement: dict[str, Any], method_arn: str) -> bool:
    """Tell whether a statement is about a method; NotResource is about all that it does not list."""
    assert ("Resource" in statement) != ("NotResource" in statement)
    patterns = statement["Resource" if "Resource" in statement else "NotResource"]
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return any(iam_match(pattern, method_arn) for pattern in patterns) == ("Resource" in statement)


def iam_match(pattern: str, text: str) -> bool:
    """Tell whether a pattern in which only * and ? are wildcards matches a whole text."""
    parts = (
        ".*" if part == "*" else "." if part == "?" else re.escape(part)
        for part in re.split(r"([*?])", pattern)
    )
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None
