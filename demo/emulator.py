"""The AWS emulator that the demo and the tests deploy the kit to: MiniStack, which needs no container engine.

    with emulator() as endpoint:
        stack = deploy(endpoint, "template.yaml", CheckUsers="true")
        create_user(endpoint, "testuser", "password123")

It listens on 127.0.0.1 alone, runs the functions under this Python, and ends with all that it started and wrote.
The layers are those of this machine, which `make .demo/basic_auth.zip .demo/google_auth.zip` builds.
"""

import contextlib
import functools
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
from botocore.exceptions import ClientError, WaiterError
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
BUCKET = "artifacts"
START_TIMEOUT = 60  # seconds
# What the emulator takes, instead of the user's own settings.
NOBODY = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


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
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = HOST
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
            wait_until_ready(process, f"http://{HOST}:{port}", log)
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
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # these two would listen on every interface
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder}/no-docker",
        "LOG_LEVEL": "WARNING",
    }


def wait_until_ready(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    """Return once the emulator answers, or raise the last line of its log."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if requests.get(f"{endpoint}/_ministack/ready", timeout=5).ok:
                return
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise DemoError(f"The emulator did not start at {endpoint}: {last or 'it took too long'}")


@functools.cache
def aws(endpoint: str, service: str) -> Any:
    """Return a boto3 client of the emulator."""
    return boto3.Session("test", "test", region_name="us-east-1").client(service, endpoint_url=endpoint)


def deploy(endpoint: str, template: str = "template.yaml", name: str = "access-control", **parameters: str) -> Stack:
    """Deploy a template as a stack, or update that stack, as `aws cloudformation package` and `deploy` do."""
    cloudformation = aws(endpoint, "cloudformation")
    exists = any(stack["StackName"] == name for stack in cloudformation.describe_stacks()["Stacks"])
    action = "update" if exists else "create"
    try:
        getattr(cloudformation, f"{action}_stack")(
            StackName=name,
            TemplateBody=json.dumps(package(endpoint, template, parameters)),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        waiter = cloudformation.get_waiter(f"stack_{action}_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 1200})
    except ClientError as error:
        raise DemoError(f"CloudFormation does not take {template}: {error.response['Error']['Message']}") from None
    except WaiterError:
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [event["ResourceStatusReason"] for event in events if event["ResourceStatus"].endswith("_FAILED")]
        raise DemoError(f"{template} could not be deployed: {' '.join(reasons[-1:])}") from None
    return addresses(endpoint, name)


def package(endpoint: str, template: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Return a template with the files that it names uploaded, and without what the emulator lacks."""
    described: dict[str, Any] = yaml_parse((ROOT / template).read_text(encoding="utf-8"))
    unknown = ", ".join(parameters.keys() - described["Parameters"].keys())
    if unknown:
        raise DemoError(f"{template} has no parameter {unknown}.")
    s3 = aws(endpoint, "s3")
    s3.create_bucket(Bucket=BUCKET)
    for resource in described["Resources"].values():
        properties = resource.get("Properties", {})
        for place in {"CodeUri", "ContentUri"} & properties.keys():
            path = properties[place]
            properties[place] = f"s3://{BUCKET}/{path}"
            if resource.get("Condition") != "HasGoogle" or parameters.get("GoogleClientId"):
                s3.put_object(Bucket=BUCKET, Key=path, Body=artifact(path))
    return bent(described, parameters)


def artifact(path: str) -> bytes:
    """Return what is uploaded for a path of a template: a layer, or a zip with the script alone."""
    if path.startswith("layers/"):
        layer = ROOT / ".demo" / Path(path).name
        if not layer.exists():
            raise DemoError(f"The layer is not built: make .demo/{layer.name}")
        return layer.read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(path, (ROOT / path).read_bytes())
    return content.getvalue()


def bent(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """Return a template without route responses, with what the emulator would not read put in its words."""
    resources = template["Resources"]
    lacking = {name for name, each in resources.items() if each["Type"] == "AWS::ApiGatewayV2::RouteResponse"}
    for resource in resources.values():
        after = resource.get("DependsOn", [])
        resource["DependsOn"] = [name for name in ([after] if isinstance(after, str) else after) if name not in lacking]
        properties = resource.get("Properties", {})
        for authorizer in properties.get("Auth", {}).get("Authorizers", {}).values():
            default = template["Parameters"]["ReauthorizeEvery"]["Default"]
            authorizer["Identity"]["ReauthorizeEvery"] = parameters.get("ReauthorizeEvery", default)
        cors = properties.get("CorsConfiguration", {})
        for key in list(cors):
            cors[key[0].lower() + key[1:]] = cors.pop(key)
    return template | {"Resources": {name: each for name, each in resources.items() if name not in lacking}}


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


def create_user(endpoint: str, user_id: str, password: str, *options: str, table: str = "user_credentials") -> None:
    """Run create_password.py for a user, as its user would: the password goes through standard input."""
    command = [sys.executable, str(ROOT / "create_password.py"), "--user-id", user_id, "--table", table, *options]
    environment = os.environ | NOBODY | {"AWS_ENDPOINT_URL": endpoint}
    done = subprocess.run(command, input=f"{password}\n", capture_output=True, text=True, env=environment)
    if done.returncode:
        raise DemoError(f"create_password.py: {done.stderr.strip()}")
