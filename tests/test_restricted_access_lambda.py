"""The protected endpoint: it says the time, and whom the authorizer let in."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.functions import Function


@pytest.fixture
def call(deploy: Callable[..., Function]) -> Function:
    return deploy("restricted_access_lambda")


def get_event(authorizer: Any) -> dict[str, Any]:
    """Return the event of GET /api behind an authorizer."""
    return {"httpMethod": "GET", "path": "/api", "body": None, "requestContext": {"authorizer": authorizer}}


@pytest.mark.parametrize(
    ("event", "caller"),
    [
        pytest.param(
            get_event({"principalId": "testuser", "user_id": "x", "authorized": "true"}), "testuser", id="JWT"
        ),
        pytest.param(get_event({"principalId": "Zoë\n", "integrationLatency": 5}), "Zoë\n", id="not ASCII"),
        pytest.param(get_event({"user_id": "testuser"}), None, id="no principal"),
        pytest.param(get_event({}), None, id="empty authorizer"),
        pytest.param(get_event(None), None, id="null authorizer"),
        pytest.param({"requestContext": {}}, None, id="no authorizer"),
        pytest.param({"requestContext": None}, None, id="null context"),
        pytest.param({}, None, id="console test"),
    ],
)
def test_answers_the_time_and_the_caller(
    call: Function, caplog: pytest.LogCaptureFixture, event: dict[str, Any], caller: str | None
) -> None:
    before = int(time.time())
    answer = call(event)
    body = json.loads(answer["body"])
    assert (answer["statusCode"], set(body), body["caller"]) == (200, {"timestamp", "caller"}, caller)
    assert type(body["timestamp"]) is int
    assert before <= body["timestamp"] <= time.time()
    assert caplog.record_tuples == [("root", logging.INFO, f"answered: {caller!r}")]


@pytest.mark.parametrize(
    ("environment", "origin"),
    [
        pytest.param({}, "*", id="not set"),
        pytest.param({"CORS_ALLOW_ORIGIN": ""}, "*", id="empty"),
        pytest.param({"CORS_ALLOW_ORIGIN": "https://app.example.com:8443"}, "https://app.example.com:8443", id="one"),
    ],
)
def test_answer_is_json_for_pages_of_the_configured_origin(
    deploy: Callable[..., Function], environment: dict[str, str], origin: str
) -> None:
    assert deploy("restricted_access_lambda", **environment)({})["headers"] == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": origin,
    }


@pytest.mark.parametrize("origin", ["app.example.com", "https://app.example.com/path", "https://a, https://b", "* "])
def test_bad_origin_stops_the_function(deploy: Callable[..., Function], origin: str) -> None:
    with pytest.raises(ValueError, match="^CORS_ALLOW_ORIGIN must "):
        deploy("restricted_access_lambda", CORS_ALLOW_ORIGIN=origin)
