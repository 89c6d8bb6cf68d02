"""Authorizer of a REST or HTTP API: admits requests that carry a Google ID token.

Environment
    GOOGLE_CLIENT_ID       required   OAuth client id that the token must be for; several with commas
    GOOGLE_HOSTED_DOMAINS  optional   comma-separated Google Workspace domains: the claim "hd" must be one of them
                                      (neither the end of an e-mail address nor an internal consent screen proves it)
    ALLOWED_RESOURCE_ARNS  optional   comma-separated method ARNs that a valid token may call, with the wildcards * ("/"
                                      too) and ?; default: every method of the stage

Layer        google_auth (google-auth, requests)
Permissions  CloudWatch Logs only; no VPC without a way to the internet: Google's certificates are fetched
Memory       256 MB, timeout 10 s: a fetch of Google's certificates takes 6 s at most
Answers      401  no valid token (raises Exception("Unauthorized"); for HTTP APIs, AWS does not document the status)
             403  a valid token, and a method that ALLOWED_RESOURCE_ARNS does not list
             500  Google's certificates cannot be had, or a setting is missing or bad (the log says which)
Token source header Authorization, "Bearer <ID token>" or the bare token. It must be an identity source, the key
             of API Gateway's cache: Authorization (REST TOKEN), method.request.header.Authorization (REST REQUEST), or
             $request.header.Authorization alone (HTTP API, payload 1.0 or 2.0, simple responses off)
Caching      safe at any TTL: the policy depends on the token and the stage, never on the method that asked.
             A cached answer can outlive the token's "exp" by the TTL at most.
Certificates fetched when they expire, and for an unknown key id. While there are some, at most a day past their time,
             there is one attempt in 60 s; while there are none, no attempt for 10 s after one that hung
Principal    "sub", which never changes; an e-mail address can (developers.google.com/identity/openid-connect)
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import base64
import dataclasses
import json
import logging
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any, NoReturn

import google.auth.crypt
import requests
from google.oauth2.id_token import verify_oauth2_token

logger = logging.getLogger()
logger.setLevel(logging.INFO)

GOOGLE_CLIENT_IDS = os.environ.get("GOOGLE_CLIENT_ID", "").replace(",", " ").split()
if not GOOGLE_CLIENT_IDS:  # google-auth would take a token for any audience
    raise ValueError("GOOGLE_CLIENT_ID must be set: the OAuth client id that your users sign in to")

GOOGLE_HOSTED_DOMAINS = (
    os.environ.get("GOOGLE_HOSTED_DOMAINS", "").lower().replace(",", " ").split()
)
if os.environ.get("GOOGLE_HOSTED_DOMAINS") and not GOOGLE_HOSTED_DOMAINS:
    raise ValueError("GOOGLE_HOSTED_DOMAINS must list domains, separated by commas, or be empty")

ENTRY = r"\s*(\*|(?![^,]{513})arn:[a-z*-]+:execute-api:[!-+\--~]+)\s*"
LISTED = os.environ.get("ALLOWED_RESOURCE_ARNS", "")
if LISTED and not re.fullmatch(f"{ENTRY}(?:,{ENTRY})*", LISTED):
    raise ValueError(
        "ALLOWED_RESOURCE_ARNS must list method ARNs of at most 512 characters: <ARN>, <ARN>, ..."
    )
ALLOWED_RESOURCE_ARNS: list[str] = re.findall(ENTRY, LISTED)

# One spelling for each token (RFC 7515 §2): no padding, no junk, no stray bits in the signature's last character.
COMPACT_JWS = re.compile(
    r"[\w-]+\.[\w-]+\.(?:[\w-]{4})*+(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?", re.ASCII
)

CERTIFICATES_URL = "https://www.googleapis.com/oauth2/v1/certs"
DAY = 86400  # seconds: certificates count as fresh, and after that as usable, for no longer
REFETCH_INTERVAL = 60  # seconds between two attempts while there are usable certificates
OUTAGE_PAUSE = 10  # seconds without an attempt after one that hung, while there are none
CLOCK_SKEW = 10  # seconds


@dataclasses.dataclass
class Certificates:
    """Google's certificates; times in Unix seconds, as the monotonic clock may stand still in a frozen environment."""

    key_ids: frozenset[str] = frozenset()
    reply: SimpleNamespace | None = None  # what verify_oauth2_token gets when it asks for them
    expires: float = 0.0
    attempted: float = 0.0
    paused_until: float = 0.0


held = Certificates()


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an authorizer event with an IAM policy, or raise Exception("Unauthorized"), a 401."""
    token = presented_token(event)
    refresh_certificates(key_id(token))
    claims = google_claims(token)
    method_arn = event.get("routeArn") or event["methodArn"]
    context_values = {"sub": claims["sub"], "email": claims["email"], "authorized": True}
    return policy(claims["sub"], method_arn, ALLOWED_RESOURCE_ARNS, context_values)


def presented_token(event: dict[str, Any]) -> str:
    """Return the token in the identity source, under which API Gateway caches the answer, or ""."""
    source = event.get("identitySource", event.get("authorizationToken"))
    if source is None:  # a REST API's REQUEST authorizer, or an HTTP API that caches nothing
        headers = event.get("multiValueHeaders") or {
            k: [v] for k, v in (event.get("headers") or {}).items()
        }
        source = list(
            {
                value
                for name in headers
                if name.lower() == "authorization"
                for value in headers[name] or []
            }
        )
    if isinstance(source, list):
        source = source[0] if len(source) == 1 else ""
    return bearer_token(source)


def bearer_token(value: object) -> str:
    """Return the token of an Authorization value, with or without the scheme, or "" (RFC 6750 §2.1, 7515 §7.1)."""
    if not isinstance(value, str):
        return ""
    scheme, _, token = value.partition(" ")
    token = token.strip(" ") if scheme.lower() == "bearer" else value
    return token if COMPACT_JWS.fullmatch(token) else ""


def key_id(token: str) -> str:
    """Return the "kid" of a token's header, or raise Exception("Unauthorized") (RFC 7515 §4.1.4, §4.1.11)."""
    try:
        header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
        kid = header["kid"]
    except Exception as error:
        refuse(type(error).__name__)
    if not (isinstance(kid, str) and kid) or "crit" in header:  # google-auth passes over crit
        refuse("no key id, or a critical extension")
    return kid


def refuse(reason: str) -> NoReturn:
    """Log why a token is not valid, and raise what API Gateway answers with 401: exactly this message."""
    logger.info("refused: %s", reason)
    raise Exception(
        "Unauthorized"
    ) from None  # keeps the token, which the error behind may quote, out of the traceback


def refresh_certificates(kid: str) -> None:
    """Fetch Google's certificates if those held are expired or lack the key id; raise if that leaves none."""
    now = time.time()
    if kid in held.key_ids and now < held.expires:
        return
    usable = now < held.expires + DAY
    if usable and now < held.attempted + REFETCH_INTERVAL:
        return
    if not usable and now < held.paused_until:
        raise RuntimeError(
            "Google's certificates could not be fetched: the attempt before this one hung"
        )
    held.attempted = now
    try:
        ThreadPoolExecutor(1).submit(fetch_certificates, now).result(
            timeout=6
        )  # seconds: a name has several addresses
    except Exception as error:
        logger.error("certificates not fetched: %s", type(error).__name__)
        if time.time() - now > 1:  # second: it hung
            held.paused_until = time.time() + OUTAGE_PAUSE
        if not usable:
            raise RuntimeError("Google's certificates could not be fetched") from None


def fetch_certificates(now: float) -> None:
    """Hold what Google answers with its lifetime; raise if that is anything but certificates."""
    response = requests.get(CERTIFICATES_URL, timeout=(2, 3), allow_redirects=False)
    response.raise_for_status()
    certificates = response.json()
    if not certificates:
        raise ValueError("Google's answer has no certificates")
    for pem in certificates.values():
        google.auth.crypt.RSAVerifier.from_string(pem)
    held.key_ids = frozenset(certificates)
    held.reply = SimpleNamespace(status=200, data=json.dumps(certificates).encode())
    held.expires = now + lifetime(response.headers)


def lifetime(headers: requests.structures.CaseInsensitiveDict[str]) -> int:
    """Return for how many seconds an answer is fresh (RFC 9111 §4.2)."""
    max_age = re.search(
        r'(?:^|[\s,])max-age="?([0-9]{1,9})', headers.get("Cache-Control", ""), re.IGNORECASE
    )
    if not max_age:
        return 300  # seconds
    age = re.fullmatch("[0-9]{1,9}", headers.get("Age", ""))
    return min(max(int(max_age[1]) - (int(age[0]) if age else 0), 0), DAY)


def google_claims(token: str) -> dict[str, Any]:
    """Return the claims of a valid token, or raise Exception("Unauthorized") (OpenID Connect Core §3.1.3.7)."""
    try:
        claims: dict[str, Any] = verify_oauth2_token(
            token, lambda *_, **__: held.reply, GOOGLE_CLIENT_IDS, CLOCK_SKEW
        )
    except Exception as error:
        refuse(type(error).__name__)
    if reason := objection(claims):
        refuse(reason)
    return claims


def objection(claims: dict[str, Any]) -> str:
    """Return what speaks against the claims of a token that Google signed, or "" (OpenID Connect Core §2)."""
    if not (is_text(claims.get("sub"), 255) and is_text(claims.get("email"), 320)):
        return "no sub or no email, or a longer one than the standards allow"
    dates = [claims.get(name, 0) for name in ("exp", "iat", "nbf")]
    if (
        not all(type(date) is int for date in dates)
        or claims.get("nbf", 0) > time.time() + CLOCK_SKEW
    ):
        return "not valid yet, or a date that is not a whole number"
    if claims.get("email_verified") is not True:
        return "email not verified"
    if (
        claims["email"].lower().endswith(".gserviceaccount.com")
    ):  # whoever has one can make it a token for any audience
        return "service account"
    if GOOGLE_HOSTED_DOMAINS and claims.get("hd") not in GOOGLE_HOSTED_DOMAINS:
        return "not in GOOGLE_HOSTED_DOMAINS"
    return ""


def is_text(value: object, limit: int) -> bool:
    """Tell whether a value is text of 1 to so many bytes in UTF-8, which has no lone surrogates."""
    return (
        isinstance(value, str)
        and not re.search("[\ud800-\udfff]", value)
        and 0 < len(value.encode()) <= limit
    )


def policy(
    principal: str, method_arn: str, resources: list[str], context: dict[str, Any]
) -> dict[str, Any]:
    """Return the answer for every method at once: API Gateway caches it and replays it for other methods."""
    # For order and log alone, IAM judges by the lists; a bracket is no wildcard there.
    allowed = not ALLOWED_RESOURCE_ARNS or any(
        fnmatchcase(method_arn, arn.replace("[", "[[]")) for arn in resources
    )
    if resources:
        listed = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": resources}
        # Denied, and not just left out: else a resource policy that allows everybody would let the others through.
        others = {"Action": "execute-api:Invoke", "Effect": "Deny", "NotResource": resources}
        # First what decides about this request, for who reads the policy; to IAM the order means nothing.
        statements = [listed, others] if allowed else [others, listed]
    else:
        effect, stage = "Allow" if allowed else "Deny", "/".join(method_arn.split("/")[:2])
        statements = [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{stage}/*"}]
    logger.info("%s: %r", "admitted" if allowed else "denied by ALLOWED_RESOURCE_ARNS", principal)
    document = {"Version": "2012-10-17", "Statement": statements}
    return {"principalId": principal, "policyDocument": document, "context": context}
