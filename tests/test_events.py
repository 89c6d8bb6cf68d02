"""Every kind of API: the same decision behind each, safe to cache, from events as AWS documents them."""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deploy import API, ARN, Deploy, outcome
from support.events import KINDS, documented, http_event, request_event, token_event
from support.iam import decision
from support.tokens import Target, aimed_at

ANY_KIND = ["jwt_auth_token", "jwt_auth_token_google"]
SAMPLES = ["token", "token_console_test", "request", "http_api_1_0", "http_api_2_0"]
CONNECTS = ["websocket_connect_header", "websocket_connect_query"]
TOKENS: dict[str, Callable[[Target], str]] = {
    "good": lambda it: it.token(),
    "bad": lambda it: it.token(sign=lambda _: bytes(32)),
    "expired": lambda it: it.token(payload={"exp": it.claims["iat"] - 60}),
    "missing": lambda it: "",
    "doubled": lambda it: f"{it.token()},Bearer {it.token()}",
}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(
    ("target", "name"),
    [(script, name) for script in ANY_KIND for name in SAMPLES]
    + [("jwt_auth_token_websocket", it) for it in CONNECTS],
    indirect=["target"],
)
def test_decision_about_a_documented_event_depends_on_the_token_alone(
    target: Target, name: str, token: str
) -> None:
    event = documented(f"authorizer_{name}", TOKENS[token](target))
    answer = outcome(target.function, event)
    assert (answer is not None) == (token == "good")
    if answer:
        arn = event.get("routeArn") or event["methodArn"]
        stage = "/".join(arn.split("/")[:2])
        elsewhere = "silent" if name in CONNECTS else "Allow"
        assert (decision(answer, arn), decision(answer, f"{stage}/POST/other")) == (
            "Allow",
            elsewhere,
        )
        assert decision(answer, arn.replace(stage, f"{stage}2")) == "silent"


@pytest.mark.parametrize("target", ["jwt_auth_token_websocket"], indirect=True)
@pytest.mark.parametrize("name", SAMPLES)
def test_websocket_authorizer_elsewhere_names_the_file_to_use(target: Target, name: str) -> None:
    with pytest.raises(RuntimeError, match=r"take jwt_auth_token\.py$"):
        target.function(documented(f"authorizer_{name}", target.token()))


# Where the token is. T is a good token, B another one.


def rest(**headers: list[str]) -> dict[str, Any]:
    """Return the event of a REQUEST authorizer with these headers."""
    single = {name: values[-1] for name, values in headers.items()}
    return request_event("") | {"headers": single, "multiValueHeaders": headers}


def source(value: Any, version: str = "2.0") -> dict[str, Any]:
    """Return the event of an HTTP API with a good token in the header, and an identity source; ... leaves it out."""
    event = http_event(version, "Bearer T") | {"identitySource": value, "authorizationToken": None}
    return {name: member for name, member in event.items() if member is not ...}


PLACES: dict[str, tuple[dict[str, Any], bool]] = {
    "HTTP 2.0, identity source null: the header": (source(None), True),
    "HTTP 2.0, identity source absent: the header": (source(...), True),
    "HTTP 1.0, identity source null: the header": (source(None, "1.0"), True),
    "HTTP 1.0, identity source absent: the header": (source(..., "1.0"), True),
    "HTTP 2.0, empty list": (source([]), False),
    "HTTP 2.0, list of an empty text": (source([""]), False),
    "HTTP 2.0, list of null": (source([None]), False),
    "HTTP 2.0, a second entry": (source(["T", "x"]), False),
    "HTTP 2.0, the same entry twice": (source(["T", "T"]), False),
    "HTTP 1.0, empty text": (source("", "1.0"), False),
    "HTTP 1.0, a second entry": (source("T,x", "1.0"), False),
    "REST, header in lower case": (rest(authorization=["bearer T"]), True),
    "REST, header in upper case": (rest(AUTHORIZATION=["BEARER T"]), True),
    "REST, header in mixed case, bare token": (rest(aUTHORIZATION=["T"]), True),
    "REST, the same value twice": (rest(Authorization=["Bearer T", "Bearer T"]), True),
    "REST, the same value in two spellings of the name": (
        rest(Authorization=["T"], authorization=["T"]),
        True,
    ),
    "REST, two values, a bad one last": (rest(Authorization=["T", "x"]), False),
    "REST, two values, a bad one first": (rest(Authorization=["x", "T"]), False),
    "REST, two good tokens": (rest(Authorization=["T", "B"]), False),
    "REST, two values in two spellings of the name": (
        rest(Authorization=["T"], authorization=["B"]),
        False,
    ),
    "REST, one value alone of each name": (
        rest(Authorization=["T"]) | {"multiValueHeaders": None},
        True,
    ),
    "REST, another header": (
        rest(**{"X-Authorization": ["T"], "Proxy-Authorization": ["T"], "Cookie": ["T"]}),
        False,
    ),
    "REST, query string": (
        rest() | {"queryStringParameters": {"Authorization": "T", "access_token": "T"}},
        False,
    ),
    "REST, no headers": (rest() | {"headers": None, "multiValueHeaders": None}, False),
    "REST, header of nulls": (
        request_event(None) | {"multiValueHeaders": {"Authorization": None}},
        False,
    ),
    "REST TOKEN, header beside it": (token_event("x") | rest(Authorization=["T"]), False),
    "REST TOKEN, null": (token_event(None), False),
    "REST TOKEN, absent": ({"type": "TOKEN", "methodArn": ARN}, False),
}


@pytest.mark.parametrize("target", ANY_KIND, indirect=True)
@pytest.mark.parametrize("place", PLACES)
def test_token_is_read_from_the_identity_source_and_nowhere_else(
    target: Target, place: str
) -> None:
    event, admitted = PLACES[place]
    good = {"T": target.token(), "B": target.token(payload={"jti": "2"})}
    event = json.loads(re.sub(r"\b[TB]\b", lambda word: good[word[0]], json.dumps(event)))
    assert (outcome(target.function, event) is not None) == admitted


# Caching.

ROUTES = [
    "GET/api",
    "GET/",
    "POST/other/thing",
    "GET/admin/users",
    "DELETE/admin",
    "GET/a[1]",
    "GET/reports/1",
]
STAGES = ["prod", "$default"]
LISTS = {
    "no list": "",
    "list": f"{API}/*/GET/api, {API}/prod/GET/a[1],{API}/*/POST/oth?r*",
    "list with scopes": f"{API}/*/GET/api, admin={API}/*/admin/*, read={API}/*/GET/reports/*",
    "scopes alone": f"admin={API}/*/admin/*,read=*",
}
USERS = {
    "ann": "admin",
    "bob": ...,
    "cyd": "administrator Admin readers",
    "dot": "read admin",
}  # and their scopes
NAMES = [
    "Authorization",
    "X-Authorization",
    "Proxy-Authorization",
    "Cookie",
    "access_token",
    "identitySource",
]


class Asked(NamedTuple):
    """A request: whose token is the identity source, the route, and what else it carries."""

    user: str
    route: str
    headers: dict[str, str]
    query: dict[str, str]


WHO = st.sampled_from([*USERS, "expired", "junk"])
NOISE = st.dictionaries(st.sampled_from(NAMES), WHO, max_size=3)
REQUESTS = st.builds(Asked, WHO, st.sampled_from(ROUTES), NOISE, NOISE)


def event_of(kind: str, asked: Asked, stage: str, tokens: dict[str, str]) -> dict[str, Any]:
    """Return the event of a request, with every token that it carries beside the identity source."""
    event = KINDS[kind](f"Bearer {tokens[asked.user]}", f"{API}/{stage}/{asked.route}")
    headers = {name: tokens[user] for name, user in asked.headers.items()} | (
        event.get("headers") or {}
    )
    several = {name: [value] for name, value in headers.items()} if kind == "REST REQUEST" else None
    query = {name: tokens[user] for name, user in asked.query.items()}
    return event | {
        "headers": headers,
        "multiValueHeaders": several,
        "queryStringParameters": query,
        "path": "/x",
    }


def seen(answer: Any, stage: str) -> Any:
    """Return what clients get on every route, and what backends get, from an answer that API Gateway remembers."""
    if answer is None:
        return 401
    allowed = [decision(answer, f"{API}/{stage}/{route}") for route in ROUTES]
    return allowed, answer["principalId"], answer["context"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("script", "listed"),
    [("jwt_auth_token", name) for name in LISTS]
    + [("jwt_auth_token_google", name) for name in list(LISTS)[:2]],
)
def test_who_shares_an_identity_source_gets_the_same_answer_on_every_route(
    deploy: Deploy, kind: str, script: str, listed: str
) -> None:
    with aimed_at(script, deploy, ALLOWED_RESOURCE_ARNS=LISTS[listed]) as target:
        claim = "user_id" if script == "jwt_auth_token" else "sub"
        tokens = {
            user: target.token(payload={claim: user, "scope": scope})
            for user, scope in USERS.items()
        }
        tokens |= {"expired": target.token(payload={"exp": 1}), "junk": "junk"}

        @settings(max_examples=40)
        @given(st.sampled_from(STAGES), st.lists(REQUESTS, min_size=2, max_size=6))
        def cached_as_not_cached(stage: str, requests: list[Asked]) -> None:
            remembered: dict[str, Any] = {}
            for asked in requests:
                answer = seen(outcome(target.function, event_of(kind, asked, stage, tokens)), stage)
                assert remembered.setdefault(asked.user, answer) == answer
                assert (answer == 401) == (asked.user not in USERS)
                assert answer == 401 or answer[1] == asked.user

        cached_as_not_cached()


# Whatever a stranger sends.

TEXT = st.text(max_size=20) | st.sampled_from(
    ["Bearer ", "Bearer a.b.c", "e30.e30.", "\ud800", "\0", "=", ","]
)
HEADERS = st.dictionaries(
    st.sampled_from(["Authorization", "authorization"]) | TEXT, TEXT, max_size=4
)
SEVERAL = st.dictionaries(
    st.sampled_from(["Authorization", "AUTHORIZATION"]) | TEXT, st.lists(TEXT), max_size=4
)


@given(data=st.data())
@settings(max_examples=150)
def test_no_header_query_string_or_path_makes_anything_but_unauthorized(
    target: Target, data: st.DataObject
) -> None:
    arn = f"{API}/prod/GET/{data.draw(TEXT)}"
    if target.function.module.__name__ == "jwt_auth_token_websocket":
        event: dict[str, Any] = {"type": "REQUEST", "methodArn": f"{API}/prod/$connect"}
    else:
        event = data.draw(st.sampled_from(list(KINDS.values())))(data.draw(TEXT), arn)
    event |= {
        "headers": data.draw(st.none() | HEADERS),
        "multiValueHeaders": data.draw(st.none() | SEVERAL),
    }
    query = data.draw(st.none() | st.dictionaries(TEXT | st.just("access_token"), TEXT, max_size=3))
    assert (
        outcome(target.function, event | {"queryStringParameters": query, "path": data.draw(TEXT)})
        is None
    )
