"""Lambda authorizer for REST and HTTP APIs. Validates the JWTs that jwt_create_token.py issues.

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
    ALLOWED_RESOURCE_ARNS   optional
        Method ARNs that a valid token may call, comma-separated. Default: all methods of the
        stage. Wildcards: * (any characters, including "/") and ? (one character).
        <scope>=<ARN> applies only to tokens with that scope. It adds access, but can't restrict
        what another entry allows.
        Example (write it on one line, the second entry is for admins):
            arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/prod/GET/api,
            admin=arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/prod/*
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
                  Exception("Unauthorized"), which API Gateway turns into a 401. (AWS documents
                  this for REST APIs only.) Dates are checked with 10 seconds of tolerance.
             403  The token is valid, but ALLOWED_RESOURCE_ARNS doesn't allow this method for it.
             500  A setting is missing or invalid, or DynamoDB failed. The log says which.
Token source The Authorization header: "Bearer <jwt>", or the JWT only. Make this header the
             authorizer's only identity source, because API Gateway caches policies by identity
             source:
                 REST API, TOKEN    Authorization
                 REST API, REQUEST  method.request.header.Authorization
                 HTTP API           $request.header.Authorization (payload 1.0 or 2.0, response
                                    mode "IAM policy")
Caching      Any TTL of the authorizer's cache is safe: the policy depends on the token, the user,
             the stage and the settings, never on the method that was called. An expired or revoked
             token can work until the TTL ends.
Context      user_id, scope ("" if the token has none) and authorized (true), for the backend.
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
from fnmatch import fnmatchcase
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


# ---- The same in jwt_auth_token.py and jwt_auth_token_google.py ----
def entries(name: str) -> list[str]:
    """Return the entries of a comma-separated setting, or an empty list if it is unset."""
    value = setting(name)
    if not value:
        return []
    found = [entry.strip() for entry in value.split(",")]
    if "" in found:
        raise ValueError(f"{name}: entry {found.index('') + 1} is empty. Remove the extra comma.")
    return found


def allowed_resources() -> list[tuple[str, str]]:
    """Return ALLOWED_RESOURCE_ARNS as pairs of scope and ARN. The scope "" means every token."""
    resources = []
    for number, entry in enumerate(entries("ALLOWED_RESOURCE_ARNS"), start=1):
        try:
            resources.append(scope_and_arn(entry))
        except ValueError as error:
            raise ValueError(f"ALLOWED_RESOURCE_ARNS: entry {number} {error}") from None
    return resources


def scope_and_arn(entry: str) -> tuple[str, str]:
    """Split <ARN> or <scope>=<ARN>, or raise ValueError. Its text continues "entry 2 ..."."""
    scope = ""
    arn = entry
    if not entry.startswith(("arn:", "*")):
        scope, equals, arn = entry.partition("=")
        if not equals or not re.fullmatch(r"[^\s\"'\\]+", scope):  # RFC 6749 §3.3
            raise ValueError("must be <ARN> or <scope>=<ARN>, without quotes or spaces.")
    if arn != "*":
        check_method_arn(arn)
    return scope, arn


METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def check_method_arn(arn: str) -> None:
    """Raise ValueError for an ARN that can't match any method. Its text continues "entry 2 ..."."""
    if not re.match(r"arn:[a-z*-]+:execute-api:", arn):
        raise ValueError("is not the ARN of an API Gateway method (execute-api).")
    if len(arn) > 512:
        raise ValueError("has more than 512 characters, the limit of API Gateway.")
    if re.search(r"[\s{}<>;\"']", arn):
        raise ValueError("has a character that no method ARN has. For {id}, write *.")
    if re.search(r"\?\w+=", arn):
        raise ValueError("has a query string, which is not part of a method ARN.")
    fields = arn.split(":", 5)
    if fields[-1] == "*":
        return  # the wildcard also covers what follows
    if len(fields) < 6 or "" in fields:
        raise ValueError("needs arn:aws:execute-api:<region>:<account>:<API ID>/<stage>/...")
    check_stage_and_method(fields[5])


def check_stage_and_method(resource: str) -> None:
    """Raise ValueError for an ARN that doesn't end in <API ID>/<stage>/<METHOD>/<path>."""
    api, _, rest = resource.partition("/")
    stage, _, rest = rest.partition("/")
    if "*" in api or "*" in stage:
        return  # the wildcard also covers what follows
    if not api or not stage or stage in METHODS or not names_method(rest):
        raise ValueError(
            "needs <API ID>/<stage>/<METHOD>/<path>, with a method such as GET, or * for ANY."
        )


def names_method(rest: str) -> bool:
    """Tell whether the end of an ARN, <METHOD>/<path>, can match a method."""
    method, slash, _ = rest.partition("/")
    if "*" in method or method == "$default":  # $default is a route of HTTP APIs
        return True
    return bool(slash) and (method in METHODS or "?" in method)  # ? is a wildcard, too


# ---- End of the copies ----

JWT_SECRET = signing_secret("JWT_SECRET")
JWT_SECRET_PREVIOUS = ""
if setting("JWT_SECRET_PREVIOUS"):
    JWT_SECRET_PREVIOUS = signing_secret("JWT_SECRET_PREVIOUS")
JWT_ISSUER = setting("JWT_ISSUER") or None
JWT_AUDIENCE = setting("JWT_AUDIENCE") or None
ALLOWED_RESOURCE_ARNS = allowed_resources()
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
    """Return an IAM policy for the caller, or raise Exception("Unauthorized"), which is a 401."""
    claims = verified_claims(presented_token(event))
    if USER_CREDENTIALS_TABLE_NAME:
        reject_if_revoked(claims)
    user_id = claims["user_id"]
    scope = claims.get("scope", "")
    method_arn = event.get("routeArn") or event["methodArn"]
    values_for_backend = {"user_id": user_id, "scope": scope, "authorized": True}
    return policy(user_id, scope, method_arn, values_for_backend)


# ---- The same in jwt_auth_token.py and jwt_auth_token_google.py ----
def presented_token(event: dict[str, Any]) -> str:
    """Return the token from the identity source, which is API Gateway's cache key, or ""."""
    source = event.get("identitySource", event.get("authorizationToken"))
    if source is None:
        # A REST API's REQUEST authorizer, or an HTTP API without an identity source.
        source = authorization_headers(event)
    if isinstance(source, list):
        # If values differ, the cache key could be one that was not checked.
        source = source[0] if len(source) == 1 else ""
    return bearer_token(source)


def authorization_headers(event: dict[str, Any]) -> list[str]:
    """Return the values of the Authorization header, without repetitions of the same value."""
    headers = event.get("multiValueHeaders")
    if not headers:
        single_values = event.get("headers") or {}
        headers = {name: [value] for name, value in single_values.items()}
    found: set[str] = set()
    for name, values in headers.items():
        if name.lower() == "authorization":  # clients may use any case (RFC 9110 §5.1)
            found.update(values or [])
    return list(found)


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


# ---- The same in jwt_auth_token.py and jwt_auth_token_google.py ----
def policy(
    principal: str, scope: str, method_arn: str, values_for_backend: dict[str, Any]
) -> dict[str, Any]:
    """Return one policy for all methods: API Gateway reuses it when the token calls another one."""
    stage_arn = "/".join(method_arn.split("/")[:2])  # arn:...:<API ID>/<stage>
    resources = resources_for(scope, stage_arn)
    allowed = any(covers(arn, method_arn) for arn in resources)
    if allowed:
        logger.info("admitted: %r", principal)
    else:
        logger.info(
            "denied by ALLOWED_RESOURCE_ARNS: %r with scope %r asked for %r",
            principal,
            scope,
            method_arn,
        )
    return {
        "principalId": principal,
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": statements(resources, stage_arn, allowed),
        },
        "context": values_for_backend,
    }


def resources_for(scope: str, stage_arn: str) -> list[str]:
    """Return the ARNs that a token with this scope may call."""
    if not ALLOWED_RESOURCE_ARNS:
        return [f"{stage_arn}/*"]
    scopes = ["", *scope.split(" ")]  # "" is the scope of the entries for every token
    return [arn for needed_scope, arn in ALLOWED_RESOURCE_ARNS if needed_scope in scopes]


def covers(arn: str, method_arn: str) -> bool:
    """Tell whether an ARN with wildcards covers a method, as IAM does: [ is not a wildcard."""
    pattern = arn.replace("[", "[[]")  # how fnmatch spells a literal [
    return fnmatchcase(method_arn, pattern)


def statements(resources: list[str], stage_arn: str, allowed: bool) -> list[dict[str, Any]]:
    """Return the statements that allow the resources, and deny everything else."""
    action = "execute-api:Invoke"
    if not resources:
        return [{"Action": action, "Effect": "Deny", "Resource": f"{stage_arn}/*"}]
    allow = {"Action": action, "Effect": "Allow", "Resource": resources}
    # Explicit, because a resource policy that allows everyone overrides an implicit deny.
    deny = {"Action": action, "Effect": "Deny", "NotResource": resources}
    # IAM ignores the order. The statement that decides this request comes first, for people
    # and tests that look only at the first one.
    if allowed:
        return [allow, deny]
    return [deny, allow]
