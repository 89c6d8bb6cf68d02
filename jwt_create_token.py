"""Login, POST /auth: checks user_id and password against DynamoDB and issues a JWT (HS256).

Environment
    USER_CREDENTIALS_TABLE_NAME  required   table with the key user_id, and the attributes passwordHash and, for rights
                                            per user, scope ("read admin"); all of them strings
    JWT_SECRET                   required   the key that signs: 32 bytes or more (RFC 7518 §3.2), 10 of them different
    JWT_ISSUER                   optional   put into the token as "iss"
    JWT_AUDIENCE                 optional   put into the token as "aud"
    JWT_TTL_SECONDS              optional   how long a token is valid; default 3600, at most 2592000 (30 days)
    CORS_ALLOW_ORIGIN            optional   the one origin whose pages may read the answer; default *

Layer        basic_auth (PyJWT, bcrypt); boto3 comes with the runtime
Permissions  dynamodb:GetItem on that table (attributes user_id, passwordHash and scope), CloudWatch Logs
Memory       1024 MB, timeout 15 s: bcrypt takes a third of a second of a whole CPU, a DynamoDB that hangs 7 s
Event        Lambda proxy integration of a REST API, an HTTP API or a function URL, with the JSON object
             {"user_id": "...", "password": "..."} as body; or that object itself (console test, other integrations)
Answers      200  {"token": "<jwt>", "token_type": "Bearer", "expires_in": <seconds>}, with "scope" if the user has one
             400  {"message": ...}  the request is not such an object
             401  {"message": ...}  wrong user_id or password: one body, and one duration for hashes of cost 12
             500  {"message": ...}  DynamoDB failed; the log has its error code
             502  from API Gateway (HTTP API: 500): a setting is missing or bad (the log says why)
Caching      none. Throttle the route: every call costs a bcrypt
Rotation     see jwt_auth_token.py: the authorizers get a new JWT_SECRET first
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import base64
import contextlib
import json
import logging
import os
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bcrypt
import boto3
import jwt
from botocore.config import Config
from botocore.exceptions import ClientError

logger = logging.getLogger()
logger.setLevel(logging.INFO)

USER_CREDENTIALS_TABLE_NAME = os.environ.get("USER_CREDENTIALS_TABLE_NAME", "")
if not re.fullmatch("[!-~]+", USER_CREDENTIALS_TABLE_NAME):
    raise ValueError("USER_CREDENTIALS_TABLE_NAME must be set: the DynamoDB table with the users")

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
OPTIONAL_CLAIMS = {"iss": os.environ.get("JWT_ISSUER"), "aud": os.environ.get("JWT_AUDIENCE")}

TTL = os.environ.get("JWT_TTL_SECONDS") or "3600"
if not re.fullmatch("[1-9][0-9]{0,6}", TTL) or int(TTL) > 2_592_000:
    raise ValueError(
        "JWT_TTL_SECONDS must be a whole number of seconds, from 1 to 2592000 (30 days)"
    )
JWT_TTL_SECONDS = int(TTL)

CORS_ALLOW_ORIGIN = os.environ.get("CORS_ALLOW_ORIGIN") or "*"
if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^\s,/]+", CORS_ALLOW_ORIGIN):
    raise ValueError(
        "CORS_ALLOW_ORIGIN must be * or one origin without a path, such as https://app.example.com"
    )

# 2 attempts of 1 s to connect and 2 s between two reads, and 1 s at most between the attempts.
timeouts = Config(
    connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}
)
dynamodb, threads = (
    boto3.client("dynamodb", config=timeouts),
    ThreadPoolExecutor(100),
)  # one for each that hangs

SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")  # RFC 6749 §3.3
# Costs from 4 to 15: a higher one could outlast the function's timeout after a slow DynamoDB.
USABLE_HASH = re.compile(r"\$2[abxy]\$(?:0[4-9]|1[0-5])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
DUMMY_HASH = "$2b$12$XizYodWE.wi0uI0O215WQ.NzeMa11/dM2kJZDkQiqVjHlp4lstL/W"  # of random bytes that nobody kept


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer a login request with a JWT, or with the status and the message that say why not."""
    try:
        user_id, password = credentials(event)
    except ValueError as error:
        logger.info("refused: not a login request")
        return answer(400, {"message": str(error)})
    try:
        item = user_item(
            user_id,
            ProjectionExpression="passwordHash, #s",
            ExpressionAttributeNames={"#s": "scope"},
        )
        stored = usable_hash(item)
    except Exception as error:
        code = (
            error.response["Error"]["Code"]
            if isinstance(error, ClientError)
            else type(error).__name__
        )
        logger.error("failed: DynamoDB: %s", code)
        return answer(500, {"message": "Internal server error"})
    if not password_matches(password, stored):
        log_refusal(user_id, item, stored)
        return answer(401, {"message": "Invalid user_id or password"})
    scope = granted_scope(user_id, item or {})
    token = signed_token(user_id, scope)
    logger.info("admitted: %r", user_id)
    return answer(
        200, {"token": token, "token_type": "Bearer", "expires_in": JWT_TTL_SECONDS} | scope
    )


def credentials(event: object) -> tuple[str, str]:
    """Return user_id and password, or raise ValueError with the sentence that the caller gets."""
    request = request_object(event)
    for name in ("user_id", "password"):
        value = request.get(name)
        if not isinstance(value, str) or not re.fullmatch("[^\ud800-\udfff]+", value):
            raise ValueError(f"{name} must be a non-empty string of valid Unicode")
    if len(request["user_id"].encode()) > 256:  # bytes
        raise ValueError("user_id must be at most 256 bytes")
    return request["user_id"], request["password"]


def request_object(event: object) -> dict[str, Any]:
    """Return the JSON object in a proxy event's body, or an event without a body itself."""
    request = event
    if isinstance(event, dict) and "body" in event:
        try:
            body = event["body"]
            request = json.loads(
                base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body
            )
        except (TypeError, ValueError, RecursionError):
            raise ValueError("The body must be JSON") from None
    if not isinstance(request, dict):
        raise ValueError("The request must be a JSON object with user_id and password")
    return request


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


def usable_hash(item: dict[str, Any] | None) -> str:
    """Return the bcrypt hash of an item, or "" if it has none that bcrypt can work with."""
    stored = (item or {}).get("passwordHash", {}).get("S", "")
    return stored if USABLE_HASH.fullmatch(stored) else ""


def password_matches(password: str, stored: str) -> bool:
    """Tell whether a password has the stored hash: always one checkpw, so that the time says nothing."""
    candidate = password.encode()
    # bcrypt refuses more than 72 bytes, and repeats its key: to it, "abc" and "abc\0abc" are the same.
    hashable = len(candidate) <= 72 and b"\0" not in candidate
    matched = bcrypt.checkpw(candidate if hashable else b"-", (stored or DUMMY_HASH).encode())
    return matched and hashable and bool(stored)


def log_refusal(user_id: str, item: dict[str, Any] | None, stored: str) -> None:
    """Log why a login failed; never a user_id that is not in the table: people type passwords there."""
    if stored:
        logger.info("refused: wrong password: %r", user_id)
    elif item is None:
        logger.info("refused: unknown user")
    else:
        logger.error("refused: no passwordHash that bcrypt can read: %r", user_id)


def granted_scope(user_id: str, item: dict[str, Any]) -> dict[str, str]:
    """Return the user's scope as a member of claims and answer (RFC 6749 §5.1); a malformed one is left out."""
    scope = (item.get("scope") or {}).get("S")
    if isinstance(scope, str) and SCOPE.fullmatch(scope) and len(scope) <= 1024:
        return {"scope": scope}
    if "scope" in item:
        logger.error("left out: a scope that is no text of scope tokens: %r", user_id)
    return {}


def signed_token(user_id: str, scope: dict[str, str]) -> str:
    """Return a JWT for the user (RFC 7519 §4.1)."""
    now = int(time.time())
    claims = {
        "user_id": user_id,
        "sub": user_id,
        "iat": now,
        "exp": now + JWT_TTL_SECONDS,
        "jti": str(uuid.uuid4()),
    }
    claims |= {name: value for name, value in OPTIONAL_CLAIMS.items() if value} | scope
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


def answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of Lambda proxy integration that no cache keeps and that CORS_ALLOW_ORIGIN may read."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    headers["Access-Control-Allow-Origin"] = CORS_ALLOW_ORIGIN
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}
