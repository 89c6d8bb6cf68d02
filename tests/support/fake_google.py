"""Google's certificate endpoint on loopback, and the keys of its certificates."""

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from support.http_server import QuietHandler, listening

CERTIFICATES_URL = "google.oauth2.id_token._GOOGLE_OAUTH2_CERTS_URL"  # what google-auth asks


@functools.cache
def private_key(kid: str) -> rsa.RSAPrivateKey:
    """Return the private key of a key ID, the same one in the whole run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def certificate(kid: str) -> str:
    """Return the self-signed certificate of a key ID, in PEM."""
    key = private_key(kid)
    now = datetime.now(UTC)
    owner = "federated-signon.system.gserviceaccount.com"
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, owner)])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=1),
        not_valid_after=now + timedelta(days=14),
    )
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def rs256(kid: str, signed: bytes) -> bytes:
    """Return the signature of a key ID (RFC 7518 §3.3)."""
    return private_key(kid).sign(signed, padding.PKCS1v15(), hashes.SHA256())


@dataclass
class Endpoint:
    """What the endpoint responds next, and how often it was asked."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "max-age=3600"})
    body: str = ""
    down: bool = False  # hangs up without a response
    fetches: int = 0

    def publishes(self, *kids: str) -> None:
        """Respond with the certificates of these key IDs."""
        self.body = json.dumps({kid: certificate(kid) for kid in kids})


@contextlib.contextmanager
def serving(*kids: str) -> Iterator[Endpoint]:
    """Serve the certificates of these key IDs on a free port of loopback."""
    endpoint = Endpoint()
    endpoint.publishes(*kids)

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            endpoint.fetches += 1
            if not endpoint.down:
                self.reply(endpoint.status, endpoint.body.encode(), **endpoint.headers)

    with listening(Handler) as address:
        endpoint.url = f"http://{address}/oauth2/v1/certs"
        yield endpoint
