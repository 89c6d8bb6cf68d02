"""Login: who gets a token, who does not, what each is told, and what the table and the log get to see."""

import base64
import itertools
import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import bcrypt
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deploy import SECRET, WATCH, Deploy, Function
from support.events import documented, proxy_event
from support.fake_dynamodb import DRIP, HANG, HANG_UP, FakeTable, Reply, error, fake_dynamodb

PASSWORD = "correct horse battery staple"  # of the documented events
WEAKEST = "0123456789" * 3 + "01"  # of all secrets that will do: 32 bytes, 10 of them different
LONGEST = "seventy-two-bytes-".ljust(72, "x")
NEEDED = {"USER_CREDENTIALS_TABLE_NAME": "user_credentials", "JWT_SECRET": SECRET}
HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "Access-Control-Allow-Origin": "*",
}
REFUSED = {
    "statusCode": 401,
    "headers": HEADERS,
    "body": '{"message": "Invalid user_id or password"}',
}
FAILED = {"statusCode": 500, "headers": HEADERS, "body": '{"message": "Internal server error"}'}
# Of the default cost, by `htpasswd -nbB -C 12`; nothing here asks for the password.
HASH_12 = "$2b$12$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBE1crlBsFp8u"
PLAIN_TEXT = "stored-in-plain-text"
WATCH.guards(PASSWORD, LONGEST, HASH_12, PLAIN_TEXT)

Asked = list[tuple[bytes, bytes]]  # what bcrypt.checkpw was called with
Log = pytest.LogCaptureFixture
checkpw = bcrypt.checkpw


def quick_hash(password: str) -> str:
    """Return a hash of the lowest cost."""
    made = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    WATCH.guards(made)
    return made


@pytest.fixture
def table() -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        table.items["testuser"] = {
            "email": {"S": "t@example.com"},
            "passwordHash": {"S": quick_hash(PASSWORD)},
        }
        yield table


@pytest.fixture
def deployed(deploy: Deploy, table: FakeTable) -> Deploy:
    return lambda **optional: deploy("jwt_create_token", **NEEDED | table.environment | optional)


@pytest.fixture
def login(deployed: Deploy) -> Function:
    return deployed()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Note what bcrypt is asked, and let it agree with everything that it can read."""
    asked: Asked = []

    def agree(candidate: bytes, stored: bytes) -> bool:
        asked.append((candidate, stored))
        assert len(candidate) <= 72
        assert b"\0" not in candidate
        checkpw(
            candidate, re.sub(rb"\$\d\d\$", b"$04$", stored, count=1)
        )  # raises for a hash that it cannot read
        return True

    monkeypatch.setattr(bcrypt, "checkpw", agree)
    return asked


def body(user_id: Any = "testuser", password: Any = PASSWORD) -> str:
    return json.dumps({"user_id": user_id, "password": password})


def request(user_id: str = "testuser", password: str = PASSWORD) -> dict[str, Any]:
    return proxy_event(body(user_id, password))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def claims_of(answer: dict[str, Any], secret: str = SECRET, **options: Any) -> dict[str, Any]:
    """Return the verified claims of the token in an answer."""
    claims: dict[str, Any] = jwt.decode(
        json.loads(answer["body"])["token"], secret, algorithms=["HS256"], **options
    )
    return claims


def own_lines(caplog: Log) -> list[tuple[int, str]]:
    """Return level and message of what the handler logged, without botocore's lines."""
    return [(level, message) for name, level, message in caplog.record_tuples if name == "root"]


LOGINS = [
    "proxy_rest_login",
    "proxy_http_api_1_0",
    "proxy_http_api_2_0",
    "function_url",
    "console_test",
]


@pytest.mark.parametrize("name", LOGINS)
def test_right_password_gets_a_token(login: Function, name: str) -> None:
    answer = login(documented(name))
    assert (answer["statusCode"], answer["headers"]) == (200, HEADERS)
    content = json.loads(answer["body"])
    assert content == {"token": content["token"], "token_type": "Bearer", "expires_in": 3600}


USERS = [
    ("testuser", LONGEST),
    ("u" * 256, PASSWORD),
    ("Zoë 🦊\0\n", "pässwörd 🦊\r\n"),
    (" ", "  two blanks  "),
]


@pytest.mark.parametrize(
    ("user_id", "password"), [*USERS, ("12345678", "12345678901234")], ids="{!r:.30}".format
)
def test_user_within_the_limits_gets_in(
    login: Function, table: FakeTable, user_id: str, password: str
) -> None:
    WATCH.guards(password)
    table.items[user_id] = {"passwordHash": {"S": quick_hash(password)}}
    assert claims_of(login(request(user_id, password)))["user_id"] == user_id


def test_token_says_who_since_when_and_until_when_and_has_an_id_of_its_own(login: Function) -> None:
    before = int(time.time())
    claims = claims_of(login(request()))
    assert before <= claims["iat"] <= time.time()
    expected = {
        "user_id": "testuser",
        "sub": "testuser",
        "iat": claims["iat"],
        "exp": claims["iat"] + 3600,
    }
    assert claims == expected | {"jti": claims["jti"]}
    assert claims["jti"] != claims_of(login(request()))["jti"]


@pytest.mark.parametrize("ttl", [1, 60, 2_592_000])
def test_settings_shape_the_token(deployed: Deploy, ttl: int) -> None:
    named = {"JWT_ISSUER": "issuer", "JWT_AUDIENCE": "audience"}
    answer = deployed(JWT_SECRET=WEAKEST, JWT_TTL_SECONDS=str(ttl), **named)(request())
    claims = claims_of(answer, WEAKEST, issuer="issuer", audience="audience")
    assert (claims["iss"], claims["aud"], claims["exp"] - claims["iat"]) == (
        "issuer",
        "audience",
        ttl,
    )
    assert json.loads(answer["body"])["expires_in"] == ttl


def test_empty_optional_settings_are_not_set(deployed: Deploy) -> None:
    names = ("JWT_ISSUER", "JWT_AUDIENCE", "JWT_TTL_SECONDS", "CORS_ALLOW_ORIGIN")
    answer = deployed(**dict.fromkeys(names, ""))(request())
    assert (json.loads(answer["body"])["expires_in"], answer["headers"]) == (3600, HEADERS)
    assert not {"iss", "aud"} & set(claims_of(answer))


def test_table_is_asked_once_for_two_attributes(login: Function, table: FakeTable) -> None:
    login(request())
    wanted = {
        "TableName": "user_credentials",
        "Key": {"user_id": {"S": "testuser"}},
        "ConsistentRead": True,
    }
    wanted |= {
        "ProjectionExpression": "passwordHash, #s",
        "ExpressionAttributeNames": {"#s": "scope"},
    }
    assert table.requests == [("GetItem", wanted | {"ReturnConsumedCapacity": "TOTAL"})]


@pytest.mark.parametrize("scope", ["read", "admin read:all !~", "s" * 1024], ids="{:.20}".format)
def test_scope_of_a_user_is_in_the_token_and_the_answer(
    login: Function, table: FakeTable, scope: str
) -> None:
    table.items["testuser"]["scope"] = {"S": scope}
    answer = login(request())
    assert claims_of(answer)["scope"] == json.loads(answer["body"])["scope"] == scope


SCOPES: list[Any] = [
    *(
        {"S": text}
        for text in (
            "",
            " ",
            "a  b",
            " a",
            "a ",
            "a\n",
            "a\tb",
            'a"b',
            "a\\b",
            "é",
            "s" * 1025,
            "\0",
        )
    ),
    *(None, {"N": "1"}, {"NULL": True}, {"BOOL": True}, {"SS": ["read"]}, {"B": "cmVhZA=="}),
    *({"L": [{"S": "read"}]}, {"M": {"S": {"S": "read"}}}),
]


@pytest.mark.parametrize("scope", SCOPES, ids="{!r:.30}".format)
def test_malformed_scope_is_left_out_and_logged(
    login: Function, table: FakeTable, caplog: Log, scope: Any
) -> None:
    table.items["testuser"]["scope"] = scope
    answer = login(request())
    assert answer["statusCode"] == 200
    assert "scope" not in {*claims_of(answer), *json.loads(answer["body"])}
    told = "left out: a scope that is no text of scope tokens: 'testuser'"
    assert own_lines(caplog) == [(logging.ERROR, told), (logging.INFO, "admitted: 'testuser'")]


NOT_TEXT: list[Any] = [
    "",
    None,
    5,
    1.5,
    True,
    [],
    ["testuser"],
    {"S": "testuser"},
    "\ud800",
    "a\udfff",
]
NOT_JSON: list[Any] = [
    None,
    "",
    "user_id=testuser",
    "{" + body(),
    "\ufeff" + body(),
    {"user_id": "x"},
    5,
    "9" * 5000,
]
NOT_JSON += [
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000 + "1" + "}" * 100_000,
    "\0" * 1_000_000,
]
TOLD: dict[str, list[Any]] = {  # what the caller is told, and the bodies
    "The body must be JSON": NOT_JSON,
    "The request must be a JSON object with user_id and password": [
        "null",
        "[]",
        '"text"',
        "1",
        "true",
        "NaN",
    ],
    "user_id must be a non-empty string of valid Unicode": [
        "{}",
        '{"password": "x"}',
        *map(body, NOT_TEXT),
    ],
    "password must be a non-empty string of valid Unicode": [
        '{"user_id": "x"}',
        *(body("x", x) for x in NOT_TEXT),
    ],
    "user_id must be at most 256 bytes": [body("u" * 257), body("é" * 129), body("u" * 1_000_000)],
}
BAD_REQUESTS = [(message, text) for message, texts in TOLD.items() for text in texts]


@pytest.mark.parametrize(("message", "text"), BAD_REQUESTS, ids="{!r:.30}".format)
def test_bad_request_is_told_why(
    login: Function, table: FakeTable, asked: Asked, message: str, text: Any
) -> None:
    answer = login(proxy_event(text))
    assert answer == {
        "statusCode": 400,
        "headers": HEADERS,
        "body": json.dumps({"message": message}),
    }
    assert (table.requests, asked) == ([], [])


BODY = base64_of(body().encode())
BASE64: list[Any] = ["*" + BODY, BODY[:-1], body(), "é", "\ud800", None, 5, {}]
BASE64 += map(
    base64_of, [b"\xff" + body().encode(), b'{"user_id": "\xed\xa0\x80", "password": "x"}']
)
EVENTS: list[Any] = [None, [1], "testuser", 5, {}, documented("proxy_rest_api")]
EVENTS += [{"headers": {"user_id": "testuser"}, "queryStringParameters": {"password": "x"}}]


def test_event_without_a_readable_request_is_a_bad_request(login: Function) -> None:
    events = EVENTS + [proxy_event(text, isBase64Encoded=True) for text in BASE64]
    assert [event for event in events if login(event)["statusCode"] != 400] == []


# bcrypt repeats its key and reads 72 bytes of it; "-" is what it is asked for a password that it cannot tell apart.
WRONG = [
    (PASSWORD, wrong)
    for wrong in (PASSWORD[:-1], PASSWORD + "x", PASSWORD.upper(), f" {PASSWORD} ", "-")
]
WRONG += [(PASSWORD, PASSWORD + "\0"), (PASSWORD, f"{PASSWORD}\0{PASSWORD}"), ("-", "\0")]
WRONG += [(LONGEST, LONGEST + "x"), (LONGEST, LONGEST + "x" * 1_000_000)]


@pytest.mark.parametrize(("stored", "password"), WRONG, ids="{!r:.50}".format)
def test_wrong_password_is_refused(
    login: Function, table: FakeTable, stored: str, password: str
) -> None:
    table.items["testuser"]["passwordHash"] = {"S": quick_hash(stored)}
    assert login(request(password=password)) == REFUSED


USELESS = [
    "",
    PLAIN_TEXT,
    HASH_12[:-1],
    HASH_12 + "u",
    HASH_12 + "\n",
    " " + HASH_12,
    HASH_12.replace("$2b$", "$2z$"),
]
USELESS += [
    HASH_12.replace("a", "é"),
    HASH_12.replace("uu5", "uv5"),
]  # the latter has a salt of too many bits
# 16 outlasts the function's timeout, and bcrypt knows costs from 4 to 31.
USELESS += [HASH_12.replace("$12$", f"${cost}$") for cost in ("03", "16", "99", "1٢")]
NO_HASHES: list[Any] = [
    *({"S": text} for text in USELESS),
    {"B": base64_of(HASH_12.encode())},
    {"SS": [HASH_12]},
]
UNUSABLE: list[Any] = [
    None,
    {},
    *({"passwordHash": value} for value in [*NO_HASHES, {"NULL": True}]),
]
USABLE = [
    {"passwordHash": {"S": start + HASH_12[7:]}}
    for start in ("$2a$04$", "$2b$15$", "$2x$12$", "$2y$12$")
]
UNHASHABLE = ["x" * 73, "é" * 37, "\0", "abc\0abc"]  # in their place bcrypt is asked for "-"


@pytest.mark.parametrize(
    ("item", "password"),
    [(item, PASSWORD) for item in UNUSABLE + USABLE]
    + list(itertools.product([None, USABLE[2]], UNHASHABLE)),
    ids="{!r:.90}".format,
)
def test_every_login_is_one_check(
    login: Function, table: FakeTable, asked: Asked, item: Any, password: str
) -> None:
    table.items = {} if item is None else {"testuser": item}
    answer = login(request(password=password))
    stored = item["passwordHash"]["S"] if item in USABLE else login.module.DUMMY_HASH
    assert asked == [(b"-" if password in UNHASHABLE else password.encode(), stored.encode())]
    assert (
        answer["statusCode"] == 200
        if item in USABLE and password == PASSWORD
        else answer == REFUSED
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["user_id", "password", "body", "x"]), inner)
    ),
    max_leaves=10,
)


@given(
    event=JSON
    | st.builds(proxy_event, JSON | st.builds(json.dumps, JSON), isBase64Encoded=st.booleans())
    | st.builds(proxy_event, st.builds(base64_of, st.binary()), isBase64Encoded=st.just(True))
    | st.builds(request, st.text(), st.text())
)
def test_no_caller_can_cause_a_failure(login: Function, asked: Asked, event: Any) -> None:
    assert login(event)["statusCode"] in (400, 401)


ODD_ITEM = b'{"ConsumedCapacity": {}, "Item": {"passwordHash": {"S": %s}}}'
FAILURES: list[tuple[Reply, str]] = [
    *(
        (error(code), code)
        for code in ("ResourceNotFoundException", "AccessDeniedException", "ThrottlingException")
    ),
    ((500, b'{"__type": "InternalServerError"}'), "InternalServerError"),
    ((503, b"<html>Try later</html>"), "503"),
    ((400, b""), "400"),
    *(((200, nonsense), "KeyError") for nonsense in (b"<html>Hotel</html>", b"", b"{}")),
    *(
        ((200, nonsense), "AttributeError")
        for nonsense in (b"[]", b"null", b'{"Item": []}', b'{"Item": {"x": "x"}}')
    ),
    ((200, b"[" * 100_000), "RecursionError"),
    *(((200, ODD_ITEM % value), "TypeError") for value in (b"5", b'["x"]')),
    (HANG_UP, "ConnectionClosedError"),
    (HANG, "ReadTimeoutError"),
    (DRIP, "TimeoutError"),
]


@pytest.mark.parametrize(("reply", "reason"), FAILURES, ids="{!r:.60}".format)
def test_failing_table_is_an_error_in_time_and_the_next_login_works(
    login: Function, table: FakeTable, caplog: Log, reply: Reply, reason: str
) -> None:
    table.replies = itertools.repeat(reply)
    began = time.monotonic()
    assert login(request()) == FAILED
    assert (6.5 if reply == DRIP else 0) < time.monotonic() - began < 7.9  # seconds
    assert own_lines(caplog) == [(logging.ERROR, f"failed: DynamoDB: {reason}")]
    assert len(table.requests) <= 2
    table.replies = iter(())
    assert login(request())["statusCode"] == 200


def test_table_that_hangs_is_waited_for_as_long_as_the_manual_says(login: Function) -> None:
    config = login.module.dynamodb.meta.config
    attempts: int = config.retries["total_max_attempts"]
    assert attempts * (config.connect_timeout + config.read_timeout) + 1 == 7  # seconds


@pytest.mark.parametrize(
    "reply", [(500, b"{}"), error("ThrottlingException"), HANG_UP, HANG], ids="{!r:.40}".format
)
def test_one_hiccup_is_tried_again(login: Function, table: FakeTable, reply: Reply) -> None:
    table.replies = iter([reply])
    assert login(request())["statusCode"] == 200
    assert len(table.requests) == 2


def test_pages_of_the_configured_origin_may_read_every_answer(
    deployed: Deploy, table: FakeTable, asked: Asked
) -> None:
    origin = "https://app.example.com"
    login = deployed(CORS_ALLOW_ORIGIN=origin)
    answers = [login(request()), login(proxy_event("")), login(request("nobody"))]
    table.replies = itertools.repeat(error("AccessDeniedException"))
    answers.append(login(request()))
    assert [answer["statusCode"] for answer in answers] == [200, 400, 401, 500]
    assert all(
        answer["headers"] == HEADERS | {"Access-Control-Allow-Origin": origin} for answer in answers
    )


FORGED = "x\n[INFO] admitted: 'admin'"


@pytest.mark.parametrize(
    ("event", "stored", "level", "line"),
    [
        (request(), HASH_12, logging.INFO, "admitted: 'testuser'"),
        (request(FORGED), HASH_12, logging.INFO, f"admitted: {FORGED!r}"),
        (
            request("nobody"),
            HASH_12,
            logging.INFO,
            "refused: unknown user",
        ),  # who may be a password
        (request(password="\0"), HASH_12, logging.INFO, "refused: wrong password: 'testuser'"),
        (
            request(),
            PLAIN_TEXT,
            logging.ERROR,
            "refused: no passwordHash that bcrypt can read: 'testuser'",
        ),
        (proxy_event("x"), HASH_12, logging.INFO, "refused: not a login request"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_each_decision_is_one_line(
    login: Function, table: FakeTable, caplog: Log, event: Any, stored: str, level: int, line: str
) -> None:
    table.items = {user_id: {"passwordHash": {"S": stored}} for user_id in ("testuser", FORGED)}
    login(event)
    assert own_lines(caplog) == [(level, line)]


BAD_TTLS = [
    "0",
    "-60",
    "1.5",
    "1e3",
    "60s",
    " 60",
    "3\u0666\u0660\u0660",
    "3600\n",
    "2592001",
    "3600000",
    "9" * 5000,
]
BAD_ORIGINS = [
    "login.example.com",
    "https://login.example.com/",
    "https://a.example, https://b.example",
    " ",
]
BAD = {
    "USER_CREDENTIALS_TABLE_NAME": ["", " ", "a b"],
    "JWT_TTL_SECONDS": BAD_TTLS,
    "CORS_ALLOW_ORIGIN": BAD_ORIGINS,
}
BAD_SETTINGS = [(name, value) for name, values in BAD.items() for value in values]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS, ids="{:.40}".format)
def test_bad_setting_stops_the_function_and_is_named_but_not_shown(
    deployed: Deploy, name: str, value: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name} must ") as raised:
        deployed(**{name: value})
    assert len(value) < 5 or value not in str(raised.value)
