"""Login: who gets a token, what is in it, what the client is told, and what the log says."""

import base64
import itertools
import json
import logging
import re
import time
import unicodedata
from collections.abc import Iterator
from typing import Any
from unittest import mock

import bcrypt
import jwt
import moto
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from support.deploy import SECRET, WATCH, Deploy, Function
from support.events import documented, proxy_event
from support.fake_dynamodb import AWS, HANG, HANG_UP, FakeTable, Reply, error, fake_dynamodb

PASSWORD = "correct horse battery staple"  # of the documented events
LONGEST = "seventy-two-bytes-".ljust(72, "x")
NEEDED = {"USER_CREDENTIALS_TABLE_NAME": "user_credentials", "JWT_SECRET": SECRET}
HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "Access-Control-Allow-Origin": "*",
}
REJECTED = {
    "statusCode": 401,
    "headers": HEADERS,
    "body": '{"message": "Invalid user_id or password"}',
}
FAILED = {"statusCode": 500, "headers": HEADERS, "body": '{"message": "Internal server error"}'}
# Of cost 12, made by `htpasswd -nbB -C 12`. No test needs the password.
HASH_12 = "$2b$12$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBE1crlBsFp8u"
PLAIN_TEXT = "stored-in-plain-text"
WATCH.guards(PASSWORD, LONGEST, HASH_12, PLAIN_TEXT)

Checks = list[tuple[bytes, bytes]]  # what bcrypt.checkpw was called with
Log = pytest.LogCaptureFixture
checkpw = bcrypt.checkpw


def cheap_hash(password: str) -> str:
    """Return a hash of the lowest cost."""
    stored = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    WATCH.guards(stored)
    return stored


@pytest.fixture
def table() -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        table.items["testuser"] = {
            "email": {"S": "t@example.com"},
            "passwordHash": {"S": cheap_hash(PASSWORD)},
        }
        yield table


@pytest.fixture
def deploy_login(deploy: Deploy, table: FakeTable) -> Deploy:
    return lambda **settings: deploy("jwt_create_token", **NEEDED | table.environment | settings)


@pytest.fixture
def login(deploy_login: Deploy) -> Function:
    return deploy_login()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    """Note what bcrypt is asked. It finds every password right, and fails for malformed hashes."""
    checks: Checks = []

    def agree(candidate: bytes, stored: bytes) -> bool:
        checks.append((candidate, stored))
        assert len(candidate) <= 72
        assert b"\0" not in candidate
        checkpw(candidate, re.sub(rb"\$\d\d\$", b"$04$", stored, count=1))
        return True

    monkeypatch.setattr(bcrypt, "checkpw", agree)
    return checks


def body(user_id: Any = "testuser", password: Any = PASSWORD) -> str:
    return json.dumps({"user_id": user_id, "password": password})


def request(user_id: str = "testuser", password: str = PASSWORD) -> dict[str, Any]:
    return proxy_event(body(user_id, password))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def content_of(response: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(response["body"])
    return content


def claims_of(response: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Return the claims of the token in a response, whose signature is checked."""
    token = content_of(response)["token"]
    claims: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"], **options)
    return claims


def log_of(caplog: Log) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


# ---- What the script's head promises, sentence by sentence ----


def test_right_password_gets_a_token(login: Function) -> None:
    response = login(request())
    assert (response["statusCode"], response["headers"]) == (200, HEADERS)
    content = content_of(response)
    assert content == {"token": content["token"], "token_type": "Bearer", "expires_in": 3600}


def test_token_names_the_user_and_its_lifetime(login: Function) -> None:
    before = int(time.time())
    claims = claims_of(login(request()))
    assert before <= claims["iat"] <= time.time()
    assert claims == {
        "user_id": "testuser",
        "sub": "testuser",
        "iat": claims["iat"],
        "exp": claims["iat"] + 3600,
        "jti": claims["jti"],
    }


def test_every_token_has_an_id_of_its_own(login: Function) -> None:
    assert claims_of(login(request()))["jti"] != claims_of(login(request()))["jti"]


def test_issuer_and_audience_are_put_into_the_token(deploy_login: Deploy) -> None:
    login = deploy_login(JWT_ISSUER="issuer", JWT_AUDIENCE="audience")
    claims = claims_of(login(request()), issuer="issuer", audience="audience")
    assert (claims["iss"], claims["aud"]) == ("issuer", "audience")


@pytest.mark.parametrize("seconds", [1, 60, 2_592_000])
def test_lifetime_of_a_token_is_a_setting(deploy_login: Deploy, seconds: int) -> None:
    response = deploy_login(JWT_TTL_SECONDS=str(seconds))(request())
    claims = claims_of(response)
    assert claims["exp"] - claims["iat"] == content_of(response)["expires_in"] == seconds


def test_scope_of_the_user_is_in_token_and_response(login: Function, table: FakeTable) -> None:
    table.items["testuser"]["scope"] = {"S": "read admin"}
    response = login(request())
    assert claims_of(response)["scope"] == content_of(response)["scope"] == "read admin"


def test_token_version_of_the_user_is_copied(login: Function, table: FakeTable) -> None:
    table.items["testuser"]["tokenVersion"] = {"S": "6f1e5d4c3b2a6978"}
    assert claims_of(login(request()))["token_version"] == "6f1e5d4c3b2a6978"


def test_wrong_password_is_rejected(login: Function) -> None:
    assert login(request(password="wrong")) == REJECTED


def test_unknown_user_gets_the_same_response(login: Function) -> None:
    assert login(request("nobody")) == REJECTED


def test_request_without_a_password_is_told_what_is_wrong(login: Function) -> None:
    response = login(proxy_event('{"user_id": "testuser"}'))
    assert response["statusCode"] == 400
    assert content_of(response) == {"message": "password must be a non-empty string"}


def test_failing_table_is_an_error_of_the_server(login: Function, table: FakeTable) -> None:
    table.replies = itertools.repeat(error("AccessDeniedException"))
    assert login(request()) == FAILED


def test_table_is_read_once_for_the_attributes_that_login_needs(
    login: Function, table: FakeTable
) -> None:
    login(request())
    [(operation, asked)] = table.requests
    assert operation == "GetItem"
    assert asked["TableName"] == "user_credentials"
    assert asked["Key"] == {"user_id": {"S": "testuser"}}
    assert asked["ConsistentRead"] is True
    names = asked["ExpressionAttributeNames"]
    wanted = [names[placeholder] for placeholder in asked["ProjectionExpression"].split(", ")]
    assert wanted == ["passwordHash", "tokenVersion", "scope"]


def test_pages_of_the_configured_origin_may_read_every_response(
    deploy_login: Deploy, table: FakeTable
) -> None:
    login = deploy_login(CORS_ALLOW_ORIGIN="https://app.example.com")
    responses = [login(request()), login(proxy_event("")), login(request("nobody"))]
    table.replies = itertools.repeat(error("AccessDeniedException"))
    responses.append(login(request()))
    assert [response["statusCode"] for response in responses] == [200, 400, 401, 500]
    for response in responses:
        origin = response["headers"]["Access-Control-Allow-Origin"]
        assert origin == "https://app.example.com"


def test_empty_optional_settings_are_not_set(deploy_login: Deploy) -> None:
    optional = ("JWT_ISSUER", "JWT_AUDIENCE", "JWT_TTL_SECONDS", "CORS_ALLOW_ORIGIN")
    response = deploy_login(**dict.fromkeys(optional, ""))(request())
    assert (content_of(response)["expires_in"], response["headers"]) == (3600, HEADERS)
    assert not {"iss", "aud"} & set(claims_of(response))


def test_dynamodb_lookup_gives_up_after_7_seconds(login: Function) -> None:
    config = login.module.dynamodb.meta.config
    attempts: int = config.retries["total_max_attempts"]
    between_attempts = 1  # second, at most
    assert attempts * (config.connect_timeout + config.read_timeout) + between_attempts == 7


@pytest.mark.parametrize(
    "name", ["proxy_rest_login", "proxy_http_api_1_0", "proxy_http_api_2_0", "console_test"]
)
def test_event_of_every_kind_is_understood(login: Function, name: str) -> None:
    assert login(documented(name))["statusCode"] == 200


# ---- Requests ----

NOT_TEXT: list[Any] = ["", None, 5, 1.5, True, [], ["testuser"], {"S": "testuser"}]
NOT_UNICODE = ["\ud800", "a\udfff"]
NOT_JSON: list[Any] = [None, "", "user_id=testuser", "{" + body(), {"user_id": "x"}, "9" * 5000]
NOT_JSON += ["[" * 9_000, "[" * 5_000 + "]" * 5_000, "\ud800"]
TOO_LARGE = [body("u" * 10_000), "[" * 6_000_000, '{"a":' * 100_000 + "1" + "}" * 100_000]
MESSAGES: dict[str, list[Any]] = {  # with the bodies that get them
    "The body must be JSON": NOT_JSON,
    "The body must have at most 10,000 bytes": TOO_LARGE,
    "The request must be a JSON object with user_id and password": ["null", "[]", '"x"', "NaN"],
    "user_id must be a non-empty string": ["{}", '{"password": "x"}', *map(body, NOT_TEXT)],
    "user_id must be valid Unicode": [*map(body, NOT_UNICODE)],
    "user_id must have at most 256 bytes": [body("u" * 257), body("é" * 129)],
    "password must be a non-empty string": [body("x", text) for text in NOT_TEXT],
    "password must be valid Unicode": [body("x", text) for text in NOT_UNICODE],
}


@pytest.mark.parametrize(
    ("message", "text"),
    [(message, text) for message, bodies in MESSAGES.items() for text in bodies],
    ids="{!r:.30}".format,
)
def test_bad_request_is_told_why_and_costs_nothing(
    login: Function, table: FakeTable, checks: Checks, message: str, text: Any
) -> None:
    response = login(proxy_event(text))
    assert (response["statusCode"], response["headers"]) == (400, HEADERS)
    assert content_of(response) == {"message": message}
    assert (table.requests, checks) == ([], [])


def test_body_of_10000_bytes_is_accepted(login: Function) -> None:
    padding = " " * (10_000 - len(body()))
    assert login(proxy_event(body() + padding))["statusCode"] == 200
    assert login(proxy_event(body() + padding + " "))["statusCode"] == 400


def test_large_body_is_rejected_before_it_is_parsed(
    login: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login.module.json, "loads", pytest.fail)
    assert login.module.lambda_handler(proxy_event("[" * 10_001), None)["statusCode"] == 400


def test_body_in_base64_is_decoded(login: Function) -> None:
    encoded = proxy_event(base64_of(body().encode()), isBase64Encoded=True)
    assert login(encoded)["statusCode"] == 200


@pytest.mark.parametrize("text", ["é", "*", None, base64_of(b"\xff" + body().encode())])
def test_bad_base64_is_a_bad_request(login: Function, text: Any) -> None:
    assert login(proxy_event(text, isBase64Encoded=True))["statusCode"] == 400


@pytest.mark.parametrize("event", [None, [1], "testuser", 5, {}, documented("proxy_rest_api")])
def test_event_without_a_request_is_a_bad_request(login: Function, event: Any) -> None:
    assert login(event)["statusCode"] == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["user_id", "password", "body", "x"]), inner)
    ),
    max_leaves=10,
)
BODIES = st.none() | st.text() | st.builds(json.dumps, JSON)


@given(
    event=st.builds(proxy_event, BODIES)
    | st.builds(proxy_event, st.builds(base64_of, st.binary()), isBase64Encoded=st.just(True))
    | st.builds(request, st.text(), st.text())
)
def test_no_client_can_cause_a_failure(login: Function, checks: Checks, event: Any) -> None:
    assert login(event)["statusCode"] in (400, 401)


# ---- Passwords ----


@pytest.mark.parametrize(
    ("user_id", "password"),
    [
        ("testuser", LONGEST),
        ("u" * 256, PASSWORD),
        ("Zoë 🦊", "pässwörd 🦊 of 2026"),
        ("testuser", "  spaces count  "),
    ],
    ids="{!r:.30}".format,
)
def test_user_within_the_limits_gets_a_token(
    login: Function, table: FakeTable, user_id: str, password: str
) -> None:
    WATCH.guards(password)
    table.items[user_id] = {"passwordHash": {"S": cheap_hash(password)}}
    assert claims_of(login(request(user_id, password)))["user_id"] == user_id


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_umlauts_of_every_device_are_the_same(login: Function, table: FakeTable, form: Any) -> None:
    table.items["rené"] = {"passwordHash": {"S": cheap_hash("Zürich-Straße-é-2026")}}
    user_id = unicodedata.normalize(form, "rené")
    password = unicodedata.normalize(form, "Zürich-Straße-é-2026")
    assert login(request(user_id, password))["statusCode"] == 200


# bcrypt repeats its key and reads 72 bytes of it.
WRONG = [
    (PASSWORD, PASSWORD[:-1]),
    (PASSWORD, PASSWORD + "x"),
    (PASSWORD, PASSWORD.upper()),
    (PASSWORD, f" {PASSWORD} "),
    (PASSWORD, PASSWORD + "\0"),
    (PASSWORD, f"{PASSWORD}\0{PASSWORD}"),
    ("any", "\0"),  # login asks bcrypt for "any" in place of a password that bcrypt can't hash
    (LONGEST, LONGEST + "x"),
    (LONGEST, LONGEST + "x" * 9_000),
]


@pytest.mark.parametrize(("stored", "password"), WRONG, ids="{!r:.50}".format)
def test_nearly_right_password_is_rejected(
    login: Function, table: FakeTable, stored: str, password: str
) -> None:
    table.items["testuser"]["passwordHash"] = {"S": cheap_hash(stored)}
    assert login(request(password=password)) == REJECTED


def with_hash(value: Any) -> dict[str, Any]:
    return {"passwordHash": value}


UNUSABLE_TEXTS = [
    "",
    PLAIN_TEXT,
    HASH_12[:-1],
    HASH_12 + "u",
    HASH_12 + "\n",
    " " + HASH_12,
    HASH_12.replace("$2b$", "$2z$"),
    HASH_12.replace("a", "é"),
    HASH_12.replace("uu5", "uv5"),  # a salt of too many bits, for which bcrypt raises an error
    *(HASH_12.replace("$12$", f"${cost}$") for cost in ("03", "16", "99", "1x", "1\u0662")),
]
UNUSABLE_ITEMS: list[Any] = [
    None,
    {},
    *(with_hash({"S": text}) for text in UNUSABLE_TEXTS),
    with_hash({"B": base64_of(HASH_12.encode())}),
    with_hash({"SS": [HASH_12]}),
    with_hash({"NULL": True}),
]


@pytest.mark.parametrize("item", UNUSABLE_ITEMS, ids="{!r:.80}".format)
def test_without_a_usable_hash_bcrypt_checks_the_dummy_hash(
    login: Function, table: FakeTable, checks: Checks, item: Any
) -> None:
    table.items = {} if item is None else {"testuser": item}
    assert login(request()) == REJECTED
    assert [stored for _, stored in checks] == [login.module.DUMMY_HASH.encode()]


@pytest.mark.parametrize("start", ["$2a$04$", "$2b$15$", "$2x$12$", "$2y$12$"])
def test_hash_of_every_variant_and_usual_cost_is_checked(
    login: Function, table: FakeTable, checks: Checks, start: str
) -> None:
    stored = start + HASH_12[7:]
    table.items["testuser"] = with_hash({"S": stored})
    assert login(request())["statusCode"] == 200
    assert checks == [(PASSWORD.encode(), stored.encode())]


@pytest.mark.parametrize("password", ["x" * 73, "é" * 37, "\0", "abc\0abc"], ids="{!r:.20}".format)
@pytest.mark.parametrize("user_id", ["testuser", "nobody"])
def test_password_that_bcrypt_cannot_hash_costs_one_check_too(
    login: Function, checks: Checks, user_id: str, password: str
) -> None:
    assert login(request(user_id, password)) == REJECTED
    assert len(checks) == 1


# ---- Items of the table ----


@pytest.mark.parametrize(
    "scope",
    [{"S": " "}, {"S": "a  b"}, {"S": " a"}, {"S": "a\n"}, {"N": "1"}, {"SS": ["read"]}],
    ids="{!r:.30}".format,
)
def test_malformed_scope_is_ignored_and_logged(
    login: Function, table: FakeTable, caplog: Log, scope: Any
) -> None:
    table.items["testuser"]["scope"] = scope
    response = login(request())
    assert response["statusCode"] == 200
    assert "scope" not in {*claims_of(response), *content_of(response)}
    advice = "ignored the malformed scope of user 'testuser': use words separated by single spaces"
    assert log_of(caplog) == [(logging.ERROR, advice), (logging.INFO, "admitted: 'testuser'")]


@pytest.mark.parametrize("version", [{"S": ""}, {"N": "1"}, {"NULL": True}])
def test_token_version_that_is_no_text_is_not_copied(
    login: Function, table: FakeTable, version: Any
) -> None:
    table.items["testuser"]["tokenVersion"] = version
    assert "token_version" not in claims_of(login(request()))


# ---- Failures of DynamoDB ----

FAILURES: list[tuple[Reply, str]] = [
    (error("ResourceNotFoundException"), "ResourceNotFoundException"),
    (error("AccessDeniedException"), "AccessDeniedException"),
    (error("ThrottlingException"), "ThrottlingException"),
    ((500, b'{"__type": "InternalServerError"}'), "InternalServerError"),
    ((503, b"<html>Try later</html>"), "503"),
    ((400, b""), "400"),
    (HANG_UP, "ConnectionClosedError"),
    (HANG, "ReadTimeoutError"),
]


@pytest.mark.parametrize(("reply", "reason"), FAILURES, ids="{!r:.60}".format)
def test_failure_is_logged_and_the_next_login_works(
    login: Function, table: FakeTable, caplog: Log, reply: Reply, reason: str
) -> None:
    table.replies = itertools.repeat(reply)
    began = time.monotonic()
    assert login(request()) == FAILED
    assert time.monotonic() - began < 7.9  # seconds
    assert log_of(caplog) == [(logging.ERROR, f"DynamoDB lookup failed: {reason}")]
    assert len(table.requests) <= 2
    table.replies = iter(())
    assert login(request())["statusCode"] == 200


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param((500, b"{}"), id="error of the server"),
        pytest.param(error("ThrottlingException"), id="throttled"),
        pytest.param(HANG_UP, id="dropped connection"),
    ],
)
def test_one_failure_is_tried_again(login: Function, table: FakeTable, reply: Reply) -> None:
    table.replies = iter([reply])
    assert login(request())["statusCode"] == 200
    assert len(table.requests) == 2


# ---- The log ----

FORGED_LINE = "x\n[INFO] admitted: 'admin'"
NO_HASH = (
    "refused: user 'testuser' has no valid bcrypt hash in passwordHash; "
    "set a new password with create_password.py"
)


@pytest.mark.parametrize(
    ("event", "stored", "level", "line"),
    [
        (request(), HASH_12, logging.INFO, "admitted: 'testuser'"),
        (request(FORGED_LINE), HASH_12, logging.INFO, f"admitted: {FORGED_LINE!r}"),
        (request("nobody"), HASH_12, logging.INFO, "refused: unknown user"),
        (request(password="\0"), HASH_12, logging.INFO, "refused: wrong password: 'testuser'"),
        (request(), PLAIN_TEXT, logging.ERROR, NO_HASH),
        (
            proxy_event("x"),
            HASH_12,
            logging.INFO,
            "refused: invalid request: The body must be JSON",
        ),
    ],
)
@pytest.mark.usefixtures("checks")
def test_each_decision_is_one_line(
    login: Function, table: FakeTable, caplog: Log, event: Any, stored: str, level: int, line: str
) -> None:
    table.items = {user_id: with_hash({"S": stored}) for user_id in ("testuser", FORGED_LINE)}
    login(event)
    assert log_of(caplog) == [(level, line)]


def test_login_of_a_google_user_is_no_error(login: Function, table: FakeTable, caplog: Log) -> None:
    table.items["108"] = {"scope": {"S": "admin"}}
    assert login(request("108")) == REJECTED
    assert log_of(caplog) == [(logging.INFO, "refused: user without a password: '108'")]


# ---- Settings ----

PEM_KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----"
BAD_SETTINGS = {
    "USER_CREDENTIALS_TABLE_NAME": ["", " ", "a b", "a/b", "ab", "x" * 256],
    "JWT_SECRET": ["", "short", "a" * 64, f"{SECRET}\n", f'"{SECRET}"', PEM_KEY],
    "JWT_ISSUER": [" "],
    "JWT_AUDIENCE": ["  "],
    "JWT_TTL_SECONDS": [
        "0",
        "-60",
        "1.5",
        "1e3",
        "60s",
        " 60",
        "3\u0666\u0660\u0660",
        "2592001",
        "9" * 50,
    ],
    "CORS_ALLOW_ORIGIN": [
        " ",
        "login.example.com",
        "https://login.example.com/",
        "https://a.example, https://b.example",
    ],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_SETTINGS.items() for value in values],
    ids="{:.40}".format,
)
def test_bad_setting_stops_the_function_and_is_named_but_not_shown(
    deploy_login: Deploy, name: str, value: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name} .*\\.") as raised:
        deploy_login(**{name: value})
    assert len(value) < 5 or value not in str(raised.value)


def test_weakest_secret_that_is_allowed_signs(deploy_login: Deploy) -> None:
    weakest = "0123456789" * 3 + "01"
    token = content_of(deploy_login(JWT_SECRET=weakest)(request()))["token"]
    assert jwt.decode(token, weakest, algorithms=["HS256"])["user_id"] == "testuser"


def test_table_may_be_named_by_its_arn(deploy_login: Deploy, table: FakeTable) -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/user_credentials"
    assert deploy_login(USER_CREDENTIALS_TABLE_NAME=arn)(request())["statusCode"] == 200
    assert table.requests[0][1]["TableName"] == arn


@pytest.mark.parametrize(("level", "lines"), [("", 1), ("INFO", 1), ("WARN", 0), ("DEBUG", 1)])
def test_log_level_of_the_function_is_respected(
    deploy_login: Deploy, caplog: Log, level: str, lines: int
) -> None:
    logging.getLogger("jwt_create_token").setLevel(logging.NOTSET)  # an earlier test has set it
    caplog.set_level(level or logging.WARNING)  # of the root logger, as Lambda's runtime does
    caplog.handler.setLevel(logging.NOTSET)
    deploy_login(AWS_LAMBDA_LOG_LEVEL=level)(request())
    names = [record.name for record in caplog.records]
    assert names.count("jwt_create_token") == lines
    assert not [name for name in names if name.startswith("boto")]


# ---- Other people's stand-ins for DynamoDB ----


@pytest.fixture
def item() -> dict[str, Any]:
    return {"passwordHash": {"S": cheap_hash(PASSWORD)}}


def test_botocore_stubber_stands_in_for_dynamodb(login: Function, item: dict[str, Any]) -> None:
    with Stubber(login.module.dynamodb) as stubber:
        stubber.add_response("get_item", {"Item": item})
        stubber.add_response("get_item", {})
        stubber.add_client_error("get_item", "ThrottlingException")
        statuses = [login(request())["statusCode"] for _ in range(3)]
    assert statuses == [200, 401, 500]


def test_mock_stands_in_for_dynamodb(login: Function, item: dict[str, Any]) -> None:
    with mock.patch.object(login.module, "dynamodb") as dynamodb:
        dynamodb.get_item.side_effect = [{"Item": item}, {}]
        assert login(request())["statusCode"] == 200
        assert login(request())["statusCode"] == 401


def test_moto_stands_in_for_dynamodb(deploy: Deploy, item: dict[str, Any]) -> None:
    with moto.mock_aws():
        login = deploy("jwt_create_token", **NEEDED | AWS)
        dynamodb = login.module.dynamodb
        dynamodb.create_table(
            TableName="user_credentials",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "user_id", "AttributeType": "S"}],
        )
        user = {"user_id": {"S": "testuser"}, **item}
        dynamodb.put_item(TableName="user_credentials", Item=user)
        assert login(request())["statusCode"] == 200
        assert login(request("nobody"))["statusCode"] == 401
