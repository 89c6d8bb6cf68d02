"""DynamoDB's HTTP interface on loopback, as far as the kit uses it, with failures on request."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from support.http_server import QuietHandler, listening

Reply = tuple[int, bytes]  # status and body
Item = dict[str, Any]
HANG: Reply = (0, b"")
HANG_UP: Reply = (1, b"")
AWS = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
}


class FakeTable:
    """A table in memory. Replies, while there are any, are sent instead of its own responses."""

    def __init__(self) -> None:
        self.environment = dict(AWS)
        self.items: dict[str, Item] = {}
        self.replies: Iterator[Reply] = iter(())
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def reply(self, operation: str, request: dict[str, Any]) -> Reply:
        """Note a request, and return the next reply or the table's own response."""
        self.requests.append((operation, request))
        return next(self.replies, self.response(operation, request))

    def response(self, operation: str, request: dict[str, Any]) -> Reply:
        """Return what DynamoDB responds to a request of the kit."""
        user_id = request["Key"]["user_id"]["S"]
        if "ConditionExpression" in request and user_id not in self.items:
            return error("ConditionalCheckFailedException")
        if operation == "DeleteItem":
            del self.items[user_id]
            return 200, b"{}"
        content = self.update(user_id, request) if operation == "UpdateItem" else {}
        if operation == "GetItem" and user_id in self.items:
            names = request.get("ExpressionAttributeNames", {})
            placeholders = request["ProjectionExpression"].split(", ")
            wanted = [names.get(placeholder, placeholder) for placeholder in placeholders]
            content["Item"] = {k: v for k, v in self.items[user_id].items() if k in wanted}
        return 200, json.dumps(content).encode()

    def update(self, user_id: str, request: dict[str, Any]) -> dict[str, Any]:
        """Do what an UpdateExpression says, and return the old attributes if there were any."""
        old = self.items.get(user_id)
        item = dict(old or {})
        names = request["ExpressionAttributeNames"]
        settings, _, removals = request["UpdateExpression"].partition("REMOVE")
        for name in re.findall(r"#\w+", settings):
            item[names[name]] = request["ExpressionAttributeValues"][f":{name[1:]}"]
        for name in re.findall(r"#\w+", removals):
            item.pop(names[name], None)
        self.items[user_id] = item
        return {} if old is None else {"Attributes": request["Key"] | old}


def error(code: str) -> Reply:
    """Return DynamoDB's response for a mistake of the caller."""
    content = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "No."}
    return 400, json.dumps(content).encode()


@contextlib.contextmanager
def fake_dynamodb() -> Iterator[FakeTable]:
    """Serve a FakeTable on a free port of loopback."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].split(".")[1]
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = table.reply(operation, request)
            if reply == HANG:
                self.over.wait(30)
            elif reply != HANG_UP:
                self.reply(*reply, Content_Type="application/x-amz-json-1.0")

    table = FakeTable()
    with listening(Handler) as address:
        table.environment["AWS_ENDPOINT_URL"] = f"http://{address}"
        yield table
