"""Protected MCP server for AI agents, POST /mcp. Callers get the tools that their scopes allow.

It speaks the Model Context Protocol (MCP) over Streamable HTTP, without sessions and with JSON
responses only. Revisions: 2025-06-18, 2025-11-25 (both begin with "initialize") and 2026-07-28.
To offer your own tools, change TOOLS and the functions above it. The rest can stay as it is.

Environment
    AWS_LAMBDA_LOG_LEVEL   optional
        Lambda sets it if you choose a log level for the function. Default: INFO

Runtime      Python 3.11 or newer. Handler of a pasted file: lambda_function.lambda_handler
Layer        none
Permissions  CloudWatch Logs, and what your tools need.
Memory       256 MB, timeout 10 s, or what your tools need. API Gateway gives up after 29 s.
Event        Lambda proxy integration of a REST or HTTP API, behind an authorizer. What the
             authorizer returns is in requestContext.authorizer. It names the user (user_id, sub or
             principalId) and the scope (words separated by spaces), in one of these forms:
                 {"principalId": <user>, ...}    Lambda authorizer of a REST API, or of an HTTP
                                                 API (integration with payload 1.0)
                 {"lambda": <context>}           Lambda authorizer of an HTTP API (integration
                                                 with payload 2.0)
                 {"jwt": {"claims": <claims>}}   JWT authorizer of an HTTP API (payload 2.0)
                 {"claims": <claims>}            JWT or Cognito authorizer of a REST API, or JWT
                                                 authorizer of an HTTP API (payload 1.0)
Responses    200  The result, as JSON-RPC. A tool that fails has a result with "isError": true.
             202  The message is a notification. It has no result.
             400  JSON-RPC error: the body isn't one JSON-RPC message or has more than 400,000
                  characters, the revision isn't supported, or (2026-07-28) a header is missing or
                  contradicts the body.
             401  JSON-RPC error: the route has no authorizer that names the user.
             405  The HTTP method isn't POST.
             A tool that is unknown or outside the caller's scope, and wrong parameters, are a
             JSON-RPC error with status 400, and an unknown method with 404. In the revisions
             before 2026-07-28, both have status 200. There are no CORS headers: HTTP APIs set them.
Caching      None: the response forbids it. Scopes are checked here and not in the authorizer's
             policy, because API Gateway caches the policy, and the tool's name is in the body.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import base64
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)
if not os.environ.get("AWS_LAMBDA_LOG_LEVEL"):  # if it is set, Lambda's runtime sets the level
    logger.setLevel(logging.INFO)


# The tools. A tool gets the arguments (a JSON object) and the user, and returns text for the agent.
# Nothing makes an agent follow the schema, so a tool validates its own arguments.


class ToolError(Exception):
    """A tool raises this to tell the agent what is wrong and how to fix it."""


def current_time(arguments: dict[str, Any], user: str) -> str:
    """Return the time in Unix seconds."""
    return str(int(time.time()))


def announce(arguments: dict[str, Any], user: str) -> str:
    """Return an announcement: an example of what only users with the scope admin may do."""
    message = arguments.get("message")
    if not isinstance(message, str):
        raise ToolError("The argument message must be text.")
    return f"{user} announces: {message}"


class Tool(NamedTuple):
    """What an agent sees of a tool (description, schema), who may call it, and what it does."""

    description: str
    schema: dict[str, Any]
    scope: str | None  # None: every caller that the authorizer accepts
    function: Callable[[dict[str, Any], str], str]


TOOLS = {
    "time": Tool(
        description="Returns the current time in Unix seconds.",
        schema={"type": "object", "additionalProperties": False},
        scope=None,
        function=current_time,
    ),
    "announce": Tool(
        description="Returns a message in the form of an announcement.",
        schema={
            "type": "object",
            "properties": {"message": {"type": "string"}},
            "required": ["message"],
        },
        scope="admin",
        function=announce,
    ),
}


# The protocol, from here on: https://modelcontextprotocol.io/specification/2026-07-28

SERVER = {"name": "restricted_access_mcp", "version": "2.0.0"}

# A client of the earlier revisions begins with "initialize". In the newest one, every request
# describes the client in params._meta, and repeats that and the method in headers.
HANDSHAKE_REVISIONS = ["2025-06-18", "2025-11-25"]
STATELESS_REVISION = "2026-07-28"
REVISIONS = [*HANDSHAKE_REVISIONS, STATELESS_REVISION]

# Members of _meta
REVISION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
SERVER_KEY = "io.modelcontextprotocol/serverInfo"

# Codes of JSON-RPC errors. The last two are MCP's.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020
UNSUPPORTED_REVISION = -32022

CAPABILITIES: dict[str, Any] = {"tools": {}}
NOT_CACHED = {"ttlMs": 0, "cacheScope": "private"}  # the tools of a caller can change at any time

# A response repeats the request's id. Encoded twice as JSON, one character takes up to 14 bytes,
# and a response of Lambda has at most 6 MB.
MAX_BODY_LENGTH = 400_000  # characters


class JsonRpcError(Exception):
    """What is wrong with a message, for the client."""

    def __init__(self, code: int, text: str, **data: object) -> None:
        super().__init__(text)
        self.code = code
        self.data = data


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return the response to one HTTP request."""
    user, scope = caller_of(event)
    if not user:
        # Fails closed: a forgotten authorizer must not open the tools, not even those for everyone.
        logger.error("refused: no authorizer that names the user: attach one to this route")
        error = JsonRpcError(INVALID_REQUEST, "This route has no authorizer that names the user")
        return error_response(401, None, error)
    if http_method(event) != "POST":
        return {"statusCode": 405, "headers": {"Allow": "POST"}}
    return response_to_post(event, user, scope)


def caller_of(event: dict[str, Any]) -> tuple[str, str]:
    """Return the user and the scope that the authorizer found, each "" if there is none."""
    context = authorizer_context(event)
    user = context.get("user_id") or context.get("sub") or context.get("principalId") or ""
    return user, context.get("scope") or ""


def authorizer_context(event: dict[str, Any]) -> dict[str, Any]:
    """Return what the authorizer said about the caller, {} if there is no authorizer."""
    authorizer = (event.get("requestContext") or {}).get("authorizer") or {}
    if "principalId" in authorizer:  # Lambda authorizer
        return dict(authorizer)
    if "lambda" in authorizer:  # Lambda authorizer, HTTP API with payload 2.0
        return authorizer["lambda"] or {}
    if "jwt" in authorizer:  # JWT authorizer, HTTP API with payload 2.0
        return authorizer["jwt"]["claims"] or {}
    return authorizer.get("claims") or {}  # JWT or Cognito authorizer


def http_method(event: dict[str, Any]) -> Any:
    """Return the HTTP method, which payload 2.0 has in another place."""
    http = (event.get("requestContext") or {}).get("http") or {}
    return event.get("httpMethod") or http.get("method")


def response_to_post(event: dict[str, Any], user: str, scope: str) -> dict[str, Any]:
    """Return the response to one MCP message: a result, an error, or nothing for a notification."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    revision = headers.get("mcp-protocol-version")
    message: dict[str, Any] = {}
    try:
        message = received_message(event)
        check_revision(revision)
        if "id" not in message:
            return {"statusCode": 202}
        check_metadata(message, headers)
        result = result_of(message, user, scope)
    except JsonRpcError as error:
        logger.info("refused: %.200s: %r with scope %r", error, user, scope)
        return error_response(status_of(error, revision), message.get("id"), error)
    logger.info("request served for %r: %s", user, log_label(message))
    if revision == STATELESS_REVISION:
        result |= {"resultType": "complete", "_meta": {SERVER_KEY: SERVER}}
    return json_response(200, {"jsonrpc": "2.0", "id": message["id"], "result": result})


def received_message(event: dict[str, Any]) -> dict[str, Any]:
    """Return the request or notification in the body, or raise JsonRpcError."""
    body = event.get("body") or ""
    if len(body) > MAX_BODY_LENGTH:
        raise JsonRpcError(INVALID_REQUEST, f"The body has more than {MAX_BODY_LENGTH} characters")
    try:
        if event.get("isBase64Encoded"):
            body = base64.b64decode(body)
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise JsonRpcError(PARSE_ERROR, "The body isn't JSON") from None
    if not is_request_or_notification(message):
        raise JsonRpcError(INVALID_REQUEST, "The body isn't one JSON-RPC request or notification")
    return dict(message)


def is_request_or_notification(message: object) -> bool:
    """Tell whether a JSON value is a single message that a client may send."""
    if not isinstance(message, dict):
        return False
    if message.get("jsonrpc") != "2.0" or not isinstance(message.get("method"), str):
        return False
    return "id" not in message or type(message["id"]) in (
        str,
        int,
    )  # not isinstance: True is an int


def check_revision(revision: str | None) -> None:
    """Raise JsonRpcError if a message is of a revision that isn't supported."""
    # Clients of the earlier revisions send no header with "initialize". Requests without the header
    # are treated as those of an earlier revision, so that you can try the server with curl.
    if revision is not None and revision not in REVISIONS:
        raise JsonRpcError(
            UNSUPPORTED_REVISION,
            "Unsupported protocol version",
            supported=REVISIONS,
            requested=revision,
        )


def check_metadata(message: dict[str, Any], headers: dict[str, str]) -> None:
    """Raise JsonRpcError unless a request of 2026-07-28 has its metadata, in the headers too."""
    params = optional_object(message, "params")
    meta = optional_object(params, "_meta")
    in_header = headers.get("mcp-protocol-version") == STATELESS_REVISION
    if not in_header and REVISION_KEY not in meta:
        return  # a request of an earlier revision, which has no metadata
    for key in (REVISION_KEY, CAPABILITIES_KEY):
        if key not in meta:
            raise JsonRpcError(INVALID_PARAMS, f"params._meta has no {key}")
    check_header(headers, "mcp-protocol-version", meta[REVISION_KEY])
    check_header(headers, "mcp-method", message["method"])
    if message["method"] == "tools/call":
        check_header(headers, "mcp-name", params.get("name"))


def check_header(headers: dict[str, str], name: str, value: object) -> None:
    """Raise JsonRpcError unless a header has the value that the body has."""
    if not isinstance(value, str) or headers.get(name) not in (value, base64_form(value)):
        raise JsonRpcError(HEADER_MISMATCH, f"The header {name} is missing or contradicts the body")


def base64_form(value: str) -> str:
    """Return the form in which a header has a value that isn't plain ASCII."""
    encoded = base64.b64encode(value.encode(errors="replace")).decode()
    return f"=?base64?{encoded}?="


def optional_object(container: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a member that must be a JSON object, {} if it is missing or null."""
    value = container.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise JsonRpcError(INVALID_PARAMS, f"{name} must be an object")
    return value


def result_of(message: dict[str, Any], user: str, scope: str) -> dict[str, Any]:
    """Return the result of a request, or raise JsonRpcError."""
    params = optional_object(message, "params")
    match message["method"]:
        case "initialize":
            return initialize(params)
        case "server/discover":
            return {"supportedVersions": REVISIONS, "capabilities": CAPABILITIES, **NOT_CACHED}
        case "ping":
            return {}
        case "tools/list":
            return list_tools(scope)
        case "tools/call":
            return call_tool(params, user, scope)
        case _:
            raise JsonRpcError(METHOD_NOT_FOUND, f"Unknown method: {message['method']!r}")


def initialize(params: dict[str, Any]) -> dict[str, Any]:
    """Answer the first request of a client before 2026-07-28. The server keeps no state."""
    revision = params.get("protocolVersion")
    if revision not in HANDSHAKE_REVISIONS:
        revision = HANDSHAKE_REVISIONS[-1]
    return {"protocolVersion": revision, "capabilities": CAPABILITIES, "serverInfo": SERVER}


def list_tools(scope: str) -> dict[str, Any]:
    """Return the tools that the scope allows, as an agent sees them."""
    tools = [
        {"name": name, "description": tool.description, "inputSchema": tool.schema}
        for name, tool in allowed_tools(scope).items()
    ]
    return {"tools": tools, **NOT_CACHED}


def allowed_tools(scope: str) -> dict[str, Tool]:
    """Return the tools for everybody, and those for a word of the scope."""
    scopes = [None, *scope.split()]
    return {name: tool for name, tool in TOOLS.items() if tool.scope in scopes}


def call_tool(params: dict[str, Any], user: str, scope: str) -> dict[str, Any]:
    """Return the result of a tool, or raise JsonRpcError if the caller has no such tool."""
    name = params.get("name")
    if not isinstance(name, str):
        raise JsonRpcError(INVALID_PARAMS, "name must be text")
    tool = allowed_tools(scope).get(name)
    if tool is None:
        raise JsonRpcError(INVALID_PARAMS, f"Unknown tool: {name!r}")
    arguments = optional_object(params, "arguments")
    try:
        return tool_result(str(tool.function(arguments, user)))
    except ToolError as error:
        return tool_result(str(error), failed=True)
    except Exception as error:
        # Only the class: the message may quote what the agent must not see.
        logger.error("tool %r failed: %s", name, type(error).__name__)
        return tool_result("The tool failed. The server's log names the error.", failed=True)


def tool_result(text: str, failed: bool = False) -> dict[str, Any]:
    """Return what a tool said, for the agent to read."""
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def log_label(message: dict[str, Any]) -> str:
    """Return what a request was about, such as "tools/call time", for the log."""
    if message["method"] == "tools/call":
        return f"tools/call {message['params']['name']}"
    return str(message["method"])


def status_of(error: JsonRpcError, revision: str | None) -> int:
    """Return the HTTP status of a JSON-RPC error."""
    if revision != STATELESS_REVISION and error.code in (METHOD_NOT_FOUND, INVALID_PARAMS):
        # Earlier clients read the error from no other status, and 404 means a lost session to them.
        return 200
    if error.code == METHOD_NOT_FOUND:
        return 404
    return 400


def error_response(status: int, request_id: object, error: JsonRpcError) -> dict[str, Any]:
    """Return a response with a JSON-RPC error."""
    content: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.data:
        content["data"] = error.data
    return json_response(status, {"jsonrpc": "2.0", "id": request_id, "error": content})


def json_response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return a response of Lambda proxy integration that no cache stores."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}
