"""The handshake of a WebSocket API as a client sees it: a token in each place, and the subprotocol.

The authorizer and the integration of $connect are the kit's. The gateway between is a stand-in.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from support.deploy import SECRET, Deploy
from support.gateway import Gateway, websocket_api
from support.tokens import make_jwt
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect


@pytest.fixture
def gateway(deploy: Deploy) -> Iterator[Gateway]:
    authorizer = deploy("jwt_auth_token_websocket", JWT_SECRET=SECRET)
    integration = deploy("restricted_access_lambda")
    with websocket_api(authorizer, integration) as gateway:
        yield gateway


def opened(gateway: Gateway, query: str = "", **options: Any) -> ClientConnection:
    """Return a client of the gateway, with a query string or with options of the library."""
    client: ClientConnection = connect(f"{gateway.url}{query}", proxy=None, **options)
    return client


def rejection(gateway: Gateway, query: str = "", **options: Any) -> int:
    """Return the status of a handshake that is rejected."""
    with pytest.raises(InvalidStatus) as error, opened(gateway, query, **options):
        pass
    return error.value.response.status_code


def test_token_in_the_subprotocol_opens_a_connection_that_works(gateway: Gateway) -> None:
    with opened(gateway, subprotocols=["access_token", make_jwt()]) as connection:
        connection.send("hello")
        assert connection.recv(timeout=10) == "hello"
        assert connection.subprotocol == "access_token"
    assert gateway.callers == ["testuser"]


def test_token_in_the_subprotocol_is_in_no_url(gateway: Gateway) -> None:
    with opened(gateway, subprotocols=["access_token", make_jwt()]):
        assert gateway.paths == ["/prod"]


def test_client_that_offers_no_subprotocol_gets_none(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {make_jwt()}"}
    with opened(gateway, additional_headers=headers) as connection:
        assert connection.subprotocol is None


def test_client_that_offers_only_other_subprotocols_gets_none(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {make_jwt()}"}
    with opened(gateway, additional_headers=headers, subprotocols=["chat"]) as connection:
        assert connection.subprotocol is None


def test_token_in_the_query_string_opens_a_connection(gateway: Gateway) -> None:
    with opened(gateway, f"?access_token={make_jwt()}") as connection:
        assert connection.subprotocol is None
    assert gateway.callers == ["testuser"]


@pytest.mark.parametrize(
    "subprotocols",
    [
        pytest.param(None, id="none"),
        pytest.param(["access_token"], id="without a token"),
        pytest.param(["access_token", "x.y.z"], id="with something else"),
        pytest.param(["access_token", make_jwt("another-" + SECRET)], id="with a forged token"),
        pytest.param(["access_token", make_jwt(exp=1)], id="with an expired token"),
        pytest.param(["bearer", make_jwt()], id="with another name before the token"),
    ],
)
def test_handshake_without_a_valid_token_is_rejected_with_401(
    gateway: Gateway, subprotocols: Any
) -> None:
    assert rejection(gateway, subprotocols=subprotocols) == 401
    assert gateway.callers == []


def test_invalid_token_in_the_subprotocol_is_not_rescued_by_the_query_string(
    gateway: Gateway,
) -> None:
    subprotocols: Any = ["access_token", make_jwt(exp=1)]
    assert rejection(gateway, f"?access_token={make_jwt()}", subprotocols=subprotocols) == 401
