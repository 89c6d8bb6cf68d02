"""Runs MiniStack, an emulator of AWS that needs no container engine, and deploys the kit to it, for demo and tests.

It listens on 127.0.0.1 alone, runs the functions under this Python, and ends with all that it started and wrote.
The layers are those of this machine: `make .demo/basic_auth.zip .demo/google_auth.zip`.
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
NOBODY = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# The last two services would listen on every interface, the one before them looks for a container engine.
SETTINGS = NOBODY | {
    "BIND_HOST": HOST,
    "DOCKER_HOST": "unix:///none",
    "IOT_MTLS_ENABLED": "0",
    "SFTP_ENABLED": "0",
}


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
    """Run the emulator on a port (0: a free one), give its address, and end it with all that it started."""
    with socket.create_server((HOST, port)) as probe:
        port = probe.getsockname()[1]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = HOST
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
        log, address = Path(folder, "log"), f"http://{HOST}:{port}"
        settings = SETTINGS | {
            "GATEWAY_PORT": str(port),
            "HOME": folder,
            "TMPDIR": folder,
            "LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "ministack"]
        with log.open(
            "wb"
        ) as output:  # a group of its own is ended as one, and Ctrl-C does not reach it
            process = subprocess.Popen(
                command, env=settings, cwd=folder, stdout=output, stderr=output, process_group=0
            )
        try:
            wait_until_ready(process, address, log)
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    """Return once the emulator answers, or raise what it said last."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if requests.get(f"{endpoint}/_ministack/ready", timeout=5).ok:
                return
        time.sleep(0.05)
    raise DemoError(
        f"The emulator did not start: {log.read_text(errors='replace').strip().rpartition(chr(10))[2]}"
    )


@functools.cache
def aws(endpoint: str, service: str) -> Any:
    """Return a boto3 client of the emulator."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(service, "us-east-1", endpoint_url=endpoint, **keys)


def deploy(
    endpoint: str, template: str = "template.yaml", name: str = "access-control", **parameters: str
) -> Stack:
    """Deploy a template as a stack, or update that stack, as `aws cloudformation package` and `deploy` do."""
    cloudformation = aws(endpoint, "cloudformation")
    known = [stack["StackName"] for stack in cloudformation.describe_stacks()["Stacks"]]
    action = "update" if name in known else "create"
    body = json.dumps(package(endpoint, template, parameters))
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    try:
        getattr(cloudformation, f"{action}_stack")(
            StackName=name, TemplateBody=body, Parameters=given
        )
        waiter = cloudformation.get_waiter(f"stack_{action}_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 1200})
    except ClientError as error:
        raise DemoError(
            f"CloudFormation does not take {template}: {error.response['Error']['Message']}"
        ) from None
    except WaiterError:
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [
            event["ResourceStatusReason"]
            for event in events
            if event["ResourceStatus"].endswith("_FAILED")
        ]
        raise DemoError(f"{template} could not be deployed: {' '.join(reasons[-1:])}") from None
    return addresses(endpoint, name)


def package(endpoint: str, template: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Return a template with the files that it names uploaded, and bent to what the emulator can do."""
    content: dict[str, Any] = yaml_parse((ROOT / template).read_text(encoding="utf-8"))
    values = {name: parameter.get("Default") for name, parameter in content["Parameters"].items()}
    if unknown := parameters.keys() - values.keys():
        raise DemoError(f"{template} has no parameter {' or '.join(unknown)}.")
    values |= parameters
    s3 = aws(endpoint, "s3")
    s3.create_bucket(Bucket="artifacts")
    for resource in content["Resources"].values():
        properties = resource.get("Properties", {})
        for place in {"CodeUri", "ContentUri"} & properties.keys():
            if resource.get("Condition") != "HasGoogle" or values["GoogleClientId"]:
                s3.put_object(
                    Bucket="artifacts", Key=properties[place], Body=artifact(properties[place])
                )
            properties[place] = f"s3://artifacts/{properties[place]}"
        bend(resource, values["ReauthorizeEvery"])
    return content


def artifact(path: str) -> bytes:
    """Return what is uploaded for a path of a template: a layer, or a zip with the script alone."""
    if path.startswith("layers/"):
        return (ROOT / ".demo" / Path(path).name).read_bytes()
    with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
        archive.write(ROOT / path, path)
    return content.getvalue()


def bend(resource: dict[str, Any], reauthorize_every: str) -> None:
    """Change a resource that the emulator does not have, or whose properties it reads otherwise than AWS."""
    properties = resource.get("Properties", {})
    if (
        resource["Type"] == "AWS::ApiGatewayV2::RouteResponse"
    ):  # missing, and needless: in its place what does nothing
        resource |= {"Type": "AWS::CloudFormation::WaitConditionHandle", "Properties": {}}
    for authorizer in properties.get("Auth", {}).get("Authorizers", {}).values():
        authorizer["Identity"]["ReauthorizeEvery"] = reauthorize_every  # a reference acts as 300
    for key in list(cors := properties.get("CorsConfiguration", {})):
        cors[key[0].lower() + key[1:]] = cors.pop(key)


def addresses(endpoint: str, name: str) -> Stack:
    """Return where the APIs of a stack are on this machine; its outputs say where they would be on AWS."""
    ids = physical_ids(endpoint, name)
    path = f"{endpoint.removeprefix('http:')}/_aws/execute-api"
    if "HttpApi" in ids:
        return Stack(endpoint, f"http:{path}/{ids['HttpApi']}/%24default", "", name)
    return Stack(
        endpoint, f"http:{path}/{ids['Api']}/prod", f"ws:{path}/{ids['WebSocketApi']}/prod", name
    )


def physical_ids(endpoint: str, name: str) -> dict[str, str]:
    """Return what the resources of a stack are called in the emulator, by logical id."""
    resources = aws(endpoint, "cloudformation").describe_stack_resources(StackName=name)[
        "StackResources"
    ]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}


def create_user(
    endpoint: str, user_id: str, password: str, *options: str, table: str = "user_credentials"
) -> None:
    """Run create_password.py for a user, as its user would: the password goes through standard input."""
    command = [
        sys.executable,
        str(ROOT / "create_password.py"),
        "--user-id",
        user_id,
        "--table",
        table,
        *options,
    ]
    environment = os.environ | NOBODY | {"AWS_ENDPOINT_URL": endpoint}
    done = subprocess.run(
        command, input=f"{password}\n", capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise DemoError(f"create_password.py: {done.stderr.strip()}")


def authorizer_runs(stack: Stack) -> int:
    """Return how often the authorizer of GET /api was asked: what comes from the cache is not in its log."""
    log_group = physical_ids(stack.endpoint, stack.name)["JwtAuthTokenLog"]
    pages = (
        aws(stack.endpoint, "logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=log_group)
    )
    return sum(event["message"].startswith("START ") for page in pages for event in page["events"])
