"""A server on a free port of loopback, for as long as it is needed."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """Responds to requests without logging them."""

    over: threading.Event  # set when the server ends: a handler that hangs waits for it

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send a response. An underscore in a header's name stands for a hyphen."""
        self.send_response(status)
        for name, value in (headers | {"Content_Length": str(len(body))}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def listening(handler: type[QuietHandler]) -> Iterator[str]:
    """Serve requests with a handler; yield host and port."""
    handler.over = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            handler.over.set()
            server.shutdown()
            thread.join()
