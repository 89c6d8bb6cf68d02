"""Every handler under Amazon's runtime client: alone in a folder, with its layer, in a process of its own."""

import contextlib
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from support.alone import PYTHON, RUNTIME, SDK, Lambda, linked, started, unpacked_layer
from support.events import connect_event, proxy_event, token_event
from support.functions import ARN, CLIENT_ID, CONNECT_ARN, SECRET, WATCH
from support.google import certificate, private_key
from support.kit import HANDLERS
from support.policies import decision
from support.table import fake_dynamodb
from support.tokens import google_token, make_jwt

PASSWORD = "goes-over-the-wire"
FORGED = make_jwt("another-secret-of-32-bytes-or-more!")
LAYERS = {
    "jwt_auth_token": "basic_auth",
    "jwt_auth_token_websocket": "basic_auth",
    "jwt_auth_token_google": "google_auth",
    "jwt_create_token": "basic_auth",
    "restricted_access_lambda": None,
}
SETTINGS = {
    "JWT_SECRET": SECRET,
    "GOOGLE_CLIENT_ID": CLIENT_ID,
    "USER_CREDENTIALS_TABLE_NAME": "users",
    "AWS_DEFAULT_REGION": "eu-west-1",
}
WATCH.guards(PASSWORD, SECRET, FORGED)

Start = Callable[..., Lambda]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Return where each handler finds packages on Lambda: its layer, and for login the SDK."""
    folder = tmp_path_factory.mktemp("packages")
    layers = {name: [unpacked_layer(folder, name)] for name in sorted({name for name in LAYERS.values() if name})}
    sdk = linked(folder / "sdk", SDK)
    found = {handler: layers[name] if name else [] for handler, name in LAYERS.items()}
    return found | {"jwt_create_token": [*found["jwt_create_token"], sdk]}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("awslambdaric", reason="Amazon's runtime client is for Linux")
    return linked(tmp_path_factory.mktemp("runtime") / "runtime", RUNTIME)


@pytest.fixture
def start(tmp_path: Path, packages: dict[str, list[Path]], runtime: Path) -> Iterator[Start]:
    """Start a handler on Lambda; it ends with the test, and has let no secret into its log."""
    functions: list[Lambda] = []
    with contextlib.ExitStack() as stack:

        def start(script: str, layer: bool = True, **environment: str) -> Lambda:
            path = [*(packages[script] if layer else []), runtime]
            functions.append(stack.enter_context(started(tmp_path, script, path, **environment)))
            return functions[-1]

        yield start
        assert not [secret for secret in WATCH.secrets for function in functions if secret in function.output()]


# --------------------------------------------------------------------- alone


IMPORT = """
import importlib, sys
handler, allowed = sys.argv[1], sys.argv[2].split(":")
sys.path[:0] = allowed
before = set(sys.modules)
importlib.import_module(handler)
for name in set(sys.modules) - before:
    file = getattr(sys.modules[name], "__file__", None) or ""
    if not file.startswith((*allowed, sys.base_prefix)) and file:
        sys.exit(f"{name} comes from {file}")
"""


@pytest.mark.parametrize("script", HANDLERS)
def test_handler_needs_only_the_standard_library_and_its_layer(
    tmp_path: Path, packages: dict[str, list[Path]], script: str
) -> None:
    (tmp_path / f"{script}.py").write_bytes((Path(__file__).parent.parent / f"{script}.py").read_bytes())
    path = ":".join(map(str, [tmp_path, *packages[script]]))
    done = subprocess.run([*PYTHON, IMPORT, script, path], env=SETTINGS, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --------------------------------------------------------------------- answers


def log_of(function: Lambda) -> list[str]:
    """Return level and message of every line that the handler logged."""
    lines = re.findall(r"^\[(\w+)\]\t\S+Z\tr-1\t(.*)$", function.output(), re.MULTILINE)
    return [f"{level} {message}" for level, message in lines]


@pytest.mark.parametrize(
    ("script", "good", "bad", "method_arn", "context"),
    [
        pytest.param(
            "jwt_auth_token",
            lambda token: token_event(f"Bearer {token}"),
            token_event(f"Bearer {FORGED}"),
            ARN,
            {"user_id": "testuser", "authorized": True},
            id="REST",
        ),
        pytest.param(
            "jwt_auth_token_websocket",
            lambda token: connect_event(query={"access_token": token}),
            connect_event(query={"access_token": FORGED}),
            CONNECT_ARN,
            {"userId": "testuser", "authorized": True},
            id="WebSocket",
        ),
    ],
)
def test_authorizer_answers_a_policy_or_unauthorized(
    start: Start, script: str, good: Callable[[str], Any], bad: Any, method_arn: str, context: dict[str, Any]
) -> None:
    function = start(script, JWT_SECRET=SECRET)
    kind, answer = function.invoke(good(make_jwt()))
    assert (kind, answer["principalId"], decision(answer, method_arn)) == ("response", "testuser", "Allow")
    assert answer["context"] == context
    kind, answer = function.invoke(bad)
    assert (kind, answer["errorMessage"], answer["errorType"]) == ("error", "Unauthorized", "Exception")
    assert function.invoke(good(make_jwt()))[0] == "response"
    assert log_of(function) == [
        "INFO admitted: 'testuser'",
        "INFO refused: InvalidSignatureError",
        "INFO admitted: 'testuser'",
    ]


def test_login_answers_over_the_wire(start: Start) -> None:
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    WATCH.guards(stored)
    with fake_dynamodb() as table:
        table.items["testuser"] = {"passwordHash": {"S": stored}}
        settings = {"JWT_SECRET": SECRET, "USER_CREDENTIALS_TABLE_NAME": "users"}
        login = start("jwt_create_token", **settings, **table.environment)
        kind, answer = login.invoke(proxy_event(json.dumps({"user_id": "testuser", "password": PASSWORD})))
        assert (kind, answer["statusCode"]) == ("response", 200)
        WATCH.guards(json.loads(answer["body"])["token"])
        bad = [login.invoke(proxy_event(body)) for body in ("", '{"user_id": "nobody", "password": "\\u0000"}')]
    assert [(kind, answer["statusCode"]) for kind, answer in bad] == [("response", 400), ("response", 401)]
    lines = [line for line in log_of(login) if "credentials" not in line]
    assert lines == ["INFO admitted: 'testuser'", "INFO refused: not a login request", "INFO refused: unknown user"]


def test_protected_endpoint_answers_over_the_wire(start: Start) -> None:
    function = start("restricted_access_lambda")
    kind, answer = function.invoke({"requestContext": {"authorizer": {"principalId": "Zoë"}}})
    assert (kind, answer["statusCode"], json.loads(answer["body"])["caller"]) == ("response", 200, "Zoë")
    assert log_of(function) == ["INFO answered: 'Zoë'"]


# --------------------------------------------------------------------- Google


class GoogleCertificates(BaseHTTPRequestHandler):
    """An HTTPS proxy that is itself what it is asked to connect to: Google's certificate service."""

    tls: ssl.SSLContext
    certificates: bytes

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        with self.tls.wrap_socket(self.connection, server_side=True) as tunnel:
            tunnel.recv(65536)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.certificates)}\r\nConnection: close\r\n\r\n"
            tunnel.sendall(head.encode() + self.certificates)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def host_certificate(host: str) -> str:
    """Return a self-signed certificate for a host and its key, in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    unsigned = x509.CertificateBuilder(name, name, private_key(host).public_key(), x509.random_serial_number())
    unsigned = unsigned.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    unsigned = unsigned.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    signed = unsigned.sign(private_key(host), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return (signed + private_key(host).private_bytes(*forms)).decode()


@pytest.fixture
def google(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Serve certificates in Google's place; yield the environment that leads there."""
    pem = tmp_path / "host.pem"
    pem.write_text(host_certificate("www.googleapis.com"))
    GoogleCertificates.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    GoogleCertificates.tls.load_cert_chain(pem)
    GoogleCertificates.certificates = json.dumps({"key-1": certificate("key-1")}).encode()
    with ThreadingHTTPServer(("127.0.0.1", 0), GoogleCertificates) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield {"HTTPS_PROXY": f"http://127.0.0.1:{server.server_port}", "REQUESTS_CA_BUNDLE": str(pem)}
        server.shutdown()
        thread.join()


def test_google_authorizer_answers_a_policy_or_unauthorized(start: Start, google: dict[str, str]) -> None:
    function = start("jwt_auth_token_google", GOOGLE_CLIENT_ID=CLIENT_ID, **google)
    token = google_token(sub="108", email="a@b.example")
    kind, answer = function.invoke(token_event(f"Bearer {token}"))
    assert (kind, answer["principalId"], decision(answer, ARN)) == ("response", "108", "Allow")
    assert answer["context"] == {"email": "a@b.example", "authorized": True}
    for bad in (token[:-8], "junk"):
        kind, answer = function.invoke(token_event(f"Bearer {bad}"))
        assert (kind, answer["errorMessage"], answer["errorType"]) == ("error", "Unauthorized", "Exception")
    assert [line.split(":")[0] for line in log_of(function)] == ["INFO admitted", "INFO refused", "INFO refused"]


def test_google_out_of_reach_is_an_error_of_ours(start: Start) -> None:
    function = start("jwt_auth_token_google", GOOGLE_CLIENT_ID=CLIENT_ID, HTTPS_PROXY="http://127.0.0.1:1")
    kind, answer = function.invoke(token_event(f"Bearer {google_token()}"))
    assert (kind, answer["errorType"]) == ("error", "ProxyError")
    assert log_of(function) == ["ERROR certificates not fetched: ProxyError"]


# --------------------------------------------------------------------- a start that fails


@pytest.mark.parametrize(
    ("script", "variable"),
    [
        ("jwt_auth_token", "JWT_SECRET"),
        ("jwt_auth_token_websocket", "JWT_SECRET"),
        ("jwt_auth_token_google", "GOOGLE_CLIENT_ID"),
        ("jwt_create_token", "JWT_SECRET"),
        ("restricted_access_lambda", "CORS_ALLOW_ORIGIN"),
    ],
)
def test_bad_setting_is_reported_by_name(start: Start, script: str, variable: str) -> None:
    value = "short-secret" if variable == "JWT_SECRET" else "" if variable == "GOOGLE_CLIENT_ID" else "no-origin"
    function = start(script, **SETTINGS | {variable: value})
    kind, answer = function.answers.get(timeout=60)
    assert (kind, answer["errorType"]) == ("init/error", "ValueError")
    assert answer["errorMessage"].startswith(f"{variable} must ")
    assert function.process.wait(30) == 1
    assert variable in function.output()
    assert not value or value not in function.output() + json.dumps(answer)


@pytest.mark.parametrize("script", [script for script, layer in LAYERS.items() if layer])
def test_missing_layer_is_reported_as_such(start: Start, script: str) -> None:
    function = start(script, layer=False, **SETTINGS)
    kind, answer = function.answers.get(timeout=60)
    assert (kind, answer["errorType"]) == ("init/error", "Runtime.ImportModuleError")
    assert f"Unable to import module '{script}'" in answer["errorMessage"]
