"""Login for REST and HTTP APIs (POST /auth). Checks a password in DynamoDB and issues a JWT.

The JWT is signed with HS256: login and authorizers share one secret.

Environment
    USER_CREDENTIALS_TABLE_NAME   required
        DynamoDB table with the users, or its ARN. Its key is user_id. Its other attributes, which
        create_password.py writes, are strings, too: passwordHash (bcrypt), tokenVersion (see
        Revoking) and scope (such as "read admin").
    JWT_SECRET   required
        Signing secret, the same as the authorizers'. At least 32 bytes (RFC 7518 §3.2) and 10
        different characters. To generate one: openssl rand -hex 32
    JWT_ISSUER   optional
        "iss" claim of the tokens. Set it on the authorizers, too.
    JWT_AUDIENCE   optional
        "aud" claim of the tokens. Set it on the authorizers, too.
    JWT_TTL_SECONDS   optional
        Lifetime of a token in seconds, at most 2592000 (30 days). Default: 3600
    CORS_ALLOW_ORIGIN   optional
        The one origin whose pages may read the responses. Default: * (all). Let API Gateway
        answer the OPTIONS request that a browser sends first.
    AWS_LAMBDA_LOG_LEVEL   optional
        Lambda sets it if you choose a log level for the function. Default: INFO

Runtime      Python 3.11 or newer. Handler of a pasted file: lambda_function.lambda_handler
Layer        basic_auth (PyJWT, bcrypt), see docs/layers.md. boto3 comes with the runtime.
Permissions  CloudWatch Logs, and dynamodb:GetItem on the table (attributes user_id, passwordHash,
             tokenVersion and scope).
Memory       1024 MB, timeout 15 s. bcrypt needs about a third of a second of a full CPU. A
             DynamoDB lookup gives up after 7 s.
Event        Lambda proxy integration of a REST or HTTP API, with the JSON object
             {"user_id": "...", "password": "..."} as the body (at most 10,000 bytes), or only this
             object, as in a console test.
Responses    200  {"token": "<jwt>", "token_type": "Bearer", "expires_in": <seconds>}, and "scope"
                  if the user has one.
             400  {"message": "..."}  The request isn't such an object, or it is too large. The
                  message says why.
             401  {"message": "Invalid user_id or password"}  The same response, in the same time,
                  whether or not the user exists. That prevents user enumeration. (It holds for
                  hashes of cost 12, as create_password.py makes them.)
             500  {"message": "Internal server error"}  DynamoDB failed. The log has the error code.
             502  A setting is missing or invalid. The log says which. (HTTP APIs respond with 500.)
Caching      None: the responses forbid it.
Throttling   Throttle the route in API Gateway: every request costs one bcrypt computation.
Revoking     Login copies the user's tokenVersion into the "token_version" claim. Authorizers that
             read the table reject tokens whose claim isn't the current tokenVersion.
Rotation     1. Authorizers: JWT_SECRET = new, JWT_SECRET_PREVIOUS = old.
             2. Login: JWT_SECRET = new.
             3. After JWT_TTL_SECONDS: remove JWT_SECRET_PREVIOUS from the authorizers.
Copies       Code below a line "The same in ..." also stands in other files of the repository.
             If you change it, change it there, too.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import base64
import json
import logging
import os
import re
import time
import unicodedata
import uuid
from typing import Any, NoReturn

import bcrypt
import boto3
import jwt
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger(__name__)
if not os.environ.get("AWS_LAMBDA_LOG_LEVEL"):  # if it is set, Lambda's runtime sets the level
    logger.setLevel(logging.INFO)


# ---- The same in all handlers that have settings ----
def setting(name: str, default: str = "") -> str:
    """Return an environment variable, or the default if the variable is unset or empty."""
    value = os.environ.get(name) or default
    if value.isspace():
        raise ValueError(f"{name} contains only spaces. Set a value, or remove the variable.")
    return value


# ---- The same in all authorizers and jwt_create_token.py ----
def table_name() -> str:
    """Return USER_CREDENTIALS_TABLE_NAME: the name or ARN of a DynamoDB table, or ""."""
    name = setting("USER_CREDENTIALS_TABLE_NAME")
    if name and not re.fullmatch(r"(arn:\S+/)?[A-Za-z0-9_.-]{3,255}", name):
        raise ValueError(
            "USER_CREDENTIALS_TABLE_NAME is not a valid name of a DynamoDB table. "
            "Use 3 to 255 letters, digits, dots, hyphens or underscores, or the table's ARN."
        )
    return name


# ---- The same in jwt_auth_token.py, jwt_auth_token_websocket.py and jwt_create_token.py ----
def signing_secret(name: str) -> str:
    """Return a signing secret, or stop the function from starting if the secret is weak."""
    secret = setting(name)
    generate = "To generate a secret: openssl rand -hex 32"
    if len(secret.encode()) < 32:
        raise ValueError(f"{name} is missing or has fewer than 32 bytes. {generate}")
    if len(set(secret)) < 10:  # a placeholder, such as aaaaaaaa...
        raise ValueError(f"{name} has fewer than 10 different characters. {generate}")
    if secret != secret.strip().strip("\"'"):  # copied with the secret
        raise ValueError(f"{name} begins or ends with white space or a quote. Remove it.")
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        # Anybody may know a public key, so it is not a secret (RFC 8725 §2.1).
        raise ValueError(f"{name} is a PEM, SSH or JWK key, not a secret. {generate}") from None
    return secret


# ---- The same in jwt_create_token.py and restricted_access_lambda.py ----
def cors_origin() -> str:
    """Return CORS_ALLOW_ORIGIN: one origin (RFC 6454 §6.2), or *."""
    origin = setting("CORS_ALLOW_ORIGIN", "*")
    if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s,/]+", origin):
        raise ValueError(
            "CORS_ALLOW_ORIGIN is not an origin. Use one origin without a path or slash at its "
            "end, such as https://app.example.com, or * for all."
        )
    return origin


# ---- End of the copies ----


def token_lifetime() -> int:
    """Return JWT_TTL_SECONDS as a number."""
    text = setting("JWT_TTL_SECONDS", "3600")
    if not re.fullmatch("[0-9]{1,7}", text) or not 1 <= int(text) <= 2_592_000:
        raise ValueError(
            "JWT_TTL_SECONDS is not a lifetime. Use a whole number of seconds from 1 to 2592000 "
            "(30 days)."
        )
    return int(text)


USER_CREDENTIALS_TABLE_NAME = table_name()
if not USER_CREDENTIALS_TABLE_NAME:
    raise ValueError("USER_CREDENTIALS_TABLE_NAME is missing. Set it to the table with the users.")
JWT_SECRET = signing_secret("JWT_SECRET")
JWT_ISSUER = setting("JWT_ISSUER")
JWT_AUDIENCE = setting("JWT_AUDIENCE")
JWT_TTL_SECONDS = token_lifetime()
CORS_ALLOW_ORIGIN = cors_origin()

MAX_BODY = 10_000  # bytes: to parse a larger one could cost more than bcrypt
SALT = r"[./A-Za-z0-9]{21}[.Oeu]"  # 128 bits: 21 characters of 6 bits, and one of 2
DIGEST = r"[./A-Za-z0-9]{31}"
BCRYPT_HASH = re.compile(rf"\$2[abxy]\$[0-9][0-9]\${SALT}{DIGEST}")
MAX_COST = 15  # a hash that costs more could outlast the function's timeout
# The hash of random bytes that nobody knows, for users who don't exist.
DUMMY_HASH = "$2b$12$XizYodWE.wi0uI0O215WQ.NzeMa11/dM2kJZDkQiqVjHlp4lstL/W"

logging.getLogger("botocore").setLevel(logging.WARNING)  # at DEBUG, it logs what it reads
# At most 7 s: two attempts of 1 s to connect and 2 s to read, and up to 1 s between them.
dynamodb = boto3.client(
    "dynamodb",
    config=Config(
        connect_timeout=1,
        read_timeout=2,
        retries={"mode": "standard", "total_max_attempts": 2},
    ),
)


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return a response with a JWT, or one that says why there is none."""
    try:
        user_id, password = credentials(event)
    except ValueError as error:  # only from credentials(), with a message for the client
        logger.info("refused: invalid request: %s", error)
        return response(400, {"message": str(error)})
    try:
        item = user_item(user_id, "passwordHash", "tokenVersion", "scope")
    except RuntimeError:
        return response(500, {"message": "Internal server error"})
    password_hash = usable_hash(item)
    if not password_matches(password, password_hash):
        log_refusal(user_id, item, password_hash)
        return response(401, {"message": "Invalid user_id or password"})
    return successful_login(user_id, item or {})


def credentials(event: Any) -> tuple[str, str]:
    """Return user_id and password, or raise ValueError with a message for the client."""
    request = event
    if isinstance(event, dict) and "body" in event:
        request = parsed_body(event)
    if not isinstance(request, dict):
        raise ValueError("The request must be a JSON object with user_id and password")
    user_id = text_member(request, "user_id")
    if len(user_id.encode()) > 256:
        raise ValueError("user_id must have at most 256 bytes")
    return user_id, text_member(request, "password")


def parsed_body(event: dict[str, Any]) -> Any:
    """Return the body of a proxy event, parsed as JSON, or raise ValueError."""
    data = body_bytes(event)
    if len(data) > MAX_BODY:
        raise ValueError("The body must have at most 10,000 bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("The body must be JSON") from None


def body_bytes(event: dict[str, Any]) -> bytes:
    """Return the body of a proxy event, which is null if the client sends none."""
    body = event["body"] or ""
    try:
        if event.get("isBase64Encoded"):
            return base64.b64decode(body)
        return str(body).encode()
    except ValueError:
        raise ValueError("The body must be JSON") from None


def text_member(request: dict[str, Any], name: str) -> str:
    """Return a member of the request in Unicode NFC (RFC 8265), or raise ValueError."""
    text = request.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"{name} must be a non-empty string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be valid Unicode") from None
    # Devices encode "é" in different ways. create_password.py stores NFC, too.
    return unicodedata.normalize("NFC", text)


def usable_hash(item: dict[str, Any] | None) -> str:
    """Return the bcrypt hash of a user's item, or "" if the item has none that can be checked."""
    if item is None:
        return ""
    text: str = item.get("passwordHash", {}).get("S", "")
    if not BCRYPT_HASH.fullmatch(text):
        return ""
    _, _, cost, _ = text.split("$")
    if not 4 <= int(cost) <= MAX_COST:
        return ""
    return text


def password_matches(password: str, password_hash: str) -> bool:
    """Check a password with exactly one bcrypt computation, so that the time reveals nothing."""
    hash_to_check = password_hash or DUMMY_HASH
    candidate = password.encode()
    # bcrypt uses at most 72 bytes, and "abc" and "abc\0abc" are the same to it.
    can_be_hashed = len(candidate) <= 72 and b"\0" not in candidate
    if not can_be_hashed:
        candidate = b"any"  # bcrypt needs a candidate, and the result doesn't count
    matches = bcrypt.checkpw(candidate, hash_to_check.encode())
    return matches and can_be_hashed and hash_to_check != DUMMY_HASH


def log_refusal(user_id: str, item: dict[str, Any] | None, password_hash: str) -> None:
    """Log why a login failed. An unknown user_id is not logged: it may be a misplaced password."""
    if item is None:
        logger.info("refused: unknown user")
    elif password_hash:
        logger.info("refused: wrong password: %r", user_id)
    elif "passwordHash" not in item:
        logger.info("refused: user without a password: %r", user_id)
    else:
        logger.error(
            "refused: user %r has no valid bcrypt hash in passwordHash; "
            "set a new password with create_password.py",
            user_id,
        )


def successful_login(user_id: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return a response with a new JWT for the user (RFC 6749 §5.1)."""
    scope = granted_scope(user_id, item)
    token_version = item.get("tokenVersion", {}).get("S", "")
    body = {
        "token": signed_token(user_id, scope, token_version),
        "token_type": "Bearer",
        "expires_in": JWT_TTL_SECONDS,
    }
    if scope:
        body["scope"] = scope
    logger.info("admitted: %r", user_id)
    return response(200, body)


def signed_token(user_id: str, scope: str, token_version: str) -> str:
    """Return a new JWT for the user (RFC 7519 §4.1)."""
    now = int(time.time())
    claims = {
        "user_id": user_id,
        "sub": user_id,  # the standard's name for the same
        "iat": now,
        "exp": now + JWT_TTL_SECONDS,
        "jti": str(uuid.uuid4()),
    }
    optional_claims = {
        "iss": JWT_ISSUER,
        "aud": JWT_AUDIENCE,
        "scope": scope,
        "token_version": token_version,
    }
    claims |= {name: value for name, value in optional_claims.items() if value}
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


# ---- The same in jwt_auth_token_google.py and jwt_create_token.py ----
def granted_scope(user_id: str, item: dict[str, Any]) -> str:
    """Return the scope of a user's item (RFC 6749 §3.3), or "" if it is missing or malformed."""
    if "scope" not in item:
        return ""
    scope: str | None = item["scope"].get("S")
    if scope is None or scope != " ".join(scope.split()):
        logger.error(
            "ignored the malformed scope of user %r: use words separated by single spaces", user_id
        )
        return ""
    return scope


# ---- The same in all authorizers and jwt_create_token.py ----
def user_item(user_id: str, *attributes: str) -> dict[str, Any] | None:
    """Return these attributes of the user's item in DynamoDB, or None if there is no such user."""
    # Placeholders for the names, because DynamoDB reserves the word "scope".
    placeholders = {f"#{name}": name for name in attributes}
    try:
        found = dynamodb.get_item(
            TableName=USER_CREDENTIALS_TABLE_NAME,
            Key={"user_id": {"S": user_id}},
            ProjectionExpression=", ".join(placeholders),
            ExpressionAttributeNames=placeholders,
            ConsistentRead=True,
        )
    except ClientError as error:
        lookup_failed(error.response["Error"]["Code"])  # always raises
    except BotoCoreError as error:
        lookup_failed(type(error).__name__)
    item: dict[str, Any] | None = found.get("Item")
    return item


def lookup_failed(reason: str) -> NoReturn:
    """Log why DynamoDB failed, and raise RuntimeError: without a lookup, nobody gets access."""
    logger.error("DynamoDB lookup failed: %s", reason)
    raise RuntimeError("The DynamoDB lookup failed.") from None  # the log line says enough


# ---- The same in jwt_create_token.py and restricted_access_lambda.py ----
def response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return a response of Lambda proxy integration that no cache stores."""
    return {
        "statusCode": status,
        "headers": {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "Access-Control-Allow-Origin": CORS_ALLOW_ORIGIN,
        },
        "body": json.dumps(body),
    }
