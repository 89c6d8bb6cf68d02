"""The protected MCP server: what a caller sees, what it may call, and what a message gets."""

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deploy import API, SECRET, Deploy, Function, outcome
from support.events import KINDS
from support.fake_dynamodb import fake_dynamodb
from support.files import ROOT
from support.http_server import QuietHandler, listening
from support.iam import decision
from support.runtime_api import RUNTIME, linked, started
from support.tokens import make_jwt

SCRIPT = "restricted_access_mcp"
MCP_ARN = f"{API}/prod/POST/mcp"
STATELESS = "2026-07-28"
HANDSHAKE = ["2025-06-18", "2025-11-25"]
META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientCapabilities": {},
}
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_REVISION = -32020, -32022
ANNOUNCEMENT = {"message": "Maintenance at noon"}


@pytest.fixture
def server(deploy: Deploy) -> Function:
    return deploy(SCRIPT)


def http_api_event(body: Any, headers: Any = None, scope: str = "") -> dict[str, Any]:
    """Return the event of an HTTP API with payload 2.0, behind jwt_auth_token.py."""
    context = {"user_id": "anna", "scope": scope, "authorized": True}
    return {
        "version": "2.0",
        "headers": headers or {},
        "requestContext": {"http": {"method": "POST"}, "authorizer": {"lambda": context}},
        "body": body,
        "isBase64Encoded": False,
    }


def rest_api_event(body: Any, headers: Any = None, scope: str = "") -> dict[str, Any]:
    """Return the event of a REST API or of payload 1.0, behind jwt_auth_token.py."""
    context = {"principalId": "anna", "user_id": "anna", "scope": scope, "authorized": "true"}
    return {
        "httpMethod": "POST",
        "headers": headers,
        "requestContext": {"authorizer": context},
        "body": body,
        "isBase64Encoded": False,
    }


def request(method: str, **params: Any) -> dict[str, Any]:
    """Return a JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the request that calls a tool."""
    return request("tools/call", name=name, arguments=arguments)


def stateless(message: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a request of 2026-07-28 and its headers; a change to None leaves a header out."""
    params = message["params"]
    headers = {"MCP-Protocol-Version": STATELESS, "Mcp-Method": message["method"]}
    if message["method"] == "tools/call":
        headers["Mcp-Name"] = params["name"]
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    headers = {name: value for name, value in headers.items() if value is not None}
    return {**message, "params": {**params, "_meta": dict(META)}}, headers


def send(
    server: Function, message: Any, headers: Any = None, scope: str = ""
) -> tuple[int, dict[str, Any]]:
    """Return status and body of the response to a message that an HTTP API passes on."""
    response = server(http_api_event(json.dumps(message), headers, scope))
    return response["statusCode"], json.loads(response["body"])


def text_of(body: dict[str, Any]) -> str:
    """Return what a tool said."""
    (content,) = body["result"]["content"]
    assert content["type"] == "text"
    return str(content["text"])


def names(body: dict[str, Any]) -> list[str]:
    """Return the names of the listed tools."""
    return [tool["name"] for tool in body["result"]["tools"]]


# One test for each sentence of the docstring.


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("", ["time"]),
        ("read", ["time"]),
        ("administrator", ["time"]),
        ("admin", ["time", "announce"]),
        ("read admin", ["time", "announce"]),
    ],
)
def test_callers_get_the_tools_that_their_scopes_allow(
    server: Function, scope: str, expected: list[str]
) -> None:
    status, body = send(server, request("tools/list"), scope=scope)
    assert (status, names(body)) == (200, expected)


def test_tool_is_listed_with_its_description_and_schema(server: Function) -> None:
    _, body = send(server, request("tools/list"), scope="admin")
    time_tool, admin_tool = body["result"]["tools"]
    assert time_tool == {
        "name": "time",
        "description": "Returns the current time in Unix seconds.",
        "inputSchema": {"type": "object", "additionalProperties": False},
    }
    assert admin_tool["inputSchema"]["required"] == ["message"]


@pytest.mark.parametrize("revision", HANDSHAKE)
def test_earlier_revisions_begin_with_initialize(server: Function, revision: str) -> None:
    message = request("initialize", protocolVersion=revision, capabilities={}, clientInfo={})
    status, body = send(server, message)
    assert status == 200
    assert body["result"] == {
        "protocolVersion": revision,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "restricted_access_mcp", "version": "2.0.0"},
    }


@pytest.mark.parametrize("revision", ["2024-11-05", STATELESS, "9999-99-99", 1, None, [], {}])
def test_initialize_with_another_revision_offers_the_newest_with_initialize(
    server: Function, revision: Any
) -> None:
    _, body = send(server, request("initialize", protocolVersion=revision))
    assert body["result"]["protocolVersion"] == "2025-11-25"


def test_revision_2026_07_28_needs_no_initialize(server: Function) -> None:
    message, headers = stateless(request("server/discover"))
    status, body = send(server, message, headers)
    assert status == 200
    assert body["result"] == {
        "resultType": "complete",
        "supportedVersions": [*HANDSHAKE, STATELESS],
        "capabilities": {"tools": {}},
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {
            "io.modelcontextprotocol/serverInfo": {
                "name": "restricted_access_mcp",
                "version": "2.0.0",
            }
        },
    }


@pytest.mark.parametrize("revision", [None, *HANDSHAKE])
def test_result_of_an_earlier_revision_has_no_members_of_the_new_one(
    server: Function, revision: str | None
) -> None:
    headers = {"mcp-protocol-version": revision} if revision else {}
    assert send(server, request("ping"), headers) == (
        200,
        {"jsonrpc": "2.0", "id": 1, "result": {}},
    )


def test_own_tool_is_an_entry_of_tools(server: Function) -> None:
    tool = server.module.Tool("Says hello.", {"type": "object"}, "greet", lambda _, user: user)
    server.module.TOOLS["hello"] = tool
    _, listed = send(server, request("tools/list"), scope="greet")
    _, called = send(server, call("hello"), scope="greet")
    assert (names(listed), text_of(called)) == (["time", "hello"], "anna")
    assert names(send(server, request("tools/list"), scope="admin")[1]) == ["time", "announce"]


@pytest.mark.parametrize("make", [http_api_event, rest_api_event])
def test_event_of_a_rest_or_http_api_names_user_and_scope(
    server: Function, make: Callable[..., dict[str, Any]]
) -> None:
    event = make(json.dumps(call("announce", **ANNOUNCEMENT)), None, "read admin")
    body = json.loads(server(event)["body"])
    assert text_of(body) == "anna announces: Maintenance at noon"


CONTEXTS: dict[str, Any] = {
    "JWT authorizer, payload 2.0": {"lambda": {"user_id": "anna", "scope": "admin"}},
    "Google authorizer, payload 2.0": {"lambda": {"sub": "anna", "scope": "admin"}},
    "Google authorizer, REST": {"principalId": "anna", "sub": "anna", "scope": "admin"},
    "another authorizer, REST": {"principalId": "anna", "scope": "admin"},
    "JWT authorizer of API Gateway, HTTP API": {
        "jwt": {"claims": {"sub": "anna", "scope": "openid admin"}, "scopes": None}
    },
    "JWT authorizer of API Gateway, REST API": {"claims": {"sub": "anna", "scope": "admin"}},
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_authorizer_names_the_user_and_the_scope(server: Function, context: Any) -> None:
    event = http_api_event(json.dumps(call("announce", **ANNOUNCEMENT)))
    event["requestContext"]["authorizer"] = context
    assert text_of(json.loads(server(event)["body"])).startswith("anna announces")


def test_result_is_json_rpc_with_status_200(server: Function) -> None:
    before = int(time.time())
    status, body = send(server, call("time"))
    assert (status, body["jsonrpc"], body["id"]) == (200, "2.0", 1)
    assert before <= int(text_of(body)) <= time.time()
    assert body["result"]["isError"] is False


def test_response_is_json_that_no_cache_stores(server: Function) -> None:
    response = server(http_api_event(json.dumps(call("time"))))
    assert response["headers"] == {"Content-Type": "application/json", "Cache-Control": "no-store"}


@pytest.mark.parametrize("arguments", [{}, {"message": 1}, {"message": None}])
def test_tool_that_reports_an_error_is_a_result_with_is_error(
    server: Function, arguments: dict[str, Any]
) -> None:
    status, body = send(server, call("announce", **arguments), scope="admin")
    assert (status, body["result"]["isError"]) == (200, True)
    assert text_of(body) == "The argument message must be text."


@pytest.mark.parametrize("value", [1, None, Decimal("1.5"), {"a": 1}, "\ud800"])
def test_what_a_tool_returns_becomes_text(server: Function, value: Any) -> None:
    time_tool = server.module.TOOLS["time"]
    server.module.TOOLS["time"] = time_tool._replace(function=lambda *_: value)
    status, body = send(server, call("time"))
    assert (status, text_of(body)) == (200, str(value))


def test_tool_that_raises_is_a_result_that_says_nothing_else(
    server: Function, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(arguments: dict[str, Any], user: str) -> str:
        raise KeyError(SECRET)

    server.module.TOOLS["broken"] = server.module.Tool("Fails.", {"type": "object"}, None, broken)
    status, body = send(server, call("broken"))
    assert (status, body["result"]["isError"]) == (200, True)
    assert text_of(body) == "The tool failed. The server's log names the error."
    assert caplog.record_tuples[0] == (SCRIPT, logging.ERROR, "tool 'broken' failed: KeyError")
    assert SECRET not in caplog.text


@pytest.mark.parametrize("revision", [None, *HANDSHAKE, STATELESS])
@pytest.mark.parametrize("method", ["notifications/initialized", "tools/call", "unknown"])
def test_notification_has_status_202_and_no_effect(
    server: Function, revision: str | None, method: str
) -> None:
    server.module.TOOLS["time"] = server.module.TOOLS["time"]._replace(function=pytest.fail)
    message = {"jsonrpc": "2.0", "method": method, "params": {"name": "time"}}
    headers = {"mcp-protocol-version": revision} if revision else {}
    assert server(http_api_event(json.dumps(message), headers)) == {"statusCode": 202}


BAD_BODIES: dict[str, tuple[Any, int]] = {
    "no body": (None, PARSE_ERROR),
    "empty": ("", PARSE_ERROR),
    "no JSON": ("{", PARSE_ERROR),
    "nested too deep": ("[" * 100_000, PARSE_ERROR),
    "a number too long": ("1" * 5000, PARSE_ERROR),
    "a batch": (json.dumps([request("ping")]), INVALID_REQUEST),
    "text": ('"ping"', INVALID_REQUEST),
    "null": ("null", INVALID_REQUEST),
    "no version": ('{"id": 1, "method": "ping"}', INVALID_REQUEST),
    "another version": ('{"jsonrpc": "1.0", "id": 1, "method": "ping"}', INVALID_REQUEST),
    "no method": ('{"jsonrpc": "2.0", "id": 1}', INVALID_REQUEST),
    "a response": ('{"jsonrpc": "2.0", "id": 1, "result": {}}', INVALID_REQUEST),
    "a method that is a number": ('{"jsonrpc": "2.0", "id": 1, "method": 1}', INVALID_REQUEST),
    "id null": ('{"jsonrpc": "2.0", "id": null, "method": "ping"}', INVALID_REQUEST),
    "id true": ('{"jsonrpc": "2.0", "id": true, "method": "ping"}', INVALID_REQUEST),
    "id with a fraction": ('{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', INVALID_REQUEST),
    "id that is a list": ('{"jsonrpc": "2.0", "id": [], "method": "ping"}', INVALID_REQUEST),
}


@pytest.mark.parametrize("revision", [None, *HANDSHAKE, STATELESS])
@pytest.mark.parametrize(("body", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_body_that_is_not_one_json_rpc_message_has_status_400(
    server: Function, body: Any, code: int, revision: str | None
) -> None:
    headers = {"mcp-protocol-version": revision} if revision else {}
    response = server(http_api_event(body, headers))
    content = json.loads(response["body"])
    assert (response["statusCode"], content["id"]) == (400, None)
    assert content["error"]["code"] == code


@pytest.mark.parametrize(("length", "status"), [(400_000, 200), (400_001, 400)])
def test_body_of_more_than_400000_characters_has_status_400(
    server: Function, length: int, status: int
) -> None:
    body = json.dumps(request("ping")).ljust(length)
    assert server(http_api_event(body))["statusCode"] == status


@pytest.mark.parametrize("character", ["a", '"', "\x80", "\ue000", "\U000e0001", "\x00"])
def test_longest_response_fits_into_lambdas_6_mb(server: Function, character: str) -> None:
    def body(length: int) -> str:
        message = {**call("\x80" * 10), "id": character * length}
        return json.dumps(message, ensure_ascii=False)

    length = next(n for n in range(400_000, 0, -1000) if len(body(n)) <= 400_000)
    response = server(http_api_event(body(length)))
    assert len(json.dumps(response)) < 6 * 1024 * 1024


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "9999-99-99", "", "2026-07-28 "])
@pytest.mark.parametrize("message", [request("ping"), {"jsonrpc": "2.0", "method": "x"}])
def test_revision_that_is_not_supported_has_status_400(
    server: Function, revision: str, message: dict[str, Any]
) -> None:
    status, body = send(server, message, {"mcp-protocol-version": revision})
    assert (status, body["error"]["code"]) == (400, UNSUPPORTED_REVISION)
    assert body["error"]["data"] == {"supported": [*HANDSHAKE, STATELESS], "requested": revision}


WRONG_HEADERS: dict[str, dict[str, Any]] = {
    "no revision": {"MCP_Protocol_Version": None},
    "an earlier revision": {"MCP_Protocol_Version": "2025-11-25"},
    "no method": {"Mcp_Method": None},
    "another method": {"Mcp_Method": "tools/list"},
    "the method in capitals": {"Mcp_Method": "TOOLS/CALL"},
    "no name": {"Mcp_Name": None},
    "another name": {"Mcp_Name": "announce"},
    "the name in capitals": {"Mcp_Name": "TIME"},
    "another name in Base64": {"Mcp_Name": "=?base64?YWRtaW4=?="},
    "no Base64": {"Mcp_Name": "=?base64?%?="},
}


@pytest.mark.parametrize("changes", WRONG_HEADERS.values(), ids=WRONG_HEADERS)
def test_header_that_contradicts_the_body_has_status_400(
    server: Function, changes: dict[str, Any]
) -> None:
    message, headers = stateless(call("time"), **changes)
    status, body = send(server, message, headers, scope="admin")
    assert (status, body["id"]) == (400, 1)
    assert body["error"]["code"] == HEADER_MISMATCH


def test_name_may_be_in_base64_as_the_revision_has_it(server: Function) -> None:
    encoded = base64.b64encode(b"time").decode()
    message, headers = stateless(call("time"), Mcp_Name=f"=?base64?{encoded}?=")
    assert send(server, message, headers)[0] == 200


@pytest.mark.parametrize("revision", [None, *HANDSHAKE])
def test_earlier_revisions_compare_no_headers(server: Function, revision: str | None) -> None:
    headers = {"Mcp-Method": "tools/list", "Mcp-Name": "announce"}
    if revision:
        headers["MCP-Protocol-Version"] = revision
    assert send(server, call("time"), headers)[0] == 200


@pytest.mark.parametrize("key", META)
def test_request_of_2026_07_28_without_its_metadata_has_status_400(
    server: Function, key: str
) -> None:
    message, headers = stateless(call("time"))
    del message["params"]["_meta"][key]
    status, body = send(server, message, headers)
    assert (status, body["error"]["code"]) == (400, INVALID_PARAMS)


NO_AUTHORIZER: dict[str, Any] = {
    "no context": {},
    "null": None,
    "payload 2.0, null": {"lambda": None},
    "payload 2.0, without a user": {"lambda": {"scope": "admin"}},
    "REST, without a user": {"scope": "admin", "integrationLatency": 1},
    "IAM": {"iam": {"userId": "x"}},
    "no claims": {"jwt": {"claims": None}},
    "no claims, REST": {"claims": None},
}


@pytest.mark.parametrize("authorizer", NO_AUTHORIZER.values(), ids=NO_AUTHORIZER)
@pytest.mark.parametrize("message", [request("initialize"), request("tools/list"), call("time")])
def test_without_an_authorizer_everything_has_status_401(
    server: Function, caplog: pytest.LogCaptureFixture, authorizer: Any, message: dict[str, Any]
) -> None:
    event = http_api_event(json.dumps(message))
    event["requestContext"]["authorizer"] = authorizer
    response = server(event)
    assert response["statusCode"] == 401
    assert json.loads(response["body"])["error"] == {
        "code": INVALID_REQUEST,
        "message": "This route has no authorizer that names the user",
    }
    logged = "refused: no authorizer that names the user: attach one to this route"
    assert caplog.record_tuples == [(SCRIPT, logging.ERROR, logged)]


@pytest.mark.parametrize("event", [{}, {"requestContext": None}, {"requestContext": {}}])
def test_event_of_a_console_test_has_status_401(server: Function, event: dict[str, Any]) -> None:
    assert server(event)["statusCode"] == 401


@pytest.mark.parametrize("method", ["subscriptions/listen", "resources/list", "", "\ud800", "PING"])
def test_unknown_method_has_status_404(server: Function, method: str) -> None:
    message, headers = stateless(request(method))
    status, body = send(server, message, headers)
    assert (status, body["error"]["code"]) == (404, METHOD_NOT_FOUND)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("make", [http_api_event, rest_api_event])
def test_other_http_methods_have_status_405(
    server: Function, make: Callable[..., dict[str, Any]], method: str
) -> None:
    event = make(json.dumps(call("time")))
    if "httpMethod" in event:
        event["httpMethod"] = method
    else:
        event["requestContext"]["http"]["method"] = method
    assert server(event) == {"statusCode": 405, "headers": {"Allow": "POST"}}


@pytest.mark.parametrize("revision", [None, *HANDSHAKE, STATELESS])
@pytest.mark.parametrize("arguments", [{}, ANNOUNCEMENT, [], "x"])
def test_hidden_tool_and_unknown_tool_get_the_same_response(
    server: Function, revision: str | None, arguments: Any
) -> None:
    def answer(name: str) -> str:
        message = request("tools/call", name=name, arguments=arguments)
        headers = {"mcp-protocol-version": revision} if revision else {}
        if revision == STATELESS:
            message, headers = stateless(message)
        response = server(http_api_event(json.dumps(message), headers, "read"))
        return json.dumps(response).replace(name, "...")

    assert answer("announce") == answer("never")
    assert json.loads(json.loads(answer("announce"))["body"])["error"] == {
        "code": INVALID_PARAMS,
        "message": "Unknown tool: '...'",
    }


@pytest.mark.parametrize("revision", [None, *HANDSHAKE])
@pytest.mark.parametrize(
    ("message", "code"),
    [
        pytest.param(request("unknown"), METHOD_NOT_FOUND, id="unknown method"),
        pytest.param(call("unknown"), INVALID_PARAMS, id="unknown tool"),
        pytest.param(request("tools/call"), INVALID_PARAMS, id="no name"),
        pytest.param(request("tools/call", name=["time"]), INVALID_PARAMS, id="a list for a name"),
        pytest.param(request("tools/call", name="time", arguments=[]), INVALID_PARAMS, id="list"),
        pytest.param({**request("ping"), "params": []}, INVALID_PARAMS, id="params a list"),
    ],
)
def test_before_2026_07_28_such_errors_have_status_200(
    server: Function, message: dict[str, Any], code: int, revision: str | None
) -> None:
    headers = {"mcp-protocol-version": revision} if revision else {}
    status, body = send(server, message, headers)
    assert (status, body["id"], body["error"]["code"]) == (200, 1, code)


def test_2026_07_28_has_status_400_for_them(server: Function) -> None:
    for message in (call("unknown"), request("tools/call", name="time", arguments="x")):
        status, body = send(server, *stateless(message))
        assert (status, body["error"]["code"]) == (400, INVALID_PARAMS)


def test_params_and_arguments_may_be_absent_or_null(server: Function) -> None:
    for message in (
        {"jsonrpc": "2.0", "id": "a", "method": "ping"},
        {"jsonrpc": "2.0", "id": "a", "method": "ping", "params": None},
        {**request("tools/call", name="time", arguments=None), "id": "a"},
        {**request("tools/call", name="time"), "id": "a"},
    ):
        status, body = send(server, message)
        assert (status, body["id"], "result" in body) == (200, "a", True)


def test_body_may_be_in_base64(server: Function) -> None:
    for text, status in ((json.dumps(call("time")), 200), ("\xff", 400)):
        event = http_api_event(base64.b64encode(text.encode("latin-1")).decode())
        assert server(event | {"isBase64Encoded": True})["statusCode"] == status
    assert server(http_api_event("é") | {"isBase64Encoded": True})["statusCode"] == 400


def test_log_has_one_line_for_each_decision(
    server: Function, caplog: pytest.LogCaptureFixture
) -> None:
    send(server, request("tools/list"))
    send(server, call("time"))
    send(server, call("announce\n"), scope="read")
    send(server, [])
    assert caplog.record_tuples == [
        (SCRIPT, logging.INFO, "request served for 'anna': tools/list"),
        (SCRIPT, logging.INFO, "request served for 'anna': tools/call time"),
        (SCRIPT, logging.INFO, r"refused: Unknown tool: 'announce\n': 'anna' with scope 'read'"),
        (
            SCRIPT,
            logging.INFO,
            "refused: The body isn't one JSON-RPC request or notification: 'anna' with scope ''",
        ),
    ]


def test_log_line_of_a_refusal_is_short(server: Function, caplog: pytest.LogCaptureFixture) -> None:
    send(server, call("x" * 100_000))
    assert len(caplog.records[0].getMessage()) < 300


@pytest.mark.parametrize(("level", "expected"), [("", logging.INFO), ("ERROR", logging.NOTSET)])
def test_level_of_the_log_is_info_unless_lambda_sets_another(
    deploy: Deploy, level: str, expected: int
) -> None:
    logger = logging.getLogger(SCRIPT)
    logger.setLevel(logging.NOTSET)
    deploy(SCRIPT, AWS_LAMBDA_LOG_LEVEL=level)
    assert logger.level == expected


# The official client, through a gateway that runs the real authorizer and caches its policy.


class Gateway:
    """API Gateway with the route POST /mcp: its cache, and what it passes on."""

    def __init__(self, kind: str, authorizer: Function, server: Function) -> None:
        self.kind = kind
        self.authorizer = authorizer
        self.server = server
        self.caches = True
        self.cache: dict[str, Any] = {}
        self.log: list[tuple[str | None, str | None, int]] = []  # headers of MCP, and the status

    def handle(self, headers: dict[str, str], body: str) -> tuple[int, str]:
        """Return status and body of the response to a POST."""
        status, content = self.response(headers, body)
        self.log.append((headers.get("mcp-method"), headers.get("mcp-name"), status))
        return status, content

    def response(self, headers: dict[str, str], body: str) -> tuple[int, str]:
        """Authorize a POST, and pass it on."""
        policy = self.policy(headers.get("authorization"))
        if policy is None:
            return 401, '{"message":"Unauthorized"}'
        if decision(policy, MCP_ARN) != "Allow":
            return 403, '{"Message":"User is not authorized to access this resource"}'
        response = self.server(self.event(headers, body, policy))
        return response["statusCode"], response.get("body", "")

    def policy(self, token: str | None) -> Any:
        """Return the authorizer's policy for a token, which the cache keeps; None for a 401."""
        if token is None:
            return None
        if token not in self.cache or not self.caches:
            self.cache[token] = outcome(self.authorizer, KINDS[self.kind](token, MCP_ARN))
        return self.cache[token]

    def event(self, headers: dict[str, str], body: str, policy: Any) -> dict[str, Any]:
        """Return the event of the integration, with the context as each kind of API has it."""
        if self.kind == "HTTP 2.0":
            event = http_api_event(body, headers)
            event["requestContext"]["authorizer"] = {"lambda": policy["context"]}
            return event
        event = rest_api_event(body, {name.title(): value for name, value in headers.items()})
        context = {name: str(value) for name, value in policy["context"].items()}
        event["requestContext"]["authorizer"] = context | {"principalId": policy["principalId"]}
        return event


@pytest.fixture(params=["HTTP 2.0", "REST TOKEN"])
def gateway(request: pytest.FixtureRequest, deploy: Deploy) -> Gateway:
    authorizer = deploy("jwt_auth_token", JWT_SECRET=SECRET)
    return Gateway(request.param, authorizer, deploy(SCRIPT))


@contextmanager
def served(gateway: Gateway) -> Iterator[str]:
    """Serve a gateway on loopback; yield the URL of the MCP server."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = gateway.handle(headers, body)
            self.reply(status, content.encode(), Content_Type="application/json")

    with listening(Handler) as address:
        yield f"http://{address}/mcp"


class Session(NamedTuple):
    """What the official client makes of the server's responses."""

    revision: str
    tools: list[str]
    said: list[str]  # by the tools, or the error in their place


def session(gateway: Gateway, token: str | None, mode: str, *calls: tuple[str, Any]) -> Session:
    """Connect the official client with a static header, list the tools, and call some."""
    mcp = pytest.importorskip("mcp", reason="The official client isn't installed")

    async def run(url: str) -> Session:
        async with client(url, token, mode) as connected:
            tools = [tool.name for tool in (await connected.list_tools()).tools]
            said = [await answer(connected, name, arguments) for name, arguments in calls]
            return Session(connected.protocol_version, tools, said)

    async def answer(connected: Any, name: str, arguments: Any) -> str:
        try:
            result = await connected.call_tool(name, arguments)
        except mcp.MCPError as error:
            return f"{error.error.code} {error.error.message}"
        prefix = "isError: " if result.is_error else ""
        return prefix + str(result.content[0].text)

    with served(gateway) as url:
        return asyncio.run(run(url))


@asynccontextmanager
async def client(url: str, token: str | None, mode: str) -> AsyncIterator[Any]:
    """Connect the official client."""
    from httpx2 import AsyncClient
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with AsyncClient(headers=headers) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode) as connected:
            yield connected


MODES = {"auto": STATELESS, STATELESS: STATELESS, "legacy": "2025-11-25"}  # and their revision


@pytest.mark.parametrize(("mode", "revision"), MODES.items())
def test_official_client_as_a_user_without_scope(
    gateway: Gateway, mode: str, revision: str
) -> None:
    calls = [("time", {}), ("announce", ANNOUNCEMENT), ("never", ANNOUNCEMENT)]
    seen = session(gateway, make_jwt(user_id="anna"), mode, *calls)
    assert (seen.revision, seen.tools) == (revision, ["time"])
    now, hidden, unknown = seen.said
    assert abs(int(now) - time.time()) < 10
    assert (hidden, unknown) == ("-32602 Unknown tool: 'announce'", "-32602 Unknown tool: 'never'")


@pytest.mark.parametrize(("mode", "revision"), MODES.items())
def test_official_client_as_a_user_with_scope(gateway: Gateway, mode: str, revision: str) -> None:
    token = make_jwt(user_id="carla", scope="read admin")
    seen = session(gateway, token, mode, ("announce", ANNOUNCEMENT), ("announce", {}))
    assert (seen.revision, seen.tools) == (revision, ["time", "announce"])
    assert seen.said == [
        "carla announces: Maintenance at noon",
        "isError: The argument message must be text.",
    ]


def test_official_client_with_the_oldest_revision(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_session = pytest.importorskip("mcp.client.session")
    monkeypatch.setattr(client_session, "LATEST_HANDSHAKE_VERSION", "2025-06-18")
    seen = session(gateway, make_jwt(scope="admin"), "legacy", ("announce", ANNOUNCEMENT))
    assert (seen.revision, seen.tools) == ("2025-06-18", ["time", "announce"])
    assert seen.said == ["testuser announces: Maintenance at noon"]


def refused(gateway: Gateway, token: str | None, mode: str) -> bool:
    """Tell whether the official client gets 401 and nothing else."""
    mcp = pytest.importorskip("mcp", reason="The official client isn't installed")
    gateway.log.clear()
    with pytest.RaisesGroup(mcp.MCPError, flatten_subgroups=True):
        session(gateway, token, mode)
    return {status for _, _, status in gateway.log} == {401}


BAD_TOKENS = {
    "none": lambda: None,
    "expired": lambda: make_jwt(scope="admin", exp=int(time.time()) - 60),
    "forged": lambda: make_jwt("another-secret-of-32-bytes-or-more!", scope="admin"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_official_client_without_a_valid_token_is_refused(
    gateway: Gateway, token: Callable[[], str | None], mode: str
) -> None:
    assert refused(gateway, token(), mode)


@pytest.mark.parametrize("kind", ["HTTP 2.0", "REST TOKEN"])
def test_revoked_token_is_refused_once_the_cached_policy_is_gone(deploy: Deploy, kind: str) -> None:
    token = make_jwt(user_id="agent", token_version="1")
    with fake_dynamodb() as table:
        settings = {"USER_CREDENTIALS_TABLE_NAME": "users", **table.environment}
        authorizer = deploy("jwt_auth_token", JWT_SECRET=SECRET, **settings)
        gateway = Gateway(kind, authorizer, deploy(SCRIPT))
        table.items["agent"] = {"tokenVersion": {"S": "1"}}
        assert session(gateway, token, "auto").tools == ["time"]
        table.items["agent"] = {"tokenVersion": {"S": "2"}}
        assert session(gateway, token, "auto").tools == ["time"]
        gateway.cache.clear()
        assert refused(gateway, token, "auto")


def test_official_client_sends_the_headers_that_are_compared(gateway: Gateway) -> None:
    session(gateway, make_jwt(), "auto", ("time", {}))
    assert gateway.log == [
        ("server/discover", None, 200),
        ("tools/list", None, 200),
        ("tools/call", "time", 200),
    ]


MESSAGES = [
    request("tools/list"),
    call("time"),
    call("announce", **ANNOUNCEMENT),
    call("never"),
    request("never"),
]
TOKENS = [make_jwt(user_id="anna"), make_jwt(user_id="carla", scope="admin"), "forged", None]


@settings(max_examples=50)
@given(data=st.data())
def test_caching_neither_hides_nor_opens_a_tool(deploy: Deploy, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    requests = data.draw(
        st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from(MESSAGES)), max_size=8)
    )
    seen = []
    for caches in (True, False):
        gateway = Gateway(kind, deploy("jwt_auth_token", JWT_SECRET=SECRET), deploy(SCRIPT))
        gateway.caches = caches
        tools = gateway.server.module.TOOLS
        tools["time"] = tools["time"]._replace(function=lambda *_: "now")
        seen.append([through(gateway, token, message) for token, message in requests])
    assert seen[0] == seen[1]


def through(gateway: Gateway, token: str | None, message: Any) -> tuple[int, str]:
    """Return status and body of the response to a message that the gateway lets through."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return gateway.handle(headers, json.dumps(message))


# On Lambda.


def test_server_runs_on_lambda_with_the_standard_library_only(tmp_path: Path) -> None:
    pytest.importorskip("awslambdaric", reason="Amazon's runtime client is for Linux")
    runtime = linked(tmp_path / "runtime", RUNTIME)
    with started(tmp_path, SCRIPT, [runtime]) as function:
        message, headers = stateless(call("time"))
        for make in (http_api_event, rest_api_event):
            kind, response = function.invoke(make(json.dumps(message), headers))
            assert (kind, response["statusCode"]) == ("response", 200)
            assert int(text_of(json.loads(response["body"]))) <= time.time()
        kind, response = function.invoke({})
        assert (kind, response["statusCode"]) == ("response", 401)
        log = function.output()
    assert log.count("request served for 'anna': tools/call time") == 2
    assert "[ERROR]" in log
    assert "refused: no authorizer" in log


# No JSON and no header causes anything but a JSON-RPC response or a documented status.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
METHODS = ["initialize", "server/discover", "ping", "tools/list", "tools/call", "notifications/x"]


def sometimes(*usual: Any) -> st.SearchStrategy[Any]:
    """Return what is expected in most places, and any JSON in some."""
    return st.sampled_from(usual) | JSON


def members(**usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return objects with some of these members, or any JSON in their place."""
    return st.fixed_dictionaries({}, optional=usual) | JSON


MESSAGE = members(
    jsonrpc=sometimes("2.0"),
    id=sometimes(1, "a"),
    method=sometimes(*METHODS),
    params=members(
        name=sometimes("time", "announce"),
        arguments=members(message=sometimes("Hello")),
        protocolVersion=sometimes(*HANDSHAKE),
        _meta=sometimes(META),
    ),
)
HEADERS = st.dictionaries(
    st.sampled_from(["MCP-Protocol-Version", "Mcp-Method", "mcp-name", "x"]) | st.text(),
    st.sampled_from([STATELESS, *HANDSHAKE, *METHODS, "time", "announce"]) | st.text(),
)


@given(
    body=MESSAGE.map(json.dumps) | st.text(),
    headers=HEADERS,
    scope=st.sampled_from(["", "admin"]),
    encoded=st.booleans(),
    make=st.sampled_from([http_api_event, rest_api_event]),
)
def test_no_json_and_no_header_causes_anything_else(
    server: Function, body: str, headers: Any, scope: str, encoded: bool, make: Any
) -> None:
    response = server(make(body, headers, scope) | {"isBase64Encoded": encoded})
    assert response["statusCode"] in (200, 202, 400, 404)
    if response["statusCode"] == 202:
        assert response == {"statusCode": 202}
        return
    content = json.loads(response["body"])
    assert content["jsonrpc"] == "2.0"
    assert set(content) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
    assert ("result" in content) <= (response["statusCode"] == 200)


@pytest.mark.parametrize("member", ["id", "name", "arguments", "_meta", "protocolVersion"])
def test_no_depth_of_json_causes_anything_else(server: Function, member: str) -> None:
    for depth in range(100, 1200, 50):
        nested = "[" * depth + "]" * depth
        inner = f'{{"name": "time", "{member}": {nested}}}'
        for method in METHODS:
            body = f'{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {inner}}}'
            assert server(http_api_event(body))["statusCode"] in (200, 400)


# What docs/mcp.md shows.


def blocks(language: str) -> list[str]:
    """Return the code blocks of the page in a language."""
    page = (ROOT / "docs" / "mcp.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_curl_commands_of_the_page_get_the_responses_of_the_page(server: Function) -> None:
    (commands,) = [block for block in blocks("sh") if "tools/list" in block]
    messages = re.findall(r"-d '(.*)'$", commands, re.MULTILINE)
    responses = blocks("json")[0].splitlines()
    for message, expected in zip(messages, responses, strict=True):
        text = server(http_api_event(message))["body"]
        assert re.sub(r'"\d{10}"', '"1795305600"', text) == expected


def test_own_tool_of_the_page_works(server: Function) -> None:
    exec(blocks("python")[0], vars(server.module))  # noqa: S102
    _, listed = send(server, request("tools/list"), scope="orders")
    _, called = send(server, call("order_status", number=1042), scope="orders")
    _, wrong = send(server, call("order_status", number="1042"), scope="orders")
    assert names(listed) == ["order_status"]
    assert text_of(called) == "Order 1042 of anna has been shipped."
    assert wrong["result"]["isError"]
    assert send(server, call("order_status", number=1042))[1]["error"]["code"] == INVALID_PARAMS


def test_python_client_of_the_page_works(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mcp", reason="The official client isn't installed")
    with served(gateway) as url:
        monkeypatch.setenv("MCP_URL", url)
        monkeypatch.setenv("MCP_TOKEN", make_jwt())
        exec(blocks("python")[1], {"__name__": "__main__"})  # noqa: S102
    name, now = capsys.readouterr().out.split()
    assert (name, now.isdigit()) == ("time", True)


def test_log_lines_of_the_page_are_those_of_the_server(
    server: Function, caplog: pytest.LogCaptureFixture
) -> None:
    send(server, call("time"))
    send(server, call("announce"))
    (lines,) = blocks("text")
    assert lines.replace("agent", "anna").splitlines() == caplog.messages


def test_configuration_of_the_page_sends_the_token_that_it_asks_for() -> None:
    configuration = json.loads(blocks("json")[1])
    (asked,) = configuration["inputs"]
    headers = configuration["servers"]["my-tools"]["headers"]
    assert headers == {"Authorization": f"Bearer ${{input:{asked['id']}}}"}


def test_page_names_the_version_of_the_client_that_the_tests_use() -> None:
    pytest.importorskip("mcp", reason="The official client isn't installed")
    page = (ROOT / "docs" / "mcp.md").read_text()
    assert f"| Python, `mcp` (in every test run) | {version('mcp')} |" in page
