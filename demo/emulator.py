"""The AWS emulator that the demo and the tests deploy the kit to: MiniStack, bound to 127.0.0.1.

    with emulator() as endpoint:
        stack = deploy(endpoint, "template.yaml", CheckUsers="true")
        create_user(endpoint, "testuser", "password123")

Functions run under this Python. Everything is written to a temporary folder and ends with the context: no container
engine, no AWS account. The layers are built for this machine, by `make .demo/basic_auth.zip` and `google_auth.zip`.
"""

import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
BUCKET = "demo-artifacts"
NOBODY = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
START_TIMEOUT = 60  # seconds


class DemoError(Exception):
    """Something that stops the demo; the message is a sentence for its user."""


class Stack(NamedTuple):
    """A deployed template: the emulator's address, the invoke URLs of its APIs ("" where there is none), its name."""

    endpoint: str
    api: str
    websocket: str
    name: str


@contextlib.contextmanager
def emulator(port: int = 0) -> Iterator[str]:
    """Run MiniStack on a port (0: a free one), give its address, and end it with all that it started."""
    port = usable_port(port)
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ministack"],
                env=emulator_environment(port, folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,  # one group to end, and Ctrl-C reaches this process alone
            )
        try:
            wait_until_ready(process, port, log)
            yield f"http://{HOST}:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def usable_port(port: int) -> int:
    """Return the port, or a free one for 0, that nothing listened on a moment ago."""
    try:
        with socket.create_server((HOST, port)) as probe:
            return int(probe.getsockname()[1])
    except (OSError, OverflowError):
        raise DemoError(f"Port {port} of {HOST} is in use or not allowed: choose another with PORT=.") from None


def emulator_environment(port: int, folder: str) -> dict[str, str]:
    """Return the environment of MiniStack and its functions: nothing of the user's but the path."""
    return NOBODY | {
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
        "MINISTACK_REGION": NOBODY["AWS_DEFAULT_REGION"],
    }


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the emulator answers, or raise DemoError with the last line of its log."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if requests.get(f"http://{HOST}:{port}/_ministack/ready", timeout=5, proxies={"http": ""}).ok:
                return
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise DemoError(f"The emulator did not start on port {port} of {HOST}: {last or 'it took too long'}")


def aws(endpoint: str, service: str) -> Any:
    """Return a boto3 client of the emulator, whatever AWS settings and proxies the user has."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=NOBODY["AWS_DEFAULT_REGION"],
        aws_access_key_id=NOBODY["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=NOBODY["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}),
    )


def deploy(endpoint: str, template: str = "template.yaml", name: str = "access-control", **parameters: str) -> Stack:
    """Deploy a template as a stack, or update the stack, as `aws cloudformation package` and `deploy` do."""
    cloudformation = aws(endpoint, "cloudformation")
    exists = any(stack["StackName"] == name for stack in cloudformation.describe_stacks()["Stacks"])
    action = "update" if exists else "create"
    try:
        getattr(cloudformation, f"{action}_stack")(
            StackName=name,
            TemplateBody=package(endpoint, template, bool(parameters.get("GoogleClientId"))),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        waiter = cloudformation.get_waiter(f"stack_{action}_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 1200})
    except ClientError as error:
        raise DemoError(f"CloudFormation does not take {template}: {error}") from None
    except WaiterError:
        raise DemoError(f"{template} could not be deployed: {failure(cloudformation, name)}") from None
    return addresses(endpoint, name)


def package(endpoint: str, template: str, with_google: bool) -> str:
    """Return a template for the emulator, with the files that it names uploaded and named there."""
    s3 = aws(endpoint, "s3")
    s3.create_bucket(Bucket=BUCKET)
    described = bent(yaml_parse((ROOT / template).read_text(encoding="utf-8")))
    for resource in described["Resources"].values():
        properties = resource.get("Properties", {})
        for place in {"CodeUri", "ContentUri"} & properties.keys():
            # What a condition leaves out needs no layer, but SAM wants an address all the same.
            content = artifact(properties[place]) if with_google or resource.get("Condition") != "HasGoogle" else b""
            key = hashlib.sha256(content).hexdigest()
            s3.put_object(Bucket=BUCKET, Key=key, Body=content)
            properties[place] = f"s3://{BUCKET}/{key}"
    return json.dumps(described)


def bent(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template without what the emulator lacks: route responses, and AWS's spelling of an HTTP API's CORS."""
    resources = template["Resources"]
    lacking = {name for name, each in resources.items() if each["Type"] == "AWS::ApiGatewayV2::RouteResponse"}
    for resource in resources.values():
        after = resource.get("DependsOn", [])
        resource["DependsOn"] = [name for name in ([after] if isinstance(after, str) else after) if name not in lacking]
        cors = resource.get("Properties", {}).get("CorsConfiguration", {})
        for key in list(cors):
            cors[key[0].lower() + key[1:]] = cors.pop(key)
    return template | {"Resources": {name: each for name, each in resources.items() if name not in lacking}}


def artifact(path: str) -> bytes:
    """Return what is uploaded for a path of a template: a layer of this machine, or a zip with the script alone."""
    if path.startswith("layers/"):
        layer = ROOT / ".demo" / Path(path).name
        if not layer.exists():
            raise DemoError(f"The layer .demo/{layer.name} is not there: make .demo/{layer.name}")
        return layer.read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        script = zipfile.ZipInfo(path)
        script.external_attr = 0o100644 << 16  # whatever the umask is: functions may run as somebody else
        archive.writestr(script, (ROOT / path).read_bytes())
    return content.getvalue()


def failure(cloudformation: Any, name: str) -> str:
    """Return what CloudFormation says about the first resource of a stack that failed."""
    for event in reversed(cloudformation.describe_stack_events(StackName=name)["StackEvents"]):
        if event["ResourceStatus"].endswith("_FAILED"):
            return f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
    return "no reason given"


def addresses(endpoint: str, name: str) -> Stack:
    """Return where the APIs of a stack are on this machine; its outputs say where they would be on AWS."""
    ids = physical_ids(endpoint, name)
    path = f"{endpoint.removeprefix('http:')}/_aws/execute-api"
    if "HttpApi" in ids:
        return Stack(endpoint, f"http:{path}/{ids['HttpApi']}/%24default", "", name)
    return Stack(endpoint, f"http:{path}/{ids['Api']}/prod", f"ws:{path}/{ids['WebSocketApi']}/prod", name)


def physical_ids(endpoint: str, name: str) -> dict[str, str]:
    """Return what the resources of a stack are called in the emulator, by logical id."""
    resources = aws(endpoint, "cloudformation").describe_stack_resources(StackName=name)["StackResources"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}


def create_user(
    endpoint: str, user_id: str, password: str = "", *options: str, table: str = "user_credentials"
) -> None:
    """Run create_password.py for a user, as its user would: the password goes through standard input."""
    command = [sys.executable, str(ROOT / "create_password.py"), "--user-id", user_id, "--table", table, *options]
    settings = NOBODY | {"AWS_ENDPOINT_URL": endpoint, "NO_PROXY": HOST}
    done = subprocess.run(command, input=f"{password}\n", capture_output=True, text=True, env=os.environ | settings)
    if done.returncode:
        raise DemoError(f"create_password.py: {done.stderr.strip().rpartition(chr(10))[2]}")
