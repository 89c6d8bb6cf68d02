"""Deploys the kit to an emulator on this machine and walks through what it does: `make demo`, `make serve`.

    python -m demo                           each request as a curl command, its answer, and whether that was right
    python -m demo --serve [NAME=VALUE ...]  a page and commands to try it, until Ctrl-C; parameters of template.yaml

Exit status: 0 all was right, 1 it was not or a sentence says what is in the way, 130 Ctrl-C came before the end.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

try:
    import jwt
    import requests
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    from demo.emulator import ROOT, DemoError, Stack, authorizer_runs, aws, create_user, deploy, emulator, physical_ids
except ImportError as error:
    sys.exit(f"demo: {error.name} cannot be imported: run `make demo`, which installs what is needed.")

USER, PASSWORD = "testuser", "password123"
LOGIN = json.dumps({"user_id": USER, "password": PASSWORD})
ARN = "arn:aws:execute-api:us-east-1:000000000000"
METHODS = f"{ARN}:*/prod/GET"
OPEN = f"{METHODS}/api,{METHODS}/api/other,{METHODS}/google"
SESSION = requests.Session()
RIGHT: list[bool] = []  # for every answer so far, whether it was as it should be
SHORT: dict[str, str] = {}  # long values, and the shell variables that are printed in their place
BOLD, GREEN, RED = "\033[1m", "\033[32m", "\033[31m"  # on a terminal
COMMANDS = """
Open this page:
  {endpoint}/page/try.html?api={rest.api}&ws={rest.websocket}&google={google}

Or paste these lines into another terminal:
  URL={rest.api}
  HTTP_URL={http.api}
  LOGIN='{login}'
  TOKEN=$(curl -s -d "$LOGIN" $URL/auth | cut -d '"' -f 4)
  HTTP_TOKEN=$(curl -s -d "$LOGIN" $HTTP_URL/auth | cut -d '"' -f 4)
A wrong password, and no token (401)
  curl -d '{{"user_id": "testuser", "password": "wrong"}}' $URL/auth
  curl $URL/api
The token (200), and what it does not open (403)
  curl -H "Authorization: Bearer $TOKEN" $URL/api
  curl -H "Authorization: Bearer $TOKEN" $URL/api/admin
The HTTP API (200)
  curl -H "Authorization: Bearer $HTTP_TOKEN" $HTTP_URL/api
A WebSocket, which sends back what you type
  '{python}' -m websockets "{rest.websocket}?access_token=$TOKEN"

Ctrl-C ends it all."""


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="Walk through what the kit does, on this machine.")
    parser.add_argument("--serve", action="store_true", help="stay up until Ctrl-C, and print what to try")
    parser.add_argument("--port", type=int, default=0, help="port of 127.0.0.1 to listen on (default: a free one)")
    parser.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="a parameter of template.yaml, for --serve")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    try:
        with emulator(options.port) as endpoint:
            return serve(endpoint, options.parameters) if options.serve else demo(endpoint)
    except (DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def demo(endpoint: str) -> int:
    """Tell the story, count what was right in it, and return the exit status."""
    start = time.monotonic()
    story(endpoint)
    say(f"\n{sum(RIGHT)} of {len(RIGHT)} answers were right, in {time.monotonic() - start:.1f} seconds.", BOLD)
    say("Next: make serve. It stays up, with a page and commands to try.")
    return 0 if all(RIGHT) else 1


def serve(endpoint: str, words: list[str]) -> int:
    """Deploy the kit with these parameters, print what to try, and wait for Ctrl-C."""
    parameters = {"AllowedResourceArns": OPEN} | dict(word.partition("=")[::2] for word in words)
    rest, http = deployed(endpoint, parameters)
    s3 = aws(endpoint, "s3")
    s3.create_bucket(Bucket="page")
    s3.upload_file(ROOT / "try.html", "page", "try.html", ExtraArgs={"ContentType": "text/html; charset=utf-8"})
    known = {"endpoint": endpoint, "rest": rest, "http": http, "login": LOGIN, "python": sys.executable}
    with contextlib.suppress(KeyboardInterrupt):
        say(COMMANDS.format(**known, google=parameters.get("GoogleClientId", "").partition(",")[0]))
        signal.pause()
    return 0


def deployed(endpoint: str, parameters: dict[str, str]) -> tuple[Stack, Stack]:
    """Deploy both templates, and create their users meanwhile: testuser, and ada with the scope admin."""
    say("Deploying template.yaml and template_http.yaml to an emulator of AWS ...")
    with ThreadPoolExecutor() as pool:
        http = deploy(endpoint, "template_http.yaml", "access-control-http")
        users = [pool.submit(create_user, endpoint, USER, PASSWORD, table="user_credentials_http")]
        rest = deploy(endpoint, **parameters)
        table = parameters.get("UserTableName", "user_credentials")
        users.append(pool.submit(create_user, endpoint, USER, PASSWORD, table=table))
        users.append(pool.submit(create_user, endpoint, "ada", PASSWORD, "--scope", "admin", table=table))
        for stack in (rest, http):  # a function that has run before answers sooner
            pool.submit(requests.post, f"{stack.api}/auth", "{}", timeout=60)
    for user in users:
        user.result()
    return rest, http


def story(endpoint: str) -> None:
    """Show what the kit promises, a request or two for each promise."""
    settings = {"AllowedResourceArns": f"{OPEN},admin={METHODS}/api/admin"}
    rest, http = deployed(endpoint, settings)

    chapter("A REST API", URL=rest.api)
    token = ask("A password becomes a token", 200, f"{rest.api}/auth", body=LOGIN, name="TOKEN")
    print(f"\nTOKEN={token}")
    say(json.dumps(jwt.decode(token, options={"verify_signature": False}), indent=2))
    ask("A wrong password does not", 401, f"{rest.api}/auth", body=LOGIN.replace(PASSWORD, "wrong"))
    ask("No token: who are you?", 401, f"{rest.api}/api")
    ask("The token opens the protected endpoint", 200, f"{rest.api}/api", token)
    runs = authorizer_runs(rest)
    ask("Another route, by the same answer of the authorizer", 200, f"{rest.api}/api/other", token)
    step("How often API Gateway asked it again", 0, authorizer_runs(rest) - runs)
    ids = physical_ids(endpoint, rest.name)
    event = {"authorizationToken": token, "methodArn": f"{ARN}:{ids['Api']}/prod/GET/api"}
    answer = aws(endpoint, "lambda").invoke(FunctionName=ids["JwtAuthToken"], Payload=json.dumps(event))
    say("\nThe answer that API Gateway remembers under the token", BOLD)
    say(json.dumps(json.load(answer["Payload"]), indent=2))

    chapter("Rights: a route for users with the scope admin")
    ask("testuser has no scope: not you", 403, f"{rest.api}/api/admin", token)
    ada = ask("ada has it", 200, f"{rest.api}/auth", body=LOGIN.replace(USER, "ada"), name="ADA")
    ask("So she may", 200, f"{rest.api}/api/admin", ada)
    SHORT[forged := f"{ada.rpartition('.')[0]}.{token.rpartition('.')[2]}"] = "$FORGED"
    ask("Forged: what her token says, with the signature of testuser's", 401, f"{rest.api}/api/admin", forged)

    chapter("A WebSocket API", WS=rest.websocket)
    converse("The token, and a message that comes back", "hello", f"{rest.websocket}?access_token={token}")
    converse("No token (AWS says 401, this emulator 500)", "refused", rest.websocket)

    chapter("An HTTP API, from the same files", HTTP_URL=http.api)
    other = ask("It has users and tokens of its own", 200, f"{http.api}/auth", body=LOGIN, name="HTTP_TOKEN")
    ask("No token", 401, f"{http.api}/api")
    ask("The token", 200, f"{http.api}/api", other)
    runs = authorizer_runs(http)
    ask("Another route", 200, f"{http.api}/api/other", other)
    step("How often API Gateway asked the authorizer again", 0, authorizer_runs(http) - runs)
    ask("May a page of another site call it? (CORS)", 204, f"{http.api}/api", origin="https://app.example")

    rest = deploy(endpoint, **settings, CheckUsers="true", ReauthorizeEvery="0")
    chapter("Logging out, with CheckUsers=true and ReauthorizeEvery=0", URL=rest.api)
    ask("The token is still good", 200, f"{rest.api}/api", token)
    say("\n$ python create_password.py --user-id testuser --table $TABLE --log-out")
    create_user(endpoint, USER, "", "--log-out")
    ask("And now it is not", 401, f"{rest.api}/api", token)
    say("With ReauthorizeEvery=300 it could have been good for as many seconds more.")


def chapter(title: str, **addresses: str) -> None:
    """Print the title of a chapter, and the addresses in it, which have short names from here on."""
    say(f"\n── {title} {'─' * (76 - len(title))}", BOLD)
    for name, address in addresses.items():
        say(f"{name}={address}")
        SHORT[address] = f"${name}"


def ask(title: str, expected: int, url: str, token: str = "", body: str = "", name: str = "", origin: str = "") -> str:
    """Send a request, show it as the curl command that sends the same, and return the token that came, now named."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Origin": origin, "Access-Control-Request-Method": "GET"} if origin else {}
    method = "OPTIONS" if origin else "POST" if body else "GET"
    request = requests.Request(method, url, headers, data=body).prepare()
    answer = SESSION.send(request)
    came = str(answer.json().get("token")) if name else ""
    SHORT.update({came: f"${name}"} if name else {})
    allowed = "\n".join(f"{key}: {value}" for key, value in answer.headers.items() if "Allow" in key)
    step(title, expected, answer.status_code, curl(request), answer.text or allowed)
    return came


def curl(request: requests.PreparedRequest) -> str:
    """Return the command that sends the same request."""
    words = ["-X OPTIONS"] if request.method == "OPTIONS" else []
    words += [f'-H "{name}: {value}"' for name, value in request.headers.items() if name != "Content-Length"]
    words += [f"-d '{request.body!s}'"] if request.body else []
    return (" \\\n    " if len(words) > 2 else " ").join(["$ curl", *words, str(request.url)])


def converse(title: str, expected: str, url: str) -> None:
    """Open a WebSocket, say hello, and show what comes back."""
    try:
        with connect(url, proxy=None) as connection:
            connection.send("hello")
            found = str(connection.recv())
    except InvalidStatus:
        found = "refused"
    step(title, expected, found, f'$ python -m websockets "{url}"')


def step(title: str, expected: object, found: object, *lines: str) -> None:
    """Print what a step shows, the lines about it, and whether it came out as it should."""
    RIGHT.append(found == expected)
    say(f"\n{title}", BOLD)
    for line in lines:
        say(line)
    verdict = f"✓ {found}, as it should be" if RIGHT[-1] else f"✗ {found}, and it should be {expected}"
    say(verdict, GREEN if RIGHT[-1] else RED)


def say(text: str, style: str = "") -> None:
    """Print a text with short names for long values, in a style where this is a terminal."""
    for value, name in SHORT.items():
        text = text.replace(value, name)
    print(f"{style}{text}\033[0m" if style and sys.stdout.isatty() else text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
