"""Attacks on JWTs, known and published, each run against all three authorizers: every one is "Unauthorized".

A row forges a token from a good one and changes nothing but what the attack is about; the good token, and what a
verifier has to ignore (RFC 7515 §4), are let in, so no row is refused for another reason than its own.
"""

import base64
import contextlib
import itertools
import json
import logging
import math
import traceback
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from support.deploy import CLIENT_ID, PREVIOUS, SECRET, Deploy
from support.events import token_event
from support.fake_google import certificate, private_key, rs256, serving
from support.tokens import AUDIENCE, AUTHORIZERS, ISSUER, Sign, Target, base64url, encoded, hs, jws

Attack = Callable[[Target], str]
DEEP = b"[" * 100_000 + b"]" * 100_000
ATTACKER = hs("an attacker's key of more than 32 bytes")
BAD, OTHER_KEY = partial(rs256, "bad"), partial(rs256, "key-2")
PKIX, PKCS1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
MODULUS = private_key("bad").public_key().public_numbers().n.to_bytes(256, "big")
JWK = {"kty": "RSA", "kid": "bad", "e": "AQAB", "n": base64url(MODULUS)}
POINT_OFF_THE_CURVE = {
    "kty": "EC",
    "crv": "P-256",
    "x": base64url(b"\1" * 32),
    "y": base64url(b"\1" * 32),
}


def unsigned(signed: bytes) -> bytes:
    return b""


def ecdsa(signed: bytes) -> bytes:
    """Return the signature of a new P-256 key, in ASN.1 (JWS would want it raw, which no authorizer gets to)."""
    return ec.generate_private_key(ec.SECP256R1()).sign(signed, ec.ECDSA(hashes.SHA256()))


def pss(signed: bytes) -> bytes:
    return private_key("key-1").sign(
        signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
    )


def public_pem(form: serialization.PublicFormat = PKIX) -> bytes:
    """Return the public key that good Google tokens are verified with."""
    return private_key("key-1").public_key().public_bytes(serialization.Encoding.PEM, form)


def more(good: dict[str, Any], member: bytes) -> bytes:
    """Return a JSON object with one more member at its end, as it is."""
    return json.dumps(good)[:-1].encode() + b", " + member + b"}"


def tampered(target: Target, **changes: Any) -> str:
    """Return a token whose claims were changed after it was signed."""
    head, _, signature = target.token().split(".")
    return f"{head}.{target.token(payload=changes).split('.')[1]}.{signature}"


def other_alphabet(target: Target) -> str:
    """Return a token whose signature has + or / where base64url has - or _ (RFC 7515 §2)."""
    tokens = (target.token(payload={"jti": str(number)}) for number in itertools.count())
    head, body, signature = next(
        token for token in tokens if set("-_") & set(token.split(".")[2])
    ).split(".")
    return f"{head}.{body}.{signature.translate(str.maketrans('-_', '+/'))}"


def stray_bit(text: str) -> str:
    """Return another spelling of a segment: a bit is set that its last character has to spare (RFC 4648 §3.5)."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]


def padded(text: str) -> str:
    return text + "=" * (-len(text) % 4 or 4)


def json_serialization(target: Target) -> str:
    """Return a good token in the JSON serialization (RFC 7515 §7.2)."""
    head, body, signature = target.token().split(".")
    return json.dumps({"payload": body, "protected": head, "signature": signature})


def unencoded(target: Target) -> str:
    """Return a token whose claims are not in base64url (RFC 7797 §3)."""
    head = base64url(json.dumps(target.header | {"b64": False, "crit": ["b64"]}).encode())
    signed = f"{head}.{json.dumps(target.claims).replace('.', '')}"
    return f"{signed}.{base64url(target.sign(signed.encode()))}"


def jwe(inside: str | bytes, **header: Any) -> str:
    """Return what looks like a JWE: no authorizer has a key for it, and none tries (RFC 7516 §3.1)."""
    head = {"alg": "dir", "enc": "A128CBC-HS256"} | header
    content = base64url(inside.encode() if isinstance(inside, str) else inside)
    return f"{base64url(json.dumps(head).encode())}..{base64url(bytes(16))}.{content}.{base64url(bytes(16))}"


def compressed(target: Target) -> bytes:
    return zlib.compress(encoded(target.claims))


def header(sign: Sign | None = None, **changes: Any) -> Attack:
    return lambda it: it.token(changes, sign=sign)


def payload(**changes: Any) -> Attack:
    return lambda it: it.token(payload=changes)


def signed_by(sign: Sign) -> Attack:
    return lambda it: it.token(sign=sign)


def text(change: Callable[[str], str]) -> Attack:
    return lambda it: change(it.token())


def segment(number: int, change: Callable[[str], str]) -> Attack:
    return lambda it: it.changed(number, change)


ATTACKS: dict[str, Attack] = {
    # Keys and signatures.
    "RFC 8725 §2.1: signature not looked at": lambda it: tampered(it, sub="admin", user_id="admin"),
    "RFC 8725 §2.1: HS256, signed with the public key": header(hs(public_pem()), alg="HS256"),
    "RFC 8725 §2.1: the same in PKCS1": header(hs(public_pem(PKCS1)), alg="HS256"),
    "RFC 8725 §2.1: the same, the certificate": header(hs(certificate("key-1")), alg="HS256"),
    "RFC 8725 §2.2: a key found in a word list": signed_by(hs("secret")),
    "RFC 7519 §11.1: content that somebody else signed": header(BAD, jwk=JWK),
    "RFC 6750 §5.1: token manufacture": signed_by(ATTACKER),
    "RFC 6750 §5.1: token modification, a later exp": lambda it: tampered(
        it, exp=it.claims["exp"] + 86400
    ),
    "empty key": signed_by(hs("")),
    "secret less its last character": signed_by(hs(SECRET[:-1])),
    "secret and one character more": signed_by(hs(SECRET + "a")),
    "secret in base64": signed_by(hs(base64.b64encode(SECRET.encode()))),
    "previous secret where none is set": signed_by(hs(PREVIOUS)),
    "another RSA key": signed_by(OTHER_KEY),
    "another RSA key under its own id": header(OTHER_KEY, kid="key-2"),
    "HS384 with the secret": header(hs(SECRET, "sha384"), alg="HS384"),
    "HS512 with the secret": header(hs(SECRET, "sha512"), alg="HS512"),
    "HMAC-SHA512 cut to 256 bits": signed_by(lambda signed: hs(SECRET, "sha512")(signed)[:32]),
    "RS256 header, HMAC of the secret": header(hs(SECRET), alg="RS256"),
    "HS256 header, RSA signature": header(partial(rs256, "key-1"), alg="HS256"),
    "PS256": header(pss, alg="PS256"),
    "ES256": header(ecdsa, alg="ES256"),
    "jwk, RS256": header(BAD, alg="RS256", jwk=JWK),
    "jwk, HS256": header(hs("k" * 32), alg="HS256", jwk={"kty": "oct", "k": base64url(b"k" * 32)}),
    "x5c": header(BAD, x5c=["".join(certificate("bad").splitlines()[1:-1])]),
    "kid that is a key": header(ATTACKER, alg="RS256", kid=certificate("bad")),
    "one bit of the signature": lambda it: it.token(
        sign=lambda signed: bytes([it.sign(signed)[0] ^ 1])
    ),
    "first half of the signature": lambda it: it.token(sign=lambda signed: it.sign(signed)[:16]),
    "signature twice": lambda it: it.token(sign=lambda signed: it.sign(signed) * 2),
    "signature and a zero byte": lambda it: it.token(sign=lambda signed: it.sign(signed) + b"\0"),
    "signature of zeros": lambda it: it.token(sign=lambda signed: bytes(len(it.sign(signed)))),
    # The shape of the token.
    "RFC 7519 §11.1: content that nobody signed": segment(2, lambda _: ""),
    "RFC 7519 §11.2: encrypted only": lambda it: jwe(json.dumps(it.claims)),
    "RFC 7519 §11.2: signed, then encrypted": lambda it: jwe(it.token(), cty="JWT"),
    "RFC 8725 §2.3: encrypted, and unsigned inside": lambda it: jwe(
        it.token({"alg": "none"}, sign=unsigned)
    ),
    "RFC 8725 §2.3: signed outside, not inside": lambda it: it.token(
        {"cty": "JWT"}, it.token().encode()
    ),
    "RFC 8725 §2.4: compressed and encrypted": lambda it: jwe(compressed(it), zip="DEF"),
    "RFC 8725 §2.4: compressed and signed": lambda it: it.token({"zip": "DEF"}, compressed(it)),
    "RFC 8725 §2.5: a point off the curve": lambda it: jwe(
        b"", alg="ECDH-ES", epk=POINT_OFF_THE_CURVE
    ),
    "no signature and no dot": text(lambda token: token.rpartition(".")[0]),
    "header alone": text(lambda token: token.partition(".")[0]),
    "empty header": segment(0, lambda _: ""),
    "empty claims": segment(1, lambda _: ""),
    "four segments": text(lambda token: token + ".e30"),
    "leading dot": text(lambda token: "." + token),
    "JSON serialization": json_serialization,
    "token in quotes": text(lambda token: f'"{token}"'),
    "token in base64": text(lambda token: base64.b64encode(token.encode()).decode()),
    "two tokens, comma": text(lambda token: f"{token},{token}"),
    "two tokens, blank": text(lambda token: f"Bearer {token} {token}"),
    "two schemes": text(lambda token: f"Bearer Bearer {token}"),
    "another scheme": text(lambda token: f"Basic {token}"),
    "scheme and tab": text(lambda token: f"Bearer\t{token}"),
    "leading blank": text(lambda token: " " + token),
    "leading line break": text(lambda token: "\n" + token),
    "full-width letters": segment(
        2, lambda it: "".join(chr(ord(letter) + 0xFEE0) for letter in it)
    ),
    "signature with a stray bit": segment(2, stray_bit),
    "signature in the other alphabet": other_alphabet,
    "line break in the header": segment(0, lambda it: it[:4] + "\n" + it[4:]),
    "line break in the signature": segment(2, lambda it: it[:4] + "\n" + it[4:]),
    "junk in the header": segment(0, lambda it: it + "####"),
    "junk in the claims": segment(1, lambda it: "####" + it),
    "junk in the signature": segment(2, lambda it: it + "!!!!"),
    "letters beyond ASCII in the signature": segment(2, lambda it: it + "éé"),
    "header with padding": segment(0, padded),
    "claims with padding": segment(1, padded),
    "signature with padding": segment(2, padded),
    # What is in the header and in the claims.
    "RFC 8725 §2.6: none, in UTF-16": lambda it: it.token(
        '{"alg": "none"}'.encode("utf-16"), sign=unsigned
    ),
    "RFC 8725 §2.6: none, in UTF-32": lambda it: it.token(
        '{"alg": "none"}'.encode("utf-32"), sign=unsigned
    ),
    "RFC 8725 §2.6: none, behind an escape": lambda it: it.token(
        b'{"\\u0061lg": "none"}', sign=unsigned
    ),
    "header that is no JSON": lambda it: it.token(b"alg: HS256"),
    "header that is a list": lambda it: it.token(b"[" + encoded(it.header) + b"]"),
    "header that is null": lambda it: it.token(b"null"),
    "header of invalid UTF-8": lambda it: it.token(encoded(it.header) + b"\xff"),
    "header with alg twice, none last": lambda it: it.token(more(it.header, b'"alg": "none"')),
    "header nested 100,000 deep": lambda it: it.token(more(it.header, b'"x": ' + DEEP)),
    "header with a number of 5000 digits": lambda it: it.token(
        more(it.header, b'"x": ' + b"9" * 5000)
    ),
    "claims nested 100,000 deep": lambda it: it.token(payload=more(it.claims, b'"x": ' + DEEP)),
    "claims that are a list": lambda it: it.token(payload=b"[" + encoded(it.claims) + b"]"),
    "claims that are null": lambda it: it.token(payload=b"null"),
    "claims of invalid UTF-8": lambda it: it.token(payload=b'{"user_id": "\xff"}'),
    "claims that are a token": lambda it: it.token(
        payload=json.dumps({"jwt": it.token()}).encode()
    ),
    "exp twice, the past last": lambda it: it.token(payload=more(it.claims, b'"exp": 1')),
    "crit that nobody knows": header(crit=["x"], x=True),
    "crit of exp": header(crit=["exp"], exp=1),
    "crit that is empty": header(crit=[]),
    "crit that is text": header(crit="exp", exp=1),
    "crit that is null": header(crit=None),
    "b64 false": header(b64=False, crit=["b64"]),
    "b64 false, claims as they are": unencoded,
    "RFC 8725 §2.7: for another recipient": payload(aud="https://other.example"),
    "RFC 6750 §5.1: token redirect": payload(aud=["https://other.example", "other"]),
    "RFC 6750 §5.2: no audience": payload(aud=...),
    "part of the audience": lambda it: it.token(payload={"aud": it.claims["aud"][:-1]}),
    "RFC 8725 §2.8: another kind of token": lambda it: it.token(
        {"typ": "secevent+jwt"}, {"user_id": ..., "email": ..., "exp": ..., "events": {}}
    ),
    "another issuer": payload(iss="https://evil.example"),
    "issuer and a slash": lambda it: it.token(payload={"iss": it.claims["iss"] + "/"}),
    "no issuer": payload(iss=...),
    "RFC 6750 §5.2: no limited lifetime": payload(exp=...),
    "RFC 6750 §5.1: token replay, 11 s after its time": lambda it: it.token(
        payload={"exp": it.claims["iat"] - 11}
    ),
    "exp of 0": payload(exp=0),
    "exp before 1970": payload(exp=-1e308),
    "issued in 15 s": lambda it: it.token(payload={"iat": it.claims["iat"] + 15}),
    "valid in 15 s": lambda it: it.token(payload={"nbf": it.claims["iat"] + 15}),
}
NONE = ["none", "None", "NONE", "nOnE", " none", "none ", "none\0", "n\u043ene", "", " "]
NOT_TEXT: list[Any] = [
    None,
    True,
    False,
    0,
    1.5,
    [],
    ["HS256"],
    ["RS256"],
    ["none"],
    {},
    {"alg": "HS256"},
]
OTHERS = [
    "hs256",
    "rs256",
    "HS256 ",
    "RS256\n",
    "HS1",
    "HS384",
    "HS512",
    "RS384",
    "RS512",
    "PS256",
    "ES256",
    "ES384",
]
OTHERS += [
    "ES256K",
    "EdDSA",
    "dir",
    "A128KW",
    "RSA-OAEP",
    "PBES2-HS256+A128KW",
    "HMACSHA256",
    "../../alg",
]
KIDS = [
    "../../dev/null",
    "x' OR '1'='1",
    "key-1' UNION SELECT 'secret' --",
    "key-1; id",
    "$(id)",
    "0",
    "\0",
    "key-1\0",
]
KIDS += ["http://127.0.0.1:9/key", "file:///etc/passwd", "${jndi:ldap://127.0.0.1/a}"]
ATTACKS |= {
    f"RFC 8725 §2.1: alg {alg!r}, unsigned": header(unsigned, alg=alg) for alg in NONE + NOT_TEXT
}
ATTACKS |= {f"alg {alg!r}, good signature": header(alg=alg) for alg in NONE + NOT_TEXT + OTHERS}
ATTACKS |= {f"RFC 8725 §2.9: kid {kid!r}": header(hs(""), kid=kid) for kid in KIDS}
ATTACKS |= {f"kid {kid!r}": header(kid=kid) for kid in (["key-1"], {"key-1": 1}, None, 1, True)}
MEGABYTE = {"A": "A" * 1_000_000, "dots": "." * 1_000_000, "blanks": "Bearer" + " " * 1_000_000}
WORDS = MEGABYTE | {
    word: word
    for word in ("", "Bearer ", "null", "Bearer undefined", "a.b.c", "..", "\ud800", "\0")
}
ATTACKS |= {f"no token: {name!r}": lambda it, word=word: word for name, word in WORDS.items()}  # type: ignore[misc]
ENDS = [" ", "\t", "\n", "\0", "\ud800", "\r\nX-Admin: 1"]
ATTACKS |= {f"good token and {end!r}": text(lambda token, end=end: token + end) for end in ENDS}  # type: ignore[misc]

NOT_A_NUMBER: list[Any] = [
    None,
    True,
    False,
    "",
    "soon",
    "9999999999",
    [9999999999],
    {},
    math.nan,
    math.inf,
    -math.inf,
]
NOT_A_TEXT: list[Any] = [None, True, False, 1, 1.5, ["testuser"], [], {}, {"a": "testuser"}]
NO_AUDIENCE: list[Any] = [
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
]
NO_SCOPE = [
    "",
    " ",
    "a  b",
    " a",
    "a ",
    "a\tb",
    "a\nb",
    "a\n",
    'a"b',
    "a\\b",
    "é",
    "\ud800",
    "a" * 1025,
]
NO_USER_ID: list[Any] = [..., "", "a" * 257, "ä" * 129, "\ud800", "a\udfff", "\ud83d"]
BAD_CLAIMS: dict[str, list[Any]] = dict.fromkeys(("exp", "nbf", "iat"), NOT_A_NUMBER) | {
    "iss": [*NOT_A_TEXT, [ISSUER], ["https://accounts.google.com"]],
    "aud": [*NO_AUDIENCE, [CLIENT_ID, 1]],
    "sub": NOT_A_TEXT,
}
HS256_CLAIMS = {
    "jti": NOT_A_TEXT,
    "user_id": [*NOT_A_TEXT, *NO_USER_ID],
    "scope": [*NOT_A_TEXT, *NO_SCOPE],
}
OWN_CLAIMS: dict[str, dict[str, list[Any]]] = {
    "jwt_auth_token": HS256_CLAIMS,
    "jwt_auth_token_websocket": HS256_CLAIMS,
    "jwt_auth_token_google": {
        "email": [*NOT_A_TEXT, ""],
        "email_verified": [None, False, "true", 1, [True], {}],
    },
}

# What the RFCs let pass; each is signed with the right key.
HARMLESS: dict[str, Attack] = {
    "good": text(str),
    "scheme": text(lambda token: f"Bearer {token}"),
    "RFC 9110 §11.1: scheme in lower case, blanks around": text(lambda token: f"bearer  {token}  "),
    "RFC 8259 §2: white space in the JSON": lambda it: it.token(
        json.dumps(it.header, indent="\t").encode()
    ),
    "RFC 7519 §5.1: no typ": header(typ=...),
    "RFC 7519 §5.1: another typ": header(typ="at+jwt"),
    "RFC 7519 §5.2: cty of claims that are no JWT": header(cty="JWT"),
    "RFC 7515 §4: unknown header parameter": header(trace=[1, {}]),
    "RFC 7515 §4.1.3: jwk, never used": header(jwk=JWK),
    "RFC 7516 §4.1.3: zip, which is for JWE": header(zip="DEF"),
    "RFC 7515 §4: alg twice, the last one good": lambda it: it.token(
        b'{"alg": "none", ' + encoded(it.header)[1:]
    ),
    "RFC 7519 §4: exp twice, the last one good": lambda it: it.token(
        None, b'{"exp": 1, ' + encoded(it.claims)[1:]
    ),
    "RFC 7519 §4: unknown claim": payload(x=[None, {}]),
    "RFC 7519 §4.1.4: expired 5 s ago": lambda it: it.token(payload={"exp": it.claims["iat"] - 5}),
    "RFC 7519 §4.1.5: valid in 10 s": lambda it: it.token(payload={"nbf": it.claims["iat"] + 10}),
    "issued in 10 s": lambda it: it.token(payload={"iat": it.claims["iat"] + 10}),
    "10,000 years": lambda it: it.token(payload={"exp": it.claims["iat"] + 315_569_520_000}),
    "user_id of 256 bytes": payload(user_id="ä" * 128),
    "user_id beyond the Basic Multilingual Plane": payload(user_id="\U0001f600"),
    "scope of 1,024 bytes": payload(scope="a" * 1024),
    "scope of every character that it may have": payload(scope="!#[ ]~ az AZ 09 =,;"),
}


def assert_refused(target: Target, token: str) -> None:
    """Check that a token is a 401, and that the traceback says nothing about it."""
    with pytest.raises(Exception, match="^Unauthorized$") as caught:
        target.call(token)
    assert type(caught.value) is Exception
    assert caught.value.__suppress_context__ or not caught.value.__context__
    told = "".join(traceback.format_exception(caught.value))
    assert not any(part in told for part in token.split(".") if len(part) > 12)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_unauthorized(target: Target, attack: str) -> None:
    assert_refused(target, ATTACKS[attack](target))


@pytest.mark.parametrize(
    ("target", "claim", "value"),
    [
        pytest.param(script, claim, value, id=f"{script}-{claim} {value!r:.40}")
        for script in AUTHORIZERS
        for claim, values in (BAD_CLAIMS | OWN_CLAIMS[script]).items()
        for value in values
    ],
    indirect=["target"],
)
def test_claim_of_the_wrong_type_or_size_is_unauthorized_though_well_signed(
    target: Target, claim: str, value: Any
) -> None:
    assert_refused(target, target.token(payload={claim: value}))


@pytest.mark.parametrize("token", HARMLESS)
def test_what_the_rfcs_let_pass_is_admitted(target: Target, token: str) -> None:
    assert target.call(HARMLESS[token](target))["context"]["authorized"] is True


@pytest.mark.parametrize(
    "error", [RecursionError("x"), MemoryError("x"), OverflowError(34, "x"), OSError()]
)
def test_whatever_a_token_makes_the_library_raise_is_unauthorized(
    target: Target, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwt.decode", Mock(side_effect=error))
    monkeypatch.setattr("google.auth.jwt.decode", Mock(side_effect=error))
    assert_refused(target, target.token())


@pytest.mark.parametrize("parameter", ["jku", "x5u"])
def test_address_in_a_token_is_never_visited(target: Target, parameter: str) -> None:
    """RFC 8725 §2.9 and §3.10: server-side request forgery."""
    with serving("bad") as trap:
        assert_refused(target, target.token({parameter: trap.url}, sign=BAD))
        assert target.call(target.token({parameter: trap.url}))
        assert trap.fetches == 0


# RFC 7515 appendix A.1, as printed there.
PRINTED = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
PRINTED += ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
PRINTED += ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
KEY = b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
HEAD = b'{"typ":"JWT",\r\n "alg":"HS256"}'
JOE = b'{"iss":"joe",\r\n "exp":%s,\r\n "http://example.com/is_root":true,"user_id":"joe"}'


@pytest.mark.parametrize(
    ("token", "logged"),
    [
        pytest.param(
            PRINTED,
            "refused: MissingRequiredClaimError",
            id="RFC 7515 A.1: signature good, no user_id",
        ),
        pytest.param(
            PRINTED[:-1] + "0",
            "refused: InvalidSignatureError",
            id="RFC 7515 A.1: another signature",
        ),
        pytest.param(
            PRINTED.replace("lfQ", "lfA"),
            "refused: InvalidSignatureError",
            id="RFC 7515 A.1: other claims",
        ),
        pytest.param(
            (HEAD, JOE % b"1300819380"),
            "refused: ExpiredSignatureError",
            id="RFC 7515 A.1: of a user",
        ),
        pytest.param(
            (HEAD, JOE % b"13008193800"), "admitted: 'joe'", id="RFC 7515 A.1: of a user, later exp"
        ),
        pytest.param(
            "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UifQ.",
            "refused: InvalidAlgorithmError",
            id="RFC 7519 §6.1",
        ),
    ],
)
def test_printed_example_is_judged_as_the_rfc_says(
    deploy: Deploy, caplog: pytest.LogCaptureFixture, token: Any, logged: str
) -> None:
    caplog.set_level(logging.INFO)
    function = deploy("jwt_auth_token", JWT_SECRET=SECRET)
    # Bytes that are no text, so that no environment variable could hold them.
    key = vars(function.module)["JWT_SECRET"] = base64.urlsafe_b64decode(KEY)
    with contextlib.suppress(Exception):
        function(token_event(token if isinstance(token, str) else jws(token[0], token[1], key)))
    assert caplog.messages == [logged]
