"""Login, POST /auth: checks user_id and password against DynamoDB and issues a JWT (HS256).

Environment
    USER_CREDENTIALS_TABLE_NAME  required   table with the key user_id and the attribute passwordHash, both strings
    JWT_SECRET                   required   the key that signs, at least 32 bytes (RFC 7518 §3.2)
    JWT_ISSUER                   optional   put into the token as "iss"
    JWT_AUDIENCE                 optional   put into the token as "aud"
    JWT_TTL_SECONDS              optional   how long a token is valid; default 3600
    CORS_ALLOW_ORIGIN            optional   the one origin whose pages may read the answer; default *

Layer        basic_auth (PyJWT, bcrypt); boto3 comes with the runtime
Permissions  dynamodb:GetItem on that table, CloudWatch Logs
Memory       1024 MB, timeout 15 s: bcrypt takes a third of a second of a whole CPU, a DynamoDB that hangs 7 s
Event        Lambda proxy integration of a REST API, an HTTP API or a function URL, with the JSON object
             {"user_id": "...", "password": "..."} as body; or that object itself (console test, other integrations)
Answers      200  {"token": "<jwt>", "token_type": "Bearer", "expires_in": <seconds>}
             400  {"message": ...}  the request is not such an object
             401  {"message": ...}  all else that is the caller's doing: one body, one duration for hashes of cost 12
             500  {"message": ...}  DynamoDB failed; the log has its error code
             502  from API Gateway: a setting is missing or bad (the function does not start; the log says why)
Caching      none. Throttle the route: every call costs a bcrypt
"""

import base64
import json
import logging
import os
import re
import time
import uuid
from typing import Any

import bcrypt
import boto3
import jwt
from botocore.config import Config
from botocore.exceptions import ClientError

logger = logging.getLogger()
logger.setLevel(logging.INFO)

USER_CREDENTIALS_TABLE_NAME = os.environ.get("USER_CREDENTIALS_TABLE_NAME", "")
if not USER_CREDENTIALS_TABLE_NAME:
    raise ValueError("USER_CREDENTIALS_TABLE_NAME must be set: the DynamoDB table with the users")

JWT_SECRET = os.environ.get("JWT_SECRET", "")
try:
    if len(JWT_SECRET.encode()) < 32:  # bytes
        raise ValueError("too short")
    jwt.encode({}, JWT_SECRET, algorithm="HS256")
except Exception:
    raise ValueError("JWT_SECRET must be text of 32 bytes or more, no PEM or JWK: openssl rand -hex 32") from None

OPTIONAL_CLAIMS = {"iss": os.environ.get("JWT_ISSUER"), "aud": os.environ.get("JWT_AUDIENCE")}

if not re.fullmatch("[1-9][0-9]{0,8}", os.environ.get("JWT_TTL_SECONDS") or "3600"):
    raise ValueError("JWT_TTL_SECONDS must be a whole number of seconds, 1 or more")
JWT_TTL_SECONDS = int(os.environ.get("JWT_TTL_SECONDS") or "3600")  # seconds

CORS_ALLOW_ORIGIN = os.environ.get("CORS_ALLOW_ORIGIN") or "*"
if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^\s,/]+", CORS_ALLOW_ORIGIN):
    raise ValueError("CORS_ALLOW_ORIGIN must be * or one origin without a path, such as https://app.example.com")

# 2 attempts of (1 s to connect + 2 s to read), and 1 s at most between them.
dynamodb = boto3.client(
    "dynamodb", config=Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
)
# A lambda, since the function stands further down.
dynamodb.meta.events.register("before-parse.dynamodb.GetItem", lambda **parts: require_json_object(**parts))

# Costs from 4 to 15: after a DynamoDB that hangs, a hash of a higher one could outlast the function's timeout.
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
        item = user_item(user_id)
        stored = usable_hash(item)
    except Exception as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        logger.error("failed: DynamoDB: %s", code)
        return answer(500, {"message": "Internal server error"})
    if not password_matches(password, stored):
        log_refusal(user_id, item, stored)
        return answer(401, {"message": "Invalid user_id or password"})
    logger.info("admitted: %r", user_id)
    return answer(200, {"token": signed_token(user_id), "token_type": "Bearer", "expires_in": JWT_TTL_SECONDS})


def credentials(event: object) -> tuple[str, str]:
    """Return user_id and password, or raise ValueError with the sentence that the caller gets."""
    request = request_object(event)
    for name in ("user_id", "password"):
        value = request.get(name)
        if not isinstance(value, str) or not value or re.search("[\ud800-\udfff]", value):
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
            request = json.loads(base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body)
        except (TypeError, ValueError, RecursionError):
            raise ValueError("The body must be JSON") from None
    if not isinstance(request, dict):
        raise ValueError("The request must be a JSON object with user_id and password")
    return request


def user_item(user_id: str) -> dict[str, Any] | None:
    """Return what the table has of a user's passwordHash, or None where there is no such user."""
    key = {"user_id": {"S": user_id}}
    item: dict[str, Any] | None = dynamodb.get_item(
        TableName=USER_CREDENTIALS_TABLE_NAME, Key=key, ProjectionExpression="passwordHash", ConsistentRead=True
    ).get("Item")
    return item


def require_json_object(response_dict: dict[str, Any], **_: object) -> None:
    """Raise if a 200 is not DynamoDB's: botocore reads one that is not JSON as "no such item"."""
    if response_dict["status_code"] == 200 and not isinstance(json.loads(response_dict["body"]), dict):
        raise ValueError("not a JSON object")


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


def signed_token(user_id: str) -> str:
    """Return a JWT for the user (RFC 7519 §4.1)."""
    now = int(time.time())
    claims = {"user_id": user_id, "sub": user_id, "iat": now, "exp": now + JWT_TTL_SECONDS, "jti": str(uuid.uuid4())}
    claims |= {name: value for name, value in OPTIONAL_CLAIMS.items() if value}
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


def answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of Lambda proxy integration that no cache keeps and that CORS_ALLOW_ORIGIN may read."""
    headers = {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": CORS_ALLOW_ORIGIN,
    }
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}
