"""WebSocket API authorizer (REQUEST) of the $connect route: admits clients with a JWT of jwt_create_token.py (HS256).

Environment
    JWT_SECRET           required   the key that signs, at least 32 bytes (RFC 7518 §3.2)
    JWT_SECRET_PREVIOUS  optional   the key before it: still verifies, never signs
    JWT_ISSUER           optional   when set, the token's "iss" must be this
    JWT_AUDIENCE         optional   when set, the token's "aud" must be, or contain, this; when not, it must have none

Layer           basic_auth (PyJWT)
Permissions     CloudWatch Logs only
Answers         401  no token, or one that is not valid (raises Exception("Unauthorized"))
                500  a setting is missing or bad (the function does not start, and says why in its log)
Token           header Authorization: "Bearer <jwt>" or the bare token; else the query string parameter access_token
                (RFC 6750 §2.3), since a browser's WebSocket cannot set headers. URLs end up in logs: keep tokens
                short-lived, and log $context.requestId but nothing of the query string.
Identity source none, or only the one that your clients use: API Gateway demands every one that is configured,
                and answers 401 by itself where one is missing.
Caching         none on a WebSocket API. Only $connect is authorized: a connection outlives its token, up to 2 hours.
Rotation        1. authorizers: JWT_SECRET = new, JWT_SECRET_PREVIOUS = old  2. login: JWT_SECRET = new
                3. after JWT_TTL_SECONDS: drop JWT_SECRET_PREVIOUS. Nobody is logged out.
"""

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


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer a $connect authorizer event with an IAM policy, or raise Exception("Unauthorized"), a 401."""
    user_id = verified_user_id(presented_token(event))
    logger.info("admitted: %r", user_id)
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": event["methodArn"]}
    return {
        "principalId": user_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"userId": user_id, "authorized": True},
    }


def presented_token(event: dict[str, Any]) -> str:
    """Return the token of the Authorization header, else of the query string, else ""."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    query = event.get("queryStringParameters") or {}
    return bearer_token(headers.get("authorization") or query.get("access_token"))


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
