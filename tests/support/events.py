"""The events that API Gateway sends: built here, and as AWS documents them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from support.deploy import ARN, CONNECT_ARN, WATCH

EVENTS = Path(__file__).parent.parent / "events"


def token_event(token: Any, method_arn: str = ARN) -> dict[str, Any]:
    """Return the event of a REST API's TOKEN authorizer."""
    if isinstance(token, str):
        WATCH.guards(token)
    return {"type": "TOKEN", "authorizationToken": token, "methodArn": method_arn}


def request_event(token: Any, method_arn: str = ARN) -> dict[str, Any]:
    """Return the event of a REST API's REQUEST authorizer."""
    return {
        "type": "REQUEST",
        "methodArn": method_arn,
        "headers": {"Host": "api.example.com", "Authorization": token},
        "multiValueHeaders": {"Host": ["api.example.com"], "Authorization": [token]},
        "queryStringParameters": None,
        "requestContext": {"stage": "prod"},
    }


def http_event(version: str, token: Any, route_arn: str = ARN) -> dict[str, Any]:
    """Return the event of an HTTP API's authorizer, with payload version 1.0 or 2.0."""
    event = {
        "version": version,
        "type": "REQUEST",
        "headers": {"host": "api.example.com", "authorization": token},
    }
    if version == "2.0":
        return event | {"routeArn": route_arn, "identitySource": [token]}
    return event | {"methodArn": route_arn, "identitySource": token, "authorizationToken": token}


KINDS: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "REST TOKEN": token_event,
    "REST REQUEST": request_event,
    "HTTP 1.0": partial(http_event, "1.0"),
    "HTTP 2.0": partial(http_event, "2.0"),
}


def connect_event(headers: Any = None, query: Any = None) -> dict[str, Any]:
    """Return the event of a WebSocket API's $connect authorizer."""
    return {
        "type": "REQUEST",
        "methodArn": CONNECT_ARN,
        "headers": headers,
        "queryStringParameters": query,
        "requestContext": {"routeKey": "$connect", "eventType": "CONNECT", "stage": "prod"},
    }


def proxy_event(body: Any, **changes: Any) -> dict[str, Any]:
    """Return the event of a REST API's Lambda proxy integration."""
    event = {
        "httpMethod": "POST",
        "path": "/auth",
        "headers": None,
        "body": body,
        "isBase64Encoded": False,
    }
    return event | changes


def documented(name: str, token: str = "") -> Any:
    """Return an event with every field that AWS documents, and a token in the places for it."""
    sample = json.loads((EVENTS / f"{name}.json").read_text().replace("{token}", token))
    assert sample["documentation"].startswith("https://docs.aws.amazon.com/")
    return sample["event"]
