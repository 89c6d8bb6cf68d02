"""Lambda authorizer for REST and HTTP APIs. Validates the JWTs that jwt_create_token.py issues.

The JWTs are signed with HS256: login and authorizers share one secret.

Environment
    JWT_SECRET             required   Signing secret, the same as login's. At least 32 bytes
                                      (RFC 7518 §3.2) and 10 different characters.
                                      To generate one: openssl rand -hex 32
    JWT_SECRET_PREVIOUS    optional   Second secret that is accepted while you rotate JWT_SECRET.
                                      It is never used to sign.
    JWT_ISSUER             optional   Required "iss" claim. If unset, "iss" isn't checked.
    JWT_AUDIENCE           optional   Required "aud" claim, or one of its values. If unset, a
                                      token with an "aud" claim is rejected.
    ALLOWED_RESOURCE_ARNS  optional   Method ARNs that a valid token may call, comma-separated.
                                      Wildcards: * (any characters, including "/") and ? (one
                                      character). Default: all methods of the stage.
                                      <scope>=<ARN> applies only to tokens with that scope. It
                                      adds access, but can't restrict what an entry without a
                                      scope allows.
    USER_CREDENTIALS_TABLE_NAME       optional   Login's DynamoDB table. If set, the tokens of
                                      deleted users are rejected, and those whose "token_version"
                                      claim isn't the user's current tokenVersion.
    AWS_LAMBDA_LOG_LEVEL   optional   Lambda sets it if you choose a log level. Default: INFO

Layer        basic_auth (PyJWT). boto3, needed for the table, comes with the Lambda runtime.
Permissions  CloudWatch Logs. With the table also dynamodb:GetItem on it (attributes user_id and
             tokenVersion).
Memory       256 MB, timeout 10 s. A DynamoDB lookup gives up after 7 s.
Responses    401  The token is missing, invalid, expired or revoked. The function raises
                  Exception("Unauthorized"), which API Gateway turns into a 401. (AWS doesn't
                  document this for HTTP APIs.)
             403  The token is valid, but ALLOWED_RESOURCE_ARNS doesn't allow this method for it.
             500  A setting is missing or invalid, or DynamoDB failed. The log says which.
Token source The Authorization header: "Bearer <jwt>", or the JWT only. Make this header the
             authorizer's only identity source, because API Gateway caches policies by identity
             source:
                 REST API, TOKEN    Authorization
                 REST API, REQUEST  method.request.header.Authorization
                 HTTP API           $request.header.Authorization (payload 1.0 or 2.0, response
                                    mode "IAM policy")
Caching      Safe with any TTL: the policy depends on the token, the user, the stage and the
             settings, never on the method that was called. A cached policy can outlive the
             token's expiry, or its revocation, by up to the TTL.
Context      user_id, scope ("" if the token has none) and authorized (true), for the backend.
Rotation     1. Authorizers: JWT_SECRET = new, JWT_SECRET_PREVIOUS = old.
             2. Login: JWT_SECRET = new.
             3. After JWT_TTL_SECONDS: remove JWT_SECRET_PREVIOUS. Nobody has to log in again.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import logging
import os
import re
from fnmatch import fnmatchcase
from typing import Any, NoReturn

import jwt

logger = logging.getLogger(__name__)
if not os.environ.get("AWS_LAMBDA_LOG_LEVEL"):  # otherwise the runtime has set the level
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
            "USER_CREDENTIALS_TABLE_NAME is not the name of a DynamoDB table. "
            "Use 3 to 255 letters, digits, dots, hyphens or underscores, or the table's ARN."
        )
    return name


# ---- The same in both JWT authorizers and jwt_create_token.py ----
def signing_secret(name: str) -> str:
    """Return a signing secret, or stop the function from starting if the secret is weak."""
    secret = setting(name)
    generate_one = "To generate one: openssl rand -hex 32"
    if len(secret.encode()) < 32:
        raise ValueError(f"{name} is missing or has fewer than 32 bytes. {generate_one}")
    if len(set(secret)) < 10:
        raise ValueError(f"{name} has fewer than 10 different characters. {generate_one}")
    if secret != secret.strip().strip("\"'"):
        raise ValueError(f"{name} begins or ends with white space or a quote. Remove it.")
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        # PyJWT refuses PEM, SSH and JWK keys: public keys are no secrets (RFC 8725 §2.1).
        raise ValueError(f"{name} is a PEM, SSH or JWK key, not a secret. {generate_one}") from None
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
    """Split <ARN> or <scope>=<ARN>, or raise ValueError if the entry can't match any method."""
    scope = ""
    arn = entry
    if not entry.startswith(("arn:", "*")):
        scope, _, arn = entry.partition("=")
        if not re.fullmatch(r"[^\s\"'\\]+", scope):  # RFC 6749 §3.3
            raise ValueError("has no valid scope before the equals sign.")
    if arn != "*":
        check_method_arn(arn)
    return scope, arn


def check_method_arn(arn: str) -> None:
    """Raise ValueError for an ARN that can't match any method and would deny every request."""
    if not re.match(r"arn:[a-z*-]+:execute-api:", arn):
        raise ValueError("is not an execute-api method ARN, with or without <scope>= before it.")
    if len(arn) > 512:
        raise ValueError("has more than 512 characters, the limit of IAM policies.")
    if re.search(r"[\s{}<>;\"']", arn):
        raise ValueError("has a character that no method ARN has. For {id}, write *.")
    if re.search(r"\?\w+=", arn):
        raise ValueError("has a query string, which is not part of a method ARN.")
    check_stage_and_method(arn.split(":", 5)[-1])


def check_stage_and_method(resource: str) -> None:
    """Raise ValueError unless an ARN ends like <API ID>/<stage>/<METHOD>/<path>, or covers that."""
    api, _, rest = resource.partition("/")
    stage, _, rest = rest.partition("/")
    method, slash, _ = rest.partition("/")
    if "*" in api or "*" in stage:
        return  # the wildcard also covers what follows
    methods = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
    if stage not in methods:
        if "*" in method or method == "$default":
            return
        if method in methods and slash:
            return
    raise ValueError("needs <API ID>/<stage>/<METHOD>/<path>, with the method in capitals or as *.")


# ---- End of the shared code ----

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
    """Return the token in the identity source, by which API Gateway caches the policy, or ""."""
    source = event.get("identitySource", event.get("authorizationToken"))
    if source is None:
        # A REST API's REQUEST authorizer, or an HTTP API without an identity source.
        source = authorization_headers(event)
    if isinstance(source, list):
        # Of several values, API Gateway could use another one for its cache.
        source = source[0] if len(source) == 1 else ""
    return bearer_token(source)


def authorization_headers(event: dict[str, Any]) -> list[str]:
    """Return the different values of the Authorization header, in whatever case it is spelled."""
    headers = event.get("multiValueHeaders")
    if not headers:
        single_values = event.get("headers") or {}
        headers = {name: [value] for name, value in single_values.items()}
    found: set[str] = set()
    for name, values in headers.items():
        if name.lower() == "authorization":
            found.update(values or [])
    return list(found)


# ---- The same in all authorizers ----
def bearer_token(value: object) -> str:
    """Return the token in "Bearer <token>" (RFC 6750 §2.1) or "<token>", or "" if none."""
    if not isinstance(value, str):
        return ""
    scheme, _, token = value.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip(" ")
    return value


def check_form(token: str) -> None:
    """Reject what is not a JWT at all: three parts in base64url, with dots between them."""
    if not token:
        refuse("no token")
    if not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token, re.ASCII):
        refuse("not a JWT")


def refuse(reason: str) -> NoReturn:
    """Log why the token is rejected, and raise the exception that API Gateway turns into a 401."""
    logger.info("refused: %s", reason)
    # Without "from None", the traceback could show the token.
    raise Exception("Unauthorized") from None


# ---- The same in both JWT authorizers ----
def verified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a valid token, or reject the token (RFC 7519 §7.2)."""
    check_form(token)
    try:
        claims = decoded(token)
    except jwt.MissingRequiredClaimError as error:
        refuse(f"no {error.claim} claim")
    except Exception as error:  # whatever a token makes PyJWT raise, the token is invalid
        refuse(type(error).__name__)
    user_id = claims["user_id"]
    if not isinstance(user_id, str) or not user_id:
        refuse("invalid user_id claim")
    if not isinstance(claims.get("scope", ""), str):
        refuse("invalid scope claim")
    return claims


def decoded(token: str) -> dict[str, Any]:
    """Return the claims of a token that was signed with JWT_SECRET or JWT_SECRET_PREVIOUS."""
    try:
        return decoded_with(JWT_SECRET, token)
    except jwt.InvalidSignatureError:
        if not JWT_SECRET_PREVIOUS:
            raise
        return decoded_with(JWT_SECRET_PREVIOUS, token)


def decoded_with(secret: str, token: str) -> dict[str, Any]:
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
    expected = None
    if "token_version" in claims:
        expected = {"S": claims["token_version"]}
    if item.get("tokenVersion") != expected:
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
        lookup_failed(error.response["Error"]["Code"])
    except BotoCoreError as error:
        lookup_failed(type(error).__name__)
    item: dict[str, Any] | None = found.get("Item")
    return item


def lookup_failed(reason: str) -> NoReturn:
    """Log why DynamoDB failed, and raise RuntimeError: nobody gets access without a lookup."""
    logger.error("DynamoDB lookup failed: %s", reason)
    raise RuntimeError("The DynamoDB lookup failed.") from None


# ---- The same in jwt_auth_token.py and jwt_auth_token_google.py ----
def policy(
    principal: str, scope: str, method_arn: str, values_for_backend: dict[str, Any]
) -> dict[str, Any]:
    """Return the policy for all methods, because API Gateway caches it and reuses it for others."""
    stage = "/".join(method_arn.split("/")[:2])
    resources = resources_for(scope, stage)
    allowed = any(matches(method_arn, arn) for arn in resources)
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
            "Statement": statements(resources, stage, allowed),
        },
        "context": values_for_backend,
    }


def resources_for(scope: str, stage: str) -> list[str]:
    """Return the ARNs that a token with this scope may call."""
    if not ALLOWED_RESOURCE_ARNS:
        return [f"{stage}/*"]
    scopes = scope.split(" ")
    return [arn for needed, arn in ALLOWED_RESOURCE_ARNS if not needed or needed in scopes]


def matches(method_arn: str, pattern: str) -> bool:
    """Tell whether a pattern covers a method, as IAM does: only * and ? are wildcards."""
    return fnmatchcase(method_arn, pattern.replace("[", "[[]"))


def statements(resources: list[str], stage: str, allowed: bool) -> list[dict[str, Any]]:
    """Return the statements that allow the resources, and deny everything else."""
    action = "execute-api:Invoke"
    if not resources:
        return [{"Action": action, "Effect": "Deny", "Resource": f"{stage}/*"}]
    allow = {"Action": action, "Effect": "Allow", "Resource": resources}
    # Otherwise, a resource policy that allows everyone would override the implicit deny.
    deny = {"Action": action, "Effect": "Deny", "NotResource": resources}
    # IAM ignores the order. The statement that decides this request comes first, for people
    # and tests that look only at the first one.
    if allowed:
        return [allow, deny]
    return [deny, allow]
