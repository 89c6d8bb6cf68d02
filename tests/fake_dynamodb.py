"""DynamoDB's HTTP interface on loopback, as far as the kit speaks it, for what no real table can be made to answer."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, bytes]  # status and body
HANG: Reply = (0, b"")
HANG_UP: Reply = (1, b"")
AWS = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


class FakeTable:
    """A table in memory; replies, while there are any, go out instead of its own answers."""

    def __init__(self, url: str) -> None:
        self.environment = AWS | {"AWS_ENDPOINT_URL": url}
        self.items: dict[str, dict[str, Any]] = {}
        self.replies: Iterator[Reply] = iter(())
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.closing = threading.Event()

    def reply(self, operation: str, request: dict[str, Any]) -> Reply:
        """Return the next reply, or what DynamoDB would answer to a GetItem or an UpdateItem of the kit."""
        self.requests.append((operation, request))
        user_id = request["Key"]["user_id"]["S"]
        own: dict[str, Any] = {}
        if operation == "UpdateItem":
            self.items[user_id] = {"passwordHash": request["ExpressionAttributeValues"][":hash"]}
        elif user_id in self.items:
            wanted = request["ProjectionExpression"].replace("#", "").split(", ")
            own = {"Item": {name: value for name, value in self.items[user_id].items() if name in wanted}}
        own["ConsumedCapacity"] = {"TableName": request["TableName"], "CapacityUnits": 1}
        return next(self.replies, (200, json.dumps(own).encode()))


def error(code: str) -> Reply:
    """Return DynamoDB's answer for an error of the caller's."""
    return 400, json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "No."}).encode()


@contextlib.contextmanager
def fake_dynamodb() -> Iterator[FakeTable]:
    """Serve a FakeTable on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].split(".")[1]
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, reply = table.reply(operation, json.loads(body))
            if (status, reply) == HANG:
                table.closing.wait(30)
            if status < 100:
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        table = FakeTable(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield table
        finally:
            table.closing.set()
            server.shutdown()
            thread.join()
