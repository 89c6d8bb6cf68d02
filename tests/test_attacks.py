"""Attacks on JWTs, each run against all three authorizers: every one is refused with exactly "Unauthorized".

A row forges a token from a good one and changes nothing but what the attack is about; the good token, and what a
verifier has to ignore (RFC 7515 §4), are let in, so no row is refused for another reason than its own.
"""

import base64
import itertools
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from support.functions import CLIENT_ID, PREVIOUS, SECRET, Function
from support.google import certificate, private_key, rs256
from support.tokens import (
    AUDIENCE,
    AUTHORIZERS,
    ISSUER,
    SYMMETRIC,
    Sign,
    Target,
    aimed_at,
    assert_refused,
    base64url,
    encoded,
    hs,
    jwk,
    nested,
    public_pem,
    tampered,
    unsigned,
)

DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture(params=AUTHORIZERS)
def target(request: pytest.FixtureRequest, deploy: Callable[..., Function]) -> Iterator[Target]:
    with aimed_at(request.param, deploy) as target:
        yield target


def ecdsa(signed: bytes) -> bytes:
    """Return the signature of a new P-256 key, in ASN.1 (JWS would want it raw, which no authorizer gets to)."""
    return ec.generate_private_key(ec.SECP256R1()).sign(signed, ec.ECDSA(hashes.SHA256()))


def pss(signed: bytes) -> bytes:
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    return private_key("key-1").sign(signed, scheme, hashes.SHA256())


def x5c(kid: str) -> list[str]:
    return ["".join(certificate(kid).splitlines()[1:-1])]


def other_alphabet(target: Target) -> str:
    """Return a token whose signature has + or / where base64url has - or _ (RFC 7515 §2)."""
    tokens = (target.token(payload={"jti": str(number)}) for number in itertools.count())
    head, body, signature = next(token for token in tokens if set("-_") & set(token.split(".")[2])).split(".")
    return f"{head}.{body}.{signature.translate(str.maketrans('-_', '+/'))}"


def stray_bit(text: str) -> str:
    """Return another spelling of a segment: a bit is set that its last character has to spare (RFC 4648 §3.5)."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]


def json_serialization(target: Target, **more: Any) -> str:
    """Return a good token in the JSON serialization (RFC 7515 §7.2)."""
    head, body, signature = target.token().split(".")
    return json.dumps({"payload": body, "protected": head, "signature": signature, **more})


def unencoded(target: Target) -> str:
    """Return a token whose claims are not in base64url, as RFC 7797 §3 has it."""
    head = base64url(encoded(target.header, {"b64": False, "crit": ["b64"]}))
    signed = f"{head}.{json.dumps(target.claims).replace('.', '')}"
    return f"{signed}.{base64url(target.sign(signed.encode()))}"


def with_header(target: Target, sign: Sign | None = None, **header: Any) -> str:
    return target.token(header, sign=sign)


ATTACKER = hs("an attacker's key of more than 32 bytes")
NONE = ["none", "None", "NONE", "nOnE", " none", "none ", "none\0", "n\u043ene", "", " "]
NOT_TEXT: list[Any] = [None, True, False, 0, 1.5, [], ["HS256"], ["RS256"], ["none"], {}, {"alg": "HS256"}]
OTHERS = ["hs256", "rs256", "HS256 ", "RS256\n", "HS1", "HS384", "HS512", "RS384", "RS512", "PS256", "ES256", "ES384"]
OTHERS += ["ES256K", "EdDSA", "dir", "A128KW", "RSA-OAEP", "PBES2-HS256+A128KW", "HMACSHA256", "../../alg"]
KID_INJECTIONS = ["../../../../dev/null", "/dev/null", "key-1' UNION SELECT 'secret' --", "key-1; id", "$(id)", "0"]
KID_INJECTIONS += ["http://127.0.0.1:9/key", "file:///etc/passwd", "${jndi:ldap://127.0.0.1/a}", "\0", "key-1\0"]

ATTACKS: dict[str, Callable[[Target], str]] = {
    "an attacker's key": lambda it: it.token(sign=ATTACKER),
    "empty key": lambda it: it.token(sign=hs("")),
    "secret less its last character": lambda it: it.token(sign=hs(SECRET[:-1])),
    "secret and one character more": lambda it: it.token(sign=hs(SECRET + "a")),
    "secret in upper case": lambda it: it.token(sign=hs(SECRET.upper())),
    "secret in base64": lambda it: it.token(sign=hs(base64.b64encode(SECRET.encode()))),
    "previous secret where none is set": lambda it: it.token(sign=hs(PREVIOUS)),
    "another RSA key": lambda it: it.token(sign=lambda signed: rs256("key-2", signed)),
    "another RSA key under its own id": lambda it: it.token(
        {"kid": "key-2"}, sign=lambda signed: rs256("key-2", signed)
    ),
    "HS384 with the secret": lambda it: it.token({"alg": "HS384"}, sign=hs(SECRET, "sha384")),
    "HS512 with the secret": lambda it: it.token({"alg": "HS512"}, sign=hs(SECRET, "sha512")),
    "HMAC-SHA512 cut to 256 bits": lambda it: it.token(sign=lambda signed: hs(SECRET, "sha512")(signed)[:32]),
    "RS256 header, HMAC of the secret": lambda it: it.token({"alg": "RS256"}, sign=hs(SECRET)),
    "HS256 header, RSA signature": lambda it: it.token({"alg": "HS256"}, sign=lambda signed: rs256("key-1", signed)),
    "PS256": lambda it: it.token({"alg": "PS256"}, sign=pss),
    "ES256": lambda it: it.token({"alg": "ES256"}, sign=ecdsa),
    "ES256 of zeros": lambda it: it.token({"alg": "ES256"}, sign=lambda _: bytes(64)),
    "certificate as HMAC key": lambda it: it.token({"alg": "HS256"}, sign=hs(certificate("key-1"))),
    "certificate as HMAC key, no line break": lambda it: it.token(
        {"alg": "HS256"}, sign=hs(certificate("key-1").strip())
    ),
    "PKIX key as HMAC key": lambda it: it.token({"alg": "HS256"}, sign=hs(public_pem())),
    "PKCS1 key as HMAC key": lambda it: it.token(
        {"alg": "HS256"}, sign=hs(public_pem(serialization.PublicFormat.PKCS1))
    ),
    "jwk, RS256": lambda it: it.token({"alg": "RS256", "jwk": jwk("bad")}, sign=lambda signed: rs256("bad", signed)),
    "jwk, HS256": lambda it: it.token(
        {"alg": "HS256", "jwk": {"kty": "oct", "k": base64url(b"k" * 32)}}, sign=hs("k" * 32)
    ),
    "jku": lambda it: it.token({"jku": "http://127.0.0.1:9/jwks"}, sign=lambda signed: rs256("bad", signed)),
    "x5u": lambda it: it.token({"x5u": "http://127.0.0.1:9/x5u"}, sign=lambda signed: rs256("bad", signed)),
    "x5c": lambda it: it.token({"x5c": x5c("bad")}, sign=lambda signed: rs256("bad", signed)),
    "x5t": lambda it: it.token({"x5t": base64url(b"t" * 20)}, sign=lambda signed: rs256("bad", signed)),
    "kid that is a key": lambda it: it.token({"alg": "RS256", "kid": certificate("bad")}, sign=ATTACKER),
    "kid that is a list": lambda it: it.token({"kid": ["key-1"]}),
    "kid that is an object": lambda it: it.token({"kid": {"key-1": 1}}),
    "kid that is null": lambda it: it.token({"kid": None}),
    "kid that is a number": lambda it: it.token({"kid": 1}),
    "kid that is true": lambda it: it.token({"kid": True}),
    "claims changed": lambda it: tampered(it, sub="admin", user_id="admin"),
    "claims taken from another token": lambda it: tampered(it, jti="2"),
    "one bit of the signature": lambda it: it.token(
        sign=lambda signed: bytes([it.sign(signed)[0] ^ 1]) + it.sign(signed)[1:]
    ),
    "first half of the signature": lambda it: it.token(sign=lambda signed: it.sign(signed)[:16]),
    "signature twice": lambda it: it.token(sign=lambda signed: it.sign(signed) * 2),
    "signature and a zero byte": lambda it: it.token(sign=lambda signed: it.sign(signed) + b"\0"),
    "signature in hexadecimal": lambda it: it.changed(2, lambda text: base64.urlsafe_b64decode(text + "==").hex()),
    "empty signature": lambda it: it.changed(2, lambda _: ""),
    "empty claims": lambda it: it.changed(1, lambda _: ""),
    "empty header": lambda it: it.changed(0, lambda _: ""),
    "signature of zeros": lambda it: it.token(sign=lambda signed: bytes(len(it.sign(signed)))),
    "no signature and no dot": lambda it: it.token().rpartition(".")[0],
    "header alone": lambda it: it.token().partition(".")[0],
    "four segments": lambda it: it.token() + ".e30",
    "empty fourth segment": lambda it: it.token() + ".",
    "leading dot": lambda it: "." + it.token(),
    "five segments (JWE)": lambda it: it.token({"alg": "dir", "enc": "A128GCM"}) + ".AAAA.AAAA",
    "JWE that names RSA-OAEP": lambda it: ".".join(
        [base64url(encoded({}, {"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "key-1"})), "AAAA", "AAAA", "AAAA", "AAAA"]
    ),
    "two dots": lambda it: "..",
    "JSON serialization, flattened": json_serialization,
    "JSON serialization, general": lambda it: json_serialization(it, signatures=[{"header": {"alg": "none"}}]),
    "token in quotes": lambda it: f'"{it.token()}"',
    "token in base64": lambda it: base64.b64encode(it.token().encode()).decode(),
    "token in percent encoding": lambda it: it.token().replace(".", "%2E"),
    "two tokens": lambda it: f"{it.token()},{it.token()}",
    "two schemes": lambda it: f"Bearer Bearer {it.token()}",
    "another scheme": lambda it: f"Basic {it.token()}",
    "scheme and colon": lambda it: f"Bearer: {it.token()}",
    "scheme and tab": lambda it: f"Bearer\t{it.token()}",
    "leading blank": lambda it: " " + it.token(),
    "trailing blank": lambda it: it.token() + " ",
    "trailing tab": lambda it: it.token() + "\t",
    "leading line break": lambda it: "\n" + it.token(),
    "trailing line break": lambda it: it.token() + "\n",
    "trailing CR LF and a header": lambda it: it.token() + "\r\nX-Admin: 1",
    "trailing NUL": lambda it: it.token() + "\0",
    "no-break space": lambda it: f"Bearer {it.token()}\u00a0",
    "byte order mark": lambda it: "\ufeff" + it.token(),
    "lone surrogate": lambda it: it.token() + "\ud800",
    "full-width dots": lambda it: it.token().replace(".", "\uff0e"),
    "full-width letters": lambda it: it.changed(2, lambda text: "".join(chr(ord(letter) + 0xFEE0) for letter in text)),
    "line break in the header": lambda it: it.changed(0, lambda text: text[:4] + "\n" + text[4:]),
    "blanks in the claims": lambda it: it.changed(1, lambda text: text[:4] + "    " + text[4:]),
    "line break in the signature": lambda it: it.changed(2, lambda text: text[:4] + "\n" + text[4:]),
    "junk in the header": lambda it: it.changed(0, lambda text: text + "####"),
    "junk in the claims": lambda it: it.changed(1, lambda text: "####" + text),
    "junk in the signature": lambda it: it.changed(2, lambda text: text + "!!!!"),
    "signature with padding": lambda it: it.changed(2, lambda text: text + "=" * (-len(text) % 4)),
    "signature with too much padding": lambda it: it.changed(2, lambda text: text + "=" * 5),
    "letters beyond ASCII in the signature": lambda it: it.changed(2, lambda text: text + "éé"),
    "padding only": lambda it: it.changed(2, lambda _: "===="),
    "signature in the other alphabet": other_alphabet,
    "header with padding": lambda it: it.changed(0, lambda text: text + "=" * (-len(text) % 4 or 4)),
    "claims with padding": lambda it: it.changed(1, lambda text: text + "=" * (-len(text) % 4 or 4)),
    "header that is no JSON": lambda it: it.token(b"alg: HS256"),
    "header in single quotes": lambda it: it.token(json.dumps(it.header).replace('"', "'").encode()),
    "header with a comment": lambda it: it.token(json.dumps(it.header).encode() + b"//"),
    "header that is a list": lambda it: it.token(b"[" + json.dumps(it.header).encode() + b"]"),
    "header that is null": lambda it: it.token(b"null"),
    "header of invalid UTF-8": lambda it: it.token(json.dumps(it.header).encode() + b"\xff"),
    "header with alg twice, none last": lambda it: it.token(json.dumps(it.header)[:-1].encode() + b', "alg": "none"}'),
    "header nested 100,000 deep": lambda it: it.token(json.dumps(it.header)[:-1].encode() + b', "x": ' + DEEP + b"}"),
    "claims nested 100,000 deep": lambda it: it.token(
        None, json.dumps(it.claims)[:-1].encode() + b', "x": ' + DEEP + b"}"
    ),
    "header with a number of 5000 digits": lambda it: it.token(
        json.dumps(it.header)[:-1].encode() + b', "x": ' + b"9" * 5000 + b"}"
    ),
    "claims that are a list": lambda it: it.token(None, b"[" + json.dumps(it.claims).encode() + b"]"),
    "claims that are text": lambda it: it.token(None, json.dumps(json.dumps(it.claims)).encode()),
    "claims that are null": lambda it: it.token(None, b"null"),
    "claims that are empty": lambda it: it.token(None, b"{}"),
    "claims of invalid UTF-8": lambda it: it.token(None, b'{"user_id": "\xff"}'),
    "exp twice, the past last": lambda it: it.token(None, json.dumps(it.claims)[:-1].encode() + b', "exp": 1}'),
    "nested token": nested,
    "nested token in a claim": lambda it: it.token(None, encoded({}, {"jwt": it.token()})),
    "compressed claims": lambda it: it.token({"zip": "DEF"}, b"\x78\x9c\xab\x56\x4a\xad\x28\x50\xb2\x02\x00"),
    "crit that nobody knows": lambda it: it.token({"crit": ["http://127.0.0.1/x"], "http://127.0.0.1/x": True}),
    "crit of exp": lambda it: it.token({"crit": ["exp"], "exp": 1}),
    "crit that is empty": lambda it: it.token({"crit": []}),
    "crit that is text": lambda it: it.token({"crit": "exp", "exp": 1}),
    "crit that is null": lambda it: it.token({"crit": None}),
    "b64 false": lambda it: it.token({"b64": False, "crit": ["b64"]}),
    "b64 false, claims as they are": lambda it: unencoded(it),
    "a megabyte of A": lambda it: "A" * 1_000_000,
    "a megabyte of dots": lambda it: "." * 1_000_000,
    "a megabyte of blanks": lambda it: "Bearer" + " " * 1_000_000,
    "a megabyte of claims, unsigned": lambda it: it.token(payload={"x": "x" * 1_000_000}, sign=ATTACKER),
    "a megabyte of signature": lambda it: it.token(sign=lambda _: bytes(750_000)),
    "a megabyte of kid": lambda it: it.token({"kid": "k" * 1_000_000}, sign=ATTACKER),
    "empty": lambda it: "",
    "scheme alone": lambda it: "Bearer ",
    "null as text": lambda it: "null",
    "undefined": lambda it: "Bearer undefined",
    "another issuer": lambda it: it.token(payload={"iss": "https://evil.example"}),
    "issuer and a slash": lambda it: it.token(payload={"iss": it.claims["iss"] + "/"}),
    "no issuer": lambda it: it.token(payload={"iss": ...}),
    "another audience": lambda it: it.token(payload={"aud": "evil"}),
    "list of other audiences": lambda it: it.token(payload={"aud": ["evil", "worse"]}),
    "part of the audience": lambda it: it.token(payload={"aud": it.claims["aud"][:-1]}),
    "no audience": lambda it: it.token(payload={"aud": ...}),
    "no exp": lambda it: it.token(payload={"exp": ...}),
    "expired": lambda it: it.token(payload={"exp": it.claims["iat"] - 60}),
    "exp of 0": lambda it: it.token(payload={"exp": 0}),
    "exp before 1970": lambda it: it.token(payload={"exp": -1e308}),
    "issued tomorrow": lambda it: it.token(payload={"iat": it.claims["iat"] + 86400}),
    "valid from tomorrow": lambda it: it.token(payload={"nbf": it.claims["iat"] + 86400}),
}
ATTACKS |= {f"alg {alg!r}, no signature": partial(with_header, alg=alg, sign=unsigned) for alg in NONE + NOT_TEXT}
ATTACKS |= {f"alg {alg!r}, good signature": partial(with_header, alg=alg) for alg in NONE + NOT_TEXT + OTHERS}
ATTACKS |= {f"kid {kid!r}, empty key": partial(with_header, kid=kid, sign=hs("")) for kid in KID_INJECTIONS}

NOT_A_NUMBER: list[Any] = [None, True, False, "", "soon", "9999999999", [9999999999], {}, math.nan, math.inf, -math.inf]
NOT_A_TEXT: list[Any] = [None, True, False, 1, 1.5, ["testuser"], [], {}, {"a": "testuser"}]
WRONG_TYPES: dict[str, list[Any]] = {
    "exp": NOT_A_NUMBER,
    "nbf": NOT_A_NUMBER,
    "iat": NOT_A_NUMBER,
    "iss": [*NOT_A_TEXT, [ISSUER], ["https://accounts.google.com"]],
    "aud": [
        None,
        True,
        False,
        "",
        1,
        0,
        [],
        {},
        [1],
        [None],
        [[AUDIENCE]],
        {AUDIENCE: 1},
        [AUDIENCE, 1],
        [CLIENT_ID, 1],
    ],
    "sub": NOT_A_TEXT,
}
OWN_CLAIMS = {
    "jwt_auth_token": {"jti": NOT_A_TEXT, "user_id": [*NOT_A_TEXT, ""]},
    "jwt_auth_token_google": {"email": [*NOT_A_TEXT, ""], "email_verified": [None, False, "true", 1, [True], {}]},
}
OWN_CLAIMS["jwt_auth_token_websocket"] = OWN_CLAIMS["jwt_auth_token"]

# What the RFCs let pass, and why; each is signed with the right key.
HARMLESS: dict[str, Callable[[Target], str]] = {
    "good": lambda it: it.token(),
    "scheme": lambda it: f"Bearer {it.token()}",
    "scheme in lower case, blanks around (RFC 9110 §11.1)": lambda it: f"bearer  {it.token()}  ",
    "white space in the JSON (RFC 8259 §2)": lambda it: it.token(json.dumps(it.header, indent="\t").encode()),
    "no typ (RFC 7519 §5.1)": lambda it: it.token({"typ": ...}),
    "another typ (RFC 7519 §5.1)": lambda it: it.token({"typ": "at+jwt"}),
    "unknown header parameter (RFC 7515 §4)": lambda it: it.token({"x-trace": [1, {}]}),
    "jku, never fetched (RFC 7515 §10.10)": lambda it: it.token(
        {"jku": "http://192.0.2.1/", "x5u": "http://192.0.2.1/"}
    ),
    "jwk, never used (RFC 7515 §4.1.3)": lambda it: it.token({"jwk": jwk("bad")}),
    "zip, which is for JWE (RFC 7516 §4.1.3)": lambda it: it.token({"zip": "DEF"}),
    "cty of claims that are no JWT (RFC 7519 §5.2)": lambda it: it.token({"cty": "JWT"}),
    "alg twice, the last one good (RFC 7515 §4)": lambda it: it.token(
        b'{"alg": "none", ' + json.dumps(it.header).encode()[1:]
    ),
    "exp twice, the last one good (RFC 7519 §4)": lambda it: it.token(
        None, b'{"exp": 1, ' + json.dumps(it.claims).encode()[1:]
    ),
    "unknown claim (RFC 7519 §4)": lambda it: it.token(payload={"x": [None, {}]}),
    "10,000 years": lambda it: it.token(payload={"exp": it.claims["iat"] + 315_569_520_000}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_unauthorized(target: Target, attack: str) -> None:
    assert_refused(target, ATTACKS[attack](target))


@pytest.mark.parametrize(
    ("target", "claim", "value"),
    [
        pytest.param(script, claim, value, id=f"{script}-{claim} {value!r}")
        for script in AUTHORIZERS
        for claim, values in (WRONG_TYPES | OWN_CLAIMS[script]).items()
        for value in values
    ],
    indirect=["target"],
)
def test_claim_of_the_wrong_type_is_unauthorized_though_well_signed(target: Target, claim: str, value: Any) -> None:
    assert_refused(target, target.token(payload={claim: value}))


@pytest.mark.parametrize("token", HARMLESS)
def test_what_the_rfcs_let_pass_is_admitted(target: Target, token: str) -> None:
    principal = target.claims.get("user_id", target.claims["sub"])
    assert target.call(HARMLESS[token](target))["principalId"] == principal


@pytest.mark.parametrize(
    "error", [RecursionError("x"), TypeError("x"), MemoryError("x"), OverflowError(34, "x"), OSError()]
)
def test_whatever_a_token_makes_the_library_raise_is_unauthorized(
    target: Target, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwt.decode", Mock(side_effect=error))
    monkeypatch.setattr("google.oauth2.id_token.verify_oauth2_token", Mock(side_effect=error))
    assert_refused(target, target.token())


@pytest.mark.parametrize("target", SYMMETRIC, indirect=True)
def test_signature_has_one_spelling(target: Target) -> None:
    assert_refused(target, target.changed(2, stray_bit))
