"""create_password.py: what it prints and writes, what it refuses, and that nobody sees the password on the way."""

import io
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
from conftest import ROOT, SECRET, WATCH, Function, proxy_event
from fake_dynamodb import HANG_UP, FakeTable, Reply, error, fake_dynamodb

import create_password

SCRIPT = ROOT / "create_password.py"
PASSWORD = "typed-on-a-laptop-only"
HASH = r"\$2b\$12\$[./A-Za-z0-9]{53}"
WATCH.guards(PASSWORD)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line with a text on standard input; return exit status, output and errors."""

    def run(typed: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        try:
            status = create_password.main(list(arguments))
        except SystemExit as stop:
            status = int(str(stop.code))
        printed = capsys.readouterr()
        WATCH.hears("create_password", printed.err)
        return status, printed.out, printed.err

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash at the lowest cost."""
    gensalt = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda rounds: gensalt(4))


@pytest.fixture
def table() -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        yield table


def matches(password: str, stored: str) -> bool:
    WATCH.guards(stored)
    return bcrypt.checkpw(password.encode(), stored.encode())


# --------------------------------------------------------------------- what it makes


@pytest.mark.parametrize(
    ("typed", "password"),
    [
        pytest.param(f"{PASSWORD}\n", PASSWORD, id="a line"),
        pytest.param(f"{PASSWORD}\r\n", PASSWORD, id="a line of Windows"),
        pytest.param(PASSWORD, PASSWORD, id="no line end"),
        pytest.param(f"{PASSWORD}\nmore\n", PASSWORD, id="the first line"),
        pytest.param(f"  {PASSWORD}\t\n", f"  {PASSWORD}\t", id="blanks count"),
        pytest.param("x" * 72, "x" * 72, id="72 bytes"),
        pytest.param("é" * 36, "é" * 36, id="36 letters, 72 bytes"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_hash_is_that_of_one_line(run: Run, typed: str, password: str) -> None:
    status, output, errors = run(typed)
    assert (status, errors, len(output)) == (0, "", 61)
    assert matches(password, output.removesuffix("\n"))


def test_hash_has_the_cost_of_the_dummy_hash(deploy: Callable[..., Function], table: FakeTable) -> None:
    made = create_password.hash_password(PASSWORD)
    assert re.fullmatch(HASH, made)
    settings = {"JWT_SECRET": SECRET, "USER_CREDENTIALS_TABLE_NAME": "users"} | table.environment
    assert made[:7] == deploy("jwt_create_token", **settings).module.DUMMY_HASH[:7]


def test_cost_can_be_chosen_by_who_imports_it() -> None:
    assert create_password.hash_password(PASSWORD, rounds=4).startswith("$2b$04$")
    with pytest.raises(ValueError, match="rounds"):
        create_password.hash_password(PASSWORD, rounds=3)


@pytest.mark.parametrize("user_id", ["testuser", "u" * 256, 'Zoë "\\\n', "-"])
@pytest.mark.usefixtures("quick")
def test_item_is_one_that_login_takes(
    run: Run, deploy: Callable[..., Function], table: FakeTable, user_id: str
) -> None:
    status, output, errors = run(PASSWORD, f"--user-id={user_id}")
    item = json.loads(output)
    assert (status, errors, set(item), item["user_id"]) == (0, "", {"user_id", "passwordHash"}, {"S": user_id})
    table.items[user_id] = item
    WATCH.guards(item["passwordHash"]["S"])
    login = deploy("jwt_create_token", JWT_SECRET=SECRET, USER_CREDENTIALS_TABLE_NAME="users", **table.environment)
    assert login(proxy_event(json.dumps({"user_id": user_id, "password": PASSWORD})))["statusCode"] == 200


@pytest.mark.usefixtures("quick")
def test_item_is_written_to_the_table(run: Run, monkeypatch: pytest.MonkeyPatch, table: FakeTable) -> None:
    for name, value in table.environment.items():
        monkeypatch.setenv(name, value)
    status, output, errors = run(PASSWORD, "--user-id", "testuser", "--table", "users")
    assert (status, output, errors.count("\n")) == (0, "", 1)
    [(operation, request)] = table.requests
    assert (operation, request["TableName"]) == ("UpdateItem", "users")
    assert matches(PASSWORD, table.items["testuser"]["passwordHash"]["S"])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(error("ResourceNotFoundException"), "ResourceNotFoundException", id="no such table"),
        pytest.param((500, b""), "500", id="500"),
        pytest.param(HANG_UP, "ConnectionClosedError", id="hangs up"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_failing_table_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, table: FakeTable, reply: Reply, reason: str
) -> None:
    for name, value in (table.environment | {"AWS_MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(name, value)
    table.replies = itertools.repeat(reply)
    sentence = f"The item was not written: {reason}.\n"
    assert run(PASSWORD, "--user-id", "testuser", "--table", "users") == (1, "", sentence)


@pytest.mark.usefixtures("quick")
def test_endpoint_that_is_no_address_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, table: FakeTable
) -> None:
    for name, value in (table.environment | {"AWS_ENDPOINT_URL": "nonsense"}).items():
        monkeypatch.setenv(name, value)
    sentence = "The item was not written: ValueError.\n"
    assert run(PASSWORD, "--user-id", "testuser", "--table", "users") == (1, "", sentence)


def test_boto3_is_only_needed_for_the_table() -> None:
    code = "import sys, create_password; create_password.main(['--user-id', 'x']); sys.exit('boto3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=b"password", stdout=subprocess.PIPE, check=True)


# --------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        pytest.param("", "empty", id="nothing"),
        pytest.param("\n", "empty", id="empty line"),
        pytest.param("x" * 73, "73 bytes", id="73 bytes"),
        pytest.param("é" * 37, "74 bytes", id="37 letters, 74 bytes"),
        pytest.param(f"{PASSWORD}\0{PASSWORD}", "NUL", id="NUL"),
        pytest.param(f"{PASSWORD}\ud800", "valid Unicode", id="lone surrogate"),
    ],
)
def test_unusable_password_is_refused_in_one_sentence(run: Run, typed: str, reason: str) -> None:
    status, output, errors = run(typed)
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"The password [^\n]*{reason}[^\n]*\.\n", errors)


@pytest.mark.parametrize(
    ("user_id", "reason"),
    [
        pytest.param("", "this one has 0", id="empty"),
        pytest.param("u" * 257, "this one has 257", id="257 bytes"),
        pytest.param("é" * 129, "this one has 258", id="129 letters, 258 bytes"),
        pytest.param("\udcff", "valid Unicode", id="not UTF-8"),
    ],
)
def test_user_id_that_login_refuses_is_refused_in_one_sentence(run: Run, user_id: str, reason: str) -> None:
    status, output, errors = run("", "--user-id", user_id)
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"The user_id [^\n]*{reason}[^\n]*\.\n", errors)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["x"], id="password as an argument"),
        pytest.param(["--password", "x"], id="password as an option"),
        pytest.param(["--table", "users"], id="table without user"),
        pytest.param(["--table", "", "--user-id", "x"], id="table without a name"),
    ],
)
def test_options_that_make_no_sense_are_refused(run: Run, arguments: list[str]) -> None:
    status, output, errors = run(PASSWORD, *arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("usage: ")


# --------------------------------------------------------------------- as a user runs it


def test_password_comes_through_a_pipe() -> None:
    done = subprocess.run([sys.executable, SCRIPT], input=PASSWORD, capture_output=True, text=True, check=True)
    assert re.fullmatch(HASH + r"\n", done.stdout)
    assert done.stderr == ""


@pytest.mark.parametrize("decoding", ["utf-8:surrogateescape", "utf-8:strict"])
def test_bytes_that_are_no_text_are_refused(decoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": decoding}
    done = subprocess.run([sys.executable, SCRIPT], input=b"caf\xe9\n", capture_output=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"The password must be valid Unicode.\n")


def at_terminal(tmp_path: Path, *keys: str) -> tuple[int, str, str, str]:
    """Run the script at a terminal, type each text when it prompts; return exit status, output, errors and screen."""
    terminal, device = os.openpty()
    # The shell opens the terminal as the leader of its session, which makes it the controlling one.
    command = ["sh", "-c", 'exec "$@" <"$0"', os.ttyname(device), sys.executable, str(SCRIPT)]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(command, stdin=device, stdout=out, stderr=err, start_new_session=True)
    os.close(device)
    limit = threading.Timer(30, process.kill)
    limit.start()
    screen = ""
    for number, text in enumerate(keys, 1):
        while screen.count(": ") < number and (more := shown(terminal)):
            screen += more
        os.write(terminal, text.encode())
    while more := shown(terminal):
        screen += more
    status = process.wait()
    limit.cancel()
    os.close(terminal)
    return status, (tmp_path / "out").read_text(), (tmp_path / "err").read_text(), screen


def shown(terminal: int) -> str:
    """Return what came onto the screen, or "" once nobody holds the terminal any more."""
    try:
        return os.read(terminal, 1024).decode()
    except OSError:
        return ""


def test_typed_password_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    status, output, errors, screen = at_terminal(tmp_path, f"{PASSWORD}\n", f"{PASSWORD}\n")
    assert (status, errors, screen.split()) == (0, "", ["Password:", "The", "same", "again:"])
    assert matches(PASSWORD, output.removesuffix("\n"))


@pytest.mark.parametrize(
    ("keys", "expected", "sentence"),
    [
        pytest.param([f"{PASSWORD}\n", "another\n"], 2, "The two passwords differ.\n", id="the second differs"),
        pytest.param(["\n", "\n"], 2, "The password is empty.\n", id="empty"),
        pytest.param([f"{PASSWORD}\x03"], 1, "\nNothing was written.\n", id="Ctrl-C"),
        pytest.param([f"{PASSWORD}\n", "\x03"], 1, "\nNothing was written.\n", id="Ctrl-C at the second"),
        pytest.param(["\x04"], 1, "\nNothing was written.\n", id="Ctrl-D"),
    ],
)
def test_what_goes_wrong_at_a_terminal_is_one_sentence(
    tmp_path: Path, keys: list[str], expected: int, sentence: str
) -> None:
    status, output, errors, screen = at_terminal(tmp_path, *keys)
    assert (status, output, errors) == (expected, "", sentence)
    assert PASSWORD not in screen


def test_help_says_how_to_use_it(run: Run) -> None:
    status, output, errors = run("", "--help")
    assert (status, errors) == (0, "")
    assert "--user-id" in output
