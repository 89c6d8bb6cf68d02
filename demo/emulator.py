"""Runs MiniStack, an AWS emulator that needs no container engine, and deploys the kit to it.

It listens on 127.0.0.1 only. It runs the functions as processes of this machine, with this Python.
So it requires signed requests, with keys that are new in every run: otherwise any web page in a
browser here, and every user of this machine, could run programs. It ends with all that it started
and wrote.
"""

import contextlib
import functools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import requests
from botocore.exceptions import ClientError, WaiterError

from demo import ROOT, DemoError
from demo.package import package

HOST = "127.0.0.1"
REGION = "us-east-1"

# The environment of a program that talks to the emulator. Nothing of ~/.aws reaches it.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
    "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
SETTINGS = CREDENTIALS | {
    "AUTH": "true",
    "BIND_HOST": HOST,
    "DOCKER_HOST": "unix:///none",  # it would look for a container engine
    "IOT_MTLS_ENABLED": "0",  # this service and the next one would listen on every interface
    "SFTP_ENABLED": "0",
    "LOG_LEVEL": "WARNING",
}


class Stack(NamedTuple):
    """A deployed template: the emulator's address, the invoke URLs of its APIs or "", its name."""

    endpoint: str
    api: str
    websocket: str
    name: str


@contextlib.contextmanager
def emulator(port: int = 0) -> Iterator[str]:
    """Run the emulator on a port, or a free one for 0, and give its address."""
    port = free_port(port)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = HOST
    os.environ.update(CREDENTIALS)
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "log")
        own = {"GATEWAY_PORT": str(port), "HOME": folder, "TMPDIR": folder}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ministack"],
                env=SETTINGS | own,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # so that Ctrl-C doesn't reach it, and its functions end with it
            )
        try:
            endpoint = f"http://{HOST}:{port}"
            wait_until_ready(process, endpoint, log)
            yield endpoint
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port(port: int) -> int:
    """Return this port, or a free one for 0, or raise DemoError if it can't be used."""
    try:
        with socket.create_server((HOST, port)) as probe:
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DemoError(
            f"Port {port} can't be used: {reason}. Choose another one, for example PORT=8123, "
            "or leave PORT out for a free one."
        ) from None


def wait_until_ready(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    """Return once the emulator answers, or raise DemoError with what it said last."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if requests.get(f"{endpoint}/_ministack/ready", timeout=5).ok:
                return
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines() or ["It says nothing."]
    raise DemoError(f"The emulator didn't start: {said[-1]}")


@functools.cache
def aws(endpoint: str, service: str) -> Any:
    """Return a boto3 client of the emulator."""
    return boto3.client(
        service,
        REGION,
        endpoint_url=endpoint,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def deploy(
    endpoint: str, template: str = "template.yaml", name: str = "access-control", **parameters: str
) -> Stack:
    """Deploy a template as a stack, or update this stack, as `make deploy` does on AWS."""
    cloudformation = aws(endpoint, "cloudformation")
    stack = {
        "StackName": name,
        "TemplateBody": json.dumps(package(template, parameters, aws(endpoint, "s3"))),
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    known = [each["StackName"] for each in cloudformation.describe_stacks()["Stacks"]]
    try:
        if name in known:
            cloudformation.update_stack(**stack)
            waiter = cloudformation.get_waiter("stack_update_complete")
        else:
            cloudformation.create_stack(**stack)
            waiter = cloudformation.get_waiter("stack_create_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 1200})
    except ClientError as error:
        said = error.response["Error"]["Message"]
        raise DemoError(f"CloudFormation rejects {template}: {said}") from None
    except WaiterError:
        reason = failure(endpoint, name)
        raise DemoError(f"{template} can't be deployed: {reason}") from None
    return addresses(endpoint, name)


def failure(endpoint: str, name: str) -> str:
    """Return why the deployment of a stack failed."""
    events = aws(endpoint, "cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    for event in reversed(events):
        if event["ResourceStatus"].endswith("_FAILED"):
            return str(event.get("ResourceStatusReason"))
    return "the emulator doesn't say why."


def addresses(endpoint: str, name: str) -> Stack:
    """Return the APIs of a stack. Its outputs say where they would be on AWS."""
    ids = physical_ids(endpoint, name)
    path = f"{endpoint.removeprefix('http:')}/_aws/execute-api"
    if "HttpApi" in ids:
        return Stack(endpoint, f"http:{path}/{ids['HttpApi']}/%24default", "", name)
    websocket = f"ws:{path}/{ids['WebSocketApi']}/prod"
    return Stack(endpoint, f"http:{path}/{ids['Api']}/prod", websocket, name)


def physical_ids(endpoint: str, name: str) -> dict[str, str]:
    """Return the ids that the resources of a stack have in the emulator, by logical id."""
    cloudformation = aws(endpoint, "cloudformation")
    resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources}


def create_user(
    endpoint: str, user_id: str, password: str, *options: str, table: str = "user_credentials"
) -> None:
    """Run create_password.py for a user, with the password on its standard input."""
    command = [sys.executable, str(ROOT / "create_password.py")]
    command += ["--user-id", user_id, "--table", table, *options]
    done = subprocess.run(
        command,
        input=f"{password}\n",
        env=os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DemoError(f"create_password.py: {done.stderr.strip()}")


def authorizer_runs(stack: Stack) -> int:
    """Return how often API Gateway invoked the authorizer of GET /api, as its log tells."""
    log_group = physical_ids(stack.endpoint, stack.name)["JwtAuthTokenLog"]
    pages = aws(stack.endpoint, "logs").get_paginator("filter_log_events")
    runs = 0
    for page in pages.paginate(logGroupName=log_group):
        runs += sum(event["message"].startswith("START ") for event in page["events"])
    return runs


def publish_page(endpoint: str) -> str:
    """Put try.html where a browser can read it, unlike the rest, and return its address."""
    s3 = aws(endpoint, "s3")
    s3.create_bucket(Bucket="page")
    s3.put_object(
        Bucket="page",
        Key="try.html",
        Body=(ROOT / "try.html").read_bytes(),
        ContentType="text/html; charset=utf-8",
    )
    everybody_may_read = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::page/try.html",
    }
    policy = {"Version": "2012-10-17", "Statement": [everybody_may_read]}
    s3.delete_public_access_block(Bucket="page")
    s3.put_bucket_policy(Bucket="page", Policy=json.dumps(policy))
    return f"{endpoint}/page/try.html"
