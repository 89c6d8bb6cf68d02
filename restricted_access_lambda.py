"""The protected endpoint, GET /api: answers the time, and who the authorizer says is calling.

Environment
    CORS_ALLOW_ORIGIN  optional   the one origin whose pages may read the answer; default *

Layer        none
Permissions  CloudWatch Logs only
Event        Lambda proxy integration behind an authorizer, whose answer is in requestContext.authorizer:
             REST API, HTTP API with payload 1.0, WebSocket API: principalId, and the context beside it, all as strings
             HTTP API with payload 2.0: {"lambda": {...}}, the context alone, types kept
Answers      200  {"timestamp": <Unix seconds>, "caller": "<principal>", or null where there is no authorizer}
             502  from API Gateway (HTTP API: 500): a setting is bad (the log says why)
Caching      none: no cache keeps an answer (no-store)
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import json
import logging
import os
import re
import time
from typing import Any

logger = logging.getLogger()
logger.setLevel(logging.INFO)

CORS_ALLOW_ORIGIN = os.environ.get("CORS_ALLOW_ORIGIN") or "*"
if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^\s,/]+", CORS_ALLOW_ORIGIN):
    raise ValueError(
        "CORS_ALLOW_ORIGIN must be * or one origin without a path, such as https://app.example.com"
    )


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer the time in Unix seconds and the caller's principal, or null where there is no authorizer."""
    authorizer = (event.get("requestContext") or {}).get("authorizer") or {}
    context_values = authorizer.get("lambda") or {}
    caller = (
        authorizer.get("principalId") or context_values.get("user_id") or context_values.get("sub")
    )
    logger.info("answered: %r", caller)
    return answer(200, {"timestamp": int(time.time()), "caller": caller})


def answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of Lambda proxy integration that no cache keeps and that CORS_ALLOW_ORIGIN may read."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    headers["Access-Control-Allow-Origin"] = CORS_ALLOW_ORIGIN
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}
