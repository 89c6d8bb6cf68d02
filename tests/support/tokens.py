"""Tokens: valid ones for each authorizer, and forged ones that are made from them."""

import base64
import contextlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

from support.deploy import REQUIRED, SECRET, WATCH, Deploy, Function
from support.events import connect_event, token_event
from support.fake_google import CERTIFICATES_URL, rs256, serving

ISSUER = "https://issuer.example"
AUDIENCE = "https://api.example"
SYMMETRIC = ["jwt_auth_token", "jwt_auth_token_websocket"]
AUTHORIZERS = [*SYMMETRIC, "jwt_auth_token_google"]
HS256 = {"alg": "HS256", "typ": "JWT"}
RS256 = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}
Sign = Callable[[bytes], bytes]


def base64url(data: bytes) -> str:
    """Return data in base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hs(key: str | bytes, digest: str = "sha256") -> Sign:
    """Return a function that signs with a symmetric key (RFC 7518 §3.2)."""
    key_bytes = key.encode() if isinstance(key, str) else key
    return lambda signed: hmac.digest(key_bytes, signed, digest)


def changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return members with changes. The change ... leaves a member out."""
    return {name: value for name, value in (members | changes).items() if value is not ...}


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a valid token, with changes."""
    now = int(time.time())
    valid = {"user_id": "testuser", "sub": "testuser", "iat": now, "exp": now + 3600, "jti": "1"}
    return changed(valid, changes)


def google_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a valid Google ID token, with changes."""
    now = int(time.time())
    valid = {
        "iss": "https://accounts.google.com",
        "azp": REQUIRED["GOOGLE_CLIENT_ID"],
        "aud": REQUIRED["GOOGLE_CLIENT_ID"],
        "iat": now,
        "exp": now + 3600,
        "sub": "110169484474386276334",
        "email": "testuser@example.com",
        "email_verified": True,
    }
    return changed(valid, changes)


def make_jwt(secret: str = SECRET, **changes: Any) -> str:
    """Return a valid HS256 token with changed claims."""
    return jws(HS256, json.dumps(claims(**changes)).encode(), hs(secret))


def google_token(kid: str = "key-1", header: Any = None, **changes: Any) -> str:
    """Return a valid Google ID token, with another header or changed claims."""
    if header is None:
        header = RS256 | {"kid": kid}
    return jws(header, json.dumps(google_claims(**changes)).encode(), partial(rs256, kid))


def jws(header: Any, payload: bytes, key: bytes | Sign) -> str:
    """Return a compact JWS (RFC 7515 §3.1), also one that a library would refuse to make."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    sign = hs(key) if isinstance(key, bytes) else key
    signed = f"{base64url(head)}.{base64url(payload)}"
    token = f"{signed}.{base64url(sign(signed.encode()))}"
    WATCH.guards(token)
    return token


class Target(NamedTuple):
    """An authorizer, and what a valid token for it is made of."""

    function: Function
    event: Callable[[str], dict[str, Any]]
    header: dict[str, Any]
    claims: dict[str, Any]
    sign: Sign

    def call(self, token: str) -> Any:
        """Call the authorizer with a token."""
        return self.function(self.event(token))

    def token(self, header: Any = None, payload: Any = None, sign: Sign | None = None) -> str:
        """Return a token with changed members, or other bytes, as its header or its payload."""
        head = encoded(self.header, header)
        return jws(head, encoded(self.claims, payload), sign or self.sign)


def encoded(members: dict[str, Any], changes: Any = None) -> bytes:
    """Return members with changes as JSON, or the bytes that replace them."""
    if isinstance(changes, bytes):
        return changes
    return json.dumps(changed(members, changes or {})).encode()


@contextlib.contextmanager
def aimed_at(script: str, deploy: Deploy, **environment: str) -> Iterator[Target]:
    """Deploy an authorizer that checks issuer and audience, with more settings if wanted."""
    settings = REQUIRED | {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE} | environment
    if script in SYMMETRIC:
        event = header_event if script == "jwt_auth_token_websocket" else token_event
        function = deploy(script, **settings)
        yield Target(function, event, HS256, claims(iss=ISSUER, aud=AUDIENCE), hs(SECRET))
        return
    with serving("key-1") as endpoint, patch(CERTIFICATES_URL, endpoint.url):
        function = deploy(script, **settings)
        yield Target(function, token_event, RS256, google_claims(), partial(rs256, "key-1"))


def header_event(token: str) -> dict[str, Any]:
    """Return the event of a $connect authorizer with a token in its header."""
    return connect_event({"Authorization": token})
