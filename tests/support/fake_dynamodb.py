"""DynamoDB's HTTP interface on loopback, as far as the kit speaks it, for what no real table can be made to answer."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from support.http_server import QuietHandler, listening

Reply = tuple[int, bytes]  # status and body
HANG: Reply = (0, b"")
HANG_UP: Reply = (1, b"")
DRIP: Reply = (2, b"")  # a byte now and then, without an end
AWS = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
}


class FakeTable:
    """A table in memory; replies, while there are any, go out instead of its own answers."""

    def __init__(self) -> None:
        self.environment = dict(AWS)
        self.items: dict[str, dict[str, Any]] = {}
        self.replies: Iterator[Reply] = iter(())
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def reply(self, operation: str, request: dict[str, Any]) -> Reply:
        """Return the next reply, or what DynamoDB would answer to a GetItem or an UpdateItem of the kit."""
        self.requests.append((operation, request))
        user_id = request["Key"]["user_id"]["S"]
        own: dict[str, Any] = {}
        if (
            operation == "UpdateItem"
            and "ConditionExpression" in request
            and user_id not in self.items
        ):
            return next(self.replies, error("ConditionalCheckFailedException"))
        if operation == "UpdateItem":
            own = self.update(user_id, request)
        elif user_id in self.items:
            names = request.get("ExpressionAttributeNames", {})
            wanted = [names.get(name, name) for name in request["ProjectionExpression"].split(", ")]
            own = {
                "Item": {
                    name: value for name, value in self.items[user_id].items() if name in wanted
                }
            }
        own |= (
            {"ConsumedCapacity": {"CapacityUnits": 1}}
            if "ReturnConsumedCapacity" in request
            else {}
        )
        return next(self.replies, (200, json.dumps(own).encode()))

    def update(self, user_id: str, request: dict[str, Any]) -> dict[str, Any]:
        """Do what an UpdateExpression of create_password.py says, and return what ReturnValues ALL_OLD does."""
        old = self.items.get(user_id)
        names, values = (
            request["ExpressionAttributeNames"],
            request.get("ExpressionAttributeValues", {}),
        )
        sets, _, removes = request["UpdateExpression"].partition("REMOVE ")
        item = {
            **(old or {}),
            **{names[name]: values[f":{name[1:]}"] for name in re.findall(r"#\w+", sets)},
        }
        gone = {names[name] for name in re.findall(r"#\w+", removes)}
        self.items[user_id] = {name: value for name, value in item.items() if name not in gone}
        return (
            {}
            if old is None or request["ReturnValues"] != "ALL_OLD"
            else {"Attributes": {**request["Key"], **old}}
        )


def error(code: str) -> Reply:
    """Return DynamoDB's answer for an error of the caller's."""
    return 400, json.dumps(
        {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "No."}
    ).encode()


@contextlib.contextmanager
def fake_dynamodb() -> Iterator[FakeTable]:
    """Serve a FakeTable on a free port of loopback."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].split(".")[1]
            reply = table.reply(
                operation, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            )
            if reply == HANG:
                self.over.wait(30)
            elif reply == DRIP:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                with contextlib.suppress(OSError):
                    while not self.over.wait(0.5):
                        self.wfile.write(b" ")
            elif reply != HANG_UP:
                self.reply(*reply, Content_Type="application/x-amz-json-1.0")

    table = FakeTable()
    with listening(Handler) as address:
        table.environment["AWS_ENDPOINT_URL"] = f"http://{address}"
        yield table
