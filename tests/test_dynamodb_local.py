"""Login and create_password.py against Amazon's DynamoDB Local: at DYNAMODB_LOCAL_URL, or started here.

`make dynamodb` fetches it; a JDK, 17 or newer, runs it. Without either the tests skip, and fail if CI is set.
"""

import http.client
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import bcrypt
import boto3
import pytest
from support.functions import SECRET, WATCH, Function
from support.kit import ROOT
from support.table import AWS

import create_password

# Read here, as what a test deploys has an environment of its own.
GIVEN = os.environ.get("DYNAMODB_LOCAL_URL", "")
CI = os.environ.get("CI", "false") not in ("", "false")
JARS = ROOT / ".dynamodb-local"
PASSWORD = "kept-by-the-real-table"
WATCH.guards(PASSWORD)

# DynamoDB Local listens on every interface, and has no option against it.
LAUNCHER = """
import org.eclipse.jetty.server.*;
import software.amazon.dynamodb.services.local.main.ServerRunner;

class Loopback {
    public static void main(String[] arguments) throws Exception {
        var proxy = ServerRunner.createServerFromCommandLineArgs(arguments);
        var field = proxy.getClass().getDeclaredField("server");
        field.setAccessible(true);
        ((ServerConnector) ((Server) field.get(proxy)).getConnectors()[0]).setHost("127.0.0.1");
        proxy.start();
        proxy.join();
    }
}
"""


class Service:
    """DynamoDB Local in a process of its own, which keeps its tables while it is stopped."""

    def __init__(self, folder: Path) -> None:
        jar = next(iter(sorted(JARS.rglob("DynamoDBLocal.jar"))), None)
        if not jar or not shutil.which("javac"):
            unavailable("DynamoDB Local is not here: set DYNAMODB_LOCAL_URL, or run `make dynamodb` and install a JDK")
        (folder / "Loopback.java").write_text(LAUNCHER)
        libraries = jar.parent / "DynamoDBLocal_lib"
        self.port = free_port()
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = ["java", f"-Djava.library.path={libraries}", "-cp", f"{jar}:{libraries}/*", "Loopback.java"]
        self.command += ["-port", str(self.port), "-dbPath", str(folder), "-sharedDb", "-disableTelemetry"]

    def start(self) -> None:
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log)
        limit = time.monotonic() + 60  # seconds
        while not answers(self.port):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < limit, "DynamoDB Local does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(30)


def unavailable(reason: str) -> NoReturn:
    """Skip, or fail where these tests have to run."""
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Tell whether something answers there, if only to refuse."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status > 0
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module")
def own_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("dynamodb"))
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> str:
    return GIVEN or str(request.getfixturevalue("own_service").url)


class Table:
    """A table of DynamoDB Local with the kit's key."""

    def __init__(self, url: str) -> None:
        self.name = f"user_credentials_{uuid.uuid4().hex}"
        self.environment = AWS | {"AWS_ENDPOINT_URL": url}
        self.client = boto3.client(
            "dynamodb",
            endpoint_url=url,
            region_name=AWS["AWS_DEFAULT_REGION"],
            aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
        )
        self.client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "user_id", "AttributeType": "S"}],
        )

    def put(self, user_id: str, **attributes: Any) -> None:
        self.client.put_item(TableName=self.name, Item={"user_id": {"S": user_id}} | attributes)

    def get(self, user_id: str) -> dict[str, Any]:
        item: dict[str, Any] = self.client.get_item(TableName=self.name, Key={"user_id": {"S": user_id}})["Item"]
        return item


@pytest.fixture(scope="module")
def table(url: str) -> Iterator[Table]:
    table = Table(url)
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    WATCH.guards(stored)
    table.put("testuser", passwordHash={"S": stored}, email={"S": "t@example.com"})
    table.put("nohash", email={"S": "n@example.com"})
    table.put("corrupt", passwordHash={"S": stored[:-1]})
    table.put("bytes", passwordHash={"B": stored.encode()})
    table.put("Zoë 🦊\0\n", passwordHash={"S": stored})
    table.put("u" * 256, passwordHash={"S": stored})
    yield table
    table.client.delete_table(TableName=table.name)
    table.client.close()


@pytest.fixture
def login(deploy: Callable[..., Function], table: Table) -> Iterator[Function]:
    function = deploy(
        "jwt_create_token", JWT_SECRET=SECRET, USER_CREDENTIALS_TABLE_NAME=table.name, **table.environment
    )
    yield function
    function.module.dynamodb.close()


def status(login: Function, user_id: str = "testuser", password: str = PASSWORD) -> int:
    """Return the status of a login, which is to come before API Gateway and the function give up."""
    began = time.monotonic()
    answer = login({"user_id": user_id, "password": password})
    assert time.monotonic() - began < 10  # seconds
    return int(answer["statusCode"])


@pytest.mark.parametrize("user_id", ["testuser", "Zoë 🦊\0\n", pytest.param("u" * 256, id="256 bytes")])
def test_user_who_is_there_gets_in_with_the_right_password_only(login: Function, user_id: str) -> None:
    assert (status(login, user_id), status(login, user_id, "another-password")) == (200, 401)


@pytest.mark.parametrize("user_id", ["nobody", "TESTUSER", "\0", "nohash", "corrupt", "bytes"])
def test_nobody_else_gets_in(login: Function, user_id: str) -> None:
    assert status(login, user_id) == 401


def test_user_without_a_usable_hash_is_told_from_one_who_is_not_there_in_the_log_only(
    login: Function, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [login({"user_id": user_id, "password": PASSWORD}) for user_id in ("nobody", "nohash", "corrupt")]
    assert answers[0] == answers[1] == answers[2]
    unreadable = "refused: no passwordHash that bcrypt can read"
    lines = [line for name, _, line in caplog.record_tuples if name == "root"]
    assert lines == ["refused: unknown user", f"{unreadable}: 'nohash'", f"{unreadable}: 'corrupt'"]


def test_missing_table_is_an_error(deploy: Callable[..., Function], table: Table) -> None:
    settings = {"JWT_SECRET": SECRET, "USER_CREDENTIALS_TABLE_NAME": "no_such_table"} | table.environment
    login = deploy("jwt_create_token", **settings)
    assert status(login) == 500
    login.module.dynamodb.close()


def test_service_may_stop_and_start_again(request: pytest.FixtureRequest, login: Function) -> None:
    service = startable(request)
    assert status(login) == 200
    service.stop()
    assert (status(login), status(login, "nobody")) == (500, 500)
    service.start()
    assert (status(login), status(login, "nobody")) == (200, 401)


def test_service_may_hang_and_come_back(request: pytest.FixtureRequest, login: Function) -> None:
    service = startable(request)
    assert status(login) == 200
    service.process.send_signal(signal.SIGSTOP)
    try:
        assert status(login) == 500
    finally:
        service.process.send_signal(signal.SIGCONT)
    assert status(login) == 200


def startable(request: pytest.FixtureRequest) -> Service:
    """Return the service, if it is ours to stop."""
    if GIVEN:
        pytest.skip("the service at DYNAMODB_LOCAL_URL is not these tests' own to stop")
    service: Service = request.getfixturevalue("own_service")
    return service


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_service_listens_on_one_address_only(request: pytest.FixtureRequest) -> None:
    socket.create_server(("127.0.0.2", startable(request).port)).close()  # would be in use


@pytest.mark.parametrize("known", [True, False], ids=["a user of old", "a new user"])
def test_password_set_with_create_password_is_the_one_that_logs_in(
    login: Function, table: Table, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    user_id = f"set-{known}"
    others = {"email": {"S": "old@example.com"}, "logins": {"N": "3"}} if known else {}
    if known:
        table.put(user_id, passwordHash={"S": "old"}, **others)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}-of-{user_id}\n"))
    assert create_password.main(["--user-id", user_id, "--table", table.name]) == 0
    item = table.get(user_id)
    WATCH.guards(item["passwordHash"]["S"])
    assert item == others | {"user_id": {"S": user_id}, "passwordHash": {"S": item["passwordHash"]["S"]}}
    assert status(login, user_id, f"{PASSWORD}-of-{user_id}") == 200
    assert status(login, user_id, PASSWORD) == 401
