"""Protected endpoint (GET /api). Returns the time, and the caller that the authorizer names.

Replace it with your own backend: the function shows where a backend finds the caller. It doesn't
protect itself: without an authorizer on the route, everybody gets a response.

Environment
    CORS_ALLOW_ORIGIN   optional
        The one origin whose pages may read the responses. Default: * (all). Let API Gateway
        answer the OPTIONS request that a browser sends first.
    AWS_LAMBDA_LOG_LEVEL   optional
        Lambda sets it if you choose a log level for the function. Default: INFO

Runtime      Python 3.11 or newer. Handler of a pasted file: lambda_function.lambda_handler
Layer        none
Permissions  CloudWatch Logs
Memory       128 MB, timeout 5 s.
Event        Lambda proxy integration of a REST, HTTP or WebSocket API, behind an authorizer. What
             the authorizer returns is in requestContext.authorizer, in one of these forms:
                 {"principalId": <user>, ...}    Lambda authorizer of a REST or WebSocket API, or
                                                 of an HTTP API (integration with payload 1.0)
                 {"lambda": <context>}           Lambda authorizer of an HTTP API (integration
                                                 with payload 2.0)
                 {"jwt": {"claims": <claims>}}   JWT authorizer of an HTTP API (payload 2.0)
                 {"claims": <claims>}            JWT or Cognito authorizer of a REST API, or JWT
                                                 authorizer of an HTTP API (payload 1.0)
Responses    200  {"timestamp": <Unix seconds>, "caller": "<user>"}. The caller is null if the
                  authorizer names none, or if there is no authorizer. On the $connect route of a
                  WebSocket API, the response confirms the subprotocol access_token if the client
                  offers it. Otherwise, a browser closes the connection.
             502  A setting is invalid. The log says which. (HTTP APIs respond with 500.)
Caching      None: the response forbids it. Don't turn on the stage cache of a REST API for this
             route: it could give the response for one caller to another.
Copies       Code below a line "The same in ..." also stands in other files of the repository.
             If you change it, change it there, too.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import json
import logging
import os
import re
import time
from typing import Any

logger = logging.getLogger(__name__)
if not os.environ.get("AWS_LAMBDA_LOG_LEVEL"):  # if it is set, Lambda's runtime sets the level
    logger.setLevel(logging.INFO)


# ---- The same in all handlers that have settings ----
def setting(name: str, default: str = "") -> str:
    """Return an environment variable, or the default if the variable is unset or empty."""
    value = os.environ.get(name) or default
    if value.isspace():
        raise ValueError(f"{name} contains only spaces. Set a value, or remove the variable.")
    return value


# ---- The same in jwt_create_token.py and restricted_access_lambda.py ----
def cors_origin() -> str:
    """Return CORS_ALLOW_ORIGIN: one origin (RFC 6454 §6.2), or *."""
    origin = setting("CORS_ALLOW_ORIGIN", "*")
    if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s,/]+", origin):
        raise ValueError(
            "CORS_ALLOW_ORIGIN is not an origin. Use one origin without a path or slash at its "
            "end, such as https://app.example.com, or * for all."
        )
    return origin


# ---- End of the copies ----

CORS_ALLOW_ORIGIN = cors_origin()


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return the time in Unix seconds and the caller."""
    caller = caller_in(event)
    logger.info("request served for %r", caller)
    reply = response(200, {"timestamp": int(time.time()), "caller": caller})
    if is_websocket_connect(event) and offers_access_token(event):
        # Otherwise, a browser closes the connection (RFC 6455 §4.1).
        reply["headers"]["Sec-WebSocket-Protocol"] = "access_token"
    return reply


def caller_in(event: dict[str, Any]) -> Any:
    """Return the user whom the authorizer names, or None."""
    authorizer = (event.get("requestContext") or {}).get("authorizer") or {}
    if "principalId" in authorizer:  # Lambda authorizer
        return authorizer["principalId"]
    if "lambda" in authorizer:  # Lambda authorizer, HTTP API with payload 2.0
        values = authorizer["lambda"] or {}
        return values.get("user_id") or values.get("sub")
    if "jwt" in authorizer:  # JWT authorizer, HTTP API with payload 2.0
        return authorizer["jwt"]["claims"].get("sub")
    claims = authorizer.get("claims") or {}  # JWT or Cognito authorizer
    return claims.get("sub")


def is_websocket_connect(event: dict[str, Any]) -> bool:
    """Tell whether the event is for the route $connect of a WebSocket API."""
    request = event.get("requestContext") or {}
    return bool(request.get("routeKey") == "$connect")


def offers_access_token(event: dict[str, Any]) -> bool:
    """Tell whether the client offers the subprotocol access_token (RFC 6455 §1.9)."""
    for name, value in (event.get("headers") or {}).items():
        if name.lower() == "sec-websocket-protocol":
            return "access_token" in [offered.strip() for offered in value.split(",")]
    return False


# ---- The same in jwt_create_token.py and restricted_access_lambda.py ----
def response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return a response of Lambda proxy integration that no cache stores."""
    return {
        "statusCode": status,
        "headers": {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "Access-Control-Allow-Origin": CORS_ALLOW_ORIGIN,
        },
        "body": json.dumps(body),
    }
