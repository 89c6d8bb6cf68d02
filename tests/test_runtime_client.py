"""Every handler under Amazon's runtime client: alone in a folder, with its layer, in a process."""

import contextlib
import json
import re
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.deploy import ARN, CLIENT_ID, CONNECT_ARN, SECRET, WATCH
from support.events import KINDS, connect_event, documented, proxy_event, token_event
from support.fake_dynamodb import AWS, FakeTable, fake_dynamodb
from support.fake_google import certificate, private_key
from support.files import LAYERS
from support.http_server import QuietHandler, listening
from support.iam import decision
from support.runtime_api import RUNTIME, Lambda, linked, packages, started
from support.tokens import google_token, make_jwt

PASSWORD = "correct horse battery staple"  # of the documented events
FORGED = make_jwt("another-secret-of-32-bytes-or-more!")
JWT_SETTINGS = {"JWT_SECRET": SECRET}
TABLE_SETTINGS = AWS | {"USER_CREDENTIALS_TABLE_NAME": "users"}
WATCH.guards(PASSWORD, SECRET, FORGED)

Start = Callable[..., Lambda]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Return where each handler finds packages: layer, SDK, and what the runtime itself needs."""
    pytest.importorskip("awslambdaric", reason="Amazon's runtime client is for Linux")
    folder = tmp_path_factory.mktemp("packages")
    runtime = linked(folder / "runtime", RUNTIME)
    return {script: [*path, runtime] for script, path in packages(folder).items()}


@pytest.fixture
def start(tmp_path: Path, paths: dict[str, list[Path]]) -> Iterator[Start]:
    """Start a handler as on Lambda, alone in a folder, until the test is over."""
    with contextlib.ExitStack() as stack:

        def start(script: str, layer: bool = True, **environment: str) -> Lambda:
            path = paths[script] if layer else paths[script][-1:]
            return stack.enter_context(started(tmp_path, script, path, **environment))

        yield start


@pytest.fixture
def table() -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        table.environment |= {"USER_CREDENTIALS_TABLE_NAME": "users"}
        yield table


def log_of(function: Lambda) -> list[str]:
    """Return level and message of every line that the function logged while it was invoked."""
    lines = re.findall(r"^\[(\w+)\]\t\S+Z\t(?:r-1)?\t(.*)$", function.output(), re.MULTILINE)
    return [f"{level} {message}" for level, message in lines]


def is_401(response: tuple[str, dict[str, Any]]) -> bool:
    """Tell whether API Gateway turns what an authorizer returned into a 401."""
    kind, content = response
    return kind == "error" and content["errorMessage"] == "Unauthorized"


@pytest.fixture
def google(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Serve certificates in Google's place, behind an HTTPS proxy; yield the settings for it."""
    pem = tmp_path / "host.pem"
    pem.write_bytes(host_certificate("www.googleapis.com"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    certificates = json.dumps({"key-1": certificate("key-1")}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(certificates)

    class Proxy(QuietHandler):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            with tls.wrap_socket(self.connection, server_side=True) as tunnel:
                tunnel.recv(65536)
                tunnel.sendall(head + certificates)

    with listening(Proxy) as address:
        yield {"HTTPS_PROXY": f"http://{address}", "REQUESTS_CA_BUNDLE": str(pem)}


def host_certificate(host: str) -> bytes:
    """Return a self-signed certificate for a host and its key, in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    key = private_key(host)
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(Encoding.PEM)
    return pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("kind", KINDS)
def test_jwt_authorizer_serves_every_kind_of_api(start: Start, kind: str) -> None:
    function = start("jwt_auth_token", **JWT_SETTINGS)
    status, response = function.invoke(KINDS[kind](f"Bearer {make_jwt(scope='read')}", ARN))
    assert (status, decision(response, ARN)) == ("response", "Allow")
    assert response["context"] == {"user_id": "testuser", "scope": "read", "authorized": True}
    assert is_401(function.invoke(KINDS[kind](f"Bearer {FORGED}", ARN)))
    assert log_of(function) == ["INFO admitted: 'testuser'", "INFO refused: InvalidSignatureError"]


def test_google_authorizer_fetches_certificates(start: Start, google: dict[str, str]) -> None:
    function = start("jwt_auth_token_google", GOOGLE_CLIENT_ID=CLIENT_ID, **google)
    token = google_token(sub="108", email="a@b.example")
    status, response = function.invoke(token_event(f"Bearer {token}"))
    assert (status, decision(response, ARN)) == ("response", "Allow")
    expected = {"sub": "108", "email": "a@b.example", "scope": "", "authorized": True}
    assert response["context"] == expected
    assert is_401(function.invoke(token_event(f"Bearer {token[:-8]}")))
    assert [line.split(":")[0] for line in log_of(function)] == ["INFO admitted", "INFO refused"]


def test_google_users_may_be_listed_in_the_table(
    start: Start, google: dict[str, str], table: FakeTable
) -> None:
    settings = google | table.environment
    function = start("jwt_auth_token_google", GOOGLE_CLIENT_ID=CLIENT_ID, **settings)
    event = token_event(google_token(sub="108", email="a@b.example"))
    assert is_401(function.invoke(event))
    table.items["108"] = {"scope": {"S": "admin"}}
    assert function.invoke(event)[1]["context"]["scope"] == "admin"
    assert log_of(function) == [
        "INFO refused: user not in the table: '108' ('a@b.example')",
        "INFO admitted: '108'",
    ]


def test_websocket_authorizer_serves_connect(start: Start) -> None:
    function = start("jwt_auth_token_websocket", **JWT_SETTINGS)
    protocols = {"Sec-WebSocket-Protocol": f"access_token, {make_jwt(exp=4102444800)}"}
    status, response = function.invoke(connect_event(headers=protocols))
    assert (status, decision(response, CONNECT_ARN)) == ("response", "Allow")
    assert response["context"]["exp"] == 4102444800
    assert is_401(function.invoke(connect_event(headers={"Authorization": FORGED})))
    assert log_of(function) == ["INFO admitted: 'testuser'", "INFO refused: InvalidSignatureError"]


def test_websocket_authorizer_is_for_no_other_api(start: Start) -> None:
    function = start("jwt_auth_token_websocket", **JWT_SETTINGS)
    status, response = function.invoke(token_event(make_jwt()))
    assert (status, response["errorType"]) == ("error", "RuntimeError")
    assert "use jwt_auth_token.py" in response["errorMessage"]


@pytest.mark.parametrize("script", ["jwt_auth_token", "jwt_auth_token_websocket"])
def test_jwt_authorizers_look_the_user_up(start: Start, table: FakeTable, script: str) -> None:
    function = start(script, **JWT_SETTINGS | table.environment)
    event = connect_event(headers={"Authorization": make_jwt(token_version="a")})
    table.items["testuser"] = {"tokenVersion": {"S": "a"}}
    assert function.invoke(event)[0] == "response"
    table.items["testuser"] = {"tokenVersion": {"S": "b"}}
    assert is_401(function.invoke(event))
    assert log_of(function) == [
        "INFO admitted: 'testuser'",
        "INFO refused: token revoked: 'testuser'",
    ]


def test_login_serves_every_kind_of_api(start: Start, table: FakeTable) -> None:
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    WATCH.guards(stored)
    table.items["testuser"] = {"passwordHash": {"S": stored}}
    login = start("jwt_create_token", **JWT_SETTINGS | table.environment)
    for name in ("proxy_rest_login", "proxy_http_api_1_0", "proxy_http_api_2_0"):
        status, response = login.invoke(documented(name))
        assert (status, response["statusCode"]) == ("response", 200)
        WATCH.guards(json.loads(response["body"])["token"])
    assert log_of(login) == ["INFO admitted: 'testuser'"] * 3


def test_failed_login_is_one_line(start: Start, table: FakeTable) -> None:
    login = start("jwt_create_token", **JWT_SETTINGS | table.environment)
    unknown = '{"user_id": "nobody", "password": "\\u0000"}'
    statuses = [login.invoke(proxy_event(body))[1]["statusCode"] for body in ("", unknown)]
    assert statuses == [400, 401]
    assert log_of(login) == [
        "INFO refused: invalid request: The body must be JSON",
        "INFO refused: unknown user",
    ]


def test_endpoint_names_the_caller(start: Start) -> None:
    function = start("restricted_access_lambda")
    event = {"requestContext": {"authorizer": {"principalId": "Zoë"}}}
    _, response = function.invoke(event)
    assert json.loads(response["body"])["caller"] == "Zoë"
    assert log_of(function) == ["INFO request served for 'Zoë'"]


def test_log_level_of_the_function_is_respected(start: Start, table: FakeTable) -> None:
    settings = JWT_SETTINGS | table.environment
    levels = {"AWS_LAMBDA_LOG_LEVEL": "WARN", "AWS_LAMBDA_LOG_FORMAT": "JSON"}
    login = start("jwt_create_token", **settings | levels)
    assert login.invoke(proxy_event(""))[1]["statusCode"] == 400
    assert "refused" not in login.output()


def test_google_out_of_reach_is_an_error(start: Start) -> None:
    settings = {"GOOGLE_CLIENT_ID": CLIENT_ID, "HTTPS_PROXY": "http://127.0.0.1:1"}
    function = start("jwt_auth_token_google", **settings)
    status, response = function.invoke(token_event(f"Bearer {google_token()}"))
    assert (status, response["errorType"]) == ("error", "TransportError")
    assert "ERROR could not fetch Google's certificates: ProxyError" in log_of(function)


GOOD_SETTINGS = JWT_SETTINGS | TABLE_SETTINGS | {"GOOGLE_CLIENT_ID": CLIENT_ID}
BAD_SETTINGS = {
    "jwt_auth_token": ("JWT_SECRET", "short-secret"),
    "jwt_auth_token_websocket": ("JWT_SECRET", "short-secret"),
    "jwt_auth_token_google": ("GOOGLE_CLIENT_ID", "GOCSPX-the-secret-instead"),
    "jwt_create_token": ("JWT_SECRET", "short-secret"),
    "restricted_access_lambda": ("CORS_ALLOW_ORIGIN", "no-origin"),
}


@pytest.mark.parametrize("script", BAD_SETTINGS)
def test_bad_setting_is_reported_by_name_and_not_shown(start: Start, script: str) -> None:
    variable, value = BAD_SETTINGS[script]
    function = start(script, **GOOD_SETTINGS | {variable: value})
    status, response = function.answers.get(timeout=60)
    assert (status, response["errorType"]) == ("init/error", "ValueError")
    assert response["errorMessage"].startswith(variable)
    assert function.process.wait(30) == 1
    assert variable in function.output()
    assert value not in function.output() + json.dumps(response)


@pytest.mark.parametrize("script", [script for script, layer in LAYERS.items() if layer])
def test_missing_layer_is_reported_as_such(start: Start, script: str) -> None:
    function = start(script, layer=False, **GOOD_SETTINGS)
    status, response = function.answers.get(timeout=60)
    assert (status, response["errorType"]) == ("init/error", "Runtime.ImportModuleError")
    assert f"Unable to import module '{script}'" in response["errorMessage"]
