"""Published attacks on JWTs, each against all three authorizers. All get "Unauthorized".

A forged token differs from a valid one only in what the attack is about. None needs the signing
secret. Valid tokens, and what a verifier must ignore (RFC 7515 §4), are accepted.
"""

import base64
import itertools
import json
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from support.deploy import PREVIOUS, SECRET, Deploy, deployed
from support.events import token_event
from support.fake_google import certificate, private_key, rs256, serving
from support.tokens import AUTHORIZERS, Sign, Target, aimed_at, base64url, encoded, hs, jws

DEEP = b"[" * 100_000 + b"]" * 100_000
ATTACKER = hs("an attacker's key of more than 32 bytes")
ATTACKERS_RSA = partial(rs256, "bad")
PKIX = serialization.PublicFormat.SubjectPublicKeyInfo
PKCS1 = serialization.PublicFormat.PKCS1
MODULUS = private_key("bad").public_key().public_numbers().n.to_bytes(256, "big")
JWK = {"kty": "RSA", "kid": "bad", "e": "AQAB", "n": base64url(MODULUS)}
ONES = base64url(b"\1" * 32)
OFF_THE_CURVE = {"kty": "EC", "crv": "P-256", "x": ONES, "y": ONES}


@pytest.fixture(scope="module", params=AUTHORIZERS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        aimed_at(request.param, partial(deployed, monkeypatch)) as target,
    ):
        yield target


def verdict(target: Target, token: str) -> str:
    """Return what happens to a token: "Unauthorized", or something else that explains itself."""
    try:
        target.call(token)
    except Exception as error:
        printed = "".join(traceback.format_exception(error))
        if any(part in printed for part in token.split(".") if len(part) > 12):
            return "The traceback shows the token."
        if type(error) is Exception and str(error) == "Unauthorized":
            return "Unauthorized"
        return repr(error)
    return "accepted"


def assert_unauthorized(target: Target, attacks: dict[str, str]) -> None:
    """Judge tokens by name."""
    verdicts = {name: verdict(target, token) for name, token in attacks.items()}
    assert {name: each for name, each in verdicts.items() if each != "Unauthorized"} == {}


def unsigned(signed: bytes) -> bytes:
    return b""


def public_pem(form: serialization.PublicFormat = PKIX) -> bytes:
    """Return the public key by which Google's tokens are verified."""
    return private_key("key-1").public_key().public_bytes(serialization.Encoding.PEM, form)


def with_claims(token: str, target: Target, **changes: Any) -> str:
    """Return a token with other claims, and the signature of the old ones."""
    head, _, signature = token.split(".")
    return f"{head}.{base64url(encoded(target.claims, changes))}.{signature}"


def with_header(token: str, header: dict[str, Any]) -> str:
    """Return a token with another header, and the signature of the old one."""
    return ".".join([base64url(json.dumps(header).encode()), *token.split(".")[1:]])


def in_other_alphabet(target: Target) -> str:
    """Return a token whose signature has + or / where base64url has - or _ (RFC 7515 §2)."""
    tokens = (target.token(payload={"jti": str(number)}) for number in itertools.count())
    token = next(token for token in tokens if set("-_") & set(token.split(".")[2]))
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{signature.replace('-', '+').replace('_', '/')}"


def jwe(inside: str | bytes, **header: Any) -> str:
    """Return what looks like an encrypted token. No authorizer tries to decrypt it."""
    head = json.dumps({"alg": "dir", "enc": "A128CBC-HS256"} | header).encode()
    content = inside.encode() if isinstance(inside, str) else inside
    parts = [head, b"", bytes(16), content, bytes(16)]
    return ".".join(base64url(part) for part in parts)


def test_token_that_is_signed_with_another_key(target: Target) -> None:
    good = target.token()
    signature = base64.urlsafe_b64decode(good.split(".")[2] + "==")
    ecdsa = ec.generate_private_key(ec.SECP256R1())
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    x5c = ["".join(certificate("bad").splitlines()[1:-1])]
    oct_key = {"kty": "oct", "k": base64url(b"k" * 32)}

    def hmac_with_public_key(key: str | bytes) -> str:
        return target.token({"alg": "HS256"}, sign=hs(key))

    def signed_by(sign: Sign, **header: Any) -> str:
        return target.token(header, sign=sign)

    def with_signature(data: bytes) -> str:
        return f"{good.rpartition('.')[0]}.{base64url(data)}"

    assert_unauthorized(
        target,
        {
            "RFC 8725 §2.1: HS256 with the public key": hmac_with_public_key(public_pem()),
            "RFC 8725 §2.1: HS256 with it in PKCS1": hmac_with_public_key(public_pem(PKCS1)),
            "RFC 8725 §2.1: HS256 with its certificate": hmac_with_public_key(certificate("key-1")),
            "RFC 8725 §2.2: a key of a word list": signed_by(hs("secret")),
            "RFC 7519 §11.1: signed by somebody else": signed_by(ATTACKERS_RSA, jwk=JWK),
            "RFC 6750 §5.1: token manufacture": signed_by(ATTACKER),
            "empty key": signed_by(hs("")),
            "secret without its last character": signed_by(hs(SECRET[:-1])),
            "previous secret where none is set": signed_by(hs(PREVIOUS)),
            "another RSA key": signed_by(ATTACKERS_RSA, alg="RS256"),
            "another RSA key with its own ID": signed_by(ATTACKERS_RSA, alg="RS256", kid="bad"),
            "RS256 header, HMAC": signed_by(ATTACKER, alg="RS256"),
            "HS256 header, RSA signature": signed_by(ATTACKERS_RSA, alg="HS256"),
            "PS256": signed_by(
                lambda signed: private_key("bad").sign(signed, pss, hashes.SHA256()), alg="PS256"
            ),
            "ES256": signed_by(
                lambda signed: ecdsa.sign(signed, ec.ECDSA(hashes.SHA256())), alg="ES256"
            ),
            "jwk, RS256": signed_by(ATTACKERS_RSA, alg="RS256", jwk=JWK),
            "jwk, HS256": signed_by(hs("k" * 32), alg="HS256", jwk=oct_key),
            "x5c": signed_by(ATTACKERS_RSA, x5c=x5c),
            "kid that is a key": signed_by(ATTACKER, alg="RS256", kid=certificate("bad")),
            "first byte of the signature": with_signature(bytes([signature[0] ^ 1])),
            "first half of the signature": with_signature(signature[: len(signature) // 2]),
            "signature twice": with_signature(signature * 2),
            "signature and a zero byte": with_signature(signature + b"\0"),
            "signature of zeros": with_signature(bytes(len(signature))),
        },
    )


def test_valid_token_that_was_changed(target: Target) -> None:
    good = target.token()
    later = target.claims["exp"] + 86400
    head, body, signature = good.split(".")
    json_form = json.dumps({"payload": body, "protected": head, "signature": signature})
    full_width = "".join(chr(ord(letter) + 0xFEE0) for letter in signature)
    ends = ["\t", "\n", "\0", "\ud800", "=", "\r\nX-Admin: 1"]
    assert_unauthorized(
        target,
        {
            "RFC 8725 §2.1: other claims": with_claims(good, target, sub="x", user_id="x"),
            "RFC 6750 §5.1: token modification": with_claims(good, target, exp=later),
            "RFC 7519 §11.1: no signature": f"{head}.{body}.",
            "no signature and no dot": f"{head}.{body}",
            "header only": head,
            "no header": f".{body}.{signature}",
            "no claims": f"{head}..{signature}",
            "four parts": f"{good}.e30",
            "leading dot": f".{good}",
            "JSON serialization (RFC 7515 §7.2)": json_form,
            "in quotes": f'"{good}"',
            "in base64": base64.b64encode(good.encode()).decode(),
            "two tokens, comma": f"{good},{good}",
            "two tokens, space": f"Bearer {good} {good}",
            "two schemes": f"Bearer Bearer {good}",
            "another scheme": f"Basic {good}",
            "scheme and tab": f"Bearer\t{good}",
            "leading space": f" {good}",
            "leading line break": f"\n{good}",
            "full-width letters": f"{head}.{body}.{full_width}",
            "line break inside": f"{head[:4]}\n{head[4:]}.{body}.{signature}",
            "line break in the signature": f"{head}.{body}.{signature[:4]}\n{signature[4:]}",
            "junk in the header": f"{head}####.{body}.{signature}",
            "junk in the claims": f"{head}.####{body}.{signature}",
            "junk in the signature": f"{good}!!!!",
            "letters beyond ASCII": f"{good}éé",
            "header with padding": f"{head}=.{body}.{signature}",
            "claims with padding": f"{head}.{body}==.{signature}",
            "signature in the other alphabet": in_other_alphabet(target),
        }
        | {f"token and {end!r}": good + end for end in [" ", *ends]}
        | {f"scheme, token and {end!r}": f"Bearer {good}{end}" for end in ends},
    )


def test_token_that_asks_for_another_algorithm(target: Target) -> None:
    good = target.token()
    none = ["none", "None", "NONE", "nOnE", " none", "none ", "none\0", "n\u043ene", "", " "]
    no_string = [None, True, 0, 1.5, [], ["HS256"], ["RS256"], ["none"], {}, {"alg": "HS256"}]
    other = "hs256|rs256|HS256 |RS256\n|HS1|HS384|HS512|RS384|RS512|PS256|ES256|ES384|ES256K|EdDSA"
    other += "|dir|A128KW|RSA-OAEP|PBES2-HS256+A128KW|HMACSHA256|../../alg"
    attacks = {
        "none, in UTF-16": target.token('{"alg": "none"}'.encode("utf-16"), sign=ATTACKER),
        "none, in UTF-32": target.token('{"alg": "none"}'.encode("utf-32"), sign=ATTACKER),
        "none, behind an escape": target.token(b'{"\\u0061lg": "none"}', sign=ATTACKER),
    }
    for alg in [*none, *no_string, *other.split("|")]:
        head, body, _ = target.token({"alg": alg}).split(".")
        attacks[f"RFC 8725 §2.1: alg {alg!r}, unsigned"] = f"{head}.{body}."
        attacks[f"alg {alg!r}, an attacker's signature"] = target.token({"alg": alg}, sign=ATTACKER)
        attacks[f"alg {alg!r}, signature of another header"] = with_header(
            good, target.header | {"alg": alg}
        )
    assert_unauthorized(target, attacks)


def test_key_id_that_is_an_injection(target: Target) -> None:
    """RFC 8725 §2.9. The keys are those that an attacker could guess for such a key ID."""
    kids: list[Any] = ["../../dev/null", "x' OR '1'='1", "key-1' UNION SELECT 'secret' --", "0"]
    kids += ["key-1; id", "$(id)", "\0", "key-1\0", "http://127.0.0.1:9/key", "file:///etc/passwd"]
    kids += ["${jndi:ldap://127.0.0.1/a}", "", None, 1, True, ["key-1"], {"key-1": 1}]
    for sign in (hs(""), hs("secret"), ATTACKERS_RSA):
        attacks = {f"kid {kid!r}": target.token({"kid": kid}, sign=sign) for kid in kids}
        assert_unauthorized(target, attacks)


def test_token_in_a_token_and_encrypted_token(target: Target) -> None:
    good = target.token()
    plain = target.token({"alg": "none"}, sign=unsigned)
    compressed = zlib.compress(encoded(target.claims))
    zipped = target.token({"zip": "DEF"}, compressed, sign=ATTACKER)
    unencoded = f"{good.split('.')[0]}.{json.dumps(target.claims)}.{good.split('.')[2]}"
    assert_unauthorized(
        target,
        {
            "RFC 7519 §11.2: encrypted": jwe(json.dumps(target.claims)),
            "RFC 7519 §11.2: signed, then encrypted": jwe(good, cty="JWT"),
            "RFC 8725 §2.3: encrypted, unsigned inside": jwe(plain),
            "RFC 8725 §2.3: signed only inside": target.token(
                {"cty": "JWT"}, good.encode(), ATTACKER
            ),
            "RFC 8725 §2.4: compressed, encrypted": jwe(compressed, zip="DEF"),
            "RFC 8725 §2.4: compressed, signed": zipped,
            "RFC 8725 §2.5: off the curve": jwe(b"", alg="ECDH-ES", epk=OFF_THE_CURVE),
            "RFC 7797 §3: claims that are not encoded": unencoded,
        },
    )


@pytest.mark.parametrize("sign", [ATTACKER, ATTACKERS_RSA], ids=["HMAC", "RSA"])
def test_header_or_claims_that_break_parsers(target: Target, sign: Sign) -> None:
    header = encoded(target.header)
    claims = encoded(target.claims)
    malformed = {
        "no JSON": b"alg: HS256",
        "list": b"[" + header + b"]",
        "null": b"null",
        "number": b"1e400",
        "invalid UTF-8": header + b"\xff",
        "nested 100,000 deep": header[:-1] + b', "x": ' + DEEP + b"}",
        "number of 5000 digits": header[:-1] + b', "x": ' + b"9" * 5000 + b"}",
        "alg twice": header[:-1] + b', "alg": "none"}',
        "a megabyte": header[:-1] + b', "x": "' + b"A" * 1_000_000 + b'"}',
    }
    as_header = {f"header: {name}": jws(data, claims, sign) for name, data in malformed.items()}
    as_claims = {f"claims: {name}": jws(header, data, sign) for name, data in malformed.items()}
    assert_unauthorized(target, as_header | as_claims)


def test_text_that_is_no_token(target: Target) -> None:
    words = ["", "Bearer ", "null", "Bearer undefined", "a.b.c", "..", "\ud800", "\0"]
    words += ["A" * 1_000_000, "." * 1_000_000, "Bearer" + " " * 1_000_000]
    assert_unauthorized(target, {f"{word[:20]!r}": word for word in words})


def test_token_that_was_issued_for_another_purpose(target: Target) -> None:
    """These tokens are signed with the right key, and any client can get them."""
    now = int(time.time())
    audience = target.claims["aud"]
    event = {"user_id": ..., "email": ..., "exp": ..., "events": {}}

    def issued(**claims: Any) -> str:
        return target.token(payload=claims)

    assert_unauthorized(
        target,
        {
            "RFC 8725 §2.7: for another recipient": issued(aud="https://other.example"),
            "RFC 6750 §5.1: token redirect": issued(aud=["https://other.example", "other"]),
            "RFC 6750 §5.2: no audience": issued(aud=...),
            "part of the audience": issued(aud=audience[:-1]),
            "another issuer": issued(iss="https://evil.example"),
            "issuer and a slash": issued(iss=target.claims.get("iss", "") + "/"),
            "no issuer": issued(iss=...),
            "RFC 8725 §2.8: another kind of token": target.token({"typ": "secevent+jwt"}, event),
            "RFC 6750 §5.2: no expiry": issued(exp=...),
            "RFC 6750 §5.1: token replay, 11 s after it expired": issued(exp=now - 11),
            "expired in 1970": issued(exp=0),
            "issued in a minute": issued(iat=now + 60),
            "valid in a minute": issued(nbf=now + 60),
        },
    )


def test_what_the_rfcs_tell_verifiers_to_ignore_is_accepted(target: Target) -> None:
    good = target.token()
    now = int(time.time())
    harmless = {
        "valid": good,
        "scheme": f"Bearer {good}",
        "RFC 9110 §11.1: scheme in lower case": f"bearer  {good}  ",
        "RFC 8259 §2: white space": target.token(json.dumps(target.header, indent=1).encode()),
        "RFC 7519 §5.1: no typ": target.token({"typ": ...}),
        "RFC 7519 §5.1: another typ": target.token({"typ": "at+jwt"}),
        "RFC 7515 §4: unknown header parameter": target.token({"trace": [1, {}]}),
        "RFC 7515 §4.1.3: jwk, never used": target.token({"jwk": JWK}),
        "RFC 7519 §4: unknown claim": target.token(payload={"x": [None, {}]}),
        "RFC 7519 §4.1.4: expired 5 s ago": target.token(payload={"exp": now - 5}),
        "RFC 7519 §4.1.5: valid in 9 s": target.token(payload={"nbf": now + 9}),
    }
    verdicts = {name: verdict(target, token) for name, token in harmless.items()}
    assert verdicts == dict.fromkeys(harmless, "accepted")


@pytest.mark.parametrize("error", [RecursionError, MemoryError, OverflowError, OSError])
def test_whatever_a_token_makes_the_library_raise_is_unauthorized(
    target: Target, error: Callable[[str], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwt.decode", Mock(side_effect=error("x")))
    monkeypatch.setattr("google.auth.jwt.decode", Mock(side_effect=error("x")))
    assert_unauthorized(target, {error.__name__: target.token()})


@pytest.mark.parametrize("parameter", ["jku", "x5u"])
def test_address_in_a_token_is_never_visited(target: Target, parameter: str) -> None:
    """RFC 8725 §2.9 and §3.10: server-side request forgery."""
    with serving("bad") as trap:
        forged = target.token({parameter: trap.url}, sign=ATTACKERS_RSA)
        assert verdict(target, forged) == "Unauthorized"
        assert verdict(target, target.token({parameter: trap.url})) == "accepted"
        assert trap.fetches == 0


# RFC 7515 appendix A.1, as printed there.
PRINTED = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv"
    "bS9pc19yb290Ijp0cnVlfQ"
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)
KEY = base64.urlsafe_b64decode(
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
)


@pytest.mark.parametrize(
    ("token", "line"),
    [
        pytest.param(PRINTED, "refused: no user_id claim", id="as printed"),
        pytest.param(PRINTED[:-1] + "0", "refused: InvalidSignatureError", id="other signature"),
        pytest.param(PRINTED.replace("lfQ", "lfA"), "refused: InvalidSignatureError", id="claims"),
    ],
)
def test_example_of_rfc_7515_is_judged_as_it_says(
    deploy: Deploy, caplog: pytest.LogCaptureFixture, token: str, line: str
) -> None:
    function = deploy("jwt_auth_token", JWT_SECRET=SECRET)
    vars(function.module)["JWT_SECRET"] = KEY  # bytes that no environment variable could hold
    with pytest.raises(Exception, match="^Unauthorized$"):
        function(token_event(token))
    assert caplog.messages == [line]
