"""Walks through what the kit does, with a request or two for each promise."""

import json
import time
from typing import Any

import jwt
from websockets.sync.client import connect

from demo.emulator import Stack, authorizer_runs, create_user, deploy, physical_ids
from demo.kit import ALLOWED, METHODS, PASSWORD, deploy_kit, invoke, with_list
from demo.transcript import BOLD, Transcript, Variable, curl

TESTUSER = json.dumps({"user_id": "testuser", "password": PASSWORD})
WRONG = json.dumps({"user_id": "testuser", "password": "wrong"})
ADA = json.dumps({"user_id": "ada", "password": PASSWORD})
TABLE = "user_credentials"


def tell(endpoint: str) -> int:
    """Tell the whole story, and return the exit status."""
    start = time.monotonic()
    show = Transcript()
    show.say("Deploying template.yaml and template_http.yaml to an AWS emulator ...")
    rest, http = deploy_kit(endpoint, {})
    show.chapter("A REST API")
    url = show.define("URL", rest.api)
    token = logging_in(show, url)
    calling(show, url, token, rest)
    permissions(show, url, token)
    websocket(show, rest, token)
    http_api(show, http)
    revoking(show, endpoint, token)
    seconds = time.monotonic() - start
    show.say(f"\n{show.counts()}, in {seconds:.1f} seconds.", BOLD)
    show.say("Next, run make serve. It keeps running, with a page and commands to try.")
    return 0 if all(show.verdicts) else 1


def logging_in(show: Transcript, url: Variable) -> Variable:
    """Show who gets a token, and what is in it."""
    token = show.log_in("The right password gets a token", 200, url, TESTUSER)
    show.say("\nThe token, and the claims in it", BOLD)
    show.define(token.name, token.value)
    claims = jwt.decode(token.value, options={"verify_signature": False})
    show.say(json.dumps(claims, indent=2))
    show.log_in("A wrong password doesn't", 401, url, WRONG)
    return token


def calling(show: Transcript, url: Variable, token: Variable, stack: Stack) -> None:
    """Show the protected endpoint, and the policy that API Gateway caches for a token."""
    show.get("A request without a token", 401, url, "/api")
    show.get("A request with the token", 200, url, "/api", token)
    runs = authorizer_runs(stack)
    show.get("Another route, with the policy that is cached now", 200, url, "/api/other", token)
    runs = authorizer_runs(stack) - runs
    show.step("How often API Gateway invoked the authorizer for it", 0, runs)
    ids = physical_ids(stack.endpoint, stack.name)
    method_arn = f"{METHODS}/api".replace("*", ids["Api"])
    event = {"authorizationToken": token.value, "methodArn": method_arn}
    show.say("\nThe policy that API Gateway caches for the token", BOLD)
    show.say(json.dumps(invoke(stack.endpoint, ids["JwtAuthToken"], event), indent=2))


def permissions(show: Transcript, url: Variable, token: Variable) -> None:
    """Show a route that only users with the scope admin may call."""
    show.chapter("Permissions per user (scopes)")
    show.say("ALLOWED_RESOURCE_ARNS lists what a token may call. The last entry requires a scope:")
    for entry in ALLOWED:
        show.say(f"  {entry}")
    show.get("testuser doesn't have the scope admin", 403, url, "/api/admin", token)
    ada = show.log_in("ada has it", 200, url, ADA, "ADA")
    show.get("So ada may call this route", 200, url, "/api/admin", ada)


def websocket(show: Transcript, stack: Stack, token: Variable) -> None:
    """Show a WebSocket connection, for which the same token is good."""
    show.chapter("A WebSocket API, with the same token")
    url = show.define("WS", stack.websocket)
    with connect(f"{url.value}?access_token={token.value}", proxy=None) as connection:
        connection.send("hello")
        response = connection.recv()
    command = f'$ python -m websockets "${url.name}?access_token=${token.name}"'
    show.step("It sends back every message", "hello", response, command)


def http_api(show: Transcript, stack: Stack) -> None:
    """Show the same with the other template, and the MCP server that it can have."""
    show.chapter("An HTTP API, with the same functions")
    url = show.define("HTTP_URL", stack.api)
    token = show.log_in("It has its own users and its own tokens", 200, url, TESTUSER, "HTTP_TOKEN")
    show.get("A request without a token", 401, url, "/api")
    show.get("A request with the token", 200, url, "/api", token)
    runs = authorizer_runs(stack)
    show.get("Another route, with the cached policy", 200, url, "/api/other", token)
    runs = authorizer_runs(stack) - runs
    show.step("How often API Gateway invoked the authorizer for it", 0, runs)
    origin = "https://a.example"
    show.preflight("A page of another origin may call it (CORS)", 204, url, "/api", origin)
    mcp(show, url, token)


def mcp(show: Transcript, url: Variable, token: Variable) -> None:
    """Show that an AI agent gets the tools that the scopes of its user allow."""
    show.chapter("An MCP server for AI agents (McpServer=true)")
    tools = {"method": "tools/list"}
    hello = {"name": "announce", "arguments": {"message": "hello"}}
    announce = {"method": "tools/call", "params": hello}
    ask_mcp(show, "The tools of testuser", "time", url, token, tools)
    ada = show.log_in("ada has the scope admin", 200, url, ADA, "HTTP_ADA")
    ask_mcp(show, "So ada has one more tool", "time, announce", url, ada, tools)
    ask_mcp(show, "ada may call it", "ada announces: hello", url, ada, announce)
    ask_mcp(show, "testuser may not", "Unknown tool: 'announce'", url, token, announce)


def ask_mcp(
    show: Transcript,
    title: str,
    expected: str,
    url: Variable,
    token: Variable,
    message: dict[str, Any],
) -> None:
    """Send a message to the MCP server, and show what its response says."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, **message})
    headers = {"Authorization": f"Bearer {token.value}"}
    response = show.session.post(f"{url.value}/mcp", data=body, headers=headers)
    authorization = f'-H "Authorization: Bearer ${token.name}"'
    command = curl(authorization, f"-d '{body}'", f"${url.name}/mcp")
    show.step(title, expected, gist(response.json()), command, response.text)


def gist(response: dict[str, Any]) -> str:
    """Return what a response of the MCP server says: names of tools, a text, or an error."""
    if "result" not in response:
        return str(response.get("error", response).get("message"))
    result = response["result"]
    if "tools" in result:
        return ", ".join(tool["name"] for tool in result["tools"])
    return str(result["content"][0]["text"])


def revoking(show: Transcript, endpoint: str, token: Variable) -> None:
    """Show that an administrator can revoke the tokens of a user."""
    parameters = with_list({"CheckUsers": "true", "ReauthorizeEvery": "0"})
    stack = deploy(endpoint, **parameters)
    show.chapter("Revoking tokens (CheckUsers=true ReauthorizeEvery=0)")
    url = show.define("URL", stack.api)
    table = show.define("TABLE", TABLE)
    show.get("The token is still valid", 200, url, "/api", token)
    command = f"create_password.py --user-id testuser --table ${table.name} --revoke-tokens"
    show.say(f"\n$ python {command}")
    create_user(endpoint, "testuser", "", "--revoke-tokens", table=table.value)
    show.get("Now it is revoked", 401, url, "/api", token)
    show.say("With ReauthorizeEvery=300, it could have been accepted for another 300 seconds.")
