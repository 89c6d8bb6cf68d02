"""Deploys the kit to an emulator on this machine and walks through what it does: `make demo`, `make serve`.

Exit status: 0 all was right, 1 it was not or a sentence says what is in the way, 130 Ctrl-C came before the end.
"""

import argparse
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

try:
    import jwt
    import requests
    from websockets.sync.client import connect

    from demo.emulator import (
        ROOT,
        DemoError,
        Stack,
        authorizer_runs,
        aws,
        create_user,
        deploy,
        emulator,
        physical_ids,
    )
except ImportError as error:
    sys.exit(
        f"demo: {error.name} cannot be imported: run `make demo`, which installs what is needed."
    )

LOGIN = '{"user_id": "testuser", "password": "password123"}'
WRONG, ADA = LOGIN.replace("password123", "wrong"), LOGIN.replace("testuser", "ada")
METHODS = "arn:aws:execute-api:us-east-1:000000000000:*/prod/GET"
SESSION = requests.Session()
RIGHT: list[bool] = []  # for every answer so far, whether it was as it should be
SHORT: dict[str, str] = {}  # long values, and the shell variables that are printed in their place
BOLD, GREEN, RED = "\033[1m", "\033[32m", "\033[31m"  # on a terminal
COMMANDS = """
Open this page:
  {endpoint}/artifacts/try.html?api={rest.api}&ws={rest.websocket}&google={google}

Or paste these lines into another terminal:
  URL={rest.api}
  HTTP_URL={http.api}
  TOKEN=$(curl -s -d '{login}' $URL/auth | cut -d '"' -f 4)
  ADA=$(curl -s -d '{ada}' $URL/auth | cut -d '"' -f 4)
  HTTP_TOKEN=$(curl -s -d '{login}' $HTTP_URL/auth | cut -d '"' -f 4)
A wrong password, and no token (401)
  curl -d '{wrong}' $URL/auth
  curl $URL/api
The token (200), what it does not open (403), and what the scope of ada opens ({admin})
  curl -H "Authorization: Bearer $TOKEN" $URL/api
  curl -H "Authorization: Bearer $TOKEN" $URL/api/admin
  curl -H "Authorization: Bearer $ADA" $URL/api/admin
The HTTP API (200)
  curl -H "Authorization: Bearer $HTTP_TOKEN" $HTTP_URL/api
A WebSocket, which sends back what you type
  '{python}' -m websockets "{rest.websocket}?access_token=$TOKEN"

Ctrl-C ends it all."""


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="demo", description="Walk through what the kit does, on this machine."
    )
    parser.add_argument(
        "--serve", action="store_true", help="stay up until Ctrl-C, and print what to try"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port of 127.0.0.1 to listen on (default: a free one)"
    )
    parser.add_argument(
        "parameters",
        nargs="*",
        metavar="NAME=VALUE",
        help="a parameter of template.yaml, for --serve",
    )
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    try:
        with emulator(options.port) as endpoint:
            return serve(endpoint, options.parameters) if options.serve else story(endpoint)
    except (DemoError, OSError, OverflowError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        return 0 if options.serve else 130


def serve(endpoint: str, words: list[str]) -> int:
    """Deploy the kit with these parameters, print what to try, and wait for Ctrl-C."""
    parameters = dict(word.partition("=")[::2] for word in words)
    rest, http = deployed(endpoint, parameters)
    page = {
        "Key": "try.html",
        "Body": (ROOT / "try.html").read_bytes(),
        "ContentType": "text/html; charset=utf-8",
    }
    aws(endpoint, "s3").put_object(Bucket="artifacts", **page)
    google = parameters.get("GoogleClientId", "").partition(",")[0]
    known = {
        "endpoint": endpoint,
        "rest": rest,
        "http": http,
        "google": google,
        "admin": 403 if google else 200,
    }
    say(COMMANDS.format(**known, login=LOGIN, wrong=WRONG, ada=ADA, python=sys.executable))
    signal.pause()
    return 0


def deployed(endpoint: str, parameters: dict[str, str]) -> tuple[Stack, Stack]:
    """Deploy both templates, and create their users: testuser, and ada with the scope admin."""
    say("Deploying template.yaml and template_http.yaml to an emulator of AWS ...")
    # Google's authorizer does not start where a scope is listed.
    third = (
        f"{METHODS}/google" if parameters.get("GoogleClientId") else f"admin={METHODS}/api/admin"
    )
    parameters = {"AllowedResourceArns": f"{METHODS}/api,{METHODS}/api/other,{third}"} | parameters
    table = parameters.get("UserTableName", "user_credentials")
    with ThreadPoolExecutor() as pool:
        rest = deploy(endpoint, **parameters)
        jobs = [pool.submit(create_user, endpoint, "testuser", "password123", table=table)]
        jobs += [
            pool.submit(
                create_user, endpoint, "ada", "password123", "--scope", "admin", table=table
            )
        ]
        http = deploy(endpoint, "template_http.yaml", "access-control-http")
        jobs += [
            pool.submit(
                create_user, endpoint, "testuser", "password123", table="user_credentials_http"
            )
        ]
        for stack in (rest, http):  # a function that has run before answers sooner
            pool.submit(requests.post, f"{stack.api}/auth", "{}", timeout=60)
    for job in jobs:
        job.result()
    return rest, http


def story(endpoint: str) -> int:
    """Show what the kit promises, a request or two for each promise, and return the exit status."""
    start = time.monotonic()
    rest, http = deployed(endpoint, {})
    chapter("A REST API", URL=rest.api)
    token = ask("A password becomes a token", 200, f"{rest.api}/auth", body=LOGIN, name="TOKEN")
    print(f"\nTOKEN={token}")
    say(json.dumps(jwt.decode(token, options={"verify_signature": False}), indent=2))
    ask("A wrong password does not", 401, f"{rest.api}/auth", body=WRONG)
    ask("No token: who are you?", 401, f"{rest.api}/api")
    ask("The token opens the protected endpoint", 200, f"{rest.api}/api", token)
    runs = authorizer_runs(rest)
    ask("Another route, by the same answer of the authorizer", 200, f"{rest.api}/api/other", token)
    step("How often API Gateway asked it again", 0, authorizer_runs(rest) - runs)
    ids = physical_ids(endpoint, rest.name)
    event = {"authorizationToken": token, "methodArn": f"{METHODS}/api".replace("*", ids["Api"])}
    answer = aws(endpoint, "lambda").invoke(
        FunctionName=ids["JwtAuthToken"], Payload=json.dumps(event)
    )
    say("\nThe answer that API Gateway remembers under the token", BOLD)
    say(json.dumps(json.load(answer["Payload"]), indent=2))
    chapter("Rights: a route for users with the scope admin")
    ask("testuser has no scope: not you", 403, f"{rest.api}/api/admin", token)
    ada = ask("ada has it", 200, f"{rest.api}/auth", body=ADA, name="ADA")
    ask("So she may", 200, f"{rest.api}/api/admin", ada)
    chapter("A WebSocket API", WS=rest.websocket)
    with connect(url := f"{rest.websocket}?access_token={token}", proxy=None) as connection:
        connection.send("hello")
        step(
            "The token, and a message that comes back",
            "hello",
            connection.recv(),
            f'$ python -m websockets "{url}"',
        )
    chapter("An HTTP API, from the same files", HTTP_URL=http.api)
    other = ask(
        "It has users and tokens of its own", 200, f"{http.api}/auth", body=LOGIN, name="HTTP_TOKEN"
    )
    ask("No token", 401, f"{http.api}/api")
    ask("The token", 200, f"{http.api}/api", other)
    runs = authorizer_runs(http)
    ask("Another route", 200, f"{http.api}/api/other", other)
    step("How often API Gateway asked the authorizer again", 0, authorizer_runs(http) - runs)
    ask(
        "May a page of another site call it? (CORS)",
        204,
        f"{http.api}/api",
        origin="https://app.example",
    )
    rest = deploy(endpoint, CheckUsers="true", ReauthorizeEvery="0")
    chapter("Logging out, with CheckUsers=true and ReauthorizeEvery=0", URL=rest.api)
    ask("The token is still good", 200, f"{rest.api}/api", token)
    say("\n$ python create_password.py --user-id testuser --table $TABLE --log-out")
    create_user(endpoint, "testuser", "", "--log-out")
    ask("And now it is not", 401, f"{rest.api}/api", token)
    say("With ReauthorizeEvery=300 it could have been good for as many seconds more.")
    say(
        f"\n{sum(RIGHT)} of {len(RIGHT)} answers were right, in {time.monotonic() - start:.1f} seconds.",
        BOLD,
    )
    say("Next: make serve. It stays up, with a page and commands to try.")
    return 0 if all(RIGHT) else 1


def chapter(title: str, **addresses: str) -> None:
    """Print the title of a chapter, and the addresses in it, which have short names from here on."""
    say(f"\n── {title} {'─' * (76 - len(title))}", BOLD)
    for name, address in addresses.items():
        say(f"{name}={address}")
        SHORT[address] = f"${name}"


def ask(
    title: str,
    expected: int,
    url: str,
    token: str = "",
    body: str = "",
    name: str = "",
    origin: str = "",
) -> str:
    """Send a request, show it as the curl command that sends the same, and return the token that came, now named."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Origin": origin, "Access-Control-Request-Method": "GET"} if origin else {}
    request = requests.Request(
        "OPTIONS" if origin else "POST" if body else "GET", url, headers, data=body
    ).prepare()
    answer = SESSION.send(request)
    came = str(answer.json().get("token")) if name else ""
    SHORT.update({came: f"${name}"} if name else {})
    allowed = "\n".join(
        f"{key}: {value}" for key, value in answer.headers.items() if "Allow" in key
    )
    step(title, expected, answer.status_code, curl(request), answer.text or allowed)
    return came


def curl(request: requests.PreparedRequest) -> str:
    """Return the command that sends the same request."""
    words = ["-i -X OPTIONS"] if request.method == "OPTIONS" else []
    words += [
        f'-H "{name}: {value}"'
        for name, value in request.headers.items()
        if name != "Content-Length"
    ]
    words += [f"-d '{request.body!s}'"] if request.body else []
    return (" \\\n    " if len(words) > 2 else " ").join(["$ curl", *words, str(request.url)])


def step(title: str, expected: object, found: object, *lines: str) -> None:
    """Print what a step shows, the lines about it, and whether it came out as it should."""
    RIGHT.append(found == expected)
    say(f"\n{title}", BOLD)
    for line in lines:
        say(line)
    verdict = (
        f"✓ {found}, as it should be" if RIGHT[-1] else f"✗ {found}, and it should be {expected}"
    )
    say(verdict, GREEN if RIGHT[-1] else RED)


def say(text: str, style: str = "") -> None:
    """Print a text with short names for long values, in a style where this is a terminal."""
    for value, name in SHORT.items():
        text = text.replace(value, name)
    print(f"{style}{text}\033[0m" if style and sys.stdout.isatty() else text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
