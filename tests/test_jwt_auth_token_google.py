"""Authorizer for Google ID tokens: who is let in, and how Google's certificates are kept, fetched and outlived."""

import contextlib
import json
import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.events import token_event
from support.functions import API, ARN, CLIENT_ID, Function
from support.google import Endpoint, certificate, serving
from support.policies import decision
from support.tokens import base64url, google_claims, google_token, jws

OTHER_CLIENT_ID = "999999999999-zyxwvu.apps.googleusercontent.com"
NOW = 1_800_000_000.0  # where the certificates' clock stands at first; google-auth reads the real one
HOUR, DAY = 3600, 86400


class RefusedError(Exception):
    """The handler raised what API Gateway turns into a 401."""


class Authorizer:
    """The deployed authorizer, Google's endpoint and the clock that its certificates age by."""

    module: Any

    def __init__(self, function: Function, endpoint: Endpoint) -> None:
        self.function, self.endpoint, self.now = function, endpoint, NOW
        vars(function.module).update(CERTIFICATES_URL=endpoint.url, time=SimpleNamespace(time=lambda: self.now))
        self.module = function.module

    def __call__(self, token: Any, method_arn: str = ARN) -> Any:
        try:
            return self.function(token_event(token, method_arn))
        except Exception as error:
            if str(error) == "Unauthorized":
                raise RefusedError("Unauthorized").with_traceback(error.__traceback__) from error
            raise

    def admits(self, kid: str = "key-1") -> bool:
        """Tell whether a good token of a key id is let in; what is neither a policy nor a 401 is raised."""
        try:
            return bool(self(google_token(kid)))
        except RefusedError:
            return False

    def after(self, seconds: float) -> "Authorizer":
        self.now += seconds
        return self


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving("key-1", "key-2") as endpoint:
        yield endpoint


@pytest.fixture
def deployed(deploy: Callable[..., Function], endpoint: Endpoint) -> Callable[..., Authorizer]:
    def deployed(**environment: str) -> Authorizer:
        environment = {"GOOGLE_CLIENT_ID": CLIENT_ID} | environment
        return Authorizer(deploy("jwt_auth_token_google", **environment), endpoint)

    return deployed


@pytest.fixture
def authorize(deployed: Callable[..., Authorizer]) -> Authorizer:
    return deployed()


def assert_unauthorized(authorize: Authorizer, token: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        authorize(token)
    error = caught.value.__cause__
    assert type(error) is Exception
    assert error.__suppress_context__ or not error.__context__


# Who is let in


@pytest.mark.parametrize("value", ["Bearer {}", "bearer {}", "BEARER   {} ", "{}"])
def test_good_token_is_admitted_as_its_sub(authorize: Authorizer, value: str) -> None:
    answer = authorize(value.format(google_token()))
    assert answer["principalId"] == google_claims()["sub"]
    assert answer["context"] == {"sub": google_claims()["sub"], "email": "testuser@example.com", "authorized": True}
    assert answer["policyDocument"]["Version"] == "2012-10-17"


@pytest.mark.parametrize("issuer", ["accounts.google.com", "https://accounts.google.com"])
def test_both_names_of_google_are_good_issuers(authorize: Authorizer, issuer: str) -> None:
    assert authorize(google_token(iss=issuer))


@pytest.mark.parametrize("setting", [f"{CLIENT_ID},{OTHER_CLIENT_ID}", f" {OTHER_CLIENT_ID} , {CLIENT_ID},"])
def test_each_of_several_client_ids_is_a_good_audience(deployed: Callable[..., Authorizer], setting: str) -> None:
    authorize = deployed(GOOGLE_CLIENT_ID=setting)
    assert authorize(google_token())
    assert authorize(google_token(aud=OTHER_CLIENT_ID))
    assert_unauthorized(authorize, google_token(aud=setting))


BAD_CLAIMS: list[tuple[str, list[Any]]] = [
    ("aud", [OTHER_CLIENT_ID, CLIENT_ID[:-1], [CLIENT_ID], "", None, ...]),
    ("iss", ["https://accounts.google.com/", "http://accounts.google.com", "https://accounts.google.com.evil.example"]),
    ("iss", ["https://securetoken.google.com/project", ["accounts.google.com"], ...]),
    ("email_verified", [..., None, False, "true", 1]),
    ("sub", [..., None, "", 110169484474386276334, ["x"], {}, True]),
    ("email", [..., None, "", 1, ["testuser@example.com"], {}, True]),
    ("exp", [..., None, "9999999999", [9999999999], {}]),
    ("iat", [..., None, "0", [0], {}]),
]


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        pytest.param(claim, value, id=f"{claim} {'missing' if value is ... else repr(value)}")
        for claim, values in BAD_CLAIMS
        for value in values
    ],
)
def test_token_with_a_bad_claim_is_unauthorized(authorize: Authorizer, claim: str, value: Any) -> None:
    assert_unauthorized(authorize, google_token(**{claim: value}))


@pytest.mark.parametrize(
    ("claim", "skew", "good"),
    [("exp", -5, True), ("exp", -15, False), ("iat", 5, True), ("iat", 15, False)],
)
def test_clocks_may_differ_by_ten_seconds(authorize: Authorizer, claim: str, skew: int, good: bool) -> None:
    token = google_token(**{claim: google_claims()["iat"] + skew})
    if good:
        assert authorize(token)
    else:
        assert_unauthorized(authorize, token)


@pytest.mark.parametrize(("skew", "good"), [(5, True), (15, False)])
def test_nbf_may_lie_ten_seconds_ahead(authorize: Authorizer, skew: int, good: bool) -> None:
    token = google_token(nbf=int(authorize.now) + skew)
    if good:
        assert authorize(token)
    else:
        assert_unauthorized(authorize, token)


@pytest.mark.parametrize(
    ("setting", "changes", "good"),
    [
        ("", {}, True),
        ("", {"hd": "other.example"}, True),
        ("example.com", {"hd": "example.com"}, True),
        ("Example.COM", {"hd": "example.com"}, True),
        ("other.example, example.com", {"hd": "example.com"}, True),
        ("example.com", {}, False),  # though the address ends in example.com
        ("example.com", {"hd": None}, False),
        ("example.com", {"hd": ""}, False),
        ("example.com", {"hd": "other.example"}, False),
        ("example.com", {"hd": "evil-example.com"}, False),
        ("example.com", {"hd": "sub.example.com"}, False),
        ("example.com", {"hd": ["example.com"]}, False),
        ("other.example, example.com", {"hd": "other.example, example.com"}, False),
    ],
    ids=repr,
)
def test_hosted_domain_is_the_claim_hd(
    deployed: Callable[..., Authorizer], setting: str, changes: dict[str, Any], good: bool
) -> None:
    authorize = deployed(GOOGLE_HOSTED_DOMAINS=setting)
    if good:
        assert authorize(google_token(**changes))
    else:
        assert_unauthorized(authorize, google_token(**changes))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GOOGLE_CLIENT_ID", ""),
        ("GOOGLE_CLIENT_ID", "  "),
        ("GOOGLE_CLIENT_ID", " , "),
        ("GOOGLE_HOSTED_DOMAINS", ","),
        ("GOOGLE_HOSTED_DOMAINS", " "),
        ("ALLOWED_RESOURCE_ARNS", ","),
        ("ALLOWED_RESOURCE_ARNS", f"{ARN},"),
        ("ALLOWED_RESOURCE_ARNS", "GET/api"),
        ("ALLOWED_RESOURCE_ARNS", "arn:" + "x" * 509),
    ],
)
def test_bad_setting_stops_the_function_from_starting(
    deployed: Callable[..., Authorizer], variable: str, value: str
) -> None:
    with pytest.raises(ValueError, match=variable):
        deployed(**{variable: value})


def test_missing_client_id_stops_the_function_from_starting(deploy: Callable[..., Function]) -> None:
    with pytest.raises(ValueError, match="GOOGLE_CLIENT_ID"):
        deploy("jwt_auth_token_google")


# What a good token may do


def test_good_token_may_call_every_method_of_its_stage_and_nothing_else(authorize: Authorizer) -> None:
    answer = authorize(google_token())
    assert {decision(answer, f"{API}/prod/{route}") for route in ("GET/api", "POST/a/b", "DELETE/")} == {"Allow"}
    assert decision(answer, f"{API}/test/GET/api") == "silent"
    assert decision(answer, ARN.replace("abcdef1234", "other")) == "silent"


@pytest.mark.parametrize("first", ["GET/api", "POST/api"])
def test_allowed_resource_arns_decide_whoever_asks_first(deployed: Callable[..., Authorizer], first: str) -> None:
    answer = deployed(ALLOWED_RESOURCE_ARNS=f"{API}/prod/GET/api, {API}/*/GET/v?/*")(
        google_token(), f"{API}/prod/{first}"
    )
    routes = ["prod/GET/api", "test/GET/v1/a/b", "prod/POST/api", "test/GET/api", "prod/GET/v12/a"]
    assert [decision(answer, f"{API}/{route}") for route in routes] == ["Allow", "Allow", "Deny", "Deny", "Deny"]
    assert answer["context"] == {"sub": google_claims()["sub"], "email": "testuser@example.com", "authorized": True}
    assert answer["policyDocument"]["Statement"][0]["Effect"] == ("Allow" if first == "GET/api" else "Deny")


def test_bracket_in_an_allowed_arn_is_no_wildcard(
    deployed: Callable[..., Authorizer], caplog: pytest.LogCaptureFixture
) -> None:
    deployed(ALLOWED_RESOURCE_ARNS=f"{API}/prod/GET/[a]pi")(google_token())
    assert "denied by ALLOWED_RESOURCE_ARNS" in caplog.text


# Tokens that cost no fetch

NO_KEY_ID: list[Any] = ["", None, 1, True, ["key-1"], {}, {"key-1": 1}]
HEADERS_WITHOUT_KEY_ID = [{"alg": "RS256"}, *({"alg": "RS256", "kid": kid} for kid in NO_KEY_ID)]


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(None, id="null"),
        pytest.param(["Bearer x"], id="list"),
        pytest.param("", id="empty"),
        pytest.param("Bearer", id="scheme alone"),
        pytest.param("a.b", id="two segments"),
        pytest.param("a.b.c.d", id="four segments"),
        pytest.param("\ud800.b.c", id="lone surrogate"),
        pytest.param(jws(b"[]", b"{}", b"key"), id="header is a list"),
        pytest.param(jws(b"\xff", b"{}", b"key"), id="header is not UTF-8"),
        pytest.param(jws(b"[" * 100_000, b"{}", b"key"), id="header nested deep"),
        *(pytest.param(google_token(header=header), id=f"header {header}") for header in HEADERS_WITHOUT_KEY_ID),
    ],
)
def test_token_without_a_readable_key_id_is_unauthorized_without_a_fetch(authorize: Authorizer, token: Any) -> None:
    assert_unauthorized(authorize, token)
    assert authorize.endpoint.fetches == 0


@pytest.mark.parametrize("alg", ["HS256", "none", "ES256", "PS256", None, ["RS256"]])
def test_no_other_algorithm_is_taken(authorize: Authorizer, alg: Any) -> None:
    header = {"alg": alg, "kid": "key-1"}
    assert_unauthorized(authorize, google_token(header=header))
    assert_unauthorized(authorize, jws(header, json.dumps(google_claims()).encode(), certificate("key-1").encode()))
    assert_unauthorized(authorize, jws(header, json.dumps(google_claims()).encode(), b"").rpartition(".")[0] + ".")


def test_token_of_another_key_is_unauthorized(authorize: Authorizer) -> None:
    assert_unauthorized(authorize, google_token("key-2", header={"alg": "RS256", "kid": "key-1"}))


# Google's certificates


def test_thousand_good_calls_make_one_fetch_and_200_forged_key_ids_one_more(authorize: Authorizer) -> None:
    token = google_token()
    for _ in range(1000):
        authorize(token)
    assert authorize.endpoint.fetches == 1
    authorize.after(61)
    for number in range(200):
        assert_unauthorized(authorize, google_token("key-1", header={"alg": "RS256", "kid": f"forged-{number}"}))
    assert authorize.endpoint.fetches == 2


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        pytest.param({"Cache-Control": "public, max-age=19204, must-revalidate", "Age": "1204"}, 18_000, id="Google's"),
        pytest.param({"Cache-Control": "MAX-AGE=600"}, 600, id="upper case"),
        pytest.param({"Cache-Control": 'private,max-age="600"'}, 600, id="quoted"),
        pytest.param({"cache-control": "s-maxage=5, max-age=600"}, 600, id="s-maxage is for proxies"),
        pytest.param({"Cache-Control": "max-age=600", "Age": "soon"}, 600, id="Age that is no number"),
        pytest.param({"Cache-Control": "max-age=600", "Age": "-500"}, 600, id="Age below zero"),
        pytest.param({"Cache-Control": "max-age=999999999999"}, DAY, id="a day at most"),
        pytest.param({"Cache-Control": "max-age=90000", "Age": "60"}, DAY, id="a day at most, less Age"),
        pytest.param({"Cache-Control": "max-age=600", "Age": "900000"}, 0, id="Age over max-age"),
        pytest.param({"Cache-Control": "max-age=0"}, 0, id="zero"),
        pytest.param({}, 300, id="no Cache-Control"),
        pytest.param({"Age": "100"}, 300, id="Age alone"),
        pytest.param({"Cache-Control": "no-store"}, 300, id="no max-age"),
        pytest.param({"Cache-Control": "max-age=-1"}, 300, id="below zero"),
        pytest.param({"Cache-Control": "max-age=soon"}, 300, id="no number"),
        pytest.param({"Cache-Control": "x-max-age=5"}, 300, id="another directive"),
    ],
)
def test_certificates_are_fetched_again_when_their_time_is_over(
    authorize: Authorizer, headers: dict[str, str], lifetime: int
) -> None:
    authorize.endpoint.headers = headers
    assert authorize.admits()
    assert authorize.after(max(lifetime - 1, 0)).admits()
    assert authorize.endpoint.fetches == 1
    assert authorize.after(1 if lifetime else 60).admits()
    assert authorize.endpoint.fetches == 2


def test_rotated_key_is_found_by_one_more_fetch(authorize: Authorizer) -> None:
    authorize.endpoint.publishes("key-1")
    assert authorize.admits("key-1")
    authorize.endpoint.publishes("key-2")
    assert not authorize.after(59).admits("key-2")
    assert authorize.endpoint.fetches == 1
    assert authorize.after(1).admits("key-2")
    assert authorize.endpoint.fetches == 2
    assert not authorize.admits("key-1"), "a key that Google withdrew"


def test_failed_attempts_count_against_the_limit_too(authorize: Authorizer) -> None:
    assert authorize.admits()
    authorize.endpoint.down = True
    authorize.after(HOUR)
    for second in range(180):
        assert authorize.admits()
        assert not authorize.admits("key-3")
        assert authorize.endpoint.fetches == 2 + second // 60
        authorize.after(1)


def test_expired_certificates_serve_for_a_day_of_outage_and_no_longer(authorize: Authorizer) -> None:
    assert authorize.admits()
    authorize.endpoint.down = True
    assert authorize.after(HOUR).admits()
    assert authorize.after(DAY - 1).admits()
    with pytest.raises(requests.ConnectionError):
        authorize.after(1).admits()
    authorize.endpoint.down = False
    assert authorize.admits()


NO_CERTIFICATE: list[Any] = [None, 1, True, "", "text", [certificate("key-2")], certificate("key-2")[:200], {}]


def outage(**changes: Any) -> Any:
    return pytest.param(changes, id=", ".join(f"{name} {value!r:.40}" for name, value in changes.items()))


@pytest.mark.parametrize(
    "trouble",
    [
        outage(down=True),
        outage(url="http://127.0.0.1:{closed}/"),
        *(outage(status=status) for status in (204, 400, 404, 429, 500, 503)),
        *(outage(status=status, body="{}") for status in (200, 403, 500)),
        outage(body=""),
        outage(body="<html>Sorry</html>"),
        outage(body="[" * 100_000),
        *(outage(body=json.dumps(body)) for body in (None, True, 1, "", "text", [], ["key-1"], [certificate("key-1")])),
        outage(body=json.dumps({"keys": [{"kid": "key-1", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]})),
        outage(body=json.dumps({"keys": []})),
        outage(body=json.dumps({"error": {"code": 500, "message": "Internal error"}})),
        outage(body=json.dumps({"error": "backend"})),
        *(outage(body=json.dumps({"key-1": certificate("key-1"), "key-2": value})) for value in NO_CERTIFICATE),
    ],
)
def test_useless_answer_is_an_outage(authorize: Authorizer, trouble: dict[str, Any]) -> None:
    """It is a 500 where there are no certificates, is forgotten at once, and never takes the place of good ones."""
    good = dict(vars(authorize.endpoint))
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    vars(authorize.endpoint).update(trouble)
    authorize.module.CERTIFICATES_URL = authorize.endpoint.url.replace("{closed}", str(closed))
    for _ in range(2):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the message that must not be there is checked below
            authorize.admits()
        assert str(caught.value) != "Unauthorized"
        assert not authorize.module.held.key_ids

    good.pop("fetches")
    vars(authorize.endpoint).update(good)
    authorize.module.CERTIFICATES_URL = authorize.endpoint.url
    assert authorize.admits(), "recovers without a pause"

    vars(authorize.endpoint).update(trouble)
    authorize.module.CERTIFICATES_URL = authorize.endpoint.url.replace("{closed}", str(closed))
    assert authorize.after(HOUR).admits()
    assert authorize.after(HOUR).admits("key-2")
    assert not authorize.admits("key-3")


def test_hanging_server_is_waited_for_once_in_ten_seconds(authorize: Authorizer) -> None:
    authorize.endpoint.hangs = True
    authorize.module.FETCH_TIMEOUT = (0.2, 0.2)
    get = requests.get

    def waited_for(*args: Any, **options: Any) -> requests.Response:
        authorize.after(3)
        return get(*args, **options)

    authorize.module.requests = SimpleNamespace(get=waited_for)
    for attempt in (1, 2):
        with pytest.raises(requests.Timeout):
            authorize.admits()
        for _ in range(100):
            with pytest.raises(TimeoutError):
                authorize.after(0.099).admits()
        assert authorize.endpoint.fetches == attempt
        authorize.after(0.2)
    authorize.endpoint.hangs = False
    assert authorize.admits()


def test_hanging_server_is_waited_for_once_a_minute_where_certificates_are_held(authorize: Authorizer) -> None:
    assert authorize.admits()
    authorize.endpoint.hangs = True
    authorize.module.FETCH_TIMEOUT = (0.2, 0.2)
    authorize.after(HOUR)
    assert all(authorize.admits() for _ in range(100))
    assert authorize.endpoint.fetches == 2


def test_fetch_has_a_timeout(authorize: Authorizer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    get = requests.get

    def noted(url: str, **options: Any) -> requests.Response:
        asked.append((url, options))
        return get(url, **options)

    monkeypatch.setattr(requests, "get", noted)
    assert authorize.admits()
    assert asked == [(authorize.endpoint.url, {"timeout": (2, 3), "allow_redirects": False})]


def test_certificates_come_from_google(deploy: Callable[..., Function]) -> None:
    module: Any = deploy("jwt_auth_token_google", GOOGLE_CLIENT_ID=CLIENT_ID).module
    assert module.CERTIFICATES_URL == "https://www.googleapis.com/oauth2/v1/certs"


# What is never said, whatever comes in


def test_neither_log_nor_traceback_has_a_part_of_a_token(
    authorize: Authorizer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tokens = [google_token(), google_token(exp=1), google_token(iss="x"), google_token(aud="x"), google_token("key-3")]
    tokens += [google_token(email_verified=False), google_token() + ".x", "x" * 40, google_token()[:-8] + "AAAAAAAA"]
    told = ""
    for token in tokens:
        try:
            authorize(f"Bearer {token}")
        except RefusedError:
            told += traceback.format_exc()
    assert told.count("\nException: Unauthorized\n") == len(tokens) - 1
    said = told + caplog.text
    assert not [part for token in tokens for part in token.split(".") if len(part) > 12 and part in said]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "admitted"),
        ({"exp": 1}, "InvalidValue"),
        ({"iss": "x"}, "GoogleAuthError"),
        ({"email": ...}, "no email"),
        ({"email_verified": False}, "email not verified"),
        ({"hd": "x"}, "not in GOOGLE_HOSTED_DOMAINS"),
    ],
)
def test_log_has_one_line_with_the_reason(
    deployed: Callable[..., Authorizer], caplog: pytest.LogCaptureFixture, changes: dict[str, Any], word: str
) -> None:
    authorize = deployed(GOOGLE_HOSTED_DOMAINS="example.com")
    with contextlib.suppress(RefusedError):
        authorize(google_token(**{"hd": "example.com"} | changes))
    [line] = [record.getMessage() for record in caplog.records if record.name == "root"]
    assert word in line


def test_log_names_an_error_and_does_not_quote_it(authorize: Authorizer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert_unauthorized(authorize, "junk")
    authorize.endpoint.down = True
    with pytest.raises(requests.ConnectionError):
        authorize.admits()
    lines = [message for name, _, message in caplog.record_tuples if name == "root"]
    assert lines == ["refused: JSONDecodeError", "certificates not fetched: ConnectionError"]


SEGMENT = st.one_of(
    st.text(max_size=30),
    st.binary(max_size=60).map(base64url),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["alg", "kid", "exp", "aud"]), inner)
        ),
        max_leaves=6,
    ).map(lambda value: base64url(json.dumps(value).encode())),
    st.sampled_from(
        [base64url(json.dumps({"alg": alg, "kid": "key-1"}).encode()) for alg in ("RS256", "none", "HS256")]
    ),
)
VALUE = st.one_of(
    st.text(),
    st.lists(SEGMENT, min_size=1, max_size=5).map(".".join),
    st.tuples(st.sampled_from(["Bearer ", "bearer  ", "Basic ", " "]), st.lists(SEGMENT, min_size=3, max_size=3)).map(
        lambda pair: pair[0] + ".".join(pair[1])
    ),
    st.none() | st.booleans() | st.integers() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()),
)


@given(value=VALUE)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_token_the_answer_is_a_policy_or_unauthorized(authorize: Authorizer, value: Any) -> None:
    with contextlib.suppress(RefusedError):
        assert decision(authorize(value), ARN) == "Allow"


@pytest.mark.parametrize("position", range(0, 600, 29))
def test_change_of_any_character_is_unauthorized(authorize: Authorizer, position: int) -> None:
    token = google_token()
    other = "A" if token[position] != "A" else "B"
    assert_unauthorized(authorize, token[:position] + other + token[position + 1 :])
