"""Lambda authorizer for REST and HTTP APIs. Validates Google ID tokens (Sign in with Google).

By default, everybody with a Google account is accepted. To restrict that, set
GOOGLE_HOSTED_DOMAINS or USER_CREDENTIALS_TABLE_NAME. If both are set, both apply.

Environment
    GOOGLE_CLIENT_ID   required
        OAuth client ID of your app, as in the token's "aud" claim. Several are comma-separated.
        Your app must ask Google for the scopes "openid email".
    GOOGLE_HOSTED_DOMAINS   optional
        Google Workspace domains, comma-separated. If set, the "hd" claim must be one of them.
        Only "hd" proves membership: an e-mail address or an "internal" consent screen doesn't.
    USER_CREDENTIALS_TABLE_NAME   optional
        DynamoDB table with the users (key: user_id, a string), or its ARN. If set, only Google
        users with an item are accepted: its user_id is the token's "sub" claim, and its scope is
        the user's scope.
        To add a user, let the user try once. The log line "refused: user not in the table" has
        the sub and the e-mail address. Then run this, with --scope admin for an admin:
            python create_password.py --no-password --table <table> --user-id <sub>
    ALLOWED_RESOURCE_ARNS   optional
        Method ARNs that a valid token may call, comma-separated. Default: all methods of the
        stage. Wildcards: * (any characters, including "/") and ? (one character).
        <scope>=<ARN> applies only to users with that scope. It adds access, but can't restrict
        what another entry allows. Without the table, no user has a scope.
        Example (write it on one line, the second entry is for admins):
            arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/prod/GET/api,
            admin=arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/prod/*
    AWS_LAMBDA_LOG_LEVEL   optional
        Lambda sets it if you choose a log level for the function. Default: INFO

Runtime      Python 3.11 or newer. Handler of a pasted file: lambda_function.lambda_handler
Layer        google_auth (google-auth, requests), see docs/layers.md. boto3, for the table, comes
             with the runtime.
Permissions  CloudWatch Logs. With the table also dynamodb:GetItem on it (attributes user_id and
             scope). In a VPC, the function needs a way to the internet, to fetch certificates.
Memory       256 MB, timeout 10 s. Fetching Google's certificates usually gives up after 5 s, a
             DynamoDB lookup after 7 s. If both hang, the timeout ends the request with a 500.
Responses    401  The token is missing, invalid or expired, the user is not in the table, or not
                  in GOOGLE_HOSTED_DOMAINS. The function raises Exception("Unauthorized"), which
                  API Gateway turns into a 401. (AWS documents this for REST APIs only.) Dates
                  are checked with 10 seconds of tolerance. In the log, InvalidValue usually
                  means that the token has expired, or that GOOGLE_CLIENT_ID isn't its "aud" claim.
             403  The token is valid, but ALLOWED_RESOURCE_ARNS doesn't allow this method for it.
             500  A setting is missing or invalid, or Google's certificates or DynamoDB are not
                  available. The log says which.
Token source The Authorization header: "Bearer <ID token>", or the ID token only. Make this header
             the authorizer's only identity source, because API Gateway caches policies by
             identity source:
                 REST API, TOKEN    Authorization
                 REST API, REQUEST  method.request.header.Authorization
                 HTTP API           $request.header.Authorization (payload 1.0 or 2.0, response
                                    mode "IAM policy")
Caching      Any TTL of the authorizer's cache is safe: the policy depends on the token, the user,
             the stage and the settings, never on the method that was called. An expired token, or
             one of a removed user, can work until the TTL ends.
Certificates Cached for as long as Google allows, but at least a minute and at most a day. If Google
             can't be reached, the expired ones are used for up to a day more.
Context      sub, email, scope ("" without the table) and authorized (true), for the backend. The
             principal is "sub": it never changes, while an e-mail address can
             (developers.google.com/identity/openid-connect/openid-connect).
Copies       Code below a line "The same in ..." also stands in other files of the repository.
             If you change it, change it there, too.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import logging
import os
import re
import time
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, NoReturn

import requests
from google.auth.exceptions import TransportError
from google.oauth2.id_token import verify_oauth2_token

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


def google_client_ids() -> list[str]:
    """Return the entries of GOOGLE_CLIENT_ID. Without them, tokens for any app would be valid."""
    client_ids = entries("GOOGLE_CLIENT_ID")
    if not client_ids:
        raise ValueError("GOOGLE_CLIENT_ID is missing. Set it to the OAuth client ID of your app.")
    for number, client_id in enumerate(client_ids, start=1):
        if client_id.startswith("GOCSPX-"):
            raise ValueError(
                f"GOOGLE_CLIENT_ID: entry {number} is a client secret. Use the client ID, and "
                "reset the secret in the Google Cloud console."
            )
        if re.search(r"[\s;/\"']", client_id):
            raise ValueError(
                f"GOOGLE_CLIENT_ID: entry {number} is not a client ID. Use comma-separated client "
                "IDs, without quotes, spaces or a URL."
            )
    return client_ids


def hosted_domains() -> list[str]:
    """Return the entries of GOOGLE_HOSTED_DOMAINS in lower case, as Google spells them."""
    domains = [domain.lower() for domain in entries("GOOGLE_HOSTED_DOMAINS")]
    for number, domain in enumerate(domains, start=1):
        if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domain):
            raise ValueError(
                f"GOOGLE_HOSTED_DOMAINS: entry {number} is not a domain. "
                "Use a domain such as example.com, without @ or quotes."
            )
    return domains


GOOGLE_CLIENT_IDS = google_client_ids()
GOOGLE_HOSTED_DOMAINS = hosted_domains()
ALLOWED_RESOURCE_ARNS = allowed_resources()
USER_CREDENTIALS_TABLE_NAME = table_name()
CLOCK_SKEW = 10  # seconds
MINUTE = 60  # seconds
DAY = 86400  # seconds

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


class CachedCertificates(NamedTuple):
    """Google's response with its certificates. google-auth reads only status and data."""

    status: int
    data: bytes
    refresh_at: float  # Unix seconds
    usable_until: float  # Unix seconds


cached_certificates: CachedCertificates | None = None


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return an IAM policy for the caller, or raise Exception("Unauthorized"), which is a 401."""
    claims = google_claims(presented_token(event))
    sub = claims["sub"]
    email = claims["email"]
    scope = ""
    if USER_CREDENTIALS_TABLE_NAME:
        scope = scope_in_table(sub, email)
    method_arn = event.get("routeArn") or event["methodArn"]
    values_for_backend = {"sub": sub, "email": email, "scope": scope, "authorized": True}
    return policy(sub, scope, method_arn, values_for_backend)


def google_claims(token: str) -> dict[str, Any]:
    """Return the claims of a valid ID token, or reject it (OpenID Connect Core §3.1.3.7)."""
    reject_unless_jwt(token)
    claims: dict[str, Any]
    try:
        claims = verify_oauth2_token(
            token,
            google_certificates,
            audience=GOOGLE_CLIENT_IDS,
            clock_skew_in_seconds=CLOCK_SKEW,
        )
    except TransportError:
        raise  # only from google_certificates(): Google can't be reached, which is a 500
    except Exception as error:  # whatever a token makes google-auth raise, the token is invalid
        refuse(type(error).__name__)  # always raises
    check_claims(claims)
    return claims


def google_certificates(url: str, method: str) -> CachedCertificates:
    """Return Google's certificates. google-auth calls this in place of an HTTP client."""
    global cached_certificates
    now = time.time()
    if cached_certificates and now < cached_certificates.refresh_at:
        return cached_certificates
    try:
        cached_certificates = fetched_certificates(url, now)
    except (requests.RequestException, ValueError) as error:
        logger.error("could not fetch Google's certificates: %s", type(error).__name__)
        if not cached_certificates or now > cached_certificates.usable_until:
            raise TransportError("Google's certificates could not be fetched.") from None
        cached_certificates = cached_certificates._replace(refresh_at=now + MINUTE)
    return cached_certificates


def fetched_certificates(url: str, now: float) -> CachedCertificates:
    """Fetch Google's certificates, or raise RequestException or ValueError."""
    response = requests.get(url, timeout=(2, 3), allow_redirects=False)
    response.raise_for_status()
    if response.status_code != 200 or not response.json():  # a redirect raises no error
        raise ValueError("The response contains no certificates.")
    refresh_at = now + cache_seconds(response)
    return CachedCertificates(200, response.content, refresh_at, usable_until=refresh_at + DAY)


def cache_seconds(response: requests.Response) -> int:
    """Return how long a response may be cached (RFC 9111 §4.2), between a minute and a day."""
    max_age = re.search(r"max-age=(\d+)", response.headers.get("Cache-Control", ""))
    if not max_age:
        return MINUTE
    age = int(response.headers.get("Age", "0"))
    seconds = int(max_age[1]) - age
    return max(MINUTE, min(seconds, DAY))


def check_claims(claims: dict[str, Any]) -> None:
    """Reject a token that Google signed, but not for a person whom this app accepts."""
    if not claims.get("sub") or not claims.get("email"):
        refuse("no sub or email claim")
    if claims.get("email_verified") is not True:
        refuse("email not verified")
    if claims["email"].endswith(".gserviceaccount.com"):
        # Everybody can create a service account, and get tokens for any client ID with it.
        refuse("service account")
    if claims.get("nbf", 0) > time.time() + CLOCK_SKEW:  # google-auth doesn't check it
        refuse("not valid yet")
    if GOOGLE_HOSTED_DOMAINS and claims.get("hd") not in GOOGLE_HOSTED_DOMAINS:
        refuse("not in GOOGLE_HOSTED_DOMAINS")


def scope_in_table(sub: str, email: str) -> str:
    """Return the scope of a Google user in the table, or reject a user who is not in the table."""
    item = user_item(sub, "scope")
    if item is None:
        refuse(f"user not in the table: {sub!r} ({email!r})")
    return granted_scope(sub, item)


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
