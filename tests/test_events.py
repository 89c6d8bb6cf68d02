"""Every kind of API: where the token is read from, and that the policy is safe to cache.

Events are as AWS documents them (tests/events), or built like them.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deploy import API, ARN, outcome
from support.events import KINDS, documented, http_event, request_event, token_event
from support.fake_dynamodb import AWS
from support.iam import decision
from support.tokens import Target

Event = dict[str, Any]
WITH_POLICIES = ["jwt_auth_token", "jwt_auth_token_google"]
SAMPLES = ["token", "token_console_test", "request", "http_api_1_0", "http_api_2_0"]
CONNECTS = ["websocket_connect_header", "websocket_connect_query"]
DOCUMENTED = [(script, sample) for script in WITH_POLICIES for sample in SAMPLES]
DOCUMENTED += [("jwt_auth_token_websocket", sample) for sample in CONNECTS]


# Events as AWS documents them.


@pytest.mark.parametrize(("target", "sample"), DOCUMENTED, indirect=["target"])
def test_valid_token_in_a_documented_event_is_accepted(target: Target, sample: str) -> None:
    event = documented(f"authorizer_{sample}", target.token())
    arn = event.get("routeArn") or event["methodArn"]
    assert decision(target.function(event), arn) == "Allow"


@pytest.mark.parametrize(("target", "sample"), DOCUMENTED, indirect=["target"])
def test_bad_token_in_a_documented_event_is_rejected(target: Target, sample: str) -> None:
    good = target.token()
    forged = target.token(sign=lambda _: bytes(32))
    expired = target.token(payload={"exp": target.claims["iat"] - 60})
    for token in ("", forged, expired, f"{good},Bearer {good}"):
        assert outcome(target.function, documented(f"authorizer_{sample}", token)) is None


@pytest.mark.parametrize("target", ["jwt_auth_token_websocket"], indirect=True)
@pytest.mark.parametrize("sample", SAMPLES)
def test_websocket_authorizer_stops_behind_other_apis(target: Target, sample: str) -> None:
    with pytest.raises(RuntimeError, match=r"use jwt_auth_token\.py\.$"):
        target.function(documented(f"authorizer_{sample}", target.token()))


# Where the token is.


def rest(**headers: Any) -> Event:
    """Return the event of a REST API's REQUEST authorizer with lists of values of headers."""
    single = {name: values[-1] for name, values in headers.items()}
    return request_event("") | {"headers": single, "multiValueHeaders": headers}


def http(version: str, token: str, **source: Any) -> Event:
    """Return the event of an HTTP API with a token in the header, and this identity source."""
    event = http_event(version, f"Bearer {token}")
    del event["identitySource"]
    event.pop("authorizationToken", None)
    return event | source


def places_with_a_token(good: str) -> dict[str, Event]:
    """Return events in which a valid token is the identity source."""
    return {
        "HTTP 2.0, identity source": http("2.0", "junk", identitySource=[good]),
        "HTTP 1.0, identity source": http("1.0", "junk", identitySource=good),
        "HTTP 2.0, no identity source: header": http("2.0", good),
        "HTTP 1.0, no identity source: header": http("1.0", good),
        "HTTP 2.0, null: header": http("2.0", good, identitySource=None),
        "HTTP 1.0, null: header": http("1.0", good, identitySource=None),
        "REST, header in lower case": rest(authorization=[f"bearer {good}"]),
        "REST, header in upper case": rest(AUTHORIZATION=[f"BEARER {good}"]),
        "REST, no scheme": rest(Authorization=[good]),
        "REST, the same value twice": rest(Authorization=[good, good]),
        "REST, two spellings of the name": rest(Authorization=[good], authorization=[good]),
        "REST, single values": rest(Authorization=[good]) | {"multiValueHeaders": None},
    }


def places_without_a_token(good: str, other: str) -> dict[str, Event]:
    """Return events with valid tokens, but not as the identity source, or not as the only one."""
    query = {"Authorization": good, "access_token": good}
    return {
        "HTTP 2.0, empty list": http("2.0", good, identitySource=[]),
        "HTTP 2.0, empty string": http("2.0", good, identitySource=[""]),
        "HTTP 2.0, list of null": http("2.0", good, identitySource=[None]),
        "HTTP 2.0, two values": http("2.0", good, identitySource=[good, "x"]),
        "HTTP 2.0, the same value twice": http("2.0", good, identitySource=[good, good]),
        "HTTP 1.0, empty string": http("1.0", good, identitySource=""),
        "HTTP 1.0, two values": http("1.0", good, identitySource=f"{good},x"),
        "REST, two values": rest(Authorization=[good, "x"]),
        "REST, two values, the token last": rest(Authorization=["x", good]),
        "REST, two valid tokens": rest(Authorization=[good, other]),
        "REST, two names, two tokens": rest(Authorization=[good], authorization=[other]),
        "REST, other headers": rest(Cookie=[good], **{"X-Authorization": [good]}),
        "REST, query string": rest() | {"queryStringParameters": query},
        "REST, no headers": rest() | {"headers": None, "multiValueHeaders": None},
        "REST, header of null": rest() | {"multiValueHeaders": {"Authorization": None}},
        "REST TOKEN, valid header next to it": token_event("x") | rest(Authorization=[good]),
        "REST TOKEN, null": token_event(None),
        "REST TOKEN, absent": {"type": "TOKEN", "methodArn": ARN},
    }


@pytest.mark.parametrize("target", WITH_POLICIES, indirect=True)
def test_token_in_the_identity_source_is_accepted(target: Target) -> None:
    events = places_with_a_token(target.token())
    assert [name for name, event in events.items() if not outcome(target.function, event)] == []


@pytest.mark.parametrize("target", WITH_POLICIES, indirect=True)
def test_token_anywhere_else_is_rejected(target: Target) -> None:
    events = places_without_a_token(target.token(), target.token(payload={"jti": "2"}))
    assert [name for name, event in events.items() if outcome(target.function, event)] == []


# Caching. API Gateway caches the policy of an identity source, and applies it to other methods.

STAGES = ["prod", "$default"]
ROUTES = ["GET/api", "GET/", "POST/other/thing", "GET/admin/users", "DELETE/admin", "GET/a[1]"]
SCOPES = {"ann": "admin", "bob": "", "cyd": "administrator Admin readers", "dot": "read admin"}
LISTS = {
    "no list": "",
    "list": f"{API}/*/GET/api, {API}/prod/GET/a[1],{API}/*/POST/oth?r*",
    "scopes": f"{API}/*/GET/api, admin={API}/*/admin*, read=*",
    "only scopes": f"admin={API}/*/admin/*,read={API}/*/GET/*",
}
NAMES = ["Authorization", "X-Authorization", "Cookie", "access_token", "identitySource"]


class Request(NamedTuple):
    """Whose token is the identity source, the route, and whose tokens are elsewhere."""

    user: str
    route: str
    headers: dict[str, str]
    query: dict[str, str]


WHO = st.sampled_from([*SCOPES, "expired", "junk"])
ELSEWHERE = st.dictionaries(st.sampled_from(NAMES), WHO, max_size=3)
REQUESTS = st.builds(Request, WHO, st.sampled_from(ROUTES), ELSEWHERE, ELSEWHERE)
# A step is a request, or a user whose tokens the operator revokes.
STEPS = st.lists(REQUESTS | st.sampled_from(list(SCOPES)), min_size=2, max_size=8)


def tokens_of(target: Target) -> dict[str, str]:
    """Return a token of each user, for either authorizer, and two that are invalid."""
    tokens = {"expired": target.token(payload={"exp": 1}), "junk": "junk"}
    for user, scope in SCOPES.items():
        claims = {"user_id": user, "sub": user, "scope": scope, "token_version": "1"}
        tokens[user] = target.token(payload=claims)
    return tokens


def event_of(kind: str, stage: str, request: Request, tokens: dict[str, str]) -> Event:
    """Return the event of a request."""
    event = KINDS[kind](f"Bearer {tokens[request.user]}", f"{API}/{stage}/{request.route}")
    headers = {name: tokens[user] for name, user in request.headers.items()}
    headers |= event.get("headers") or {}
    query = {name: tokens[user] for name, user in request.query.items()}
    event |= {"headers": headers, "queryStringParameters": query, "path": f"/{request.route}"}
    if kind == "REST REQUEST":
        event["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    return event


def effects(policy: Any, stage: str) -> Any:
    """Return what a policy means to clients on every route, and to backends. None is a 401."""
    if policy is None:
        return None
    decisions = [decision(policy, f"{API}/{stage}/{route}") for route in ROUTES]
    return decisions, policy["principalId"], policy["context"]


def stub_of(items: dict[str, Any]) -> SimpleNamespace:
    """Return a DynamoDB client that reads these items."""

    def get_item(**request: Any) -> dict[str, Any]:
        item = items.get(request["Key"]["user_id"]["S"])
        if item is None:
            return {}
        names = request["ExpressionAttributeNames"].values()
        return {"Item": {name: value for name, value in item.items() if name in names}}

    return SimpleNamespace(get_item=get_item)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("users", ["", "users"], ids=["no table", "table"])
@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("script", WITH_POLICIES)
def test_client_and_backend_see_the_same_with_and_without_caching(
    aim: Any, script: str, listed: str, users: str, kind: str
) -> None:
    table = {"USER_CREDENTIALS_TABLE_NAME": users}
    target: Target = aim(script, ALLOWED_RESOURCE_ARNS=listed, **table, **AWS)
    tokens = tokens_of(target)

    @settings(max_examples=20)
    @given(st.sampled_from(STAGES), STEPS)
    def same_with_and_without_caching(stage: str, steps: list[Request | str]) -> None:
        items = {
            user: {"tokenVersion": {"S": "1"}, "scope": {"S": scope}}
            for user, scope in SCOPES.items()
        }
        vars(target.function.module)["dynamodb"] = stub_of(items)
        cache: dict[str, Any] = {}
        for step in steps:
            if isinstance(step, str):
                items.pop(step, None)
                cache.clear()  # the TTL passes
                continue
            policy = outcome(target.function, event_of(kind, stage, step, tokens))
            seen = effects(policy, stage)
            assert cache.setdefault(step.user, seen) == seen
            assert (policy is not None) == (step.user in (items if users else SCOPES))
            assert policy is None or policy["principalId"] == step.user

    same_with_and_without_caching()


# Whatever an anonymous client sends.

TEXT = st.text(max_size=20) | st.sampled_from(
    ["Bearer ", "Bearer a.b.c", "e30.e30.e30", "access_token", "\ud800", "\0", "=", ","]
)
HEADER_NAMES = TEXT | st.sampled_from(
    ["Authorization", "authorization", "AUTHORIZATION", "Sec-WebSocket-Protocol"]
)


@given(data=st.data())
@settings(max_examples=150)
def test_anonymous_request_is_always_unauthorized(target: Target, data: st.DataObject) -> None:
    if target.function.module.__name__ == "jwt_auth_token_websocket":
        event: Event = {"type": "REQUEST", "methodArn": f"{API}/prod/$connect"}
    else:
        kind = data.draw(st.sampled_from(list(KINDS.values())))
        event = kind(data.draw(TEXT), f"{API}/prod/GET/{data.draw(TEXT)}")
    headers = data.draw(st.none() | st.dictionaries(HEADER_NAMES, TEXT, max_size=4))
    several = data.draw(st.none() | st.dictionaries(HEADER_NAMES, st.lists(TEXT), max_size=4))
    query = data.draw(st.none() | st.dictionaries(TEXT, TEXT, max_size=3))
    event |= {"headers": headers, "multiValueHeaders": several, "queryStringParameters": query}
    assert outcome(target.function, event) is None
