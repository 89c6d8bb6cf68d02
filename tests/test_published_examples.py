"""What RFCs print: the example of RFC 7515, and the attacks and threats of RFC 8725, RFC 7519 and RFC 6750."""

import base64
import json
import logging
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.events import token_event
from support.functions import ARN, SECRET, Function
from support.google import rs256, serving
from support.policies import decision
from support.tokens import (
    AUTHORIZERS,
    SYMMETRIC,
    Target,
    aimed_at,
    assert_refused,
    base64url,
    encoded,
    hs,
    jwk,
    jws,
    nested,
    public_pem,
    tampered,
    unsigned,
)

# RFC 7515 appendix A.1.1, as printed there.
HEADER = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
SIGNATURE = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"


def bits(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


@pytest.fixture
def rfc7515(deploy: Callable[..., Function]) -> Function:
    """The authorizer with the key of RFC 7515 A.1, whose bytes are no text that an environment variable could hold."""
    function = deploy("jwt_auth_token", JWT_SECRET=SECRET)
    vars(function.module)["JWT_SECRET"] = bits(KEY)
    return function


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def reason(function: Function, token: str, caplog: pytest.LogCaptureFixture) -> str:
    """Return the reason that the log gives for a 401."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    with pytest.raises(Exception, match="^Unauthorized$"):
        function(token_event(token))
    return caplog.messages[-1].removeprefix("refused: ")


def test_signature_of_rfc7515_a1_is_good_but_its_claims_name_no_user(
    rfc7515: Function, caplog: pytest.LogCaptureFixture
) -> None:
    assert reason(rfc7515, f"{HEADER}.{PAYLOAD}.{SIGNATURE}", caplog) == "MissingRequiredClaimError"


@pytest.mark.parametrize("position", [0, 15, 31])
def test_rfc7515_a1_with_one_bit_changed_has_a_bad_signature(
    rfc7515: Function, caplog: pytest.LogCaptureFixture, position: int
) -> None:
    token = f"{HEADER}.{PAYLOAD}.{base64url(flipped(bits(SIGNATURE), position))}"
    assert reason(rfc7515, token, caplog) == "InvalidSignatureError"
    token = f"{HEADER}.{base64url(flipped(bits(PAYLOAD), position))}.{SIGNATURE}"
    assert reason(rfc7515, token, caplog) == "InvalidSignatureError"
    vars(rfc7515.module)["JWT_SECRET"] = flipped(bits(KEY), position)
    assert reason(rfc7515, f"{HEADER}.{PAYLOAD}.{SIGNATURE}", caplog) == "InvalidSignatureError"


def test_key_and_claims_of_rfc7515_a1_admit_a_user_until_exp(
    rfc7515: Function, caplog: pytest.LogCaptureFixture
) -> None:
    printed = json.loads(bits(PAYLOAD))
    assert printed == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    joe = {"user_id": "joe"} | printed
    assert reason(rfc7515, jws(bits(HEADER), json.dumps(joe).encode(), bits(KEY)), caplog) == "ExpiredSignatureError"
    token = jws(bits(HEADER), json.dumps(joe | {"exp": 13008193800}).encode(), bits(KEY))
    assert decision(rfc7515(token_event(token)), ARN) == "Allow"


def test_unsecured_jwt_of_rfc7519_6_1_is_refused(rfc7515: Function, caplog: pytest.LogCaptureFixture) -> None:
    assert reason(rfc7515, f"eyJhbGciOiJub25lIn0.{PAYLOAD}.", caplog) == "InvalidAlgorithmError"


@pytest.fixture(params=AUTHORIZERS)
def target(request: pytest.FixtureRequest, deploy: Callable[..., Function]) -> Iterator[Target]:
    with aimed_at(request.param, deploy) as target:
        yield target


def jwe(claims: bytes, **header: Any) -> str:
    """Return what looks like a JWE: no authorizer has a key for it, and none tries (RFC 7516 §3.1)."""
    head = {"alg": "dir", "enc": "A128CBC-HS256"} | header
    return f"{base64url(json.dumps(head).encode())}..{base64url(bytes(16))}.{base64url(claims)}.{base64url(bytes(16))}"


POINT_OFF_THE_CURVE = {"kty": "EC", "crv": "P-256", "x": base64url(b"\1" * 32), "y": base64url(b"\1" * 32)}
ALG_NONE = '{"alg": "none"}'

PUBLISHED: dict[str, Callable[[Target], str]] = {
    "RFC 8725 §2.1: alg changed to none": lambda it: it.token({"alg": "none"}, sign=unsigned),
    "RFC 8725 §2.1: RS256 changed to HS256, signed with the public key": lambda it: it.token(
        {"alg": "HS256"}, sign=hs(public_pem())
    ),
    "RFC 8725 §2.1: signature not looked at": lambda it: tampered(it, sub="admin", user_id="admin"),
    "RFC 8725 §2.2: a key found in a word list": lambda it: it.token(sign=hs("secret")),
    "RFC 8725 §2.3: encrypted, and a JWT inside that nobody signed": lambda it: jwe(
        it.token({"alg": "none"}, sign=unsigned).encode(), cty="JWT"
    ),
    "RFC 8725 §2.3: signed outside, not inside": nested,
    "RFC 8725 §2.4: compressed and encrypted": lambda it: jwe(zlib.compress(encoded(it.claims, None)), zip="DEF"),
    "RFC 8725 §2.4: compressed and signed": lambda it: it.token(
        {"zip": "DEF"}, zlib.compress(encoded(it.claims, None))
    ),
    "RFC 8725 §2.5: ECDH-ES with a point off the curve": lambda it: jwe(b"", alg="ECDH-ES", epk=POINT_OFF_THE_CURVE),
    "RFC 8725 §2.6: none, hidden in UTF-16": lambda it: it.token(ALG_NONE.encode("utf-16"), sign=unsigned),
    "RFC 8725 §2.6: none, hidden in UTF-32": lambda it: it.token(ALG_NONE.encode("utf-32"), sign=unsigned),
    "RFC 8725 §2.6: none, hidden by an escape": lambda it: it.token(b'{"\\u0061lg": "none"}', sign=unsigned),
    "RFC 8725 §2.7: issued for another recipient": lambda it: it.token(payload={"aud": "https://other.example"}),
    "RFC 8725 §2.8: another kind of token of the same issuer": lambda it: it.token(
        {"typ": "secevent+jwt"}, {"user_id": ..., "email": ..., "exp": ..., "events": {}}
    ),
    "RFC 8725 §2.9: kid that reaches into a database": lambda it: it.token({"kid": "x' OR '1'='1"}, sign=hs("1")),
    "RFC 8725 §2.9: kid that reaches into the file system": lambda it: it.token({"kid": "../../dev/null"}, sign=hs("")),
    "RFC 7519 §11.1: content that nobody signed": lambda it: ".".join(it.token().split(".")[:2]) + ".",
    "RFC 7519 §11.1: content that somebody else signed": lambda it: it.token(
        {"jwk": jwk("bad")}, sign=lambda signed: rs256("bad", signed)
    ),
    "RFC 7519 §11.2: encrypted only": lambda it: jwe(encoded(it.claims, None)),
    "RFC 7519 §11.2: signed, then encrypted": lambda it: jwe(it.token().encode(), cty="JWT"),
    "RFC 6750 §5.1: token manufacture": lambda it: it.token(sign=hs("a key that somebody made up, 32 bytes and more")),
    "RFC 6750 §5.1: token modification, a later exp": lambda it: tampered(it, exp=it.claims["exp"] + 86400),
    "RFC 6750 §5.1: token redirect": lambda it: it.token(payload={"aud": ["https://other.example", "other"]}),
    "RFC 6750 §5.1: token replay, after its time": lambda it: it.token(payload={"exp": it.claims["iat"] - 11}),
    "RFC 6750 §5.2: a token without a limited lifetime": lambda it: it.token(payload={"exp": ...}),
    "RFC 6750 §5.2: a token without an audience": lambda it: it.token(payload={"aud": ...}),
}


@pytest.mark.parametrize("attack", PUBLISHED)
def test_published_attack_is_unauthorized(target: Target, attack: str) -> None:
    assert_refused(target, PUBLISHED[attack](target))


def test_weak_symmetric_key_stops_the_function_from_starting(deploy: Callable[..., Function]) -> None:
    """RFC 8725 §2.2 and §3.5; RFC 7518 §3.2 sets the limit."""
    for script in SYMMETRIC:
        with pytest.raises(ValueError, match="JWT_SECRET must be"):
            deploy(script, JWT_SECRET=SECRET[:31])
        with pytest.raises(ValueError, match="JWT_SECRET_PREVIOUS must be"):
            deploy(script, JWT_SECRET=SECRET, JWT_SECRET_PREVIOUS=SECRET[:31])


@pytest.mark.parametrize("parameter", ["jku", "x5u"])
def test_address_in_a_token_is_never_visited(target: Target, parameter: str) -> None:
    """RFC 8725 §2.9 and §3.10: server-side request forgery."""
    with serving("bad") as trap:
        token = target.token({parameter: trap.url}, sign=lambda signed: rs256("bad", signed))
        assert_refused(target, token)
        assert trap.fetches == 0


def test_token_is_not_disclosed(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    """RFC 6750 §5.1, token disclosure: no part of a token, good or bad, is in log, answer or traceback."""
    caplog.set_level(logging.DEBUG)
    good, bad = target.token(), target.token(payload={"exp": 1})
    said = json.dumps(target.call(good))
    with pytest.raises(Exception, match="^Unauthorized$") as caught:
        target.call(bad)
    said += "".join(traceback.format_exception(caught.value)) + caplog.text
    assert not [part for token in (good, bad) for part in token.split(".")[1:] if part in said]
