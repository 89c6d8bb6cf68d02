"""REST API authorizer (TOKEN): admits requests that carry a JWT which jwt_create_token.py issued (HS256).

Environment
    JWT_SECRET             required   the key that signs, at least 32 bytes (RFC 7518 §3.2)
    JWT_SECRET_PREVIOUS    optional   the key before it: still verifies, never signs
    JWT_ISSUER             optional   when set, the token's "iss" must be this
    JWT_AUDIENCE           optional   when set, the token's "aud" must be, or contain, this; when not, it must have none
    ALLOWED_RESOURCE_ARNS  optional   comma-separated method ARNs, of 512 characters at most, that a valid token may
                                      call, with the wildcards * ("/" too) and ?; default: every method of the stage

Layer        basic_auth (PyJWT)
Permissions  CloudWatch Logs only
Answers      401  no token, or one that is not valid (raises Exception("Unauthorized"))
             403  a valid token, and a method that ALLOWED_RESOURCE_ARNS does not list
             500  a setting is missing or bad (the function does not start, and says why in its log)
Token source Authorization: "Bearer <jwt>", or the bare token
Caching      safe at any TTL: the policy depends on the token and the stage, never on the method that asked.
             A cached answer can outlive the token's "exp" by the TTL at most.
Rotation     1. authorizers: JWT_SECRET = new, JWT_SECRET_PREVIOUS = old  2. login: JWT_SECRET = new
             3. after JWT_TTL_SECONDS: drop JWT_SECRET_PREVIOUS. Nobody is logged out.
"""

import fnmatch
import logging
import os
import re
from typing import Any, NoReturn

import jwt

logger = logging.getLogger()
logger.setLevel(logging.INFO)

JWT_SECRET = os.environ.get("JWT_SECRET", "")
JWT_SECRET_PREVIOUS = os.environ.get("JWT_SECRET_PREVIOUS", "")
for name, secret in (("JWT_SECRET", JWT_SECRET), ("JWT_SECRET_PREVIOUS", JWT_SECRET_PREVIOUS or JWT_SECRET)):
    try:
        if len(secret.encode()) < 32:  # bytes
            raise ValueError("too short")
        jwt.encode({}, secret, algorithm="HS256")
    except Exception:
        raise ValueError(f"{name} must be text of 32 bytes or more, no PEM or JWK: openssl rand -hex 32") from None

VALIDATION: dict[str, Any] = {
    "algorithms": ["HS256"],
    "issuer": os.environ.get("JWT_ISSUER") or None,
    "audience": os.environ.get("JWT_AUDIENCE") or None,
    "options": {"require": ["exp", "user_id"]},
}

# The libraries pass over padding and, some of them, junk: a token would have many spellings (RFC 7515 §7.1).
COMPACT_JWS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)

ALLOWED_RESOURCE_ARNS = [arn.strip() for arn in os.environ.get("ALLOWED_RESOURCE_ARNS", "").split(",")]
if ALLOWED_RESOURCE_ARNS == [""]:
    ALLOWED_RESOURCE_ARNS = []
if not all(arn.startswith(("arn:", "*")) and len(arn) <= 512 for arn in ALLOWED_RESOURCE_ARNS):
    raise ValueError("ALLOWED_RESOURCE_ARNS must list method ARNs of at most 512 characters each, separated by commas")


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer a TOKEN authorizer event with an IAM policy, or raise Exception("Unauthorized"), a 401."""
    user_id = verified_user_id(bearer_token(event.get("authorizationToken")))
    return policy(user_id, event["methodArn"], {"user_id": user_id, "authorized": True})


def bearer_token(value: object) -> str:
    """Return the token of an Authorization value, with or without the scheme, or "" (RFC 6750 §2.1, 7515 §7.1)."""
    if not isinstance(value, str):
        return ""
    scheme, _, token = value.partition(" ")
    token = token.strip(" ") if scheme.lower() == "bearer" else value
    return token if COMPACT_JWS.fullmatch(token) else ""


def verified_user_id(token: str) -> str:
    """Return the claim user_id of a valid token, or raise Exception("Unauthorized") (RFC 7519 §7.2)."""
    try:
        claims = verified_claims(token)
    except Exception as error:
        refuse(type(error).__name__)
    user_id = claims["user_id"]
    if not (isinstance(user_id, str) and user_id and has_numeric_dates(claims)):
        refuse("a claim of the wrong type")
    return user_id


def verified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a token that JWT_SECRET or JWT_SECRET_PREVIOUS signed."""
    try:
        return jwt.decode(token, JWT_SECRET, **VALIDATION)
    except jwt.InvalidSignatureError:
        if not JWT_SECRET_PREVIOUS:
            raise
        return jwt.decode(token, JWT_SECRET_PREVIOUS, **VALIDATION)


def refuse(reason: str) -> NoReturn:
    """Log why a token is not valid, and raise what API Gateway answers with 401: exactly this message."""
    logger.info("refused: %s", reason)
    raise Exception("Unauthorized") from None  # keeps the token, which the error behind may quote, out of the traceback


def has_numeric_dates(claims: dict[str, Any]) -> bool:
    """Tell whether every date is a number, as RFC 7519 §2 has it: PyJWT takes text as well."""
    return all(type(claims.get(name, 0)) in (int, float) for name in ("exp", "nbf", "iat"))


def policy(principal: str, method_arn: str, context: dict[str, Any]) -> dict[str, Any]:
    """Return the answer for every method at once: API Gateway caches it and replays it for other methods."""
    stage = "/".join(method_arn.split("/")[:2])
    resources = ALLOWED_RESOURCE_ARNS or [f"{stage}/*"]
    statements = [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": resources}]
    if ALLOWED_RESOURCE_ARNS:
        # Not only silence: a resource policy that allows everybody would let an unlisted method through.
        statements.append({"Action": "execute-api:Invoke", "Effect": "Deny", "NotResource": resources})
    allowed = not ALLOWED_RESOURCE_ARNS or any(matches(method_arn, pattern) for pattern in ALLOWED_RESOURCE_ARNS)
    logger.info("%s: %r", "admitted" if allowed else "denied by ALLOWED_RESOURCE_ARNS", principal)
    return {
        "principalId": principal,
        "policyDocument": {"Version": "2012-10-17", "Statement": statements if allowed else statements[::-1]},
        "context": context,
    }


def matches(method_arn: str, pattern: str) -> bool:
    """Tell whether an IAM pattern covers a method ARN: only * and ? are wildcards there."""
    return fnmatch.fnmatchcase(method_arn, pattern.replace("[", "[[]"))
