"""Tokens: good ones for each authorizer, and what is forged from them."""

import base64
import contextlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from support.deploy import CLIENT_ID, SECRET, WATCH, Deploy, Function
from support.events import connect_event, token_event
from support.fake_google import rs256, serving

ISSUER, AUDIENCE = "https://issuer.example", "https://api.example"
SYMMETRIC = ["jwt_auth_token", "jwt_auth_token_websocket"]
AUTHORIZERS = [*SYMMETRIC, "jwt_auth_token_google"]
HS256 = {"alg": "HS256", "typ": "JWT"}
RS256 = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}
Sign = Callable[[bytes], bytes]


def base64url(data: bytes) -> str:
    """Return data in base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token with changes; a change to ... leaves the claim out."""
    now = int(time.time())
    good = {"user_id": "testuser", "sub": "testuser", "iat": now, "exp": now + 3600, "jti": "1"}
    return changed(good, changes)


def google_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good ID token with changes; a change to ... leaves the claim out."""
    now = int(time.time())
    good = {
        "iss": "https://accounts.google.com",
        "azp": CLIENT_ID,
        "aud": CLIENT_ID,
        "iat": now,
        "exp": now + 3600,
    }
    good |= {
        "sub": "110169484474386276334",
        "email": "testuser@example.com",
        "email_verified": True,
    }
    return changed(good, changes)


def changed(good: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return members with changes; a change to ... leaves one out."""
    return {name: value for name, value in (good | changes).items() if value is not ...}


def make_jwt(secret: str = SECRET, **changes: Any) -> str:
    """Return a good HS256 token with changed claims."""
    return jws(HS256, json.dumps(claims(**changes)).encode(), secret.encode())


def google_token(kid: str = "key-1", header: Any = None, **changes: Any) -> str:
    """Return a good ID token with another header or with changed claims."""
    header = RS256 | {"kid": kid} if header is None else header
    return jws(header, json.dumps(google_claims(**changes)).encode(), partial(rs256, kid))


def jws(header: Any, payload: bytes, key: bytes | Sign) -> str:
    """Return a compact JWS of any header and payload, which a library might refuse to make (RFC 7515 §3.1)."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{base64url(head)}.{base64url(payload)}"
    sign = hs(key) if isinstance(key, bytes) else key
    token = f"{signed}.{base64url(sign(signed.encode()))}"
    WATCH.guards(token)
    return token


class Target(NamedTuple):
    """An authorizer, and what it takes to make a good token for it."""

    function: Function
    event: Callable[[str], dict[str, Any]]
    header: dict[str, Any]
    claims: dict[str, Any]
    sign: Sign

    def call(self, token: str) -> Any:
        return self.function(self.event(token))

    def token(self, header: Any = None, payload: Any = None, sign: Sign | None = None) -> str:
        """Return a token, signed over what it says, with changes to header and claims or with bytes in their place."""
        return jws(encoded(self.header, header), encoded(self.claims, payload), sign or self.sign)

    def changed(self, segment: int, change: Callable[[str], str]) -> str:
        """Return a token with a change to the text of one segment, signed over that text."""
        segments = self.token().split(".")
        segments[segment] = change(segments[segment])
        if segment < 2:
            segments[2] = base64url(self.sign(".".join(segments[:2]).encode()))
        return ".".join(segments)


def encoded(good: dict[str, Any], changes: Any = None) -> bytes:
    """Return a JSON object with changes, of which ... leaves a member out, or the bytes that replace it."""
    if isinstance(changes, bytes):
        return changes
    return json.dumps(changed(good, changes or {})).encode()


def hs(key: str | bytes, digest: str = "sha256") -> Sign:
    """Return what signs with a symmetric key (RFC 7518 §3.2)."""
    key = key.encode() if isinstance(key, str) else key
    return lambda signed: hmac.digest(key, signed, digest)


@contextlib.contextmanager
def aimed_at(script: str, deploy: Deploy, **environment: str) -> Iterator[Target]:
    """Deploy an authorizer that checks issuer and audience, with more settings if wanted."""
    if script in SYMMETRIC:
        function = deploy(
            script, JWT_SECRET=SECRET, JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE, **environment
        )
        event = (
            token_event
            if script == "jwt_auth_token"
            else lambda token: connect_event({"Authorization": token})
        )
        yield Target(function, event, HS256, claims(iss=ISSUER, aud=AUDIENCE), hs(SECRET))
        return
    with serving("key-1") as endpoint:
        function = deploy(script, GOOGLE_CLIENT_ID=CLIENT_ID, **environment)
        vars(function.module)["CERTIFICATES_URL"] = endpoint.url
        yield Target(function, token_event, RS256, google_claims(), partial(rs256, "key-1"))
