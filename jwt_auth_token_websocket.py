"""Authorizer of a WebSocket API's $connect route: admits clients with a JWT of jwt_create_token.py (HS256).

Environment
    JWT_SECRET           required   the key that signs: 32 bytes or more (RFC 7518 §3.2), 10 of them different
    JWT_SECRET_PREVIOUS  optional   the key before it: still verifies, never signs
    JWT_ISSUER           optional   when set, the token's "iss" must be this
    JWT_AUDIENCE         optional   when set, the token's "aud" must be, or contain, this; when not, it must have none
    USER_CREDENTIALS_TABLE_NAME     optional   login's table, to log users out: refuses a token whose user is not in
                                    it, or has a tokensValidFrom (number, Unix seconds) later than the token's "iat"

Layer        basic_auth (PyJWT); boto3, for the table, comes with the runtime
Permissions  CloudWatch Logs; with the table, dynamodb:GetItem on it (attributes user_id and tokensValidFrom)
Memory       256 MB, timeout 10 s: a DynamoDB that hangs takes 7 s
Answers      401  no valid token (raises Exception("Unauthorized"))
             500  DynamoDB failed, a setting is missing or bad, or this is not $connect (the log says which)
Token source header Authorization, "Bearer <jwt>" or the bare token; else the query string parameter access_token, as a
             browser's WebSocket cannot set headers. URLs are logged, and RFC 9700 §4.3.2 forbids tokens in them:
             if you need no browsers, set the identity source route.request.header.Authorization, and API Gateway
             refuses whoever sends no header. Otherwise set none, for API Gateway demands every one that is set.
Caching      none on a WebSocket API. Only $connect is authorized: a connection outlives its token, up to 2 hours.
Rotation     1. authorizers: JWT_SECRET = new, JWT_SECRET_PREVIOUS = old  2. login: JWT_SECRET = new
             3. after JWT_TTL_SECONDS: drop JWT_SECRET_PREVIOUS. Nobody is logged out.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import contextlib
import logging
import os
import re
from typing import Any, NoReturn

import jwt

logger = logging.getLogger()
logger.setLevel(logging.INFO)

# Another kind of key in base64, which a stranger may know: of DER (MI, MF, MC ...), SSH (AAAA) or PEM (LS0t).
BASE64_KEY = re.compile(
    r"[\s\"']*(?:M(?:I[GHI]|[A-H][AEIMQUYcgkosw048][Cw])|AAAA|LS0t)[\w+/=\s\\\"'-]+"
)


def signing_secret(name: str) -> str:
    """Return the secret in a variable, or stop the function if it is weak or another kind of key (RFC 8725 §3.5)."""
    secret = os.environ.get(name, "")
    with contextlib.suppress(Exception):
        jwt.encode(
            {}, secret.strip("\"' \t\r\n"), algorithm="HS256"
        )  # PyJWT refuses PEM, SSH and JWK
        if (
            len(secret.encode()) >= 32
            and len(set(secret)) >= 10
            and not BASE64_KEY.fullmatch(secret)
        ):
            return secret
    raise ValueError(
        f"{name} must be 32 bytes, 10 of them different, no PEM, SSH, JWK or DER: openssl rand -hex 32"
    )


JWT_SECRET = signing_secret("JWT_SECRET")
JWT_SECRET_PREVIOUS = (
    signing_secret("JWT_SECRET_PREVIOUS") if os.environ.get("JWT_SECRET_PREVIOUS") else ""
)

VALIDATION: dict[str, Any] = {
    "algorithms": ["HS256"],
    "issuer": os.environ.get("JWT_ISSUER") or None,
    "audience": os.environ.get("JWT_AUDIENCE") or None,
    "leeway": 10,  # seconds of clock skew
    "options": {"require": ["exp", "user_id"]},
}

# One spelling for each token (RFC 7515 §2): no padding, no junk, no stray bits in the signature's last character.
COMPACT_JWS = re.compile(
    r"[\w-]+\.[\w-]+\.(?:[\w-]{4})*+(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?", re.ASCII
)
SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")  # RFC 6749 §3.3
UNICODE = re.compile("[^\ud800-\udfff]+")  # no lone surrogates: UTF-8 has none

USER_CREDENTIALS_TABLE_NAME = os.environ.get("USER_CREDENTIALS_TABLE_NAME", "")
if USER_CREDENTIALS_TABLE_NAME:  # without it, the cold start is spared these
    from concurrent.futures import ThreadPoolExecutor

    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    # 2 attempts of 1 s to connect and 2 s between two reads, and 1 s at most between the attempts.
    timeouts = Config(
        connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}
    )
    dynamodb, threads = (
        boto3.client("dynamodb", config=timeouts),
        ThreadPoolExecutor(100),
    )  # one for each that hangs


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer a $connect authorizer event with an IAM policy, or raise Exception("Unauthorized"), a 401."""
    method_arn = str(event.get("methodArn"))
    if method_arn.split("/")[2:] != [
        "$connect"
    ]:  # there, a policy for one method would be cached and replayed
        raise RuntimeError(
            "This authorizer is for $connect of a WebSocket API; for others take jwt_auth_token.py"
        )
    claims = verified_claims(connect_token(event))
    user_id, scope = claims["user_id"], claims.get("scope", "")
    if USER_CREDENTIALS_TABLE_NAME:
        refuse_if_logged_out(user_id, claims.get("iat"))
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": method_arn}
    logger.info("admitted: %r", user_id)
    return {
        "principalId": user_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"userId": user_id, "scope": scope, "authorized": True},
    }


def connect_token(event: dict[str, Any]) -> str:
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


def verified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a valid token, or raise Exception("Unauthorized") (RFC 7519 §7.2)."""
    try:
        claims = decoded(token)
    except Exception as error:
        refuse(type(error).__name__)
    user_id, scope = claims["user_id"], claims.get("scope", "none")  # any word passes for no scope
    dates = {
        type(claims["exp"]),
        type(claims.get("nbf", 0)),
        type(claims.get("iat", 0)),
    }  # PyJWT takes text, too
    if not dates <= {int, float} or not isinstance(user_id, str) or not isinstance(scope, str):
        refuse("a claim of the wrong type")
    if (
        not UNICODE.fullmatch(user_id)
        or len(user_id.encode()) > 256
        or not SCOPE.fullmatch(scope)
        or len(scope) > 1024
    ):
        refuse("a user_id or a scope that login would not issue")
    return claims


def decoded(token: str) -> dict[str, Any]:
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
    raise Exception(
        "Unauthorized"
    ) from None  # keeps the token, which the error behind may quote, out of the traceback


def refuse_if_logged_out(user_id: str, issued_at: float | None) -> None:
    """Refuse a token from before the user's tokensValidFrom (both in Unix seconds), or of a user who is gone."""
    try:
        item = user_item(user_id, ProjectionExpression="tokensValidFrom")
        valid_from = (item or {}).get("tokensValidFrom", {"N": "0"})["N"]
        if not re.fullmatch("[0-9]{1,38}", valid_from):
            raise ValueError("tokensValidFrom is no whole number")
    except Exception as error:
        code = (
            error.response["Error"]["Code"]
            if isinstance(error, ClientError)
            else type(error).__name__
        )
        logger.error("failed: DynamoDB: %s", code)
        raise RuntimeError("DynamoDB failed") from None
    if item is None or issued_at is None or issued_at < int(valid_from):
        refuse("no such user, or logged out")


def user_item(user_id: str, **attributes: Any) -> Any:
    """Return what the table has of a user, or None where there is no such user; raise if DynamoDB fails or hangs."""
    request = {
        "TableName": USER_CREDENTIALS_TABLE_NAME,
        "Key": {"user_id": {"S": user_id}},
        "ConsistentRead": True,
    }
    request |= attributes | {"ReturnConsumedCapacity": "TOTAL"}
    found = threads.submit(dynamodb.get_item, **request).result(timeout=7)  # seconds
    found.pop(
        "ConsumedCapacity"
    )  # or KeyError, where it was no DynamoDB: botocore takes a 200 in HTML for empty
    return found.get("Item")
