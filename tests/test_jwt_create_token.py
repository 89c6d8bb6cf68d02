"""Login: who gets a token, who does not, what each is told, and what the table and the log get to see."""

import base64
import itertools
import json
import logging
import re
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import bcrypt
import jwt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.events import proxy_event, token_event
from support.functions import ARN, SECRET, WATCH, Function
from support.policies import decision
from support.table import HANG, HANG_UP, FakeTable, Reply, error, fake_dynamodb

PASSWORD = "correct-horse-battery-staple"
LONGEST = "seventy-two-bytes-".ljust(72, "x")
TABLE = "user_credentials"
NEEDED = {"USER_CREDENTIALS_TABLE_NAME": TABLE, "JWT_SECRET": SECRET}
HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}
REFUSED = {"statusCode": 401, "headers": HEADERS, "body": '{"message": "Invalid user_id or password"}'}
FAILED = {"statusCode": 500, "headers": HEADERS, "body": '{"message": "Internal server error"}'}
# Of the default cost, by `htpasswd -nbB -C 12`; nothing here asks for the password.
HASH_12 = "$2b$12$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBE1crlBsFp8u"
PLAIN_TEXT = "stored-in-plain-text"
WATCH.guards(PASSWORD, LONGEST, HASH_12, PLAIN_TEXT)

checkpw = bcrypt.checkpw
fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def quick_hash(password: str) -> str:
    """Return a hash of the lowest cost."""
    made = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    WATCH.guards(made)
    return made


@pytest.fixture
def table() -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        table.items["testuser"] = {"email": {"S": "t@example.com"}, "passwordHash": {"S": quick_hash(PASSWORD)}}
        yield table


@pytest.fixture
def login(deploy: Callable[..., Function], table: FakeTable) -> Function:
    return deploy("jwt_create_token", **NEEDED, **table.environment)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Note what bcrypt is asked, and let it agree with everything that it can read."""
    asked: list[tuple[bytes, bytes]] = []

    def agree(candidate: bytes, stored: bytes) -> bool:
        asked.append((candidate, stored))
        assert len(candidate) <= 72
        assert b"\0" not in candidate
        checkpw(candidate, re.sub(rb"\$\d\d\$", b"$04$", stored, count=1))  # raises for a hash that it cannot read
        return True

    monkeypatch.setattr(bcrypt, "checkpw", agree)
    return asked


def body(user_id: Any = "testuser", password: Any = PASSWORD) -> str:
    return json.dumps({"user_id": user_id, "password": password})


def request(user_id: str = "testuser", password: str = PASSWORD) -> dict[str, Any]:
    return proxy_event(body(user_id, password))


def http_event(text: str | None, route: str, encoded: bool = False) -> dict[str, Any]:
    """Return the event of payload format 2.0, which leaves a missing body out."""
    event = {"version": "2.0", "routeKey": route, "rawPath": "/auth", "headers": {}, "isBase64Encoded": encoded}
    return event if text is None else event | {"body": text}


def base64_of(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


SHAPES = [
    pytest.param(proxy_event, id="REST"),
    pytest.param(lambda text: proxy_event(base64_of(text), isBase64Encoded=True), id="REST base64"),
    pytest.param(lambda text: http_event(text, "POST /auth"), id="HTTP API"),
    pytest.param(lambda text: http_event(base64_of(text), "$default", True), id="function URL base64"),
    pytest.param(json.loads, id="plain object"),
]


# --------------------------------------------------------------------- 200


@pytest.mark.parametrize("shape", SHAPES)
def test_right_password_gets_a_token(login: Function, shape: Callable[[str], Any]) -> None:
    answer = login(shape(body()))
    assert (answer["statusCode"], answer["headers"]) == (200, HEADERS)
    token = json.loads(answer["body"]).pop("token")
    assert json.loads(answer["body"]) == {"token": token, "token_type": "Bearer", "expires_in": 3600}


@pytest.mark.parametrize(
    ("user_id", "password"),
    [
        pytest.param("testuser", LONGEST, id="72 bytes"),
        pytest.param("u" * 256, PASSWORD, id="user_id of 256 bytes"),
        pytest.param("12345678", "12345678901234", id="numbers as strings"),
        pytest.param("Zoë 🦊\0\n", "pässwörd 🦊\r\n", id="not ASCII, control characters"),
        pytest.param(" ", "   two spaces   ", id="blanks count"),
    ],
)
def test_every_user_id_and_password_within_the_limits_works(
    login: Function, table: FakeTable, user_id: str, password: str
) -> None:
    WATCH.guards(password)
    table.items[user_id] = {"passwordHash": {"S": quick_hash(password)}}
    answer = login(request(user_id, password))
    assert answer["statusCode"] == 200
    assert claims_of(answer)["user_id"] == user_id


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2x$", "$2y$"])
def test_hashes_of_other_tools_work(login: Function, table: FakeTable, prefix: str) -> None:
    stored = quick_hash(PASSWORD).replace("$2b$", prefix)
    table.items["testuser"]["passwordHash"] = {"S": stored}
    WATCH.guards(stored)
    assert login(request())["statusCode"] == 200
    assert login(request(password="not-the-password")) == REFUSED


def claims_of(answer: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Return the verified claims of the token in an answer."""
    token = json.loads(answer["body"])["token"]
    claims: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"], **options)
    return claims


def test_token_says_who_since_when_and_until_when(login: Function) -> None:
    before = int(time.time())
    claims = claims_of(login(request()))
    assert set(claims) == {"user_id", "sub", "iat", "exp", "jti"}
    assert claims["user_id"] == claims["sub"] == "testuser"
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] == claims["iat"] + 3600


def test_each_token_has_an_id_of_its_own(login: Function) -> None:
    assert claims_of(login(request()))["jti"] != claims_of(login(request()))["jti"]


def test_settings_shape_the_token(deploy: Callable[..., Function], table: FakeTable) -> None:
    optional = {"JWT_ISSUER": "issuer", "JWT_AUDIENCE": "audience", "JWT_TTL_SECONDS": "60"}
    answer = deploy("jwt_create_token", **NEEDED, **table.environment, **optional)(request())
    claims = claims_of(answer, issuer="issuer", audience="audience")
    assert (claims["iss"], claims["aud"], claims["exp"] - claims["iat"]) == ("issuer", "audience", 60)
    assert json.loads(answer["body"])["expires_in"] == 60


def test_empty_optional_settings_are_not_set(deploy: Callable[..., Function], table: FakeTable) -> None:
    names = ("JWT_ISSUER", "JWT_AUDIENCE", "JWT_TTL_SECONDS", "CORS_ALLOW_ORIGIN")
    answer = deploy("jwt_create_token", **NEEDED, **table.environment, **dict.fromkeys(names, ""))(request())
    claims = claims_of(answer)
    assert "iss" not in claims
    assert "aud" not in claims
    assert (claims["exp"] - claims["iat"], answer["headers"]) == (3600, HEADERS)


@pytest.mark.parametrize(
    "optional", [pytest.param({}, id="plain"), pytest.param({"JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}, id="iss and aud")]
)
def test_the_authorizer_admits_the_token(
    deploy: Callable[..., Function], table: FakeTable, optional: dict[str, str]
) -> None:
    answer = deploy("jwt_create_token", **NEEDED, **table.environment, **optional)(request())
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, **optional)
    admitted = authorize(token_event(f"Bearer {json.loads(answer['body'])['token']}"))
    assert (admitted["principalId"], decision(admitted, ARN)) == ("testuser", "Allow")


def test_table_is_asked_once_for_the_hash_alone(login: Function, table: FakeTable) -> None:
    login(request())
    wanted = {"TableName": TABLE, "Key": {"user_id": {"S": "testuser"}}}
    wanted |= {"ProjectionExpression": "passwordHash, #scope", "ExpressionAttributeNames": {"#scope": "scope"}}
    wanted |= {"ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
    assert table.requests == [("GetItem", wanted)]


# --------------------------------------------------------------------- 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "The body must be JSON", id="null"),
        pytest.param("", "The body must be JSON", id="empty"),
        pytest.param("user_id=testuser", "The body must be JSON", id="form"),
        pytest.param("{" + body(), "The body must be JSON", id="broken"),
        pytest.param("\ufeff" + body(), "The body must be JSON", id="byte order mark"),
        pytest.param("[" * 100_000, "The body must be JSON", id="deep"),
        pytest.param("[" * 100_000 + "]" * 100_000, "The body must be JSON", id="deep and closed"),
        pytest.param('{"a":' * 100_000 + "1" + "}" * 100_000, "The body must be JSON", id="deep objects"),
        pytest.param("9" * 5000, "The body must be JSON", id="5000 digits"),
        pytest.param("\0" * 1_000_000, "The body must be JSON", id="1 MB of NUL"),
        pytest.param({"user_id": "testuser"}, "The body must be JSON", id="not text"),
        pytest.param(5, "The body must be JSON", id="number"),
        *(
            pytest.param(text, "The request must be a JSON object with user_id and password", id=f"JSON {text}")
            for text in ("null", "[]", '"text"', "1", "true", "NaN")
        ),
        pytest.param("{}", "user_id must be a non-empty string of valid Unicode", id="nothing in it"),
        pytest.param('{"password": "x"}', "user_id must be a non-empty string of valid Unicode", id="no user_id"),
        pytest.param('{"user_id": "x"}', "password must be a non-empty string of valid Unicode", id="no password"),
        *(
            pytest.param(body(user_id=value), "user_id must be a non-empty string of valid Unicode", id=f"user_id {n}")
            for n, value in enumerate(
                ["", None, 5, 1.5, True, [], ["testuser"], {"S": "testuser"}, "\ud800", "a\udfff"]
            )
        ),
        *(
            pytest.param(
                body(password=value), "password must be a non-empty string of valid Unicode", id=f"password {n}"
            )
            for n, value in enumerate(["", None, 5, 1.5, True, [], [PASSWORD], {"S": PASSWORD}, "\ud800", "\udc00x"])
        ),
        pytest.param(body("u" * 257), "user_id must be at most 256 bytes", id="user_id of 257 bytes"),
        pytest.param(body("é" * 129), "user_id must be at most 256 bytes", id="user_id of 129 letters, 258 bytes"),
        pytest.param(body("u" * 1_000_000), "user_id must be at most 256 bytes", id="user_id of 1 MB"),
    ],
)
def test_anything_but_a_login_request_is_told_what_is_wrong(
    login: Function, table: FakeTable, asked: list[Any], text: Any, message: str
) -> None:
    answer = login(proxy_event(text))
    assert answer == {"statusCode": 400, "headers": HEADERS, "body": json.dumps({"message": message})}
    assert (table.requests, asked) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("*" + base64_of(body()), id="foreign character"),
        pytest.param(base64_of(body())[:-1], id="bad padding"),
        pytest.param(body(), id="not encoded"),
        pytest.param("é", id="not ASCII"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param(base64_of(b"\xff" + body().encode()), id="not UTF-8"),
        pytest.param(base64_of(b'{"user_id": "\xed\xa0\x80", "password": "x"}'), id="surrogate in UTF-8"),
        pytest.param(None, id="null"),
        pytest.param(5, id="number"),
        pytest.param({}, id="object"),
    ],
)
def test_broken_base64_is_a_bad_request(login: Function, text: Any) -> None:
    assert login(proxy_event(text, isBase64Encoded=True))["statusCode"] == 400


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(None, id="null"),
        pytest.param([1], id="list"),
        pytest.param("testuser", id="text"),
        pytest.param(5, id="number"),
        pytest.param({}, id="empty"),
        pytest.param(http_event(None, "POST /auth"), id="HTTP API without a body"),
        pytest.param({"headers": {"user_id": "testuser"}, "queryStringParameters": {"password": "x"}}, id="elsewhere"),
    ],
)
def test_event_without_a_request_is_a_bad_request(login: Function, event: Any) -> None:
    assert login(event)["statusCode"] == 400


# --------------------------------------------------------------------- 401


@pytest.mark.parametrize(
    ("stored", "password"),
    [
        pytest.param(PASSWORD, PASSWORD[:-1], id="prefix"),
        pytest.param(PASSWORD, PASSWORD + "x", id="longer"),
        pytest.param(PASSWORD, PASSWORD + "\0", id="NUL at the end"),
        pytest.param(PASSWORD, PASSWORD + "\0" + PASSWORD, id="NUL and again, the same to bcrypt"),
        pytest.param(PASSWORD, PASSWORD.upper(), id="other case"),
        pytest.param(PASSWORD, f" {PASSWORD} ", id="blanks around"),
        pytest.param(PASSWORD, "-", id="what stands in for a password that cannot be hashed"),
        pytest.param("-", "\0", id="the same, stored"),
        pytest.param(LONGEST, LONGEST + "x", id="73 bytes, of which 72 are right"),
        pytest.param(LONGEST, LONGEST + "x" * 1_000_000, id="1 MB, of which 72 bytes are right"),
        pytest.param(LONGEST, "é" * 37, id="37 letters, 74 bytes"),
    ],
)
def test_wrong_password_is_refused(login: Function, table: FakeTable, stored: str, password: str) -> None:
    table.items["testuser"]["passwordHash"] = {"S": quick_hash(stored)}
    assert login(request(password=password)) == REFUSED


UNUSABLE = [
    pytest.param(None, id="no such user"),
    pytest.param({}, id="no hash"),
    pytest.param({"B": base64_of(HASH_12)}, id="hash as bytes"),
    pytest.param({"N": "12"}, id="number"),
    pytest.param({"NULL": True}, id="null"),
    pytest.param({"M": {"S": {"S": HASH_12}}}, id="map"),
    pytest.param({"SS": [HASH_12]}, id="set"),
    pytest.param({"S": ""}, id="empty"),
    pytest.param({"S": PLAIN_TEXT}, id="plain text"),
    pytest.param({"S": HASH_12[:-1]}, id="truncated"),
    pytest.param({"S": HASH_12 + "u"}, id="too long"),
    pytest.param({"S": HASH_12 + "\n"}, id="line end"),
    pytest.param({"S": " " + HASH_12}, id="blank"),
    pytest.param({"S": HASH_12.replace("uu5", "uv5")}, id="salt with bits too many"),
    pytest.param({"S": HASH_12.replace("a", "é")}, id="not ASCII"),
    pytest.param({"S": HASH_12.replace("$2b$", "$2z$")}, id="unknown version"),
    pytest.param({"S": HASH_12.replace("$12$", "$03$")}, id="cost below 4"),
    pytest.param({"S": HASH_12.replace("$12$", "$16$")}, id="cost that outlasts the timeout"),
    pytest.param({"S": HASH_12.replace("$12$", "$99$")}, id="cost above 31"),
    pytest.param({"S": HASH_12.replace("$12$", "$1٢$")}, id="cost in other digits"),
]


@pytest.mark.parametrize("stored", UNUSABLE)
def test_without_a_usable_hash_the_work_is_the_same_and_nobody_gets_in(
    login: Function, table: FakeTable, asked: list[tuple[bytes, bytes]], stored: dict[str, Any] | None
) -> None:
    table.items = {} if stored is None else {"testuser": {"passwordHash": stored} if stored else {}}
    assert login(request()) == REFUSED
    assert [(candidate, stored[:7]) for candidate, stored in asked] == [(PASSWORD.encode(), b"$2b$12$")]
    assert HASH_12.encode() != asked[0][1]


@pytest.mark.parametrize(
    "password", [pytest.param("x" * 73, id="73 bytes"), pytest.param("é" * 37, id="74 bytes"), "\0", "abc\0abc"]
)
@pytest.mark.parametrize("user_id", ["testuser", "nobody"])
def test_password_that_bcrypt_cannot_tell_apart_is_the_same_work_and_refused(
    login: Function, table: FakeTable, asked: list[tuple[bytes, bytes]], user_id: str, password: str
) -> None:
    table.items["testuser"]["passwordHash"] = {"S": HASH_12}
    assert login(request(user_id, password)) == REFUSED
    assert [stored[:7] for _, stored in asked] == [b"$2b$12$"]
    assert (asked[0][1] == HASH_12.encode()) == (user_id == "testuser")


@pytest.mark.parametrize("cost", ["04", "15"])
def test_hash_of_every_cost_that_the_timeout_allows_is_checked(
    login: Function, table: FakeTable, asked: list[tuple[bytes, bytes]], cost: str
) -> None:
    stored = HASH_12.replace("$12$", f"${cost}$")
    table.items["testuser"]["passwordHash"] = {"S": stored}
    assert login(request())["statusCode"] == 200
    assert [hash_asked for _, hash_asked in asked] == [stored.encode()]


def test_a_good_login_is_one_check_too(login: Function, asked: list[tuple[bytes, bytes]]) -> None:
    assert login(request())["statusCode"] == 200
    assert len(asked) == 1


def hash_like() -> st.SearchStrategy[str]:
    """Return texts that are hashes, nearly hashes, and anything else."""
    character = st.sampled_from("./AZaz09uOe$ \0é")
    shaped = st.from_regex(r"\A\$2[abxyz]?\$[0-9]{2}\$[./A-Za-z0-9]{50,54}\Z")
    changed = st.builds(lambda at, new: HASH_12[:at] + new + HASH_12[at + 1 :], st.integers(0, 60), character)
    return st.one_of(st.text(st.characters(exclude_categories=["Cs"])), shaped, changed)


@fuzzed
@given(stored=hash_like())
@example(stored=HASH_12[:28])
@example(stored="$2x$" + HASH_12[4:])
def test_no_stored_text_makes_anything_but_a_check_and_an_answer(
    login: Function, table: FakeTable, asked: list[tuple[bytes, bytes]], stored: str
) -> None:
    asked.clear()
    table.items = {"testuser": {"passwordHash": {"S": stored}}}
    answer = login(request())
    assert len(asked) == 1  # and that one bcrypt could read
    hash_asked = asked[0][1].decode()
    assert answer["statusCode"] == 200 if hash_asked == stored else answer == REFUSED
    assert hash_asked == stored or hash_asked.startswith("$2b$12$")
    assert int(hash_asked[4:6]) <= 15


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["user_id", "password", "body", "x"]), inner),
    max_leaves=10,
)


@fuzzed
@given(
    event=json_values
    | st.builds(proxy_event, json_values | st.builds(json.dumps, json_values), isBase64Encoded=st.booleans())
    | st.builds(proxy_event, st.builds(base64_of, st.binary()), isBase64Encoded=st.just(True))
    | st.builds(request, st.text(st.characters()), st.text(st.characters()))
)
def test_no_caller_can_cause_a_failure(login: Function, asked: list[Any], event: Any) -> None:
    assert login(event)["statusCode"] in (400, 401)


# --------------------------------------------------------------------- 500


FAILURES: list[Any] = [
    pytest.param(error("ResourceNotFoundException"), "ResourceNotFoundException", id="no such table"),
    pytest.param(error("AccessDeniedException"), "AccessDeniedException", id="not permitted"),
    pytest.param(
        error("ProvisionedThroughputExceededException"), "ProvisionedThroughputExceededException", id="throttled"
    ),
    pytest.param(error("ValidationException"), "ValidationException", id="other key"),
    pytest.param((500, b'{"__type": "InternalServerError"}'), "InternalServerError", id="500"),
    pytest.param((503, b"<html>Try later</html>"), "503", id="503 in HTML"),
    pytest.param((400, b""), "400", id="400, empty"),
    pytest.param((200, b"<html>Welcome to the hotel</html>"), "ValueError", id="200 in HTML"),
    pytest.param((200, b""), "ValueError", id="200, empty"),
    pytest.param((200, b"[]"), "AttributeError", id="200, list"),
    pytest.param((200, b"null"), "AttributeError", id="200, null"),
    pytest.param((200, b"[" * 100_000), "RecursionError", id="200, deep"),
    pytest.param((200, b'{"Item": []}'), "AttributeError", id="item is a list"),
    pytest.param((200, b'{"Item": "x"}'), "AttributeError", id="item is text"),
    pytest.param((200, b'{"Item": {"passwordHash": "x"}}'), "AttributeError", id="value without a type"),
    pytest.param(
        (200, b'{"ConsumedCapacity": {}, "Item": {"passwordHash": {"S": 5}}}'), "TypeError", id="text that is a number"
    ),
    pytest.param(
        (200, b'{"ConsumedCapacity": {}, "Item": {"passwordHash": {"S": ["x"]}}}'),
        "TypeError",
        id="text that is a list",
    ),
    pytest.param(HANG_UP, "ConnectionClosedError", id="hangs up"),
    pytest.param(HANG, "ReadTimeoutError", id="hangs"),
]


@pytest.mark.parametrize(("reply", "reason"), FAILURES)
def test_failing_table_is_an_error_in_time_and_the_next_login_works(
    login: Function, table: FakeTable, caplog: pytest.LogCaptureFixture, reply: Reply, reason: str
) -> None:
    table.replies = itertools.repeat(reply)
    began = time.monotonic()
    assert login(request()) == FAILED
    assert time.monotonic() - began < 10  # seconds
    assert own_lines(caplog) == [("root", logging.ERROR, f"failed: DynamoDB: {reason}")]
    assert len(table.requests) <= 2
    table.replies = iter(())
    assert login(request())["statusCode"] == 200


def test_table_that_is_not_there_is_an_error(deploy: Callable[..., Function], table: FakeTable) -> None:
    nowhere = table.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    assert deploy("jwt_create_token", **NEEDED, **nowhere)(request()) == FAILED


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param((500, b"{}"), id="500"),
        pytest.param(error("ThrottlingException"), id="throttled"),
        pytest.param(HANG_UP, id="hangs up"),
        pytest.param(HANG, id="hangs"),
    ],
)
def test_one_hiccup_is_tried_again(login: Function, table: FakeTable, reply: Reply) -> None:
    table.replies = iter([reply])
    assert login(request())["statusCode"] == 200
    assert len(table.requests) == 2


@fuzzed
@given(
    item=json_values
    | st.dictionaries(st.just("passwordHash"), json_values | st.dictionaries(st.just("S"), json_values))
)
def test_no_answer_of_the_table_lets_anyone_in_or_stops_the_function(
    login: Function, table: FakeTable, asked: list[Any], item: Any
) -> None:
    table.replies = iter([(200, json.dumps({"Item": item}).encode())])
    assert login(request()) in (REFUSED, FAILED)


# --------------------------------------------------------------------- every status


def test_pages_of_the_configured_origin_may_read_every_answer(
    deploy: Callable[..., Function], table: FakeTable, asked: list[Any]
) -> None:
    origin = "https://app.example.com"
    login = deploy("jwt_create_token", CORS_ALLOW_ORIGIN=origin, **NEEDED, **table.environment)
    answers = [login(request()), login(proxy_event("")), login(request("nobody"))]
    table.replies = itertools.repeat(error("AccessDeniedException"))
    answers.append(login(request()))
    assert [answer["statusCode"] for answer in answers] == [200, 400, 401, 500]
    assert all(answer["headers"] == HEADERS | {"Access-Control-Allow-Origin": origin} for answer in answers)


def own_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """Return what the handler logged, without botocore's lines."""
    return [line for line in caplog.record_tuples if line[0] == "root"]


@pytest.mark.parametrize(
    ("event", "stored", "level", "line"),
    [
        pytest.param(request(), HASH_12, logging.INFO, "admitted: 'testuser'", id="admitted"),
        pytest.param(request("nobody"), HASH_12, logging.INFO, "refused: unknown user", id="unknown: not named"),
        pytest.param(
            request(password="\0"), HASH_12, logging.INFO, "refused: wrong password: 'testuser'", id="wrong password"
        ),
        pytest.param(
            request(),
            PLAIN_TEXT,
            logging.ERROR,
            "refused: no passwordHash that bcrypt can read: 'testuser'",
            id="corrupt",
        ),
        pytest.param(proxy_event("x"), HASH_12, logging.INFO, "refused: not a login request", id="bad request"),
    ],
)
def test_each_decision_is_one_line(
    login: Function,
    table: FakeTable,
    asked: list[Any],
    caplog: pytest.LogCaptureFixture,
    event: Any,
    stored: str,
    level: int,
    line: str,
) -> None:
    table.items["testuser"]["passwordHash"] = {"S": stored}
    login(event)
    assert own_lines(caplog) == [("root", level, line)]


def test_line_breaks_of_a_caller_make_no_lines_in_the_log(
    login: Function, table: FakeTable, asked: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    forged = "x\n[INFO] admitted: 'admin'"
    table.items[forged] = {"passwordHash": {"S": HASH_12}}
    login(request(forged))
    assert own_lines(caplog) == [("root", logging.INFO, f"admitted: {forged!r}")]


# --------------------------------------------------------------------- starting


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("USER_CREDENTIALS_TABLE_NAME", "", id="no table"),
        pytest.param("JWT_SECRET", "", id="no secret"),
        pytest.param("JWT_SECRET", "thirty-one-bytes-of-secret-text", id="secret of 31 bytes"),
        pytest.param("JWT_SECRET", "-----BEGIN PUBLIC KEY-----\nMIIBIjAN\n-----END PUBLIC KEY-----\n", id="PEM"),
        pytest.param("JWT_SECRET", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7", id="SSH key"),
        pytest.param("JWT_SECRET", '{"kty": "oct", "k": "c2VjcmV0LXRoYXQtc2lnbnM"}', id="JWK"),
        pytest.param("JWT_SECRET", "not-utf-8-but-long-enough-\udcff-\udcfe-0123456789", id="not UTF-8"),
        *(
            pytest.param("JWT_TTL_SECONDS", ttl, id=f"TTL {ttl}")
            for ttl in ("0", "-60", "1.5", "1e3", "60s", "3\u0666\u0660\u0660")
        ),
        pytest.param("JWT_TTL_SECONDS", "3600\n", id="TTL with a line end"),
        pytest.param("JWT_TTL_SECONDS", "9" * 5000, id="TTL of 5000 digits"),
        pytest.param("CORS_ALLOW_ORIGIN", "login.example.com", id="origin without a scheme"),
        pytest.param("CORS_ALLOW_ORIGIN", "https://login.example.com/", id="origin with a path"),
        pytest.param("CORS_ALLOW_ORIGIN", "https://a.example, https://b.example", id="two origins"),
    ],
)
def test_bad_setting_stops_the_function_and_is_named_but_not_shown(
    deploy: Callable[..., Function], table: FakeTable, name: str, value: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name} must ") as raised:
        deploy("jwt_create_token", **NEEDED | {name: value}, **table.environment)
    printed = "".join(traceback.format_exception(raised.value)).split("ValueError: ", 1)[1]
    assert len(value) < 5 or value not in printed
    assert "another exception occurred" not in printed


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param("é" * 8 + "0123456789abcdef", id="24 letters, 32 bytes"),
        pytest.param("0123456789" * 3 + "ab", id="32 bytes"),
    ],
)
def test_secret_of_32_bytes_is_enough(deploy: Callable[..., Function], table: FakeTable, secret: str) -> None:
    deploy("jwt_create_token", **NEEDED | {"JWT_SECRET": secret}, **table.environment)


def test_table_that_hangs_is_waited_for_as_long_as_the_manual_says(login: Function) -> None:
    config = login.module.dynamodb.meta.config
    attempts: int = config.retries["total_max_attempts"]
    assert attempts * (config.connect_timeout + config.read_timeout) + 1 == 7  # seconds
