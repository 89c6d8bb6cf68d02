"""create_password.py: what it prints and writes, what it rejects, and that it shows no password."""

import contextlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import bcrypt
import pytest
from botocore.exceptions import SSOTokenLoadError
from support.deploy import SECRET, WATCH, Deploy, outcome
from support.events import proxy_event, token_event
from support.fake_dynamodb import HANG_UP, FakeTable, Reply, error, fake_dynamodb
from support.files import ROOT
from support.pipe import pipe
from support.tokens import make_jwt

import create_password

SCRIPT = ROOT / "create_password.py"
PASSWORD = "typed-on-a-laptop-only"
WATCH.guards(PASSWORD)
USER = ["--user-id", "testuser"]
IN_TABLE = [*USER, "--table", "users"]
REVOKE = [*IN_TABLE, "--revoke-tokens"]
DELETE = [*IN_TABLE, "--delete"]
SCOPE_ONLY = [*IN_TABLE, "--keep-password", "--scope"]
BEFORE = {
    "passwordHash": {"S": "old"},
    "tokenVersion": {"S": "0000000000000000"},
    "scope": {"S": "read"},
    "mail": {"S": "a@b"},
}
REVOKED = (
    "Authorizers that check users (CheckUsers) reject the tokens issued until now. "
    "Other authorizers accept them until they expire.\n"
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line with a cheap bcrypt. Standard input must not be read if it is None."""
    gensalt = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda rounds: gensalt(4))

    def run(piped: str | None, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", object() if piped is None else pipe(piped))
        try:
            status = create_password.main(list(arguments))
        except SystemExit as stop:
            status = int(str(stop.code))
        printed = capsys.readouterr()
        WATCH.hears("create_password", printed.err)
        errors = printed.err.removeprefix("Reading the password from standard input.\n")
        return status, printed.out, errors

    return run


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        settings = {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for name, value in (table.environment | settings).items():
            monkeypatch.setenv(name, value)
        yield table


def matches(password: str, stored: str) -> bool:
    WATCH.guards(stored)
    return bcrypt.checkpw(password.encode(), stored.encode())


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


# ---- What the script's head promises, sentence by sentence ----


def test_hash_of_the_password_is_printed(run: Run) -> None:
    status, output, errors = run(f"{PASSWORD}\n")
    assert (status, errors) == (0, "")
    assert matches(PASSWORD, output.removesuffix("\n"))


def test_item_of_a_user_is_printed_as_dynamodb_json(run: Run) -> None:
    status, output, errors = run(PASSWORD, *USER, "--scope", "read admin")
    item = json.loads(output)
    assert (status, errors) == (0, "")
    assert item["user_id"] == {"S": "testuser"}
    assert item["scope"] == {"S": "read admin"}
    assert re.fullmatch("[0-9a-f]{16}", item["tokenVersion"]["S"])
    assert matches(PASSWORD, item["passwordHash"]["S"])


def test_user_is_created_in_the_table(run: Run, table: FakeTable) -> None:
    assert run(PASSWORD, *IN_TABLE) == (0, "", "Created 'testuser' in users.\n")
    item = table.items["testuser"]
    assert item.keys() == {"passwordHash", "tokenVersion"}
    assert matches(PASSWORD, item["passwordHash"]["S"])


def test_new_password_keeps_the_other_attributes(run: Run, table: FakeTable) -> None:
    table.items["testuser"] = BEFORE
    status, _, errors = run(PASSWORD, *IN_TABLE)
    sentence = "Set a new password for 'testuser' in users. "
    assert (status, errors) == (0, sentence + REVOKED)
    assert changed(BEFORE, table.items["testuser"]) == {"passwordHash", "tokenVersion"}


def test_new_password_and_scope_are_set_together(run: Run, table: FakeTable) -> None:
    table.items["testuser"] = BEFORE
    run(PASSWORD, *IN_TABLE, "--scope", "read admin")
    assert changed(BEFORE, table.items["testuser"]) == {"passwordHash", "tokenVersion", "scope"}
    assert table.items["testuser"]["scope"] == {"S": "read admin"}


def test_empty_scope_removes_the_scope(run: Run, table: FakeTable) -> None:
    table.items["testuser"] = BEFORE
    run(None, *SCOPE_ONLY, "")
    assert changed(BEFORE, table.items["testuser"]) == {"scope"}
    assert "scope" not in table.items["testuser"]


def test_keep_password_changes_only_the_scope(run: Run, table: FakeTable) -> None:
    table.items["testuser"] = BEFORE
    sentence = "Changed the scope of 'testuser' in users. Issued JWTs keep the old scope until "
    assert run(None, *SCOPE_ONLY, "admin") == (0, "", f"{sentence}they expire.\n")
    assert changed(BEFORE, table.items["testuser"]) == {"scope"}


def test_revoke_tokens_changes_only_the_token_version(run: Run, table: FakeTable) -> None:
    table.items["testuser"] = BEFORE
    status, _, errors = run(None, *REVOKE)
    sentence = "Revoked the tokens of 'testuser' in users. "
    assert (status, errors) == (0, sentence + REVOKED)
    assert changed(BEFORE, table.items["testuser"]) == {"tokenVersion"}


def test_scope_can_be_taken_away_together_with_the_tokens(run: Run, table: FakeTable) -> None:
    table.items["testuser"] = BEFORE
    run(None, *REVOKE, "--scope", "")
    assert changed(BEFORE, table.items["testuser"]) == {"tokenVersion", "scope"}


def test_delete_removes_the_user(run: Run, table: FakeTable) -> None:
    table.items["testuser"] = BEFORE
    status, _, errors = run(None, *DELETE)
    sentence = "Deleted 'testuser' from users. "
    assert (status, errors) == (0, sentence + REVOKED)
    assert table.items == {}


def test_google_user_has_no_password(run: Run, table: FakeTable) -> None:
    google_user = ["--user-id", "110169484474386276334", "--table", "users"]
    status, _, errors = run(None, *google_user, "--no-password", "--scope", "admin")
    assert (status, errors) == (0, "Created '110169484474386276334' in users.\n")
    item = table.items["110169484474386276334"]
    assert item.keys() == {"tokenVersion", "scope"}


def test_no_password_removes_an_existing_password(run: Run, table: FakeTable) -> None:
    table.items["testuser"] = BEFORE
    status, _, errors = run(None, *IN_TABLE, "--no-password")
    sentence = "Removed the password of 'testuser' in users. "
    assert (status, errors) == (0, sentence + REVOKED)
    assert changed(BEFORE, table.items["testuser"]) == {"passwordHash", "tokenVersion"}
    assert "passwordHash" not in table.items["testuser"]


def test_no_password_prints_an_item_without_a_hash(run: Run) -> None:
    item = json.loads(run(None, *USER, "--no-password", "--scope", "admin")[1])
    assert item.keys() == {"user_id", "tokenVersion", "scope"}


def test_every_token_version_is_new(run: Run) -> None:
    first, second = (json.loads(run(PASSWORD, *USER)[1]) for _ in range(2))
    assert first["tokenVersion"] != second["tokenVersion"]


def test_generated_password_is_printed_on_standard_error_and_new_each_time(run: Run) -> None:
    _, first, errors = run(None, "--generate")
    _, _, other = run(None, "--generate")
    assert re.fullmatch(r"Password: [\w-]{24}\n", errors)
    assert matches(errors.removeprefix("Password: ").strip(), first.strip())
    assert other != errors


def test_help_is_the_manual(run: Run) -> None:
    assert str(create_password.__doc__) in run(None, "--help")[1]


def test_piping_says_that_the_password_is_read(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", pipe(PASSWORD))
    create_password.main([])
    assert capsys.readouterr().err == "Reading the password from standard input.\n"


@pytest.mark.parametrize("user_id", ["testuser", "u" * 256, "Zoë of sales", "-", "a@b.example"])
def test_printed_item_lets_its_user_log_in(
    run: Run, deploy: Deploy, table: FakeTable, user_id: str
) -> None:
    longest_scope = "read ".ljust(1024, "x")
    table.items[user_id] = json.loads(
        run(PASSWORD, f"--user-id={user_id}", "--scope", longest_scope)[1]
    )
    settings = {"JWT_SECRET": SECRET, "USER_CREDENTIALS_TABLE_NAME": "users"} | table.environment
    login = deploy("jwt_create_token", **settings)
    authorize = deploy("jwt_auth_token", **settings)
    response = login(proxy_event(json.dumps({"user_id": user_id, "password": PASSWORD})))
    token = json.loads(response["body"])["token"]
    assert authorize(token_event(token))["context"]["scope"] == longest_scope
    assert outcome(authorize, token_event(make_jwt(user_id=user_id))) is None


def test_hash_has_the_cost_of_the_dummy_hash_of_login(deploy: Deploy, table: FakeTable) -> None:
    settings = {"JWT_SECRET": SECRET, "USER_CREDENTIALS_TABLE_NAME": "users"} | table.environment
    dummy_hash = deploy("jwt_create_token", **settings).module.DUMMY_HASH
    assert create_password.hash_password(PASSWORD)[:7] == dummy_hash[:7]


def test_generated_password_is_shown_only_once_it_is_set(run: Run, table: FakeTable) -> None:
    table.replies = iter([error("AccessDeniedException")])
    assert "Password: " not in run(None, *IN_TABLE, "--generate")[2]
    assert "Password: " in run(None, *IN_TABLE, "--generate")[2]


# ---- Passwords ----


@pytest.mark.parametrize(
    ("piped", "password"),
    [
        pytest.param(f"{PASSWORD}\r\n", PASSWORD, id="line of Windows"),
        pytest.param(f"{PASSWORD}\nmore\n", PASSWORD, id="first line"),
        pytest.param(f"  {PASSWORD} \n", f"  {PASSWORD} ", id="spaces count"),
        pytest.param("x" * 15, "x" * 15, id="15 characters"),
        pytest.param("é" * 36, "é" * 36, id="72 bytes"),
        pytest.param(
            unicodedata.normalize("NFD", "Zürich-Straße-é-2026"), "Zürich-Straße-é-2026", id="NFD"
        ),
    ],
)
def test_password_is_one_line_in_unicode_nfc(run: Run, piped: str, password: str) -> None:
    status, output, errors = run(piped)
    assert (status, errors) == (0, "")
    assert matches(password, output.strip())


@pytest.mark.parametrize("length", [8, 14])
def test_short_password_gets_a_warning(run: Run, length: int) -> None:
    status, _, errors = run("x" * length)
    warning = f"Warning: the password has {length} characters. At least 15 are better.\n"
    assert (status, errors) == (0, warning)


@pytest.mark.parametrize(
    ("piped", "reason"),
    [
        pytest.param("", "password is empty", id="empty"),
        pytest.param("1234567", "7 characters", id="7 characters"),
        pytest.param("é" * 36 + "e", "73 bytes", id="73 bytes"),
        pytest.param("\0" * 8, "invisible character", id="NUL"),
        pytest.param(f"\ufeff{PASSWORD}", "invisible character", id="byte order mark"),
        pytest.param(f"{PASSWORD}\u200b", "invisible character", id="zero width space"),
        pytest.param(f"{PASSWORD}\ud800", "not valid UTF-8", id="lone surrogate"),
        pytest.param("testuser", "must not be the user_id", id="the user_id"),
    ],
)
def test_bad_password_is_rejected(run: Run, piped: str, reason: str) -> None:
    status, output, errors = run(piped, *USER)
    assert (status, output) == (2, "")
    assert reason in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("password", "reason"),
    [("", "empty"), ("x" * 73, "73 bytes"), ("a\0b", "NUL"), ("\ud800", "not valid Unicode")],
)
def test_hash_password_raises_for_what_bcrypt_cannot_hash(password: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        create_password.hash_password(password)


def test_piped_bytes_that_are_no_text_are_rejected() -> None:
    command = [sys.executable, str(SCRIPT)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, input=b"caf\xe9 au lait", capture_output=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.decode().endswith("The password is not valid UTF-8.\n")


# ---- Other input ----


@pytest.mark.parametrize(
    ("user_id", "reason"),
    [
        ("", "1 to 256 bytes"),
        ("u" * 257, "1 to 256 bytes"),
        ("é" * 129, "1 to 256 bytes"),
        *((user_id, "invisible") for user_id in ("testuser ", " x", "a\tb", "a\nb", "\ufeffx")),
        *((user_id, "invisible") for user_id in ("a\u200bb", "a\u00a0b", "\udcff", "a\0")),
        *((user_id, "double quote or a backslash") for user_id in ('o"brien', "a\\b")),
    ],
)
def test_bad_user_id_is_rejected_before_the_password_is_asked_for(
    run: Run, user_id: str, reason: str
) -> None:
    status, output, errors = run(None, "--user-id", user_id)
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"The user_id [^\n]*{reason}[^\n]*\.\n", errors)


def test_user_id_is_normalized_as_login_does(run: Run) -> None:
    item = json.loads(run(PASSWORD, "--user-id", unicodedata.normalize("NFD", "rené"))[1])
    assert item["user_id"] == {"S": unicodedata.normalize("NFC", "rené")}


@pytest.mark.parametrize(
    "scope",
    [
        "read,admin",
        "read, admin",
        "a=b",
        'a"b',
        "it's",
        "a\\b",
        "é",
        " ",
        " a",
        "a ",
        "a  b",
        "a\nb",
        "arn:x",
        "*",
        "s" * 1025,
    ],
    ids="{!r:.20}".format,
)
def test_scope_that_no_list_can_name_is_rejected(run: Run, scope: str) -> None:
    status, output, errors = run(None, *USER, "--scope", scope)
    assert (status, output) == (2, "")
    assert "scope" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("name", ["", "ab", "a b", "a/b", "x" * 256])
def test_bad_table_name_is_rejected(run: Run, name: str) -> None:
    status, output, errors = run(None, *USER, "--table", name)
    assert (status, output) == (2, "")
    assert errors.startswith("The table name is invalid. ")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--table users", "--user-id is missing"),
        ("--scope a", "--user-id is missing"),
        ("--no-password", "--user-id is missing"),
        ("--user-id x --revoke-tokens", "--revoke-tokens needs --table"),
        ("--user-id x --delete", "--delete needs --table"),
        ("--user-id x --scope a --keep-password", "--keep-password needs --table"),
        ("--user-id x --table users --keep-password", "--keep-password changes only the scope"),
        ("--user-id x --table users --delete --scope a", "don't fit together"),
        ("--user-id x --table users --delete --revoke-tokens", "not allowed with"),
        ("--user-id x --table users --generate --no-password", "not allowed with"),
        (f"--password={PASSWORD}", "unknown argument"),
        (PASSWORD, "unknown argument"),
    ],
)
def test_options_that_do_not_fit_are_rejected_and_no_password_is_repeated(
    run: Run, options: str, reason: str
) -> None:
    status, output, errors = run(None, *options.split())
    assert (status, output) == (2, "")
    assert reason in errors
    assert PASSWORD not in errors


# ---- DynamoDB ----


@pytest.mark.parametrize("arguments", [[*SCOPE_ONLY, "a b"], [*SCOPE_ONLY, ""], REVOKE, DELETE])
def test_user_who_does_not_exist_is_not_created(
    run: Run, table: FakeTable, arguments: list[str]
) -> None:
    assert run(None, *arguments) == (1, "", "There is no user 'testuser' in users.\n")
    assert table.items == {}


@pytest.mark.parametrize(
    ("reply", "fix"),
    [
        (error("AccessDeniedException"), "permission dynamodb:UpdateItem on this table"),
        (error("ResourceNotFoundException"), "Check the table's name, the region"),
        (error("ValidationException"), "The table's only key must be user_id, a string."),
        (error("ExpiredTokenException"), "The credentials have expired."),
        (error("SomethingNew"), "Check the network, the region, the credentials"),
        (HANG_UP, "Check the network, the region, the credentials"),
    ],
)
def test_failure_of_dynamodb_is_one_sentence_with_a_fix(
    run: Run, table: FakeTable, reply: Reply, fix: str
) -> None:
    table.replies = iter([reply])
    status, output, errors = run(PASSWORD, *IN_TABLE)
    assert (status, output) == (1, "")
    assert re.fullmatch(rf"DynamoDB failed \(\w+\)\. [^\n]*{re.escape(fix)}[^\n]*\n", errors)


@pytest.mark.parametrize(
    ("variable", "value", "fix"),
    [
        ("AWS_DEFAULT_REGION", None, "Set a region, for example: aws configure"),
        ("AWS_ACCESS_KEY_ID", None, "Set up credentials, for example: aws configure"),
        ("AWS_PROFILE", "nope", "Correct AWS_PROFILE. To list the profiles: aws configure list-"),
        ("AWS_ENDPOINT_URL", "localhost", "AWS_ENDPOINT_URL if you set it."),
    ],
)
def test_missing_credentials_are_noticed_before_the_password_is_asked_for(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    table: FakeTable,
    variable: str,
    value: str | None,
    fix: str,
) -> None:
    monkeypatch.delenv(variable, raising=False)
    if value:
        monkeypatch.setenv(variable, value)
    status, output, errors = run(None, *IN_TABLE)
    assert (status, output) == (1, "")
    assert fix in errors
    assert errors.count("\n") == 1


def test_aws_login_needs_another_package(
    run: Run, monkeypatch: pytest.MonkeyPatch, table: FakeTable, tmp_path: Any
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nlogin_session = arn:aws:iam::123456789012:user/x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    status, _, errors = run(None, *IN_TABLE)
    assert status == 1
    assert 'python -m pip install "botocore[crt]"' in errors


def test_expired_sso_session_names_its_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, table: FakeTable
) -> None:
    def expired(*_: Any) -> None:
        raise SSOTokenLoadError(error_msg="expired")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", expired)
    assert run(PASSWORD, *IN_TABLE)[2].endswith("Run: aws sso login\n")


def test_boto3_is_needed_only_for_the_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert run(PASSWORD, *USER)[0] == 0
    assert run(None, *IN_TABLE) == (1, "", f"{create_password.INSTALL.format('boto3')}\n")


def test_missing_bcrypt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(SystemExit, match="^The package bcrypt is missing. Run: python -m pip "):
        runpy.run_path(str(SCRIPT))


# ---- At a terminal ----


def at_terminal(*keys: str) -> tuple[int, str]:
    """Run the script at a terminal, type a text at each prompt, return exit status and screen."""
    terminal, device = os.openpty()
    # The shell opens the terminal as the leader of its session, which makes it the controlling one.
    shell = 'exec "$@" <"$0" >"$0" 2>&1'
    command = ["sh", "-c", shell, os.ttyname(device), sys.executable, str(SCRIPT)]
    # Jobs in the background ignore Ctrl-C, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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


HASH = r"\$2b\$12\$[./A-Za-z0-9]{53}"


@pytest.mark.parametrize(
    ("keys", "expected", "screen"),
    [
        pytest.param(
            [f"{PASSWORD}\n", f"{PASSWORD}\n"],
            0,
            f"Password: \nPassword again: \n{HASH}\n",
            id="typed twice",
        ),
        pytest.param(
            [f"{PASSWORD}\n", "another\n"],
            2,
            "Password: \nPassword again: \nThe two passwords differ.\n",
            id="two passwords",
        ),
        pytest.param([f"{PASSWORD}\x03"], 1, "Password: \n+Stopped.\n", id="Ctrl-C"),
        pytest.param(["\x04"], 1, "Password: \n+Stopped.\n", id="Ctrl-D"),
    ],
)
def test_password_at_a_terminal_is_asked_for_twice_and_not_shown(
    keys: list[str], expected: int, screen: str
) -> None:
    status, shown = at_terminal(*keys)
    assert status == expected
    assert re.fullmatch(screen, shown), shown
