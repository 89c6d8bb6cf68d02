"""A stand-in for Google: keys that sign ID tokens, and a server on loopback that hands out their certificates."""

import contextlib
import functools
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from conftest import CLIENT_ID, WATCH, base64url
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID


@functools.cache
def private_key(kid: str) -> rsa.RSAPrivateKey:
    """Return the private key of a key id, the same one in the whole run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def certificate(kid: str) -> str:
    """Return the self-signed certificate of a key id, in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")])
    today = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, private_key(kid).public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(today - timedelta(days=1)).not_valid_after(today + timedelta(days=14))
    return builder.sign(private_key(kid), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def google_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good ID token with changes; a change to ... leaves the claim out."""
    now = int(time.time())
    good = {
        "iss": "https://accounts.google.com",
        "azp": CLIENT_ID,
        "aud": CLIENT_ID,
        "sub": "110169484474386276334",
        "email": "testuser@example.com",
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    } | changes
    return {name: value for name, value in good.items() if value is not ...}


def rs256(kid: str, signed: bytes) -> bytes:
    """Return the signature of a key id (RFC 7518 §3.3)."""
    return private_key(kid).sign(signed, padding.PKCS1v15(), hashes.SHA256())


def google_token(kid: str = "key-1", header: Any = None, **changes: Any) -> str:
    """Return a good ID token with another header or with changed claims."""
    header = {"alg": "RS256", "kid": kid, "typ": "JWT"} if header is None else header
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, google_claims(**changes)))
    token = f"{signed}.{base64url(rs256(kid, signed.encode()))}"
    WATCH.guards(token)
    return token


@dataclass
class Endpoint:
    """Google's certificate endpoint: what it answers next, and how often it was asked."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "public, max-age=3600"})
    body: str = ""
    down: bool = False  # hangs up without a word
    hangs: bool = False  # says nothing until the test is over
    fetches: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def publishes(self, *kids: str) -> None:
        """Answer with the certificates of these key ids."""
        self.body = json.dumps({kid: certificate(kid) for kid in kids})


@contextlib.contextmanager
def serving(*kids: str) -> Iterator[Endpoint]:
    """Serve the certificates of these key ids on a free port of loopback."""
    endpoint = Endpoint()
    endpoint.publishes(*kids)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            endpoint.fetches += 1
            if endpoint.hangs:
                endpoint.over.wait(30)
            if endpoint.down or endpoint.hangs:
                return
            self.send_response(endpoint.status)
            for name, value in endpoint.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(endpoint.body.encode())

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint.url = f"http://127.0.0.1:{server.server_port}/oauth2/v1/certs"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.over.set()
            server.shutdown()
            thread.join()
