"""Lambda authorizer for WebSocket APIs ($connect). Validates the JWTs of jwt_create_token.py.

The JWTs are signed with HS256: login and authorizers share one secret.

Environment
    JWT_SECRET   required
        Signing secret, the same as login's. At least 32 bytes (RFC 7518 §3.2) and 10 different
        characters. To generate one: openssl rand -hex 32
    JWT_SECRET_PREVIOUS   optional
        Second secret that is accepted while you rotate JWT_SECRET. It is never used to sign.
    JWT_ISSUER   optional
        Required "iss" claim. If unset, "iss" isn't checked.
    JWT_AUDIENCE   optional
        The "aud" claim must be or contain this value. If unset, a token with an "aud" claim is
        rejected (RFC 7519 §4.1.3).
    USER_CREDENTIALS_TABLE_NAME   optional
        Login's DynamoDB table, or its ARN. If set, a token is rejected if its user was deleted, or
        if its "token_version" claim isn't the user's current tokenVersion. create_password.py
        changes the tokenVersion to revoke tokens.
    AWS_LAMBDA_LOG_LEVEL   optional
        Lambda sets it if you choose a log level for the function. Default: INFO

Runtime      Python 3.11 or newer. Handler of a pasted file: lambda_function.lambda_handler
Layer        basic_auth (PyJWT), see docs/layers.md. boto3, for the table, comes with the runtime.
Permissions  CloudWatch Logs. With the table also dynamodb:GetItem on it (attributes user_id and
             tokenVersion).
Memory       256 MB, timeout 10 s. A DynamoDB lookup gives up after 7 s.
Responses    401  The token is missing, invalid, expired or revoked. The function raises
                  Exception("Unauthorized"), which API Gateway turns into a 401. A browser shows
                  only a failed connection (close code 1006). Dates are checked with 10
                  seconds of tolerance.
             500  A setting is missing or invalid, DynamoDB failed, or the function is attached
                  to something other than $connect. The log says which.
Token source The first of these that the client sends. If its token is invalid, the others aren't
             tried:
                 1. The header "Authorization: Bearer <jwt>", from clients that can set headers.
                 2. The subprotocol: new WebSocket(url, ["access_token", jwt]) in a browser. The
                    $connect integration must return the header "Sec-WebSocket-Protocol:
                    access_token", as restricted_access_lambda.py does.
                 3. The query string, ?access_token=<jwt>. URLs end up in logs and histories, so
                    use it only for clients that can set neither a header nor a subprotocol
                    (RFC 9700 §4.3.2).
             Leave the authorizer's identity source empty. Otherwise, API Gateway rejects clients
             that send the token in another place.
Caching      None: API Gateway doesn't cache the policies of WebSocket authorizers. A connection
             stays open after the token expires or is revoked, for up to 2 hours. To close it
             earlier, let the backend compare exp with the time (docs/websocket.md).
Context      userId, scope ("" if the token has none), authorized (true) and exp (the token's
             expiry in Unix seconds). The backend gets these values with every message.
Rotation     1. Authorizers: JWT_SECRET = new, JWT_SECRET_PREVIOUS = old.
             2. Login: JWT_SECRET = new.
             3. After the lifetime of a token (login's JWT_TTL_SECONDS): remove JWT_SECRET_PREVIOUS.
                Until then, both secrets are accepted, so nobody has to log in again.
Copies       Code below a line "The same in ..." also stands in other files of the repository.
             If you change it, change it there, too.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import logging
import os
import re
from typing import Any, NoReturn

import jwt

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


# ---- End of the copies ----

JWT_SECRET = signing_secret("JWT_SECRET")
JWT_SECRET_PREVIOUS = ""
if setting("JWT_SECRET_PREVIOUS"):
    JWT_SECRET_PREVIOUS = signing_secret("JWT_SECRET_PREVIOUS")
JWT_ISSUER = setting("JWT_ISSUER") or None
JWT_AUDIENCE = setting("JWT_AUDIENCE") or None
USER_CREDENTIALS_TABLE_NAME = table_name()

if USER_CREDENTIALS_TABLE_NAME:  # imported only if needed, for a faster cold start
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

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
    """Return an IAM policy for the connection, or raise Exception("Unauthorized"), a 401."""
    method_arn = event.get("methodArn", "")
    route = method_arn.split("/")[2:]  # what follows <API ID>/<stage>
    if route != ["$connect"]:
        # Other APIs would cache the policy, which names one method, and deny the other methods.
        raise RuntimeError(
            "This authorizer only works for the $connect route of a WebSocket API. "
            "For REST and HTTP APIs, use jwt_auth_token.py."
        )
    claims = verified_claims(connect_token(event))
    if USER_CREDENTIALS_TABLE_NAME:
        reject_if_revoked(claims)
    logger.info("admitted: %r", claims["user_id"])
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": method_arn}
    return {
        "principalId": claims["user_id"],
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {
            "userId": claims["user_id"],  # backends of earlier versions read this name
            "scope": claims.get("scope", ""),
            "authorized": True,
            "exp": int(claims["exp"]),
        },
    }


def connect_token(event: dict[str, Any]) -> str:
    """Return the token from the header, otherwise the subprotocol, otherwise the query string."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    authorization = headers.get("authorization")
    if authorization:
        return bearer_token(authorization)
    subprotocols = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
    if "access_token" in subprotocols:
        return subprotocol_token(subprotocols)
    query = event.get("queryStringParameters") or {}
    return bearer_token(query.get("access_token"))


def subprotocol_token(subprotocols: list[str]) -> str:
    """Return the token that a client offers right after the subprotocol access_token, or ""."""
    position = subprotocols.index("access_token") + 1
    if position == len(subprotocols):
        return ""
    return subprotocols[position]


# ---- The same in all authorizers ----
JWT_FORM = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)  # three parts in base64url


def bearer_token(value: object) -> str:
    """Return the token in "Bearer <token>" (RFC 6750 §2.1) or "<token>", or "" if none."""
    if not isinstance(value, str):
        return ""
    scheme, _, token = value.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip(" ")
    return value


def reject_unless_jwt(token: str) -> None:
    """Reject what doesn't look like a JWT, so that the log tells it from an invalid JWT."""
    if not token:
        refuse("no token")
    if not JWT_FORM.fullmatch(token):
        refuse("not a JWT")


def refuse(reason: str) -> NoReturn:
    """Log why the token is rejected, and raise the exception that API Gateway turns into a 401."""
    logger.info("refused: %s", reason)
    # Without "from None", the traceback could show the token.
    raise Exception("Unauthorized") from None


# ---- The same in jwt_auth_token.py and jwt_auth_token_websocket.py ----
def verified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a valid token, or reject the token (RFC 7519 §7.2)."""
    reject_unless_jwt(token)
    try:
        claims = decode_with_either_secret(token)
    except jwt.MissingRequiredClaimError as error:
        refuse(f"no {error.claim} claim")  # always raises
    except Exception as error:  # whatever a token makes PyJWT raise, the token is invalid
        refuse(type(error).__name__)
    user_id = claims["user_id"]
    if not isinstance(user_id, str) or not user_id:
        refuse("invalid user_id claim")
    if not isinstance(claims.get("scope", ""), str):
        refuse("invalid scope claim")
    return claims


def decode_with_either_secret(token: str) -> dict[str, Any]:
    """Return the claims of a token that was signed with JWT_SECRET or JWT_SECRET_PREVIOUS."""
    try:
        return decode(token, JWT_SECRET)
    except jwt.InvalidSignatureError:
        if not JWT_SECRET_PREVIOUS:
            raise
        return decode(token, JWT_SECRET_PREVIOUS)


def decode(token: str, secret: str) -> dict[str, Any]:
    """Return the claims of a token that was signed with the secret, or raise PyJWT's exception."""
    return jwt.decode(
        token,
        secret,
        algorithms=["HS256"],
        issuer=JWT_ISSUER,
        audience=JWT_AUDIENCE,
        leeway=10,  # seconds of clock skew
        options={"require": ["exp", "user_id"]},
    )


def reject_if_revoked(claims: dict[str, Any]) -> None:
    """Reject the token of a deleted user, or one from before the user's tokenVersion changed."""
    user_id = claims["user_id"]
    item = user_item(user_id, "tokenVersion")
    if item is None:
        refuse(f"user not in the table: {user_id!r}")
    current_version = item.get("tokenVersion")  # in DynamoDB's form: {"S": "..."}
    token_version = None  # a user without tokenVersion needs a token without this claim
    if "token_version" in claims:
        token_version = {"S": claims["token_version"]}
    if token_version != current_version:
        refuse(f"token revoked: {user_id!r}")


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
