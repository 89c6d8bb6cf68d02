"""How the tests make tokens: good ones for each authorizer, and what is forged from them."""

import contextlib
import hmac
import json
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
from conftest import CLIENT_ID, SECRET, WATCH, Function, base64url, claims, connect_event, token_event
from cryptography.hazmat.primitives import serialization
from google_stand_in import google_claims, private_key, rs256, serving

ISSUER, AUDIENCE = "https://issuer.example", "https://api.example"
SYMMETRIC = ["jwt_auth_token", "jwt_auth_token_websocket"]
AUTHORIZERS = [*SYMMETRIC, "jwt_auth_token_google"]
Sign = Callable[[bytes], bytes]


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
        signed = f"{base64url(encoded(self.header, header))}.{base64url(encoded(self.claims, payload))}"
        return f"{signed}.{base64url((sign or self.sign)(signed.encode()))}"

    def changed(self, segment: int, change: Callable[[str], str]) -> str:
        """Return a token with a change to the text of one segment, signed over that text."""
        segments = self.token().split(".")
        segments[segment] = change(segments[segment])
        if segment < 2:
            segments[2] = base64url(self.sign(".".join(segments[:2]).encode()))
        return ".".join(segments)


def encoded(good: dict[str, Any], changes: Any) -> bytes:
    """Return a JSON object with changes, of which ... leaves a member out, or the bytes that replace it."""
    if isinstance(changes, bytes):
        return changes
    return json.dumps({name: value for name, value in (good | (changes or {})).items() if value is not ...}).encode()


def hs(key: str | bytes, digest: str = "sha256") -> Sign:
    """Return what signs with a symmetric key (RFC 7518 §3.2)."""
    key = key.encode() if isinstance(key, str) else key
    return lambda signed: hmac.digest(key, signed, digest)


@contextlib.contextmanager
def aimed_at(script: str, deploy: Callable[..., Function]) -> Iterator[Target]:
    """Deploy an authorizer with all that it can check switched on."""
    if script in SYMMETRIC:
        function = deploy(script, JWT_SECRET=SECRET, JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE)
        event = connect_event_of if script == "jwt_auth_token_websocket" else token_event
        good = claims(iss=ISSUER, aud=AUDIENCE)
        yield Target(function, event, {"alg": "HS256", "typ": "JWT"}, good, hs(SECRET))
        return
    with serving("key-1") as endpoint:
        function = deploy(script, GOOGLE_CLIENT_ID=CLIENT_ID)
        vars(function.module)["CERTIFICATES_URL"] = endpoint.url
        header = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}
        yield Target(function, token_event, header, google_claims(), partial(rs256, "key-1"))


def connect_event_of(token: str) -> dict[str, Any]:
    WATCH.guards(token)
    return connect_event(headers={"Authorization": token})


def assert_refused(target: Target, token: str) -> None:
    """Check that a token is a 401, and that the traceback says nothing about it."""
    with pytest.raises(Exception, match="^Unauthorized$") as caught:
        target.call(token)
    assert type(caught.value) is Exception
    assert caught.value.__suppress_context__ or not caught.value.__context__
    told = "".join(traceback.format_exception(caught.value))
    assert not any(segment in told for segment in token.split(".") if len(segment) > 12)


def public_pem(form: serialization.PublicFormat = serialization.PublicFormat.SubjectPublicKeyInfo) -> bytes:
    """Return the public key that good Google tokens are verified with."""
    return private_key("key-1").public_key().public_bytes(serialization.Encoding.PEM, form)


def jwk(kid: str) -> dict[str, str]:
    """Return the attacker's own RSA key as a JWK (RFC 7517 §9.3)."""
    numbers = private_key(kid).public_key().public_numbers()
    return {"kty": "RSA", "kid": kid, "e": "AQAB", "n": base64url(numbers.n.to_bytes(256, "big"))}


def tampered(target: Target, **changes: Any) -> str:
    """Return a token whose claims were changed after it was signed."""
    head, _, signature = target.token().split(".")
    return f"{head}.{base64url(encoded(target.claims, changes))}.{signature}"


def nested(target: Target) -> str:
    """Return a good token wrapped into another one (RFC 7519 appendix A.2)."""
    return target.token(header={"cty": "JWT"}, payload=target.token().encode())


def unsigned(signed: bytes) -> bytes:
    return b""
