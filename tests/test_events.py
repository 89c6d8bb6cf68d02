"""Events with every field that AWS documents, as files in events/, each through every handler that it may reach."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bcrypt
import pytest
from support.functions import SECRET, WATCH, Function
from support.policies import decision
from support.table import AWS
from support.tokens import Target, aimed_at

EVENTS = Path(__file__).parent / "events"
TOKEN_HANDLERS = ["jwt_auth_token", "jwt_auth_token_google"]
PASSWORD = "correct horse battery staple"


def documented(name: str, token: str = "") -> Any:
    """Return a documented event, with a token in the places for it."""
    WATCH.guards(token)
    return json.loads((EVENTS / f"{name}.json").read_text().replace("{token}", token))["event"]


@pytest.fixture
def target(request: pytest.FixtureRequest, deploy: Callable[..., Function]) -> Iterator[Target]:
    with aimed_at(request.param, deploy) as target:
        yield target


@pytest.fixture
def login(deploy: Callable[..., Function]) -> Function:
    function = deploy("jwt_create_token", JWT_SECRET=SECRET, USER_CREDENTIALS_TABLE_NAME="users", **AWS)
    item = {"passwordHash": {"S": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}}
    WATCH.guards(PASSWORD, item["passwordHash"]["S"])

    def get_item(Key: dict[str, Any], **_: object) -> dict[str, Any]:  # noqa: N803 - DynamoDB's name
        found = {"Item": item} if Key == {"user_id": {"S": "testuser"}} else {}
        return found | {"ConsumedCapacity": {}}

    vars(function.module)["dynamodb"] = SimpleNamespace(get_item=get_item)
    return function


ANY_KIND = ["token", "token_console_test", "request", "http_api_1_0", "http_api_2_0"]
ANY_KIND = [f"authorizer_{kind}" for kind in ANY_KIND]


@pytest.mark.parametrize("target", TOKEN_HANDLERS, indirect=True)
@pytest.mark.parametrize("name", ANY_KIND)
def test_event_of_any_kind_of_api_is_admitted_to_its_stage(target: Target, name: str) -> None:
    event = documented(name, target.token())
    answer = target.function(event)
    asked = event.get("routeArn") or event["methodArn"]
    stage = "/".join(asked.split("/")[:2])
    assert {decision(answer, arn) for arn in (asked, f"{stage}/POST/other")} == {"Allow"}
    assert decision(answer, asked.replace(stage, f"{stage}2")) == "silent"


@pytest.mark.parametrize("target", ["jwt_auth_token_websocket"], indirect=True)
@pytest.mark.parametrize("name", ["authorizer_websocket_connect_header", "authorizer_websocket_connect_query"])
def test_request_event_is_admitted_to_what_it_asks_for(target: Target, name: str) -> None:
    event = documented(name, target.token())
    answer = target.function(event)
    assert decision(answer, event["methodArn"]) == "Allow"
    assert decision(answer, event["methodArn"] + "/more") == "silent"


@pytest.mark.parametrize(
    ("target", "name"),
    [(script, name) for script in TOKEN_HANDLERS for name in ANY_KIND]
    + [("jwt_auth_token_websocket", f"authorizer_websocket_connect_{place}") for place in ("header", "query")],
    indirect=["target"],
)
def test_event_without_a_good_token_is_unauthorized(target: Target, name: str) -> None:
    for token in ("", target.token(sign=lambda _: bytes(32))):
        with pytest.raises(Exception, match="^Unauthorized$"):
            target.function(documented(name, token))


@pytest.mark.parametrize("target", ["jwt_auth_token_websocket"], indirect=True)
@pytest.mark.parametrize("name", ANY_KIND)
def test_websocket_authorizer_elsewhere_names_the_file_to_use(target: Target, name: str) -> None:
    with pytest.raises(RuntimeError, match=r"take jwt_auth_token\.py$"):
        target.function(documented(name, target.token()))


LOGINS = ["proxy_rest_login", "proxy_http_api_1_0", "proxy_http_api_2_0", "function_url", "console_test"]


@pytest.mark.parametrize("name", LOGINS)
def test_login_event_is_answered_with_a_token(login: Function, name: str) -> None:
    answer = login(documented(name))
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["token"].count(".") == 2


def test_event_without_a_body_is_no_login(login: Function) -> None:
    assert login(documented("proxy_rest_api"))["statusCode"] == 400


@pytest.mark.parametrize(
    ("name", "caller"),
    [
        ("proxy_rest_api", "testuser"),
        ("proxy_http_api_2_0", "testuser"),
        ("function_url", None),
        ("console_test", None),
    ],
)
def test_endpoint_finds_the_caller_where_a_rest_authorizer_put_it(
    deploy: Callable[..., Function], name: str, caller: str | None
) -> None:
    assert json.loads(deploy("restricted_access_lambda")(documented(name))["body"])["caller"] == caller


def test_every_event_file_is_used_and_names_its_documentation() -> None:
    source = Path(__file__).read_text()
    for path in EVENTS.glob("*.json"):
        assert json.loads(path.read_text())["documentation"].startswith("https://docs.aws.amazon.com/")
        assert path.stem.removeprefix("authorizer_") in source
