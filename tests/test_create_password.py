"""create_password.py: what it prints and writes, what it refuses, and that nobody sees the password on the way."""

import contextlib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import bcrypt
import pytest
from support.deploy import SECRET, WATCH, Deploy
from support.events import proxy_event, token_event
from support.fake_dynamodb import HANG_UP, FakeTable, Reply, error, fake_dynamodb
from support.files import ROOT
from support.tokens import make_jwt

import create_password

SCRIPT = ROOT / "create_password.py"
PASSWORD = "typed-on-a-laptop-only"
WATCH.guards(PASSWORD)
USER = ["--user-id", "testuser"]
TABLE = [*USER, "--table", "users"]
KEEP, LOG_OUT = [*TABLE, "--keep-password", "--scope"], [*TABLE, "--log-out"]
BEFORE = {
    "passwordHash": {"S": "old"},
    "tokensValidFrom": {"N": "1"},
    "scope": {"S": "read"},
    "mail": {"S": "a@b"},
}
SETTINGS = {"JWT_SECRET": SECRET, "USER_CREDENTIALS_TABLE_NAME": "users"}
LONGEST = "read ".ljust(1024, "x")  # of all scopes
SCOPES = [" ", "a  b", " a", "a ", 'a"', "a\\", "é", "a\n", "a" * 1025]
ALONE = [
    PASSWORD,
    f"--password={PASSWORD}",
    "--table users",
    "--scope a",
    "--log-out",
    "--user-id x --log-out",
]
KEPT = ["--user-id x --scope a --keep-password", "--user-id x --table users --keep-password"]
OUT = [
    f"--user-id x --table users --log-out {other}"
    for other in ("--scope a", "--generate", "--keep-password")
]
NEW = {"passwordHash", "tokensValidFrom"}
HASH = r"\$2b\$12\$[./A-Za-z0-9]{53}"
UNICODE = "The user_id and the password must be valid Unicode."

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line with a text on standard input, None for one that must not be read, and a cheap bcrypt."""
    gensalt = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda rounds: gensalt(4))

    def run(typed: str | None, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", object() if typed is None else io.StringIO(typed))
        try:
            status = create_password.main(list(arguments))
        except SystemExit as stop:
            status = int(str(stop.code))
        printed = capsys.readouterr()
        WATCH.hears("create_password", printed.err)
        return status, printed.out, printed.err

    return run


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        none = {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_MAX_ATTEMPTS": "1",
        }
        for name, value in (
            table.environment | none | {"AWS_EC2_METADATA_DISABLED": "true"}
        ).items():
            monkeypatch.setenv(name, value)
        yield table


def matches(password: str, stored: str) -> bool:
    WATCH.guards(stored)
    return bcrypt.checkpw(password.encode(), stored.encode())


@pytest.mark.parametrize(
    ("typed", "password", "warning"),
    [
        pytest.param(f"{PASSWORD}\n", PASSWORD, "", id="a line"),
        pytest.param(f"{PASSWORD}\r\n", PASSWORD, "", id="a line of Windows"),
        pytest.param(f"{PASSWORD}\nmore\n", PASSWORD, "", id="the first line"),
        pytest.param(f"  {PASSWORD}\t\n", f"  {PASSWORD}\t", "", id="blanks count"),
        pytest.param(
            "x" * 8,
            "x" * 8,
            "Warning: the password has 8 characters; 15 or more are good.\n",
            id="8",
        ),
        pytest.param(
            "x" * 14,
            "x" * 14,
            "Warning: the password has 14 characters; 15 or more are good.\n",
            id="14",
        ),
        pytest.param("x" * 15, "x" * 15, "", id="15 characters"),
        pytest.param("é" * 36, "é" * 36, "", id="36 letters, 72 bytes"),
    ],
)
def test_hash_is_that_of_one_line(run: Run, typed: str, password: str, warning: str) -> None:
    status, output, errors = run(typed)
    assert (status, errors, len(output)) == (0, warning, 61)
    assert matches(password, output.removesuffix("\n"))


@pytest.mark.parametrize("user_id", ["testuser", "u" * 256, 'Zoë "\\\n', "-"])
def test_printed_item_logs_its_user_in_and_ends_the_tokens_of_before(
    run: Run, deploy: Deploy, table: FakeTable, user_id: str
) -> None:
    start = int(time.time())
    status, output, errors = run(PASSWORD, f"--user-id={user_id}", "--scope", LONGEST)
    item = table.items[user_id] = json.loads(output)
    assert (status, errors, item["user_id"], item["scope"]) == (
        0,
        "",
        {"S": user_id},
        {"S": LONGEST},
    )
    settings = SETTINGS | table.environment
    login, authorize = deploy("jwt_create_token", **settings), deploy("jwt_auth_token", **settings)
    answer = login(proxy_event(json.dumps({"user_id": user_id, "password": PASSWORD})))
    assert (
        authorize(token_event(json.loads(answer["body"])["token"]))["context"]["scope"] == LONGEST
    )
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(token_event(make_jwt(user_id=user_id, iat=start - 1)))


def test_generated_password_is_printed_apart_and_differs_each_time(run: Run) -> None:
    (_, first, password), (_, _, other) = run(None, "--generate"), run(None, "--generate")
    assert re.fullmatch(r"Password: [\w-]{24}\n", password)
    assert matches(password[10:-1], first.removesuffix("\n"))
    assert other != password


@pytest.mark.parametrize(
    ("arguments", "before", "changed", "scope"),
    [
        pytest.param(TABLE, None, NEW, "", id="a new user"),
        pytest.param(
            [*TABLE, "--scope", "a b"], None, {*NEW, "scope"}, "a b", id="a new user with a scope"
        ),
        pytest.param(TABLE, BEFORE, NEW, "read", id="a password"),
        pytest.param(
            [*TABLE, "--scope", ""],
            BEFORE,
            {*NEW, "scope"},
            "",
            id="a password, and no scope any more",
        ),
        pytest.param([*KEEP, "a b"], BEFORE, {"scope"}, "a b", id="the scope alone"),
        pytest.param([*KEEP, ""], BEFORE, {"scope"}, "", id="no scope any more"),
        pytest.param(LOG_OUT, BEFORE, {"tokensValidFrom"}, "read", id="logged out"),
        pytest.param(
            LOG_OUT, {}, {"tokensValidFrom"}, "", id="logged out, and nothing else was there"
        ),
    ],
)
def test_table_gets_what_was_asked_for_and_keeps_the_rest(
    run: Run, table: FakeTable, arguments: list[str], before: Any, changed: set[str], scope: str
) -> None:
    table.items |= {} if before is None else {"testuser": before}
    start, said = (
        int(time.time()),
        f"The user 'testuser' in users {'is new' if before is None else 'was changed'}.\n",
    )
    assert run(PASSWORD if "passwordHash" in changed else None, *arguments) == (0, "", said)
    old, item = before or {}, table.items["testuser"]
    assert {name for name in old | item if old.get(name) != item.get(name)} == changed
    assert item.get("scope", {"S": ""}) == {"S": scope}
    assert "passwordHash" not in changed or matches(PASSWORD, item["passwordHash"]["S"])
    assert (
        "tokensValidFrom" not in changed
        or start <= int(item["tokensValidFrom"]["N"]) <= time.time()
    )


@pytest.mark.parametrize(
    "arguments", [[*KEEP, "a b"], [*KEEP, ""], LOG_OUT], ids=["scope", "no scope", "log out"]
)
def test_user_who_is_not_there_is_not_made(
    run: Run, table: FakeTable, arguments: list[str]
) -> None:
    assert run(None, *arguments) == (1, "", "There is no user 'testuser' in users.\n")
    assert table.items == {}


@pytest.mark.parametrize(
    ("settings", "reply", "sentence"),
    [
        pytest.param(
            {}, error("AccessDeniedException"), r"\(Access.*dynamodb:UpdateItem", id="no permission"
        ),
        pytest.param(
            {}, error("ResourceNotFoundException"), r"\(Resource.*no such table", id="no such table"
        ),
        pytest.param(
            {},
            error("ValidationException"),
            r"\(Validation.*key must be the string user_id",
            id="its key",
        ),
        pytest.param(
            {}, (200, b"<html>"), r"\(KeyError\): check.*AWS_ENDPOINT_URL", id="a web page"
        ),
        pytest.param(
            {}, HANG_UP, r"\(ConnectionClosedError\): check.*AWS_ENDPOINT_URL", id="hangs up"
        ),
        pytest.param(
            {"AWS_DEFAULT_REGION": ""}, None, "specify a region.*aws configure", id="no region"
        ),
        pytest.param(
            {"AWS_ACCESS_KEY_ID": ""},
            None,
            "no AWS credentials: .*aws configure",
            id="no credentials",
        ),
        pytest.param(
            {"AWS_ENDPOINT_URL": "localhost"}, None, "Invalid endpoint: .*http://", id="no address"
        ),
    ],
)
def test_what_is_in_the_way_of_the_table_is_one_sentence_before_the_password_where_it_can_be(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    table: FakeTable,
    settings: Any,
    reply: Reply | None,
    sentence: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    table.replies = iter([reply] if reply else [])
    status, output, errors = run(PASSWORD if reply else None, *TABLE)
    assert (status, output) == (1, "")
    assert re.fullmatch(f".*{sentence}.*\\.\n", errors)


def test_boto3_is_needed_for_the_table_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert set(json.loads(run(PASSWORD, *USER)[1])) == {"user_id", *NEW}
    assert run(None, *TABLE) == (1, "", f"{create_password.MISSING.format('boto3')}\n")


def test_without_bcrypt_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(
        SystemExit, match="^The package bcrypt is missing: python -m pip install -r [^ ]*$"
    ):
        runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(
    ("typed", "arguments", "reason"),
    [
        pytest.param("", [], "password is empty", id="no password"),
        pytest.param("1", [], "1 characters", id="1 character"),
        pytest.param("1234567", [], "7 characters", id="7 characters"),
        pytest.param("é" * 36 + "e", [], "73 bytes", id="37 letters, 73 bytes"),
        pytest.param("short\0short\0", [], "NUL", id="NUL"),
        pytest.param(f"{PASSWORD}\ud800", [], "valid Unicode", id="lone surrogate"),
        pytest.param("testuser", USER, "must not be the user_id", id="the user_id"),
        *(
            pytest.param(None, ["--user-id", user_id], "1 to 256 bytes")
            for user_id in ("", "u" * 257, "é" * 129)
        ),
        pytest.param(
            None, ["--user-id", "\udcff"], "valid Unicode", id="user_id that is not UTF-8"
        ),
        *(
            pytest.param(None, [*USER, "--scope", scope], "one blank apart, at most 1,024 bytes")
            for scope in SCOPES
        ),
        *(
            pytest.param(None, [*USER, "--table", name], "must have 3 to 255")
            for name in ("", "ab", "a b", "x" * 256)
        ),
    ],
)
def test_bad_input_is_one_sentence(
    run: Run, typed: str | None, arguments: list[str], reason: str
) -> None:
    status, output, errors = run(typed, *arguments)
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"The [^\n]*{reason}[^\n]*\.\n", errors)


@pytest.mark.parametrize("options", ALONE + KEPT + OUT)
def test_options_that_make_no_sense_are_refused_and_no_password_is_repeated(
    run: Run, options: str
) -> None:
    status, output, errors = run(None, *options.split())
    assert (status, output, errors[:6]) == (2, "", "usage:")
    assert PASSWORD not in errors


def test_help_is_the_manual(run: Run) -> None:
    assert str(create_password.__doc__) in run(None, "--help")[1]


def test_piped_password_gets_the_cost_of_the_dummy_hash(deploy: Deploy, table: FakeTable) -> None:
    command = [sys.executable, str(SCRIPT), "--user-id=testuser"]
    printed = subprocess.run(
        command, input=PASSWORD, capture_output=True, text=True, check=True
    ).stdout
    stored = json.loads(printed)["passwordHash"]["S"]
    assert re.fullmatch(HASH, stored)
    settings = SETTINGS | table.environment
    assert stored[:7] == deploy("jwt_create_token", **settings).module.DUMMY_HASH[:7]


@pytest.mark.parametrize(
    ("shell", "status", "sentence"),
    [
        pytest.param(
            "exec $SCRIPT <&-",
            1,
            "Standard input, output and error must be open.",
            id="closed input",
        ),
        pytest.param(
            "exec $SCRIPT >&-",
            1,
            "Standard input, output and error must be open.",
            id="closed output",
        ),
        pytest.param(
            "$SCRIPT >/dev/full",
            1,
            "Standard output cannot be written: No space left on device.",
            id="full",
        ),
        pytest.param(
            "printf 'caf\\351 au lait' | PYTHONIOENCODING=utf-8 $SCRIPT", 2, UNICODE, id="no text"
        ),
    ],
)
def test_bad_input_and_output_are_one_sentence(shell: str, status: int, sentence: str) -> None:
    environment = os.environ | {"SCRIPT": f"{sys.executable} {SCRIPT}", "PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        ["sh", "-c", shell], input=PASSWORD, capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"{sentence}\n")


def at_terminal(*keys: str) -> tuple[int, str]:
    """Run the script at a terminal of its own, type a text at each prompt, and return exit status and screen."""
    terminal, device = os.openpty()
    # The shell opens the terminal as the leader of its session, which makes it the controlling one.
    command = [
        "sh",
        "-c",
        'exec "$@" <"$0" >"$0" 2>&1',
        os.ttyname(device),
        sys.executable,
        str(SCRIPT),
    ]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # jobs in the background ignore Ctrl-C, and their children
    screen = b""
    with subprocess.Popen(command, stdin=device, start_new_session=True) as process:
        os.close(device)
        for prompts, text in [*enumerate(keys, 1), (99, "")]:
            with contextlib.suppress(OSError):  # nobody holds the terminal any more
                while screen.count(b": ") < prompts:
                    screen += os.read(terminal, 1024)
                os.write(terminal, text.encode())
    os.close(terminal)
    return process.returncode, screen.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("keys", "expected", "screen"),
    [
        pytest.param(
            [f"{PASSWORD}\n", f"{PASSWORD}\n"],
            0,
            f"Password: \nThe same again: \n{HASH}\n",
            id="the same",
        ),
        pytest.param(
            [f"{PASSWORD}\n", "another\n"],
            2,
            r"(.*: \n){2}The two passwords differ\.\n",
            id="differ",
        ),
        pytest.param(
            ["another\n", f"{PASSWORD}\n"],
            2,
            r"(.*: \n){2}The two passwords differ\.\n",
            id="turned",
        ),
        pytest.param([f"{PASSWORD}\x03"], 1, "Password: \n+Stopped\\.\n", id="Ctrl-C"),
        pytest.param(["\x04"], 1, "Password: \n+Stopped\\.\n", id="Ctrl-D"),
    ],
)
def test_password_at_a_terminal_is_asked_for_twice_and_not_shown(
    keys: list[str], expected: int, screen: str
) -> None:
    status, shown = at_terminal(*keys)
    assert status == expected
    assert re.fullmatch(screen, shown), shown
