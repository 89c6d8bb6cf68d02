"""Google authorizer: each sentence of its docstring, then tables of cases.

Its policies and ALLOWED_RESOURCE_ARNS are tested in test_jwt_auth_token.py, attacks in
test_attacks.py, events and caching in test_events.py, and failures of DynamoDB in
test_revoking_tokens.py.
"""

import logging
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from google.auth.exceptions import TransportError
from support.deploy import API, ARN, CLIENT_ID, Deploy, Function, outcome
from support.events import token_event
from support.fake_dynamodb import FakeTable, fake_dynamodb
from support.fake_google import CERTIFICATES_URL, Endpoint, serving
from support.iam import decision
from support.tokens import google_claims, google_token

OTHER_CLIENT_ID = "999999999999-zyxwvu.apps.googleusercontent.com"
SUB = google_claims()["sub"]
HOUR, DAY = 3600, 86400  # seconds
Log = pytest.LogCaptureFixture


class Authorizer:
    """The deployed authorizer, Google's endpoint, and the clock of the certificates."""

    def __init__(self, function: Function, endpoint: Endpoint) -> None:
        self.function = function
        self.endpoint = endpoint
        self.now = int(time.time())
        vars(function.module)["time"] = SimpleNamespace(time=lambda: self.now)

    def __call__(self, token: str, method_arn: str = ARN) -> Any:
        return self.function(token_event(token, method_arn))

    def accepts(self, kid: str = "key-1", **changes: Any) -> bool:
        """Tell whether a valid token with changes to its claims is accepted."""
        event = token_event(google_token(kid, **changes))
        return outcome(self.function, event) is not None


Deployed = Callable[..., Authorizer]


@pytest.fixture
def deployed(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    """Deploy the authorizer with more settings: deployed(**settings)."""
    client = {"GOOGLE_CLIENT_ID": CLIENT_ID}
    with serving("key-1", "key-2") as endpoint:
        monkeypatch.setattr(CERTIFICATES_URL, endpoint.url)
        yield lambda **settings: Authorizer(
            deploy("jwt_auth_token_google", **client | settings), endpoint
        )


@pytest.fixture
def authorize(deployed: Deployed) -> Authorizer:
    return deployed()


@pytest.fixture
def table() -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        yield table


# Which tokens are accepted.


def test_valid_token_is_accepted_as_its_sub(authorize: Authorizer) -> None:
    response = authorize(google_token(sub="108"))
    assert response["principalId"] == "108"
    assert decision(response, ARN) == "Allow"


def test_context_has_sub_email_scope_and_authorized(authorize: Authorizer) -> None:
    assert authorize(google_token())["context"] == {
        "sub": SUB,
        "email": "testuser@example.com",
        "scope": "",
        "authorized": True,
    }


def test_missing_token_is_rejected(authorize: Authorizer) -> None:
    assert outcome(authorize.function, token_event("")) is None


def test_expired_token_is_rejected(authorize: Authorizer) -> None:
    now = int(time.time())
    assert authorize.accepts(exp=now - 9)  # ten seconds of clock skew
    assert not authorize.accepts(exp=now - 11)


def test_token_that_is_not_valid_yet_is_rejected(authorize: Authorizer) -> None:
    assert authorize.accepts(nbf=authorize.now + 10)
    assert not authorize.accepts(nbf=authorize.now + 11)
    assert not authorize.accepts(iat=authorize.now + 20)


@pytest.mark.parametrize("audience", [..., None, "", OTHER_CLIENT_ID, [CLIENT_ID]])
def test_token_for_another_app_is_rejected(authorize: Authorizer, audience: Any) -> None:
    assert not authorize.accepts(aud=audience)


def test_several_client_ids_are_accepted(deployed: Deployed) -> None:
    authorize = deployed(GOOGLE_CLIENT_ID=f" {OTHER_CLIENT_ID}, {CLIENT_ID}")
    assert authorize.accepts(aud=CLIENT_ID)
    assert authorize.accepts(aud=OTHER_CLIENT_ID)
    assert not authorize.accepts(aud=f"{OTHER_CLIENT_ID},{CLIENT_ID}")


def test_both_spellings_of_googles_issuer_are_accepted(authorize: Authorizer) -> None:
    assert authorize.accepts(iss="accounts.google.com")
    assert authorize.accepts(iss="https://accounts.google.com")
    assert not authorize.accepts(iss="https://accounts.google.com/")


@pytest.mark.parametrize("verified", [..., None, False, "true", 1])
def test_unverified_email_is_rejected(authorize: Authorizer, verified: Any) -> None:
    assert not authorize.accepts(email_verified=verified)


@pytest.mark.parametrize("value", [..., None, ""])
def test_token_without_sub_or_email_is_rejected(authorize: Authorizer, value: Any) -> None:
    assert not authorize.accepts(sub=value)
    assert not authorize.accepts(email=value)


def test_service_account_is_rejected(authorize: Authorizer) -> None:
    assert not authorize.accepts(email="me@project.iam.gserviceaccount.com")
    assert authorize.accepts(email="me@iam.gserviceaccount.com.example")


def test_every_domain_is_accepted_if_none_is_set(authorize: Authorizer) -> None:
    assert authorize.accepts(hd=...)
    assert authorize.accepts(hd="other.example")


def test_hosted_domain_must_be_one_of_the_list(deployed: Deployed) -> None:
    domains = "other.example, Example.COM"
    authorize = deployed(GOOGLE_HOSTED_DOMAINS=domains)
    assert authorize.accepts(hd="other.example")
    assert authorize.accepts(hd="example.com")
    for domain in (..., None, "", "evil-example.com", "sub.example.com", ["example.com"], domains):
        assert not authorize.accepts(hd=domain, email="testuser@example.com")


# Users in the table.


@pytest.fixture
def with_table(deployed: Deployed, table: FakeTable) -> Authorizer:
    listed = f"{ARN},admin={API}/prod/*/admin"
    settings = table.environment | {"ALLOWED_RESOURCE_ARNS": listed}
    return deployed(USER_CREDENTIALS_TABLE_NAME="users", **settings)


def test_user_without_an_item_is_rejected(with_table: Authorizer, caplog: Log) -> None:
    assert not with_table.accepts()
    assert caplog.messages == [f"refused: user not in the table: '{SUB}' ('testuser@example.com')"]


def test_user_with_an_item_is_accepted(with_table: Authorizer, table: FakeTable) -> None:
    table.items[SUB] = {"tokenVersion": {"S": "1"}}
    response = with_table(google_token())
    assert response["context"]["scope"] == ""
    assert decision(response, ARN) == "Allow"
    assert decision(response, f"{API}/prod/GET/admin") == "Deny"


def test_scope_of_the_item_opens_entries(with_table: Authorizer, table: FakeTable) -> None:
    table.items[SUB] = {"scope": {"S": "read admin"}}
    response = with_table(google_token())
    assert response["context"]["scope"] == "read admin"
    assert decision(response, f"{API}/prod/GET/admin") == "Allow"


def test_scope_of_the_token_opens_nothing(with_table: Authorizer, table: FakeTable) -> None:
    table.items[SUB] = {}
    response = with_table(google_token(scope="admin"))
    assert decision(response, f"{API}/prod/GET/admin") == "Deny"


@pytest.mark.parametrize("scope", [{"S": "read  admin"}, {"S": " admin"}, {"SS": ["admin"]}])
def test_malformed_scope_is_ignored_and_logged(
    with_table: Authorizer, table: FakeTable, caplog: Log, scope: Any
) -> None:
    table.items[SUB] = {"scope": scope}
    assert with_table(google_token())["context"]["scope"] == ""
    assert caplog.record_tuples[0] == (
        "jwt_auth_token_google",
        logging.ERROR,
        f"ignored the malformed scope of user '{SUB}': use words separated by single spaces",
    )


def test_deleting_the_item_ends_access(with_table: Authorizer, table: FakeTable) -> None:
    table.items[SUB] = {}
    assert with_table.accepts()
    del table.items[SUB]
    assert not with_table.accepts()


def test_hosted_domains_and_table_both_apply(deployed: Deployed, table: FakeTable) -> None:
    settings = table.environment | {"GOOGLE_HOSTED_DOMAINS": "example.com"}
    authorize = deployed(USER_CREDENTIALS_TABLE_NAME="users", **settings)
    assert not authorize.accepts(hd="example.com")
    table.items[SUB] = {}
    assert authorize.accepts(hd="example.com")
    assert not authorize.accepts(hd="example.org")


def test_lookup_reads_the_scope_only(with_table: Authorizer, table: FakeTable) -> None:
    table.items[SUB] = {"scope": {"S": "read"}}
    assert with_table.accepts()
    ((operation, request),) = table.requests
    assert operation == "GetItem"
    assert request["Key"] == {"user_id": {"S": SUB}}
    assert request["ConsistentRead"] is True
    assert list(request["ExpressionAttributeNames"].values()) == ["scope"]


def test_rejected_token_causes_no_lookup(with_table: Authorizer, table: FakeTable) -> None:
    assert not with_table.accepts(exp=1)
    assert not with_table.accepts(email_verified=False)
    assert table.requests == []


# Settings.

UNUSABLE_SETTINGS: list[tuple[str, str, str]] = [
    ("GOOGLE_CLIENT_ID", "", "is missing"),
    ("GOOGLE_CLIENT_ID", f"{CLIENT_ID},", ": entry 2 is empty"),
    ("GOOGLE_CLIENT_ID", f"{CLIENT_ID},GOCSPX-s3cr3t", ": entry 2 is a client secret"),
    ("GOOGLE_CLIENT_ID", f"https://{CLIENT_ID}", ": entry 1 is not a client ID"),
    ("GOOGLE_CLIENT_ID", f'"{CLIENT_ID}"', ": entry 1 is not a client ID"),
    ("GOOGLE_CLIENT_ID", f"'{CLIENT_ID}'", ": entry 1 is not a client ID"),
    ("GOOGLE_CLIENT_ID", f"{CLIENT_ID};{CLIENT_ID}", ": entry 1 is not a client ID"),
    ("GOOGLE_CLIENT_ID", f"{CLIENT_ID} {CLIENT_ID}", ": entry 1 is not a client ID"),
    ("GOOGLE_HOSTED_DOMAINS", ",", ": entry 1 is empty"),
    ("GOOGLE_HOSTED_DOMAINS", "example.com,@example.org", ": entry 2 is not a domain"),
    ("GOOGLE_HOSTED_DOMAINS", "me@example.com", ": entry 1 is not a domain"),
    ("GOOGLE_HOSTED_DOMAINS", "example", ": entry 1 is not a domain"),
    ("GOOGLE_HOSTED_DOMAINS", "'example.com'", ": entry 1 is not a domain"),
    ("GOOGLE_HOSTED_DOMAINS", "example.com example.org", ": entry 1 is not a domain"),
]


@pytest.mark.parametrize(("variable", "value", "words"), UNUSABLE_SETTINGS)
def test_unusable_setting_stops_the_function(
    deployed: Deployed, variable: str, value: str, words: str
) -> None:
    with pytest.raises(ValueError, match=f"^{variable}:? ?{words.lstrip(': ')}") as caught:
        deployed(**{variable: value})
    assert "s3cr3t" not in str(caught.value)
    assert CLIENT_ID not in str(caught.value)


def test_made_up_client_id_is_accepted(deployed: Deployed) -> None:
    assert deployed(GOOGLE_CLIENT_ID="my-test-client").accepts(aud="my-test-client")


# Google's certificates.


def test_thousand_calls_make_one_fetch(authorize: Authorizer) -> None:
    token = google_token()
    for _ in range(1000):
        authorize(token)
    assert authorize.endpoint.fetches == 1


def test_forged_key_ids_cause_no_more_than_that_fetch(authorize: Authorizer) -> None:
    for number in range(100):
        assert not authorize.accepts(header={"alg": "RS256", "kid": f"forged-{number}"})
    assert authorize.endpoint.fetches == 1


@pytest.mark.parametrize(
    ("control", "age", "seconds"),
    [
        ("max-age=3600", "", HOUR),
        ("public, max-age=19204, must-revalidate", "1204", 18000),
        ("s-maxage=5, max-age=600", "", 600),
        ("max-age=999999", "", DAY),
        ("max-age=90000", "60", DAY),
        ("max-age=0", "", 60),
        ("max-age=600", "9000", 60),
        ("no-store", "", 60),
        ("", "", 60),
    ],
)
def test_certificates_are_cached_as_long_as_google_allows(
    authorize: Authorizer, control: str, age: str, seconds: int
) -> None:
    headers = {"Cache-Control": control, "Age": age}
    authorize.endpoint.headers = {name: value for name, value in headers.items() if value}
    assert authorize.accepts()
    authorize.now += seconds - 1
    assert authorize.accepts()
    assert authorize.endpoint.fetches == 1
    authorize.now += 1
    assert authorize.accepts()
    assert authorize.endpoint.fetches == 2


def test_rotated_key_is_accepted_after_the_next_fetch(authorize: Authorizer) -> None:
    authorize.endpoint.publishes("key-1")
    assert authorize.accepts("key-1")
    authorize.endpoint.publishes("key-2")
    assert not authorize.accepts("key-2")
    authorize.now += HOUR
    assert authorize.accepts("key-2")
    assert not authorize.accepts("key-1"), "a key that Google withdrew"


def test_expired_certificates_are_used_for_a_day_more(authorize: Authorizer, caplog: Log) -> None:
    assert authorize.accepts()
    authorize.endpoint.down = True
    authorize.now += HOUR + DAY
    assert authorize.accepts()
    assert caplog.record_tuples[1] == (
        "jwt_auth_token_google",
        logging.ERROR,
        "could not fetch Google's certificates: ConnectionError",
    )
    authorize.now += 60
    with pytest.raises(TransportError, match="^Google's certificates could not be fetched.$"):
        authorize.accepts()


def test_next_attempt_after_a_failed_one_is_a_minute_later(authorize: Authorizer) -> None:
    assert authorize.accepts()
    authorize.endpoint.down = True
    authorize.now += HOUR
    for second in range(180):
        assert authorize.accepts()
        assert authorize.endpoint.fetches == 2 + second // 60
        authorize.now += 1


FAILURES: dict[str, dict[str, Any]] = {
    "connection closed": {"down": True},
    "status 204": {"status": 204, "body": ""},
    "status 302": {"status": 302, "headers": {"Location": "/elsewhere"}},
    "status 404": {"status": 404},
    "status 429": {"status": 429},
    "status 503": {"status": 503},
    "empty body": {"body": ""},
    "web page": {"body": "<html>Sorry</html>"},
    "no certificates": {"body": "{}"},
    "Age without a number": {"headers": {"Cache-Control": "max-age=600", "Age": "soon"}},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_failed_fetch_is_an_error_and_replaces_nothing(
    authorize: Authorizer, failure: dict[str, Any]
) -> None:
    working = {name: vars(authorize.endpoint)[name] for name in failure}
    vars(authorize.endpoint).update(failure)
    with pytest.raises(TransportError):
        authorize.accepts()
    assert authorize.endpoint.fetches == 1, "one attempt, and no redirect is followed"
    vars(authorize.endpoint).update(working)
    assert authorize.accepts()
    before = authorize.function.module.cached_certificates
    vars(authorize.endpoint).update(failure)
    authorize.now += HOUR
    assert authorize.accepts()
    after = authorize.function.module.cached_certificates
    assert (after.data, after.usable_until) == (before.data, before.usable_until)


def test_fetch_goes_to_google_with_short_timeouts(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = Mock(side_effect=requests.ConnectTimeout("http://user:password@proxy.example"))
    monkeypatch.setattr(requests, "get", get)
    authorize = deploy("jwt_auth_token_google", GOOGLE_CLIENT_ID=CLIENT_ID)
    with pytest.raises(TransportError) as caught:
        authorize(token_event(google_token()))
    get.assert_called_once_with(
        "https://www.googleapis.com/oauth2/v1/certs", timeout=(2, 3), allow_redirects=False
    )
    assert caught.value.__suppress_context__, "the traceback could show a proxy's password"


# The log.


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, f"admitted: '{SUB}'"),
        ({"header": {"alg": "RS256", "kid": "key-3"}}, "refused: MalformedError"),
        ({"exp": 1}, "refused: InvalidValue"),
        ({"iss": "x"}, "refused: GoogleAuthError"),
        ({"email": ...}, "refused: no sub or email claim"),
        ({"email_verified": False}, "refused: email not verified"),
        ({"email": "me@project.iam.gserviceaccount.com"}, "refused: service account"),
        ({"nbf": 4e9}, "refused: not valid yet"),
        ({"hd": "other.example"}, "refused: not in GOOGLE_HOSTED_DOMAINS"),
    ],
)
def test_each_decision_is_one_log_line(
    deployed: Deployed, caplog: Log, changes: dict[str, Any], line: str
) -> None:
    authorize = deployed(GOOGLE_HOSTED_DOMAINS="example.com")
    authorize.accepts(**{"hd": "example.com"} | changes)
    assert caplog.record_tuples == [("jwt_auth_token_google", logging.INFO, line)]


def test_missing_token_and_junk_are_logged_as_such(authorize: Authorizer, caplog: Log) -> None:
    for token in ("", "junk"):
        outcome(authorize.function, token_event(token))
    assert caplog.messages == ["refused: no token", "refused: not a JWT"]
    assert authorize.endpoint.fetches == 0
