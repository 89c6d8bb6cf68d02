"""Deploys template.yaml to an AWS emulator on this machine and walks through what the kit does.

    python demo.py                deploy, walk through the story, end; exit status 0 if every answer was right
    python demo.py --serve        deploy, print the commands to try, stay up until Ctrl-C
    python demo.py --port 8000    listen on that port of 127.0.0.1; default: a free one

The emulator is MiniStack. It listens on 127.0.0.1 alone, runs the functions under this Python, keeps everything
in a temporary folder, and is ended with all that it started. Nothing here needs Docker or an AWS account.

Needs Python 3.11 or newer, requirements_dev.txt, and the scripts beside this one. The layers are built once for
this machine and kept in .demo/. Exit status: 0 done, 1 something was not as it should be, 130 ended by Ctrl-C
before it was done.
"""

from __future__ import annotations  # so that an old Python gets as far as the sentence about it

import argparse
import base64
import contextlib
import hashlib
import http.client
import importlib.util
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE / "template.yaml"
LAYER_CACHE = HERE / ".demo"
OLDEST_PYTHON = (3, 11)
PACKAGES = ("boto3", "ministack", "samtranslator", "websockets")
HOST = "127.0.0.1"
REGION = "us-east-1"
STACK = "access-control"
STAGE = "prod"
BUCKET = "demo-artifacts"
TABLE = "user_credentials"
USER = "testuser"
PASSWORD = "password123"  # noqa: S105 - a throw-away
START_TIMEOUT = 60  # seconds that the emulator may take to start
DEPLOY_TIMEOUT = 120  # seconds
CALL_TIMEOUT = 60  # seconds for one request; the first one to a function starts it


class DemoError(Exception):
    """Something that stops the demo; the message is a sentence for its user."""


class Stack(NamedTuple):
    """Where the deployed kit is: the emulator's own address, and the invoke URLs of the two APIs."""

    endpoint: str
    api: str
    websocket: str


class Answer(NamedTuple):
    """What came back over HTTP."""

    status: int
    body: str
    headers: dict[str, str]


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        0 if everything was as it should be, 1 after a sentence on standard error, 130 after Ctrl-C or a request to end.
    """
    options = parse(argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_quietly)
    try:
        check_setup()
        forget_aws_settings()
        with emulator(options.port) as endpoint:
            return run(endpoint, options.serve)
    except DemoError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        The options `serve` and `port`.
    """
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="demo.py", description=description)
    parser.add_argument("--serve", action="store_true", help="stay up until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help=f"port of {HOST} to listen on (default: a free one)")
    return parser.parse_args(argv)


def end_quietly(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, whichever way the end is asked for.

    Args:
        number: the signal that came.
        frame: where it came.

    Raises:
        KeyboardInterrupt: always.
    """
    raise KeyboardInterrupt


def run(endpoint: str, serve: bool) -> int:
    """Deploy the kit, then walk through the story or wait for Ctrl-C.

    Args:
        endpoint: the emulator's address.
        serve: whether to stay up instead of walking through the story.

    Returns:
        The exit status.

    Raises:
        DemoError: the deployment fails.
    """
    say(f"Deploying template.yaml to the emulator at {endpoint} ...")
    stack = deploy(endpoint)
    create_user(endpoint, USER, PASSWORD)
    if serve:
        return wait(stack)
    return tell_story(stack)


# --- The emulator ---


def check_setup() -> None:
    """Make sure that this Python can run the demo.

    Raises:
        DemoError: it is too old, or a package is missing.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise DemoError("Python {}.{} or newer is needed.".format(*OLDEST_PYTHON))
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"{' and '.join(missing)} cannot be imported: run `make demo`, which installs what is needed.")


@contextlib.contextmanager
def emulator(port: int = 0) -> Iterator[str]:
    """Run MiniStack on loopback for as long as the context lasts, and end it with everything that it started.

    Args:
        port: the port to listen on; 0 for a free one.

    Yields:
        Its address, such as http://127.0.0.1:4566.

    Raises:
        DemoError: the port is in use, or the emulator does not start.
    """
    port = usable_port(port)
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ministack"],
                env=emulator_environment(port, folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,  # one group to end, and Ctrl-C reaches this process alone
            )
        try:
            wait_until_ready(process, port, Path(folder, "log"))
            yield f"http://{HOST}:{port}"
        finally:
            stop(process)


def usable_port(port: int) -> int:
    """Return the port, or a free one if it is 0.

    Args:
        port: the port that is wanted.

    Returns:
        A port of 127.0.0.1 that nothing listened on a moment ago.

    Raises:
        DemoError: it cannot be used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            raise DemoError(f"Port {port} of {HOST} is in use or not allowed: choose another with --port.") from None
        return int(probe.getsockname()[1])


def emulator_environment(port: int, folder: str) -> dict[str, str]:
    """Return the environment that MiniStack and its functions run in: nothing of the user's but the path.

    Args:
        port: the port to listen on.
        folder: where everything that is written goes.

    Returns:
        The variables.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": folder,
        "TMPDIR": folder,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # these two would listen on every interface
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder}/no-docker",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_REGION": REGION,
        **aws_settings(),
    }


def forget_aws_settings() -> None:
    """Put made-up AWS settings, which the emulator takes, in the place of the user's own, and go past any proxy."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(aws_settings(), NO_PROXY=HOST, no_proxy=HOST)


def aws_settings() -> dict[str, str]:
    """Return AWS settings for the environment that belong to nobody."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the emulator answers.

    Args:
        process: the emulator.
        port: the port that it listens on.
        log: the file that it writes to.

    Raises:
        DemoError: it ended, or took too long.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if call("GET", f"http://{HOST}:{port}/_ministack/ready").status == 200:
                return
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise DemoError(f"The emulator did not start on port {port} of {HOST}: {last or 'it took too long'}")


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process and everything that it started; what they wrote is in a temporary folder.

    Args:
        process: the leader of a process group of its own.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# --- The deployment: what `aws cloudformation package` and `aws cloudformation deploy` do ---


def deploy(endpoint: str, name: str = STACK, **parameters: str) -> Stack:
    """Deploy template.yaml as a stack, or update it if the stack is there.

    Args:
        endpoint: the emulator's address.
        name: the name of the stack.
        parameters: the template's parameters that are not to have their defaults.

    Returns:
        The addresses of its APIs.

    Raises:
        DemoError: the stack cannot be deployed.
    """
    template = package(endpoint, TEMPLATE.read_text(encoding="utf-8"))
    cloudformation = aws(endpoint, "cloudformation")
    exists = any(stack["StackName"] == name for stack in cloudformation.describe_stacks()["Stacks"])
    order = cloudformation.update_stack if exists else cloudformation.create_stack
    try:
        order(
            StackName=name,
            TemplateBody=template,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
    except cloudformation.exceptions.ClientError as error:
        raise DemoError(f"CloudFormation does not take the template: {error}") from None
    wait_for_stack(cloudformation, name)
    return addresses(endpoint, name)


def package(endpoint: str, template: str) -> str:
    """Upload the files that a template names, and name the uploads in their place.

    Args:
        endpoint: the emulator's address.
        template: the template's text.

    Returns:
        The text with every CodeUri and ContentUri replaced, unchanged otherwise.

    Raises:
        DemoError: a layer cannot be built.
    """
    s3 = aws(endpoint, "s3")
    s3.create_bucket(Bucket=BUCKET)

    def upload(match: re.Match[str]) -> str:
        content = artifact(match["path"])
        key = hashlib.sha256(content).hexdigest()
        s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"{match['property']}: s3://{BUCKET}/{key}"

    return re.sub(r"(?P<property>CodeUri|ContentUri): (?P<path>\S+)", upload, template)


def artifact(path: str) -> bytes:
    """Return what is uploaded for a path of the template.

    Args:
        path: a script, or layers/NAME.zip.

    Returns:
        A zip with the script alone, or the layer of requirements_NAME.txt, built for this machine.

    Raises:
        DemoError: the layer cannot be built.
    """
    if path.startswith("layers/"):
        return host_layer(HERE / f"requirements_{Path(path).stem}.txt").read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo(path), (HERE / path).read_bytes())
    return content.getvalue()


def host_layer(requirements: Path) -> Path:
    """Build a layer for this machine, unless it was built before.

    Args:
        requirements: the requirements file.

    Returns:
        The zip, named after everything that it was made from.

    Raises:
        DemoError: the layer cannot be built.
    """
    builder = HERE / "build_layer.py"
    made_from = requirements.read_bytes() + builder.read_bytes() + sys.version.encode()
    layer = LAYER_CACHE / f"{requirements.stem}-{hashlib.sha256(made_from).hexdigest()[:16]}.zip"
    if layer.exists():
        return layer
    say(f"Building a layer from {requirements.name} for this machine, once ...")
    LAYER_CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=LAYER_CACHE) as folder:
        built = Path(folder, "layer.zip")
        command = [sys.executable, str(builder), str(requirements), str(built), "--arch", "host"]
        run_or_fail(command, f"The layer of {requirements.name} could not be built")
        for outdated in LAYER_CACHE.glob(f"{requirements.stem}-*.zip"):
            outdated.unlink()
        built.replace(layer)
    return layer


def run_or_fail(command: list[str], failure: str, text: str = "", settings: dict[str, str] | None = None) -> None:
    """Run a command without showing its output.

    Args:
        command: the command and its arguments.
        failure: what it means if the command fails.
        text: what it reads from standard input.
        settings: environment variables, beside those of this process.

    Raises:
        DemoError: it failed; the message ends in the last line that it printed.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(settings or {})},
        start_new_session=True,
    )
    try:
        output = process.communicate(text)[0].strip()
    except BaseException:
        stop(process)
        raise
    if process.returncode != 0:
        raise DemoError(f"{failure}: {output.splitlines()[-1] if output else 'no reason given'}")


def wait_for_stack(cloudformation: Any, name: str) -> None:
    """Wait until a stack is deployed.

    Args:
        cloudformation: the client.
        name: the stack.

    Raises:
        DemoError: it failed, or took too long; the message gives CloudFormation's reason.
    """
    deadline = time.monotonic() + DEPLOY_TIMEOUT
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    while stack["StackStatus"].endswith("_IN_PROGRESS") and time.monotonic() < deadline:
        time.sleep(0.1)
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise DemoError(f"The stack is {stack['StackStatus']}: {failure_reason(cloudformation, name)}")


def failure_reason(cloudformation: Any, name: str) -> str:
    """Return what CloudFormation says about the first resource of a stack that failed.

    Args:
        cloudformation: the client.
        name: the stack.

    Returns:
        The resource's logical id and the reason.
    """
    events = reversed(cloudformation.describe_stack_events(StackName=name)["StackEvents"])
    failed = [event for event in events if event["ResourceStatus"].endswith("_FAILED")]
    if not failed:
        return "no reason given"
    return f"{failed[0]['LogicalResourceId']}: {failed[0].get('ResourceStatusReason', 'no reason given')}"


def addresses(endpoint: str, name: str) -> Stack:
    """Find the invoke URLs of a stack.

    Args:
        endpoint: the emulator's address.
        name: the stack.

    Returns:
        The addresses on this machine; the outputs of the stack give those that it would have on AWS.
    """
    ids = physical_ids(endpoint, name)
    path = f"{endpoint.removeprefix('http:')}/_aws/execute-api"
    return Stack(endpoint, f"http:{path}/{ids['Api']}/{STAGE}", f"ws:{path}/{ids['WebSocketApi']}/{STAGE}")


def physical_ids(endpoint: str, name: str = STACK) -> dict[str, str]:
    """Return what the resources of a stack are called in the emulator.

    Args:
        endpoint: the emulator's address.
        name: the stack.

    Returns:
        Physical ids by logical id.
    """
    resources = aws(endpoint, "cloudformation").describe_stack_resources(StackName=name)["StackResources"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}


def aws(endpoint: str, service: str) -> Any:
    """Return a boto3 client of the emulator.

    Args:
        endpoint: its address.
        service: such as "cloudformation".

    Returns:
        The client.
    """
    import boto3

    return boto3.client(service, endpoint_url=endpoint)


def create_user(endpoint: str, user_id: str, password: str, table: str = TABLE) -> None:
    """Add a user to the table with create_password.py, as its user would.

    Args:
        endpoint: the emulator's address.
        user_id: the user.
        password: the password, which goes through standard input.
        table: the name of the table.

    Raises:
        DemoError: create_password.py refuses.
    """
    command = [sys.executable, str(HERE / "create_password.py"), "--user-id", user_id, "--table", table]
    run_or_fail(command, "The user could not be created", password + "\n", {"AWS_ENDPOINT_URL": endpoint})


# --- Requests ---


def call(method: str, url: str, body: str | None = None, authorization: str | None = None) -> Answer:
    """Make one HTTP request as curl would.

    Args:
        method: GET or POST.
        url: the address.
        body: what `curl -d` would send.
        authorization: the header Authorization.

    Returns:
        The answer, whatever its status.

    Raises:
        OSError: there was no answer.
    """
    address = urllib.parse.urlsplit(url)
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
    if authorization is not None:
        headers["Authorization"] = authorization
    connection = http.client.HTTPConnection(address.hostname or HOST, address.port, timeout=CALL_TIMEOUT)
    try:
        connection.request(method, address.path, body and body.encode(), headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        return Answer(response.status, text, {name.lower(): value for name, value in response.getheaders()})
    finally:
        connection.close()


def curl(method: str, url: str, body: str | None = None, authorization: str | None = None) -> str:
    """Return the curl command that makes the same request as `call`.

    Args:
        method: GET or POST.
        url: the address.
        body: the body.
        authorization: the header Authorization.

    Returns:
        A command for a shell.
    """
    words = ["curl"]
    if method != "GET":
        words += ["-X", method]
    if authorization is not None:
        words += ["-H", f'"Authorization: {authorization}"']
    words.append(url)
    if body is not None:
        words += ["-d", shlex.quote(body)]
    return " ".join(words)


def log_in(stack: Stack, user_id: str = USER, password: str = PASSWORD) -> Answer:
    """Ask for a token.

    Args:
        stack: the deployed kit.
        user_id: the user.
        password: the password.

    Returns:
        The answer of POST /auth.
    """
    return call("POST", f"{stack.api}/auth", credentials_body(user_id, password))


def credentials_body(user_id: str, password: str) -> str:
    """Return the body of a login.

    Args:
        user_id: the user.
        password: the password.

    Returns:
        JSON text.
    """
    return json.dumps({"user_id": user_id, "password": password})


def forge(token: str) -> str:
    """Return the token with another user in it, and the signature that it had.

    Args:
        token: a JWT.

    Returns:
        A JWT that must be refused.
    """
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    altered = json.dumps({**claims, "user_id": "somebody else"}).encode()
    return ".".join([header, base64.urlsafe_b64encode(altered).decode().rstrip("="), signature])


def converse(stack: Stack, message: str, token: str | None = None) -> str:
    """Open a WebSocket, send one message and return what comes back.

    Args:
        stack: the deployed kit.
        message: what to send.
        token: the JWT that goes into the query string, as a browser has to send it.

    Returns:
        The first message that comes back, or "refused" and the HTTP status.
    """
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    try:
        with connect(websocket_url(stack, token), proxy=None, open_timeout=CALL_TIMEOUT) as connection:
            connection.send(message)
            return str(connection.recv(timeout=CALL_TIMEOUT))
    except InvalidStatus as error:
        return f"refused {error.response.status_code}"


def websocket_url(stack: Stack, token: str | None = None) -> str:
    """Return the address of the WebSocket, with the token in its query string if there is one.

    Args:
        stack: the deployed kit.
        token: a JWT.

    Returns:
        The address.
    """
    return stack.websocket + (f"?access_token={token}" if token else "")


def authorizer_runs(stack: Stack, name: str = STACK) -> int:
    """Count the calls that the authorizer of GET /api has answered.

    Args:
        stack: the deployed kit.
        name: the name of the stack.

    Returns:
        The number of invocations in its log; a request that API Gateway answers from its cache adds none.
    """
    log_group = physical_ids(stack.endpoint, name)["JwtAuthTokenLog"]
    pages = aws(stack.endpoint, "logs").get_paginator("filter_log_events").paginate(logGroupName=log_group)
    return sum(event["message"].startswith("START ") for page in pages for event in page["events"])


# --- The story ---


def tell_story(stack: Stack) -> int:
    """Show every promise of the kit, one request each.

    Args:
        stack: the deployed kit, with the user in its table.

    Returns:
        0.

    Raises:
        DemoError: an answer is not as it should be.
    """
    say(f"The user {USER} is in the table {TABLE}. The tokens below are throw-away: they end with this demo.\n")
    token = tell_login(stack)
    tell_calls(stack, token)
    tell_cache(stack, token)
    tell_failed_logins(stack)
    tell_websocket(stack, token)
    say("Every answer was as it should be.")
    return 0


def tell_login(stack: Stack) -> str:
    """Log in.

    Args:
        stack: the deployed kit.

    Returns:
        The token.

    Raises:
        DemoError: there is none.
    """
    answer = step("Log in", 200, "POST", f"{stack.api}/auth", credentials_body(USER, PASSWORD))
    return str(json.loads(answer.body)["token"])


def tell_calls(stack: Stack, token: str) -> None:
    """Call the protected endpoint without a token, with a forged one and with a good one.

    Args:
        stack: the deployed kit.
        token: the good one.

    Raises:
        DemoError: an answer is not as it should be.
    """
    api = f"{stack.api}/api"
    step("Call without a token", 401, "GET", api)
    step("Call with a forged token", 401, "GET", api, authorization=f"Bearer {forge(token)}")
    step("Call with the token", 200, "GET", api, authorization=f"Bearer {token}")


def tell_cache(stack: Stack, token: str) -> None:
    """Call again, and another route, while API Gateway remembers the authorizer's answer.

    Args:
        stack: the deployed kit.
        token: a token that was used before.

    Raises:
        DemoError: an answer is not as it should be, or the authorizer was asked again.
    """
    before = authorizer_runs(stack)
    step("Again: API Gateway answers from its cache", 200, "GET", f"{stack.api}/api", authorization=f"Bearer {token}")
    step("Another route, same cache", 200, "GET", f"{stack.api}/api/other", authorization=f"Bearer {token}")
    if authorizer_runs(stack) != before:
        raise DemoError("The authorizer was asked again, although its answer should have been in the cache.")


def tell_failed_logins(stack: Stack) -> None:
    """Show that a wrong password and an unknown user are answered alike.

    Args:
        stack: the deployed kit.

    Raises:
        DemoError: they can be told apart.
    """
    url = f"{stack.api}/auth"
    wrong = step("Log in with a wrong password", 401, "POST", url, credentials_body(USER, "wrong"))
    unknown = step("Log in as nobody: the same answer", 401, "POST", url, credentials_body("nobody", PASSWORD))
    if wrong.body != unknown.body:
        raise DemoError("A wrong password and an unknown user should be answered alike.")


def tell_websocket(stack: Stack, token: str) -> None:
    """Open a WebSocket without and with a token.

    Args:
        stack: the deployed kit.
        token: a good one.

    Raises:
        DemoError: an answer is not as it should be.
    """
    say(f"# Open a WebSocket without a token: AWS answers 401, the emulator 500\n$ {websocket_command(stack)}")
    refused = converse(stack, "hello")
    say(f"{refused}\n")
    say(f"# Open one with the token, and say hello\n$ {websocket_command(stack, token)}")
    echo = converse(stack, "hello", token)
    say(f"{echo}\n")
    if not refused.startswith("refused ") or echo != "hello":
        raise DemoError("The WebSocket should refuse a client without a token and echo the message of one with it.")


def step(
    title: str, expected: int, method: str, url: str, body: str | None = None, authorization: str | None = None
) -> Answer:
    """Make a request, and show it as a curl command with its answer.

    Args:
        title: what the request shows.
        expected: the status that it should be answered with.
        method: GET or POST.
        url: the address.
        body: the body.
        authorization: the header Authorization.

    Returns:
        The answer.

    Raises:
        DemoError: the status is another.
    """
    say(f"# {title}\n$ {curl(method, url, body, authorization)}")
    answer = call(method, url, body, authorization)
    say(f"{answer.status} {answer.body}\n")
    if answer.status != expected:
        raise DemoError(f"The answer should have been {expected}.")
    return answer


def websocket_command(stack: Stack, token: str | None = None) -> str:
    """Return the command that opens the WebSocket by hand.

    Args:
        stack: the deployed kit.
        token: a JWT.

    Returns:
        A command for a shell.
    """
    return f"{shlex.quote(sys.executable)} -m websockets '{websocket_url(stack, token)}'"


def wait(stack: Stack) -> int:
    """Print the commands to try, and wait for Ctrl-C.

    Args:
        stack: the deployed kit.

    Returns:
        0, after Ctrl-C.
    """
    token = json.loads(log_in(stack).body)["token"]
    say(f"\nThe kit is up. The user is {USER}, the password {PASSWORD}; both are throw-away, and so is the token.\n")
    say(f"# invoke_url: {stack.api}\n")
    say(f"# Log in\n{curl('POST', f'{stack.api}/auth', credentials_body(USER, PASSWORD))}\n")
    say(f"# Call the protected endpoint\n{curl('GET', f'{stack.api}/api', authorization=f'Bearer {token}')}\n")
    say(f"# Open a WebSocket: whatever is typed comes back\n{websocket_command(stack, token)}\n")
    with contextlib.suppress(KeyboardInterrupt):
        say("Ctrl-C ends it all.")
        signal.pause()
    return 0


def say(text: str) -> None:
    """Print at once, also into a pipe.

    Args:
        text: what to print.
    """
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
