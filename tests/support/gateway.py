"""A stand-in for a WebSocket API of API Gateway on loopback, with real handlers behind it.

A handshake goes to the authorizer, then to the integration of $connect. Every message goes back to
its sender. The client gets the subprotocol that the integration returns, and no other:
https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-connect-route-subprotocol.html
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from support.deploy import CONNECT_ARN, Function
from support.events import connect_event
from support.iam import decision


class Gateway:
    """A WebSocket API: its URL, the paths that its access log would have, and who connected."""

    def __init__(self, authorizer: Function, integration: Function) -> None:
        self.authorizer = authorizer
        self.integration = integration
        self.url = ""
        self.paths: list[str] = []
        self.callers: list[str] = []

    def finish_handshake(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> Response | None:
        """Complete the response to a handshake, or return the one that rejects it."""
        self.paths.append(request.path)
        event = handshake_event(request)
        status, context = self.authorize(event)
        if status != 200:
            return connection.respond(status, "")
        event["requestContext"]["authorizer"] = context
        answer = self.integration(event)
        if answer["statusCode"] != 200:
            return connection.respond(answer["statusCode"], "")
        for name, value in answer["headers"].items():
            if name.lower() == "sec-websocket-protocol":
                response.headers[name] = value
        self.callers.append(context["principalId"])
        return None

    def authorize(self, event: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """Return the status that the authorizer leads to, and the context for the backend."""
        try:
            answer = self.authorizer(event)
        except Exception as error:
            return 401 if str(error) == "Unauthorized" else 500, {}
        if decision(answer, CONNECT_ARN) != "Allow":
            return 403, {}
        context = answer["context"] | {"principalId": answer["principalId"]}
        return 200, {name: str(value) for name, value in context.items()}


def handshake_event(request: Request) -> dict[str, Any]:
    """Return the event of a handshake, for the authorizer and for the integration."""
    headers = dict(request.headers.raw_items())
    query = dict(parse_qsl(urlsplit(request.path).query))
    return connect_event(headers, query or None)


def send_back(connection: ServerConnection) -> None:
    """Return every message to its sender."""
    for message in connection:
        connection.send(message)


@contextlib.contextmanager
def websocket_api(authorizer: Function, integration: Function) -> Iterator[Gateway]:
    """Run a WebSocket API on a free port of loopback."""
    gateway = Gateway(authorizer, integration)
    finish = gateway.finish_handshake
    with serve(send_back, "127.0.0.1", 0, process_response=finish, compression=None) as server:
        gateway.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/prod"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()
