"""REST authorizer for HS256 tokens: who is let in, to what, and what API Gateway gets to cache."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.events import token_event
from support.functions import API, ARN, PREVIOUS, SECRET, Function
from support.policies import decision
from support.tokens import jws, make_jwt

OTHER_ARN = f"{API}/prod/POST/other/thing"
LONG_ARN = f"{API}/prod/GET/" + "path/" * 120


@pytest.fixture
def authorize(deploy: Callable[..., Function]) -> Function:
    return deploy("jwt_auth_token", JWT_SECRET=SECRET)


def test_valid_token_is_admitted_to_every_method_of_the_stage(authorize: Function) -> None:
    answer = authorize(token_event(f"Bearer {make_jwt()}"))
    assert answer["principalId"] == "testuser"
    assert answer["context"] == {"user_id": "testuser", "scope": "", "authorized": True}
    assert decision(answer, ARN) == decision(answer, OTHER_ARN) == "Allow"
    assert decision(answer, f"{API}/test/GET/api") == "silent"


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_policy_keeps_the_partition_of_the_method_that_asked(authorize: Function, partition: str) -> None:
    arn = ARN.replace("arn:aws:", f"arn:{partition}:")
    assert decision(authorize(token_event(make_jwt(), arn)), arn) == "Allow"


def test_root_and_test_invocations_are_admitted(authorize: Function) -> None:
    for arn in (f"{API}/prod/GET/", f"{API}/ESTestInvoke-stage/GET/"):
        assert decision(authorize(token_event(make_jwt(), arn)), arn) == "Allow"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   ", ""], ids=repr)
def test_scheme_is_read_in_any_case_and_may_be_missing(authorize: Function, scheme: str) -> None:
    assert authorize(token_event(scheme + make_jwt()))["principalId"] == "testuser"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(None, id="null"),
        pytest.param("", id="empty"),
        pytest.param("Bearer", id="scheme alone"),
        pytest.param("Bearer ", id="scheme and a blank"),
        pytest.param(f"Basic {make_jwt()}", id="another scheme"),
        pytest.param(f"Bearer {make_jwt()} {make_jwt()}", id="two tokens"),
        pytest.param(f"Bearer {make_jwt()},Bearer {make_jwt()}", id="two headers in one"),
        pytest.param("a.b.c", id="three words"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param("\0", id="NUL"),
        pytest.param("x" * 1_000_000, id="1 MB"),
        pytest.param("." * 1_000_000, id="1 MB of dots"),
        pytest.param(["a"], id="list"),
        pytest.param({"a": "b"}, id="object"),
        pytest.param(1, id="number"),
    ],
)
def test_what_is_not_a_token_is_unauthorized(authorize: Function, token: Any) -> None:
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(token_event(token))


def test_event_without_a_token_is_unauthorized(authorize: Function) -> None:
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize({"type": "TOKEN", "methodArn": ARN})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": ...}, id="no exp"),
        pytest.param({"exp": 1}, id="expired long ago"),
        pytest.param({"exp": int(time.time()) - 11}, id="expired eleven seconds ago"),
        pytest.param({"exp": "9999999999"}, id="exp as text"),
        pytest.param({"exp": None}, id="exp null"),
        pytest.param({"exp": True}, id="exp true"),
        pytest.param({"exp": float("inf")}, id="exp infinite"),
        pytest.param({"exp": float("nan")}, id="exp not a number"),
        pytest.param({"exp": [9999999999]}, id="exp list"),
        pytest.param({"nbf": int(time.time()) + 86_400}, id="not yet valid"),
        pytest.param({"nbf": "1"}, id="nbf as text"),
        pytest.param({"nbf": None}, id="nbf null"),
        pytest.param({"iat": "1"}, id="iat as text"),
        pytest.param({"iat": int(time.time()) + 86_400}, id="issued in the future"),
        pytest.param({"user_id": ...}, id="no user_id"),
        pytest.param({"user_id": None}, id="user_id null"),
        pytest.param({"user_id": ""}, id="user_id empty"),
        pytest.param({"user_id": 7}, id="user_id number"),
        pytest.param({"user_id": ["testuser"]}, id="user_id list"),
        pytest.param({"sub": 7}, id="sub number"),
        pytest.param({"aud": "somebody"}, id="aud that nobody asked for"),
    ],
)
def test_signed_token_with_a_bad_claim_is_unauthorized(authorize: Function, changes: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(token_event(make_jwt(**changes)))


def test_refusal_does_not_carry_the_token_in_its_traceback(authorize: Function) -> None:
    with pytest.raises(Exception, match="^Unauthorized$") as caught:
        authorize(token_event("Bearer not.a.token"))
    assert caught.value.__suppress_context__


# --- issuer and audience ---


@pytest.mark.parametrize(
    ("changes", "admitted"),
    [
        pytest.param({"iss": "https://login.example", "aud": "api"}, True, id="both right"),
        pytest.param({"iss": "https://login.example", "aud": ["other", "api"]}, True, id="one of several audiences"),
        pytest.param({"iss": "https://login.example"}, False, id="no audience"),
        pytest.param({"aud": "api"}, False, id="no issuer"),
        pytest.param({"iss": "https://login.example", "aud": "ap"}, False, id="other audience"),
        pytest.param({"iss": "https://login.example.evil", "aud": "api"}, False, id="other issuer"),
        pytest.param({"iss": ["https://login.example"], "aud": "api"}, False, id="issuer list"),
    ],
)
def test_issuer_and_audience_are_demanded_when_configured(
    deploy: Callable[..., Function], changes: dict[str, Any], admitted: bool
) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, JWT_ISSUER="https://login.example", JWT_AUDIENCE="api")
    event = token_event(make_jwt(**changes))
    if admitted:
        assert decision(authorize(event), ARN) == "Allow"
    else:
        with pytest.raises(Exception, match="^Unauthorized$"):
            authorize(event)


def test_empty_optional_settings_mean_not_set(deploy: Callable[..., Function]) -> None:
    optional = ("JWT_SECRET_PREVIOUS", "JWT_ISSUER", "JWT_AUDIENCE", "ALLOWED_RESOURCE_ARNS")
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, **dict.fromkeys(optional, ""))
    assert decision(authorize(token_event(make_jwt())), OTHER_ARN) == "Allow"
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(token_event(make_jwt("")))


# --- secrets ---


def test_previous_secret_still_verifies(deploy: Callable[..., Function]) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, JWT_SECRET_PREVIOUS=PREVIOUS)
    assert authorize(token_event(make_jwt()))["principalId"] == "testuser"
    assert authorize(token_event(make_jwt(PREVIOUS)))["principalId"] == "testuser"
    for token in (make_jwt("x" * 32), make_jwt(PREVIOUS, exp=1)):
        with pytest.raises(Exception, match="^Unauthorized$"):
            authorize(token_event(token))


def test_previous_secret_that_is_not_configured_does_not_verify(authorize: Function) -> None:
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(token_event(make_jwt(PREVIOUS)))


UNUSABLE_SECRETS = [
    pytest.param("short-secret", id="short"),
    pytest.param("x" * 31, id="31 bytes"),
    pytest.param("-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQ\n-----END PUBLIC KEY-----", id="PEM"),
    pytest.param('{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}', id="JWK"),
    pytest.param("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ", id="SSH key"),
    pytest.param("secret-that-is-not-utf-8-\udcff-0123456789", id="not UTF-8"),
]


@pytest.mark.parametrize("script", ["jwt_auth_token", "jwt_auth_token_websocket"])
@pytest.mark.parametrize("name", ["JWT_SECRET", "JWT_SECRET_PREVIOUS"])
@pytest.mark.parametrize("secret", UNUSABLE_SECRETS)
def test_unusable_secret_stops_the_function_from_starting(
    deploy: Callable[..., Function], script: str, name: str, secret: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be") as caught:
        deploy(script, **{"JWT_SECRET": SECRET} | {name: secret})
    assert secret not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("script", ["jwt_auth_token", "jwt_auth_token_websocket"])
@pytest.mark.parametrize("environment", [{}, {"JWT_SECRET": ""}], ids=["missing", "empty"])
def test_missing_secret_stops_the_function_from_starting(
    deploy: Callable[..., Function], script: str, environment: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="^JWT_SECRET must be"):
        deploy(script, **environment)


@pytest.mark.parametrize("script", ["jwt_auth_token", "jwt_auth_token_websocket"])
def test_secret_length_counts_bytes(deploy: Callable[..., Function], script: str) -> None:
    deploy(script, JWT_SECRET="ä" * 8 + "0123456789abcdef")


# --- ALLOWED_RESOURCE_ARNS ---


def test_only_listed_methods_are_allowed(deploy: Callable[..., Function]) -> None:
    allowed = f"{API}/prod/GET/api, {API}/prod/GET/users/?/*"
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=allowed)
    for asked in (ARN, OTHER_ARN):
        answer = authorize(token_event(make_jwt(), asked))
        assert decision(answer, ARN) == "Allow"
        assert decision(answer, f"{API}/prod/GET/users/7/a/b") == "Allow"
        assert decision(answer, f"{API}/prod/GET/users/77/a") == "Deny"
        assert decision(answer, OTHER_ARN) == "Deny"
        assert decision(answer, f"{API}/test/GET/api") == "Deny"


@pytest.mark.parametrize(("asked", "first"), [(ARN, "Allow"), (OTHER_ARN, "Deny")])
def test_statement_that_decides_this_request_comes_first(
    deploy: Callable[..., Function], asked: str, first: str
) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=ARN)
    answer = authorize(token_event(make_jwt(), asked))
    assert answer["policyDocument"]["Statement"][0]["Effect"] == first


@pytest.mark.parametrize(
    ("pattern", "arn", "listed"),
    [
        pytest.param("*", "GET/api", True, id="star"),
        pytest.param("GET/*", "GET/a/b", True, id="star crosses slashes"),
        pytest.param("GET/a?i", "GET/api", True, id="question mark"),
        pytest.param("GET/a?i", "GET/ai", False, id="question mark is one character"),
        pytest.param("GET/a[bp]i", "GET/api", False, id="bracket is no wildcard"),
        pytest.param("GET/a[bp]i", "GET/a[bp]i", True, id="bracket is itself"),
        pytest.param("GET/a[!b]i", "GET/api", False, id="bracket with an exclamation mark"),
        pytest.param("get/api", "GET/api", False, id="case counts"),
        pytest.param("GET/ap.", "GET/api", False, id="dot is itself"),
        pytest.param("GET/api", "GET/api/", False, id="whole ARN"),
    ],
)
def test_log_and_order_agree_with_iam(
    deploy: Callable[..., Function], caplog: pytest.LogCaptureFixture, pattern: str, arn: str, listed: bool
) -> None:
    caplog.set_level(logging.INFO)
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=f"{API}/prod/{pattern}")
    answer = authorize(token_event(make_jwt(), f"{API}/prod/{arn}"))
    assert decision(answer, f"{API}/prod/{arn}") == ("Allow" if listed else "Deny")
    assert answer["policyDocument"]["Statement"][0]["Effect"] == ("Allow" if listed else "Deny")
    assert caplog.messages[-1].startswith("admitted" if listed else "denied")


@pytest.mark.parametrize("script", ["jwt_auth_token", "jwt_auth_token_google"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(",", id="comma alone"),
        pytest.param(f"{ARN},", id="comma at the end"),
        pytest.param("GET/api", id="no ARN"),
        pytest.param(LONG_ARN, id="over 512 characters"),
        pytest.param(f"{ARN},{LONG_ARN}", id="second one over 512 characters"),
    ],
)
def test_bad_allowed_resource_arns_stop_the_function_from_starting(
    deploy: Callable[..., Function], script: str, value: str
) -> None:
    with pytest.raises(ValueError, match="^ALLOWED_RESOURCE_ARNS must") as caught:
        deploy(script, JWT_SECRET=SECRET, GOOGLE_CLIENT_ID="id", ALLOWED_RESOURCE_ARNS=value)
    assert ARN not in str(caught.value)


def test_star_alone_allows_everything(deploy: Callable[..., Function]) -> None:
    answer = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS="*")(token_event(make_jwt()))
    assert decision(answer, f"{API}/test/POST/other") == "Allow"


def test_allowed_resource_arns_may_have_512_characters(deploy: Callable[..., Function]) -> None:
    longest = LONG_ARN[:512]
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=longest)
    assert decision(authorize(token_event(make_jwt(), longest)), longest) == "Allow"


# --- caching ---

METHODS = st.sampled_from(
    [f"{API}/prod/{method}" for method in ("GET/api", "POST/other", "GET/", "DELETE/a/b", "GET/a[1]")]
)
PATTERNS = st.sampled_from(
    [f"{API}/prod/{pattern}" for pattern in ("GET/api", "*", "GET/*", "POST/oth?r", "GET/a[1]")] + [f"{API}/x/GET/api"]
)


@given(
    calls=st.lists(st.tuples(st.integers(0, 3), METHODS), min_size=2, max_size=8),
    allowed=st.lists(PATTERNS, max_size=3),
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_caching_changes_nothing_that_a_client_or_a_backend_sees(
    deploy: Callable[..., Function], calls: list[tuple[int, str]], allowed: list[str]
) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=",".join(allowed))
    tokens = [make_jwt(user_id=name, exp=2_000_000_000) for name in ("ann", "bob")] + [make_jwt(exp=1), "junk"]
    cache: dict[str, Any] = {}
    for number, method in calls:
        token = tokens[number]
        if token not in cache:
            cache[token] = seen_by_gateway(authorize, token, method)
        assert outcome(cache[token], method) == outcome(seen_by_gateway(authorize, token, method), method)


def seen_by_gateway(authorize: Function, token: str, method: str) -> Any:
    """Return an authorizer's answer, or None for a 401."""
    try:
        return authorize(token_event(token, method))
    except Exception as error:
        if str(error) != "Unauthorized":
            raise
        return None


def outcome(answer: Any, method: str) -> Any:
    """Return what the client gets, and what the backend gets if the call reaches it."""
    if answer is None:
        return 401
    if decision(answer, method) != "Allow":
        return decision(answer, method)
    return "Allow", answer["principalId"], answer["context"]


# --- whatever comes ---


@given(
    header=st.one_of(st.binary(max_size=60), st.just(b'{"alg":"HS256","typ":"JWT"}')),
    payload=st.one_of(st.binary(max_size=60), st.from_regex(rb'\{"exp":[0-9e+]{1,12},"user_id":"[ -~]{0,9}"\}')),
    signed=st.booleans(),
    scheme=st.sampled_from(["", "Bearer "]),
)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_token_makes_anything_but_a_policy_or_unauthorized(
    authorize: Function, header: bytes, payload: bytes, signed: bool, scheme: str
) -> None:
    token = jws(header, payload, SECRET.encode() if signed else b"another key that is long enough, too")
    answer = seen_by_gateway(authorize, scheme + token, ARN)
    assert answer is None or (signed and decision(answer, ARN) == "Allow")


@given(token=st.one_of(st.text(max_size=80), st.text(alphabet="eyJ.-_=ab \t\ud800\0", max_size=80)))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_a_token_by_chance(authorize: Function, token: str) -> None:
    assert seen_by_gateway(authorize, token, ARN) is None


# --- the log ---


def test_each_decision_is_one_line(deploy: Callable[..., Function], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=ARN)
    authorize(token_event(make_jwt(user_id="new\nline")))
    authorize(token_event(make_jwt(), OTHER_ARN))
    for token in ("junk", make_jwt(exp=1), make_jwt("x" * 32), make_jwt(user_id=7)):
        with pytest.raises(Exception, match="^Unauthorized$"):
            authorize(token_event(token))
    assert caplog.messages == [
        "admitted: 'new\\nline'",
        "denied by ALLOWED_RESOURCE_ARNS: 'testuser'",
        "refused: DecodeError",
        "refused: ExpiredSignatureError",
        "refused: InvalidSignatureError",
        "refused: a claim of the wrong type or size",
    ]
