"""What a policy means to IAM.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from typing import Any


def decision(response: dict[str, Any], method_arn: str) -> str:
    """Return what an authorizer's policy says about a method: "Allow", "Deny" or "silent"."""
    statements = response["policyDocument"]["Statement"]
    assert all(statement["Action"] == "execute-api:Invoke" for statement in statements)
    effects = [each["Effect"] for each in statements if concerns(each, method_arn)]
    if "Deny" in effects:
        return "Deny"
    return "Allow" if "Allow" in effects else "silent"


def concerns(statement: dict[str, Any], method_arn: str) -> bool:
    """Tell whether a statement is about a method. NotResource is about all that it doesn't list."""
    assert ("Resource" in statement) != ("NotResource" in statement)
    if "NotResource" in statement:
        return not covered(statement["NotResource"], method_arn)
    return covered(statement["Resource"], method_arn)


def covered(patterns: str | list[str], method_arn: str) -> bool:
    """Tell whether one of the patterns, or the only one, matches a method."""
    if isinstance(patterns, str):
        patterns = [patterns]
    return any(iam_match(pattern, method_arn) for pattern in patterns)


def iam_match(pattern: str, text: str) -> bool:
    """Tell whether a pattern in which only * and ? are wildcards matches a whole text."""
    literal = re.escape(pattern)
    expression = literal.replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None
