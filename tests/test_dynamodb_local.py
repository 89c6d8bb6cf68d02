"""Login, both JWT authorizers and create_password.py against Amazon's DynamoDB Local.

`make dynamodb` fetches it, and a JDK (17 or newer) runs it. Without them the tests are skipped,
or fail if CI is set. DYNAMODB_LOCAL_URL names a DynamoDB Local that runs elsewhere.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bcrypt
import boto3
import jwt
import pytest
from support.deploy import CONNECT_ARN, SECRET, WATCH, Deploy, Function
from support.fake_dynamodb import AWS
from support.files import ROOT
from support.pipe import pipe
from support.tokens import SYMMETRIC, make_jwt

import create_password

# Read here, as what a test deploys has an environment of its own.
GIVEN = os.environ.get("DYNAMODB_LOCAL_URL", "")
CI = os.environ.get("CI", "false") not in ("", "false")
PASSWORD = "kept-by-the-real-table"
NEW_PASSWORD = "changed-in-the-real-table"
WATCH.guards(PASSWORD, NEW_PASSWORD)
USERS = ["testuser", "Zoë 🦊", "u" * 256]


class Service:
    """DynamoDB Local in a process of its own, which keeps its tables while it is stopped."""

    def __init__(self, folder: Path) -> None:
        jar = next(iter(sorted((ROOT / ".dynamodb-local").rglob("DynamoDBLocal.jar"))), None)
        if not jar or not shutil.which("javac"):
            missing = "DynamoDB Local is missing: run `make dynamodb`, and install a JDK"
            (pytest.fail if CI else pytest.skip)(missing)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self.log = folder / "log"
        libraries = jar.parent / "DynamoDBLocal_lib"
        self.command = ["java", f"-Djava.library.path={libraries}", "-cp", f"{jar}:{libraries}/*"]
        self.command += [str(ROOT / "tests" / "Loopback.java"), "-port", str(self.port)]
        self.command += ["-dbPath", str(folder), "-sharedDb", "-disableTelemetry"]

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        limit = time.monotonic() + 60  # seconds
        while self.process.poll() is None and time.monotonic() < limit:
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", self.port)).close()
            time.sleep(0.05)
        pytest.fail(f"DynamoDB Local does not answer: {self.log.read_text()}")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Kit:
    """Both authorizers, login and create_password.py, with a table of their own."""

    def __init__(self, deploy: Deploy, url: str) -> None:
        name = f"user_credentials_{uuid.uuid4().hex}"
        settings = {
            "JWT_SECRET": SECRET,
            "USER_CREDENTIALS_TABLE_NAME": name,
            "AWS_ENDPOINT_URL": url,
        } | AWS
        self.functions = [deploy(script, **settings) for script in (*SYMMETRIC, "jwt_create_token")]
        self.table = boto3.resource("dynamodb").create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "user_id", "AttributeType": "S"}],
        )
        stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        WATCH.guards(stored)
        for user_id in USERS:
            self.table.put_item(
                Item={"user_id": user_id, "passwordHash": stored, "scope": "old", "logins": 3}
            )

    def statuses(
        self, user_id: str = "testuser", password: str = PASSWORD, **claims: Any
    ) -> list[int]:
        """Return each function's status for one event that has both a token and a login in it."""
        token = make_jwt(user_id=user_id, **claims)
        event: dict[str, Any] = {"user_id": user_id, "password": password, "methodArn": CONNECT_ARN}
        event |= {"authorizationToken": token, "headers": {"Authorization": token}}

        def status(function: Function) -> int:
            try:
                return int(function(event).get("statusCode", 200))
            except Exception as error:
                return 401 if str(error) == "Unauthorized" else 500

        with ThreadPoolExecutor() as pool:
            return list(pool.map(status, self.functions, timeout=10))  # seconds

    def create_password(self, user_id: str, *options: str) -> tuple[int, Any]:
        """Run create_password.py; return its status and the user's attributes without the hash."""
        status = create_password.main(["--user-id", user_id, "--table", self.table.name, *options])
        item = self.table.get_item(Key={"user_id": user_id}).get("Item", {})
        WATCH.guards(item.pop("passwordHash", ""))
        return status, {name: value for name, value in item.items() if name != "user_id"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if GIVEN:
        pytest.skip("the service at DYNAMODB_LOCAL_URL is not these tests' own to stop")
    service = Service(tmp_path_factory.mktemp("dynamodb"))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def kit(
    request: pytest.FixtureRequest, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kit]:
    kit = Kit(deploy, GIVEN or f"http://127.0.0.1:{request.getfixturevalue('service').port}")
    monkeypatch.setattr(sys, "stdin", pipe(f"{NEW_PASSWORD}\n"))
    yield kit
    kit.table.delete()
    for client in (
        kit.table.meta.client,
        *(function.module.dynamodb for function in kit.functions),
    ):
        client.close()


@pytest.mark.parametrize("user_id", [*USERS, "nobody", "TESTUSER", "\0"], ids="{!r:.20}".format)
def test_who_is_there_gets_in_and_nobody_else(kit: Kit, user_id: str) -> None:
    assert kit.statuses(user_id) == ([200, 200, 200] if user_id in USERS else [401, 401, 401])
    assert kit.statuses(user_id, NEW_PASSWORD)[2] == 401


def test_user_without_a_password_cannot_log_in_and_a_deleted_one_is_out(kit: Kit) -> None:
    kit.table.put_item(Item={"user_id": "testuser"})
    assert kit.statuses() == [200, 200, 401]
    kit.table.delete_item(Key={"user_id": "testuser"})
    assert kit.statuses() == [401, 401, 401]


def test_missing_table_is_an_error(kit: Kit) -> None:
    for function in kit.functions:
        vars(function.module)["USER_CREDENTIALS_TABLE_NAME"] = "no_such_table"
    assert kit.statuses() == [500, 500, 500]


def test_service_may_stop_or_hang_and_come_back(kit: Kit, service: Service) -> None:
    service.stop()
    assert kit.statuses() == [500, 500, 500]
    service.start()
    assert kit.statuses() == [200, 200, 200]
    service.process.send_signal(signal.SIGSTOP)
    assert kit.statuses() == [500, 500, 500]
    service.process.send_signal(signal.SIGCONT)
    assert kit.statuses() == [200, 200, 200]


@pytest.mark.parametrize(
    ("user_id", "kept"), [("testuser", {"scope": "old", "logins": 3}), ("newcomer", {})]
)
def test_new_password_logs_in_and_revokes_the_old_tokens(
    kit: Kit, user_id: str, kept: dict[str, Any]
) -> None:
    status, attributes = kit.create_password(user_id)
    version = attributes.pop("tokenVersion")
    assert (status, attributes) == (0, kept)
    assert kit.statuses(user_id, NEW_PASSWORD, token_version=version) == [200, 200, 200]
    assert kit.statuses(user_id, PASSWORD) == [401, 401, 401]


@pytest.mark.parametrize(
    ("options", "scope", "old_token"),
    [
        pytest.param(["--revoke-tokens"], "old", 401, id="revoke tokens"),
        pytest.param(["--revoke-tokens", "--scope", ""], "", 401, id="revoke tokens and scope"),
        pytest.param(["--keep-password", "--scope", "read admin"], "read admin", 200, id="scope"),
        pytest.param(["--keep-password", "--scope", ""], "", 200, id="no scope"),
    ],
)
def test_option_changes_what_it_says_and_creates_nobody(
    kit: Kit, options: list[str], scope: str, old_token: int
) -> None:
    assert kit.create_password("ghost", *options) == (1, {})
    status, attributes = kit.create_password("testuser", *options)
    attributes.pop("tokenVersion", None)
    assert (status, attributes) == (0, {"logins": 3} | ({"scope": scope} if scope else {}))
    assert kit.statuses() == [old_token, old_token, 200]
    response = kit.functions[2]({"user_id": "testuser", "password": PASSWORD})
    content = json.loads(response["body"])
    assert content.get("scope", "") == scope
    claims = jwt.decode(content["token"], SECRET, algorithms=["HS256"])
    assert kit.statuses(token_version=claims.get("token_version", ...)) == [200, 200, 200]


def test_google_user_is_created_without_a_password_and_deleted(kit: Kit) -> None:
    status, attributes = kit.create_password("108", "--no-password", "--scope", "admin")
    assert (status, attributes["scope"]) == (0, "admin")
    assert kit.statuses("108", token_version=attributes["tokenVersion"]) == [200, 200, 401]
    assert kit.create_password("108", "--delete") == (0, {})
    assert kit.statuses("108", token_version=attributes["tokenVersion"]) == [401, 401, 401]
    assert kit.create_password("108", "--delete") == (1, {})
