"""HS256 authorizer of REST and HTTP APIs: its settings, the rights that it gives, and what it logs."""

import base64
import itertools
import logging
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deploy import API, ARN, CLIENT_ID, PREVIOUS, SECRET, Deploy, Function, outcome
from support.events import token_event
from support.fake_dynamodb import AWS
from support.fake_google import certificate, private_key
from support.files import environment
from support.iam import decision
from support.tokens import SYMMETRIC, jws, make_jwt

OTHER_ARN = f"{API}/prod/POST/other/thing"
LONG_ARN = f"{API}/prod/GET/".ljust(513, "x")
ALL = {
    "JWT_SECRET": SECRET,
    "GOOGLE_CLIENT_ID": CLIENT_ID,
    "USER_CREDENTIALS_TABLE_NAME": "users",
    **AWS,
}
ANY_KIND = ["jwt_auth_token", "jwt_auth_token_google"]


@pytest.fixture
def authorize(deploy: Deploy) -> Function:
    return deploy("jwt_auth_token", JWT_SECRET=SECRET)


def admits(authorize: Function, token: str) -> bool:
    return outcome(authorize, token_event(token)) is not None


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_valid_token_is_admitted_to_every_method_of_the_stage(
    authorize: Function, partition: str
) -> None:
    arn, other, elsewhere = (
        it.replace("aws", partition, 1) for it in (ARN, OTHER_ARN, f"{API}/test/GET/api")
    )
    answer = authorize(token_event(f"Bearer {make_jwt()}", arn))
    assert answer["principalId"] == "testuser"
    assert answer["context"] == {"user_id": "testuser", "scope": "", "authorized": True}
    assert answer["policyDocument"]["Version"] == "2012-10-17"
    assert decision(answer, arn) == decision(answer, other) == "Allow"
    assert decision(answer, elsewhere) == "silent"


def test_audience_may_be_one_of_several(deploy: Deploy) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, JWT_AUDIENCE="api")
    assert [
        admits(authorize, make_jwt(aud=audience)) for audience in (["web", "api"], ["web", "ap"])
    ] == [True, False]


def test_date_may_have_a_fraction_and_exp_be_8_s_over_but_not_10(authorize: Function) -> None:
    now = time.time()  # RFC 7519 §2 and §4.1.4
    assert [admits(authorize, make_jwt(iat=now, exp=int(now) - late)) for late in (8, 10)] == [
        True,
        False,
    ]


def test_empty_optional_settings_mean_not_set(deploy: Deploy) -> None:
    optional = environment("jwt_auth_token") - {"JWT_SECRET"}
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, **dict.fromkeys(optional, ""))
    assert decision(authorize(token_event(make_jwt())), OTHER_ARN) == "Allow"
    assert not admits(authorize, make_jwt(""))
    assert not admits(authorize, make_jwt(aud="somebody"))


# Secrets.


@pytest.mark.parametrize("script", SYMMETRIC)
def test_previous_secret_still_verifies(deploy: Deploy, script: str) -> None:
    arn = f"{API}/prod/$connect"
    authorize = deploy(script, JWT_SECRET=SECRET, JWT_SECRET_PREVIOUS=PREVIOUS)
    for token in (make_jwt(), make_jwt(PREVIOUS)):
        event = token_event(token, arn) | {"headers": {"Authorization": token}}
        assert authorize(event)["principalId"] == "testuser"
    for token in (make_jwt("x" * 32), make_jwt(PREVIOUS, exp=1)):
        with pytest.raises(Exception, match="^Unauthorized$"):
            authorize(token_event(token, arn) | {"headers": {"Authorization": token}})


def public(key: Any, form: str = "SubjectPublicKeyInfo") -> str:
    """Return the base64 of a public key, as it stands between the first and the last line of a PEM."""
    told = key.public_key().public_bytes(
        serialization.Encoding.DER, getattr(serialization.PublicFormat, form)
    )
    return base64.b64encode(told).decode()


def private(key: Any, form: str) -> str:
    """Return the same of a private key."""
    told = getattr(serialization.PrivateFormat, form)
    told = key.private_bytes(serialization.Encoding.DER, told, serialization.NoEncryption())
    return base64.b64encode(told).decode()


RSA, EC, PEM = private_key("secret"), ec.generate_private_key(ec.SECP256R1()), certificate("secret")
LINES = PEM.splitlines()[1:-1]
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUWZ5CaZ4D4Mo7yNR5ezpOxYHbcFQw2EDbGqfYlqQ1x user@host"
UNUSABLE_SECRETS = {
    "missing": "",
    "31 bytes": SECRET[:31],
    "32 blanks": " " * 32,
    "a word, four times": "changeme" * 4,
    "9 different characters": "012345678" * 4,
    "not UTF-8": "secret-that-is-not-utf-8-\udcff-0123456789",
    "PEM": PEM,
    "PEM on one line": PEM.replace("\n", " "),
    "PEM in base64": base64.b64encode(PEM.encode()).decode(),
    "PEM without its first and last line": "\n".join(LINES),
    "the same in quotes, with \\n": '"' + "\\n".join(LINES) + '"',
    "x5c": "".join(LINES),
    "x5c in base64url": "".join(LINES).replace("+", "-").replace("/", "_"),
    "SSH key": SSH,
    "SSH key in quotes, after a blank": f' "{SSH}"',
    "SSH key without its first word": SSH.split()[1],
    "JWK in quotes": """'{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}'""",
    "RSA, public": public(RSA),
    "RSA, public, PKCS1": public(RSA, "PKCS1"),
    "RSA, PKCS8": private(RSA, "PKCS8"),
    "RSA, PKCS1": private(RSA, "TraditionalOpenSSL"),
    "P-256, public": public(EC),
    "P-256, PKCS8": private(EC, "PKCS8"),
    "P-256, SEC1": private(EC, "TraditionalOpenSSL"),
    "P-384, public": public(ec.generate_private_key(ec.SECP384R1())),
    "P-521, public": public(ec.generate_private_key(ec.SECP521R1())),
    "Ed25519, public": public(ed25519.Ed25519PrivateKey.generate()),
    "Ed25519, PKCS8": private(ed25519.Ed25519PrivateKey.generate(), "PKCS8"),
}


@pytest.mark.parametrize("secret", UNUSABLE_SECRETS.values(), ids=UNUSABLE_SECRETS)
@pytest.mark.parametrize(
    ("script", "name"),
    [
        *itertools.product(SYMMETRIC, ["JWT_SECRET", "JWT_SECRET_PREVIOUS"]),
        ("jwt_create_token", "JWT_SECRET"),
    ],
)
def test_unusable_secret_stops_the_function_from_starting(
    deploy: Deploy, script: str, name: str, secret: str
) -> None:
    if not secret and name == "JWT_SECRET_PREVIOUS":
        deploy(script, **ALL | {name: secret})  # it may be empty
        return
    with pytest.raises(ValueError, match=f"^{name} must be") as caught:
        deploy(script, **ALL | {name: secret})
    assert not secret or secret not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "secret", ["0123456789" * 3 + "01", "ä" * 8 + "0123456789abcdef", "MIxed+with/base64=" * 2]
)
def test_usable_secret_verifies(deploy: Deploy, secret: str) -> None:
    assert admits(deploy("jwt_auth_token", JWT_SECRET=secret), make_jwt(secret))


# ALLOWED_RESOURCE_ARNS.

LISTS: list[tuple[str, str, str]] = [  # pattern, method, decision
    ("*", "GET/api", "Allow"),
    ("GET/*", "GET/a/b", "Allow"),
    ("GET/a?i", "GET/api", "Allow"),
    ("GET/a?i", "GET/ai", "Deny"),
    ("GET/a[bp]i", "GET/api", "Deny"),
    ("GET/a[bp]i", "GET/a[bp]i", "Allow"),
    ("GET/a[!b]i", "GET/api", "Deny"),
    ("get/api", "GET/api", "Deny"),
    ("GET/ap.", "GET/api", "Deny"),
    ("GET/api", "GET/api/", "Deny"),
]


@pytest.mark.parametrize(("pattern", "method", "expected"), LISTS)
def test_policy_log_and_order_agree_with_iam(
    deploy: Deploy, caplog: pytest.LogCaptureFixture, pattern: str, method: str, expected: str
) -> None:
    caplog.set_level(logging.INFO)
    listed = f"{API}/prod/HEAD/x , {API}/prod/{pattern}"
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=listed)
    answer = authorize(token_event(make_jwt(), f"{API}/prod/{method}"))
    assert decision(answer, f"{API}/prod/{method}") == expected
    assert decision(answer, f"{API}/prod/HEAD/x") == "Allow"
    assert decision(answer, f"{API}/test/{method}") == "Deny"
    assert answer["policyDocument"]["Statement"][0]["Effect"] == expected
    outcome = "admitted" if expected == "Allow" else "denied by ALLOWED_RESOURCE_ARNS"
    assert caplog.messages[-1] == f"{outcome}: 'testuser'"


def test_star_alone_allows_everything(deploy: Deploy) -> None:
    answer = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS="*")(
        token_event(make_jwt())
    )
    assert decision(answer, f"{API}/test/POST/other") == "Allow"


NO_LISTS = [" ", "\t", ",", f"{ARN},", f",{ARN}", f"{ARN},,{ARN}", LONG_ARN, f"{ARN},{LONG_ARN}"]
NO_LISTS += ["GET/api", "* *", "**"]
NO_LISTS += [f"{API}/prod/GET/a b", f"{ARN} {ARN}", f"{ARN}é", f"{ARN}\udcff"]
NO_LISTS += ["arn:aws:execute-api:", ARN.replace("execute-api", "lambda"), ARN.upper(), f"x{ARN}"]
NO_LISTS += [
    f"={ARN}",
    f"ad min={ARN}",
    f'ad"min={ARN}',
    f"ad\\min={ARN}",
    f"é={ARN}",
    f"a=b={ARN}",
    f"a,b={ARN}",
]
NO_LISTS += ["admin=", "admin", "admin=GET/api", f"admin={LONG_ARN}", f"{ARN},admin={ARN}é"]


@pytest.mark.parametrize("script", ANY_KIND)
@pytest.mark.parametrize("value", NO_LISTS)
def test_malformed_list_stops_the_function_with_its_name_and_not_its_value(
    deploy: Deploy, script: str, value: str
) -> None:
    with pytest.raises(ValueError, match="^ALLOWED_RESOURCE_ARNS must list method ARNs") as caught:
        deploy(script, **ALL | {"USER_CREDENTIALS_TABLE_NAME": "", "ALLOWED_RESOURCE_ARNS": value})
    assert API not in str(caught.value)


def test_list_of_scopes_stops_the_google_authorizer_whose_tokens_have_none(deploy: Deploy) -> None:
    with pytest.raises(ValueError, match="^ALLOWED_RESOURCE_ARNS must"):
        deploy(
            "jwt_auth_token_google",
            GOOGLE_CLIENT_ID=CLIENT_ID,
            ALLOWED_RESOURCE_ARNS=f"admin={ARN}",
        )


@pytest.mark.parametrize("script", ANY_KIND)
def test_entry_may_have_512_characters(deploy: Deploy, script: str) -> None:
    deploy(
        script,
        JWT_SECRET=SECRET,
        GOOGLE_CLIENT_ID=CLIENT_ID,
        ALLOWED_RESOURCE_ARNS=f"{LONG_ARN[:-1]},{ARN}",
    )


# Rights per user.

RIGHTS = (
    f"{ARN}, admin={API}/prod/*/admin/*,read={API}/prod/GET/reports, read={API}/prod/GET/admin/log"
)
ROUTES = [
    f"{API}/prod/{route}" for route in ("GET/api", "POST/admin/x", "GET/reports", "GET/admin/log")
]


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (..., "Y..."),
        ("admin", "YY.Y"),
        ("read", "Y.YY"),
        ("read other admin", "YYYY"),
        ("other", "Y..."),
        ("administrator", "Y..."),
        ("Admin", "Y..."),
        ("xadmin admin2 ad min", "Y..."),
        ("*", "Y..."),
        ("admin=*", "Y..."),
    ],
)
def test_token_gets_the_union_of_the_entries_for_all_and_for_its_scopes(
    deploy: Deploy, scope: Any, allowed: str
) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=RIGHTS)
    answer = authorize(token_event(make_jwt(scope=scope)))
    assert [decision(answer, arn) for arn in ROUTES] == [
        "Allow" if mark == "Y" else "Deny" for mark in allowed
    ]
    assert answer["context"]["scope"] == ("" if scope is ... else scope)


def test_token_that_no_entry_is_for_is_denied_the_whole_stage_and_told_nothing_else(
    deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS="admin=*")
    answer = authorize(token_event(make_jwt(scope="read")))
    (statement,) = answer["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Deny", f"{API}/prod/*")
    assert caplog.messages == ["denied by ALLOWED_RESOURCE_ARNS: 'testuser'"]


# Whatever comes, and the log.


@given(
    header=st.one_of(st.binary(max_size=60), st.just(b'{"alg":"HS256","typ":"JWT"}')),
    payload=st.one_of(
        st.binary(max_size=60), st.from_regex(rb'\{"exp":[0-9e+]{1,12},"user_id":"[ -~]{0,9}"\}')
    ),
    signed=st.booleans(),
)
@settings(max_examples=300)
def test_no_header_or_claims_make_anything_but_a_policy_or_unauthorized(
    authorize: Function, header: bytes, payload: bytes, signed: bool
) -> None:
    key = SECRET.encode() if signed else b"another key of 32 bytes or more"
    assert not admits(authorize, jws(header, payload, key)) or signed


def test_each_decision_is_one_line(authorize: Function, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    authorize(token_event(make_jwt(user_id="new\nline")))
    for token in (
        "junk",
        make_jwt(exp=1),
        make_jwt("x" * 32),
        make_jwt(user_id=7),
        make_jwt(scope=""),
    ):
        assert not admits(authorize, token)
    assert caplog.messages == [
        "admitted: 'new\\nline'",
        "refused: DecodeError",
        "refused: ExpiredSignatureError",
        "refused: InvalidSignatureError",
        "refused: a claim of the wrong type",
        "refused: a user_id or a scope that login would not issue",
    ]
