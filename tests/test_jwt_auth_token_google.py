"""Authorizer for Google ID tokens: who is let in, and how Google's certificates are kept, fetched and outlived."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deploy import API, ARN, CLIENT_ID, Deploy, Function, outcome
from support.events import token_event
from support.fake_google import Endpoint, certificate, serving
from support.iam import decision
from support.tokens import google_claims, google_token, jws

OTHER_CLIENT_ID = "999999999999-zyxwvu.apps.googleusercontent.com"
HOUR, DAY = 3600, 86400  # seconds
OUTAGE = "Google's certificates could not be fetched"
Log = pytest.LogCaptureFixture


class Authorizer:
    """The deployed authorizer, Google's endpoint, and the clock by which its certificates age."""

    def __init__(self, function: Function, endpoint: Endpoint) -> None:
        self.function, self.endpoint, self.now = function, endpoint, time.time() // 1
        vars(function.module).update(
            CERTIFICATES_URL=endpoint.url, time=SimpleNamespace(time=lambda: self.now)
        )

    def __call__(self, token: Any, method_arn: str = ARN) -> Any:
        return self.function(token_event(token, method_arn))

    def takes(self, token: Any) -> bool:
        """Tell whether a token is let in; what is neither a policy nor a 401 is raised."""
        answer = outcome(self.function, token_event(token))
        return answer is not None and decision(answer, ARN) == "Allow"

    def admits(self, kid: str = "key-1", **changes: Any) -> bool:
        """Tell whether a token that is good but for the changes to its claims is let in."""
        return self.takes(google_token(kid, **changes))

    def after(self, seconds: float) -> "Authorizer":
        self.now += seconds
        return self


Deployed = Callable[..., Authorizer]


@pytest.fixture
def deployed(deploy: Deploy) -> Iterator[Deployed]:
    client = {"GOOGLE_CLIENT_ID": CLIENT_ID}
    with serving("key-1", "key-2") as endpoint:
        yield lambda **settings: Authorizer(
            deploy("jwt_auth_token_google", **client | settings), endpoint
        )


@pytest.fixture
def authorize(deployed: Deployed) -> Authorizer:
    return deployed()


def test_good_token_is_admitted_as_its_sub(authorize: Authorizer) -> None:
    answer = authorize(google_token(sub="108"))
    assert answer["principalId"] == "108"
    assert answer["context"] == {"sub": "108", "email": "testuser@example.com", "authorized": True}


@pytest.mark.parametrize(
    "setting", [f"{CLIENT_ID},{OTHER_CLIENT_ID}", f" {OTHER_CLIENT_ID} , {CLIENT_ID},"]
)
def test_each_of_several_client_ids_is_a_good_audience(deployed: Deployed, setting: str) -> None:
    authorize = deployed(GOOGLE_CLIENT_ID=setting)
    assert [authorize.admits(aud=aud) for aud in (CLIENT_ID, OTHER_CLIENT_ID, setting)] == [
        True,
        True,
        False,
    ]


SERVICE_ACCOUNTS = ["me@project.iam.gserviceaccount.com", "1-compute@DEVELOPER.GServiceAccount.COM"]
CLAIMS: dict[
    str, tuple[list[Any], list[Any]]
] = {  # good values, and bad ones beside those of test_attacks.py
    "sub": (["1", "1" * 255], [..., "", "1" * 256, "\ud800"]),
    "email": (
        ["é" * 160, "me@iam.gserviceaccount.com.example"],
        [..., "e" * 321, "é" * 161, "a\udfff@example.com"],
    ),
    "email of a service account": ([], SERVICE_ACCOUNTS),
    "email_verified": ([True], [...]),
    "iat": ([], [...]),
    "iss": (["https://accounts.google.com", "accounts.google.com"], []),
    "hd": ([..., "other.example"], []),  # where none is demanded
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_is_taken_within_its_limits(authorize: Authorizer, name: str) -> None:
    good, bad = CLAIMS[name]
    assert [value for value in good + bad if authorize.admits(**{name.split()[0]: value})] == good


def test_token_may_become_valid_in_ten_seconds_and_no_later(authorize: Authorizer) -> None:
    assert [authorize.admits(nbf=int(authorize.now) + seconds) for seconds in (10, 11)] == [
        True,
        False,
    ]


def test_hosted_domain_has_to_be_one_of_several_whatever_the_address(deployed: Deployed) -> None:
    domains = "other.example, Example.COM"
    authorize = deployed(GOOGLE_HOSTED_DOMAINS=domains)
    assert [authorize.admits(hd=hd) for hd in ("other.example", "example.com")] == [True, True]
    bad = [..., None, "", "evil-example.com", "sub.example.com", "org", ["example.com"], domains]
    assert [hd for hd in bad if authorize.admits(hd=hd)] == []


BLANKS = [("GOOGLE_CLIENT_ID", blank) for blank in ("", "  ", " , ")]
BLANKS += [("GOOGLE_HOSTED_DOMAINS", blank) for blank in (" ", ",")]


@pytest.mark.parametrize(("variable", "value"), BLANKS)
def test_blank_setting_stops_the_function(deployed: Deployed, variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{variable} must "):
        deployed(**{variable: value})


def test_allowed_resource_arns_decide(deployed: Deployed, caplog: Log) -> None:
    authorize = deployed(
        ALLOWED_RESOURCE_ARNS=f"{API}/prod/GET/api, {API}/*/GET/v?/*,{API}/prod/GET/[a]"
    )
    allowed = ["prod/GET/api", "test/GET/v1/a/b", "prod/GET/[a]"]
    routes = [*allowed, "prod/POST/api", "test/GET/api", "prod/GET/a"]
    for route in routes:
        answer = authorize(google_token(), f"{API}/{route}")
        assert [decision(answer, f"{API}/{each}") for each in routes] == ["Allow"] * 3 + [
            "Deny"
        ] * 3
        assert answer["policyDocument"]["Statement"][0]["Effect"] == (
            "Allow" if route in allowed else "Deny"
        )
        assert caplog.messages[-1].startswith(
            "admitted: " if route in allowed else "denied by ALLOWED_RESOURCE_ARNS: "
        )


NO_KEY_ID: list[Any] = [
    b"[]",
    b"\xff",
    b"[" * 100_000,
    {},
    {"kid": None},
    {"kid": ""},
    {"kid": ["key-1"]},
]


@pytest.mark.parametrize(
    "header", [*NO_KEY_ID, {"kid": "key-1", "crit": ["exp"]}], ids="{!r:.40}".format
)
def test_token_without_a_readable_key_id_is_unauthorized_without_a_fetch(
    authorize: Authorizer, header: Any
) -> None:
    assert not authorize.takes(jws(header, b"{}", b"key"))
    assert authorize.endpoint.fetches == 0


def test_thousand_good_calls_make_one_fetch_and_200_forged_key_ids_one_more(
    authorize: Authorizer,
) -> None:
    token = google_token()
    assert all(authorize.takes(token) for _ in range(1000))
    assert authorize.endpoint.fetches == 1
    authorize.after(61)
    assert not any(
        authorize.admits(header={"alg": "RS256", "kid": f"forged-{n}"}) for n in range(200)
    )
    assert authorize.endpoint.fetches == 2


LIFETIMES: dict[
    int, list[tuple[str, str]]
] = {  # seconds, and the Cache-Control and Age that make them
    595: [("s-maxage=5, max-age=600", "5")],
    18_000: [("public, max-age=19204, must-revalidate", "1204")],
    600: [
        ("MAX-AGE=600", ""),
        ('private,max-age="600"', ""),
        ("max-age=600", "soon"),
        ("max-age=600", "-5"),
    ],
    DAY: [("max-age=999999999999", ""), ("max-age=90000", "60")],
    0: [("max-age=0", ""), ("max-age=600", "900000")],
    300: [
        ("", ""),
        ("", "100"),
        ("no-store", ""),
        ("max-age=-1", ""),
        ("max-age=soon", ""),
        ("x-max-age=5", ""),
    ],
}


@pytest.mark.parametrize(
    ("seconds", "control", "age"),
    [(seconds, *pair) for seconds, pairs in LIFETIMES.items() for pair in pairs],
)
def test_certificates_are_fetched_again_in_time(
    authorize: Authorizer, seconds: int, control: str, age: str
) -> None:
    headers = {"Cache-Control": control, "Age": age}
    authorize.endpoint.headers = {name: value for name, value in headers.items() if value}
    assert authorize.admits()
    assert authorize.after(max(seconds - 1, 0)).admits()
    assert authorize.endpoint.fetches == 1
    assert authorize.after(1 if seconds else 60).admits()
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


def test_fetch_asks_google_and_follows_nobody(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Mock(side_effect=requests.ConnectionError("http://user:password@proxy.example"))
    monkeypatch.setattr(requests, "get", asked)
    with pytest.raises(RuntimeError, match=f"^{OUTAGE}$") as caught:
        deploy("jwt_auth_token_google", GOOGLE_CLIENT_ID=CLIENT_ID)(token_event(google_token()))
    asked.assert_called_once_with(
        "https://www.googleapis.com/oauth2/v1/certs", timeout=(2, 3), allow_redirects=False
    )
    assert caught.value.__suppress_context__


def test_failed_attempts_count_against_the_limit_too(authorize: Authorizer) -> None:
    assert authorize.admits()
    authorize.endpoint.down = True
    authorize.after(HOUR)
    for second in range(180):
        assert authorize.admits()
        assert not authorize.admits("key-3")
        assert authorize.endpoint.fetches == 2 + second // 60
        authorize.after(1)


def test_expired_certificates_serve_for_a_day(authorize: Authorizer, caplog: Log) -> None:
    assert authorize.admits()
    authorize.endpoint.down = True
    assert authorize.after(HOUR).admits()
    assert authorize.after(DAY - 1).admits()
    with pytest.raises(RuntimeError, match=OUTAGE):
        authorize.after(1).admits()
    assert caplog.record_tuples[-1] == (
        "root",
        logging.ERROR,
        "certificates not fetched: ConnectionError",
    )


def outage(**changes: Any) -> Any:
    return pytest.param(
        changes, id=", ".join(f"{name} {value!r:.40}" for name, value in changes.items())
    )


NO_CERTIFICATE: list[Any] = [
    None,
    1,
    True,
    "",
    "text",
    [certificate("key-2")],
    certificate("key-2")[:200],
    {},
]
NO_CERTIFICATES: list[Any] = [
    None,
    True,
    1,
    "",
    "text",
    [],
    {},
    ["key-1"],
    [certificate("key-1")],
    {"keys": []},
]
NO_CERTIFICATES += [
    {"keys": [{"kid": "key-1", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]},
    {"error": "backend"},
]
NO_CERTIFICATES += [{"key-1": certificate("key-1"), "key-2": value} for value in NO_CERTIFICATE]


@pytest.mark.parametrize(
    "trouble",
    [
        outage(down=True),
        *(outage(status=status) for status in (204, 400, 404, 429, 500, 503)),
        *(outage(body=body) for body in ("", "<html>Sorry</html>", "[" * 100_000)),
        *(outage(body=json.dumps(body)) for body in NO_CERTIFICATES),
        outage(status=302, headers={"Location": "/elsewhere"}, body=""),
    ],
)
def test_useless_answer_is_an_outage(authorize: Authorizer, trouble: dict[str, Any]) -> None:
    """It is a 500 where there are no certificates, is forgotten at once, and never takes the place of good ones."""
    good = {name: vars(authorize.endpoint)[name] for name in trouble}
    for _ in range(2):
        vars(authorize.endpoint).update(trouble)
        with pytest.raises(RuntimeError, match=OUTAGE):
            authorize.admits()
    vars(authorize.endpoint).update(good)
    assert authorize.admits(), "recovers without a pause"
    fetches = authorize.endpoint.fetches
    vars(authorize.endpoint).update(trouble)
    assert authorize.after(HOUR).admits()
    assert authorize.after(HOUR).admits("key-2")
    assert not authorize.admits("key-3")
    assert authorize.endpoint.fetches == fetches + 2, "asks once each time, and follows no redirect"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, f"admitted: '{google_claims()['sub']}'"),
        ({"header": {"alg": "RS256"}}, "refused: KeyError"),
        ({"header": {"alg": "RS256", "kid": 1}}, "refused: no key id, or a critical extension"),
        ({"exp": 1}, "refused: InvalidValue"),
        ({"iss": "x"}, "refused: GoogleAuthError"),
        ({"email": ...}, "refused: no sub or no email, or a longer one than the standards allow"),
        ({"nbf": 4e9}, "refused: not valid yet, or a date that is not a whole number"),
        ({"email_verified": False}, "refused: email not verified"),
        ({"email": SERVICE_ACCOUNTS[0]}, "refused: service account"),
        ({"hd": "x"}, "refused: not in GOOGLE_HOSTED_DOMAINS"),
    ],
)
def test_each_decision_is_one_line(
    deployed: Deployed, caplog: Log, changes: dict[str, Any], line: str
) -> None:
    authorize = deployed(GOOGLE_HOSTED_DOMAINS="example.com")
    authorize.admits(**{"hd": "example.com"} | changes)
    assert [record.getMessage() for record in caplog.records if record.name == "root"] == [line]


@pytest.mark.parametrize(("seconds", "counts"), [(1, [1, 2, 3]), (1.25, [1, 1, 2])])
def test_attempt_that_hung_is_the_only_one_in_ten_seconds(
    authorize: Authorizer, monkeypatch: pytest.MonkeyPatch, seconds: float, counts: list[int]
) -> None:
    def hang(*_: object, **__: object) -> None:
        authorize.after(seconds)
        raise requests.Timeout

    asked = Mock(side_effect=hang)
    monkeypatch.setattr(requests, "get", asked)
    for wait, count in zip((0, 9.75, 0.25), counts, strict=True):
        with pytest.raises(RuntimeError, match=OUTAGE):
            authorize.after(wait).admits()
        assert asked.call_count == count


def test_fetch_that_drips_is_given_up_once_after_6_s(
    authorize: Authorizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert authorize.admits()
    over = threading.Event()
    monkeypatch.setattr(requests, "get", lambda *_, **__: over.wait(30))
    authorize.after(HOUR)
    began = time.monotonic()
    assert all(authorize.admits() for _ in range(100))
    over.set()
    assert 5.9 < time.monotonic() - began < 6.9  # seconds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9), st.lists
)
HEADER = st.dictionaries(st.sampled_from(["typ", "crit", "x"]), JSON).map(
    lambda more: more | {"alg": "RS256", "kid": "key-1"}
)


@given(
    header=HEADER | st.dictionaries(st.sampled_from(["alg", "kid"]), JSON),
    changes=st.dictionaries(st.sampled_from([*google_claims(), "nbf", "hd"]), JSON),
)
@settings(max_examples=200)
def test_whatever_google_signed_the_answer_is_a_policy_or_unauthorized(
    authorize: Authorizer, header: dict[str, Any], changes: dict[str, Any]
) -> None:
    authorize.admits(header=header, **changes)
