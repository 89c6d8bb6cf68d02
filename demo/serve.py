"""Keeps the kit running on the emulator, and prints what to try."""

import shlex
import signal
import sys
from urllib.parse import urlencode

from demo import ROOT, DemoError
from demo.emulator import CREDENTIALS, Stack, publish_page
from demo.kit import deploy_kit
from demo.story import ADA, TESTUSER, WRONG

# Every line can be pasted into a shell.
COMMANDS = """
URL={rest.api}
HTTP_URL={http.api}
TABLE={table}
TOKEN=$(curl -s -d '{testuser}' $URL/auth | cut -d '"' -f 4)
ADA=$(curl -s -d '{ada}' $URL/auth | cut -d '"' -f 4)
HTTP_TOKEN=$(curl -s -d '{testuser}' $HTTP_URL/auth | cut -d '"' -f 4)

# A wrong password (401)
curl -d '{wrong}' $URL/auth

# A request without a token (401), and with one (200)
curl $URL/api
curl -H "Authorization: Bearer $TOKEN" $URL/api

# A route for the scope admin, which testuser doesn't have (403) and ada has (200)
curl -H "Authorization: Bearer $TOKEN" $URL/api/admin
curl -H "Authorization: Bearer $ADA" $URL/api/admin

# The HTTP API (200)
curl -H "Authorization: Bearer $HTTP_TOKEN" $HTTP_URL/api

# Give testuser the scope admin, from the next login on
{environment} \\
  {python} {create_password} \\
  --user-id testuser --table $TABLE --scope admin --keep-password

# A WebSocket, which sends back what you type
{python} -m websockets "{rest.websocket}?access_token=$TOKEN"
"""


def serve(endpoint: str, words: list[str]) -> int:
    """Deploy the kit with these parameters, print what to try, and wait for Ctrl-C."""
    parameters = parsed(words)
    print("Deploying template.yaml and template_http.yaml to an AWS emulator ...", flush=True)
    rest, http = deploy_kit(endpoint, parameters)
    print(f"\nOpen this page:\n  {publish_page(endpoint)}?{page_settings(rest, parameters)}")
    print("\nOr paste these lines into another terminal:")
    print(commands(endpoint, rest, http, parameters))
    print("Ctrl-C ends it all.", flush=True)
    signal.pause()
    return 0


def page_settings(rest: Stack, parameters: dict[str, str]) -> str:
    """Return the query string of the page's address."""
    settings = {
        "api": rest.api,
        "ws": rest.websocket,
        "ws_token": "query",  # the emulator doesn't confirm subprotocols
        "google": parameters.get("GoogleClientId", "").partition(",")[0],
    }
    return urlencode(settings, safe=":/")


def parsed(words: list[str]) -> dict[str, str]:
    """Return the parameters that are written as Name=value, or raise DemoError."""
    parameters = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise DemoError(f"{word} isn't Name=value. Values can't have spaces here.")
        parameters[name] = value
    return parameters


def commands(endpoint: str, rest: Stack, http: Stack, parameters: dict[str, str]) -> str:
    """Return the commands to paste."""
    environment = {"AWS_ENDPOINT_URL": endpoint, **CREDENTIALS}
    return COMMANDS.format(
        rest=rest,
        http=http,
        table=parameters.get("UserTableName", "user_credentials"),
        testuser=TESTUSER,
        ada=ADA,
        wrong=WRONG,
        environment=" \\\n".join(f"{name}={value}" for name, value in environment.items()),
        python=shlex.quote(sys.executable),
        create_password=shlex.quote(str(ROOT / "create_password.py")),
    )
