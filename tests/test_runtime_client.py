"""Every handler under Amazon's runtime client: alone in a folder, with its layer, in a process of its own."""

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
from support.fake_dynamodb import AWS, fake_dynamodb
from support.fake_google import certificate, private_key
from support.files import HANDLERS, LAYERS
from support.http_server import QuietHandler, listening
from support.iam import decision
from support.runtime_api import RUNTIME, Lambda, linked, packages, started
from support.tokens import google_token, make_jwt

PASSWORD = "correct horse battery staple"  # of the documented events
FORGED = make_jwt("another-secret-of-32-bytes-or-more!")
SETTINGS = AWS | {
    "JWT_SECRET": SECRET,
    "GOOGLE_CLIENT_ID": CLIENT_ID,
    "USER_CREDENTIALS_TABLE_NAME": "users",
}
LOGINS = ["proxy_rest_login", "proxy_http_api_1_0", "proxy_http_api_2_0", "function_url"]
DAY = timedelta(days=1)
WATCH.guards(PASSWORD, SECRET, FORGED)

Start = Callable[..., Lambda]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Return where each handler finds packages: its layer, the SDK, and last what the runtime itself needs."""
    pytest.importorskip("awslambdaric", reason="Amazon's runtime client is for Linux")
    folder = tmp_path_factory.mktemp("packages")
    runtime = linked(folder / "runtime", RUNTIME)
    return {script: [*path, runtime] for script, path in packages(folder).items()}


@pytest.fixture
def start(tmp_path: Path, paths: dict[str, list[Path]]) -> Iterator[Start]:
    """Start a handler on Lambda, alone in a folder, until the test is over."""
    with contextlib.ExitStack() as stack:

        def start(script: str, layer: bool = True, **environment: str) -> Lambda:
            path = paths[script] if layer else paths[script][-1:]
            return stack.enter_context(started(tmp_path, script, path, **environment))

        yield start


def log_of(function: Lambda) -> list[str]:
    """Return level and message of every line that the handler logged."""
    lines = re.findall(r"^\[(\w+)\]\t\S+Z\tr-1\t(.*)$", function.output(), re.MULTILINE)
    return [f"{level} {message}" for level, message in lines if "credentials" not in message]


def refused(answer: tuple[str, dict[str, Any]]) -> bool:
    """Tell whether an answer is what API Gateway takes for a 401."""
    kind, content = answer
    return (kind, content["errorMessage"], content["errorType"]) == (
        "error",
        "Unauthorized",
        "Exception",
    )


@pytest.fixture
def google(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Serve certificates in Google's place, behind an HTTPS proxy; yield the environment that leads there."""
    pem = tmp_path / "host.pem"
    pem.write_bytes(host_certificate("www.googleapis.com"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    certificates = json.dumps({"key-1": certificate("key-1")}).encode()

    class Proxy(QuietHandler):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            with tls.wrap_socket(self.connection, server_side=True) as tunnel:
                tunnel.recv(65536)
                tunnel.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(certificates)
                    + certificates
                )

    with listening(Proxy) as address:
        yield {"HTTPS_PROXY": f"http://{address}", "REQUESTS_CA_BUNDLE": str(pem)}


def host_certificate(host: str) -> bytes:
    """Return a self-signed certificate for a host and its key, in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    key, now = private_key(host), datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + DAY
    )
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
    )
    signed = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return signed + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("script", "token", "context"),
    [
        ("jwt_auth_token", make_jwt(scope="read"), {"user_id": "testuser", "scope": "read"}),
        (
            "jwt_auth_token_google",
            google_token(sub="108", email="a@b.example"),
            {"sub": "108", "email": "a@b.example"},
        ),
    ],
)
def test_authorizer_answers_every_kind_of_rest_and_http_api(
    start: Start, google: dict[str, str], script: str, token: str, context: dict[str, str]
) -> None:
    function = start(script, **SETTINGS | google | {"USER_CREDENTIALS_TABLE_NAME": ""})
    principal, *_ = context.values()
    for make in KINDS.values():
        kind, answer = function.invoke(make(f"Bearer {token}", ARN))
        assert (kind, answer["principalId"], decision(answer, ARN)) == (
            "response",
            principal,
            "Allow",
        )
        assert answer["context"] == context | {"authorized": True}
        assert refused(function.invoke(make(f"Bearer {token[:-8]}", ARN)))
    assert [line.split(":")[0] for line in log_of(function)] == [
        "INFO admitted",
        "INFO refused",
    ] * len(KINDS)


def test_websocket_authorizer_answers_connect(start: Start) -> None:
    function = start("jwt_auth_token_websocket", JWT_SECRET=SECRET)
    kind, answer = function.invoke(connect_event(query={"access_token": make_jwt()}))
    assert (kind, answer["principalId"], decision(answer, CONNECT_ARN)) == (
        "response",
        "testuser",
        "Allow",
    )
    assert answer["context"] == {"userId": "testuser", "scope": "", "authorized": True}
    assert refused(function.invoke(connect_event(headers={"Authorization": FORGED})))
    assert function.invoke(token_event(make_jwt()))[1]["errorType"] == "RuntimeError"
    assert log_of(function)[:2] == [
        "INFO admitted: 'testuser'",
        "INFO refused: InvalidSignatureError",
    ]


@pytest.mark.parametrize("script", ["jwt_auth_token", "jwt_auth_token_websocket"])
def test_authorizer_looks_the_user_up(start: Start, script: str) -> None:
    event = connect_event(headers={"Authorization": make_jwt()})
    with fake_dynamodb() as table:
        function = start(script, **SETTINGS | table.environment)
        table.items["testuser"] = {"tokensValidFrom": {"N": "1"}}
        assert function.invoke(event)[0] == "response"
        table.items.clear()
        assert refused(function.invoke(event))
    assert log_of(function) == [
        "INFO admitted: 'testuser'",
        "INFO refused: no such user, or logged out",
    ]


def test_login_answers_every_kind_of_api(start: Start) -> None:
    WATCH.guards(stored := bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode())
    with fake_dynamodb() as table:
        login = start("jwt_create_token", **SETTINGS | table.environment)
        table.items["testuser"] = {"passwordHash": {"S": stored}}
        for name in LOGINS:
            kind, answer = login.invoke(documented(name))
            assert (kind, answer["statusCode"]) == ("response", 200)
            WATCH.guards(json.loads(answer["body"])["token"])
        bad = [
            login.invoke(proxy_event(body))
            for body in ("", '{"user_id": "nobody", "password": "\\u0000"}')
        ]
    assert [(kind, answer["statusCode"]) for kind, answer in bad] == [
        ("response", 400),
        ("response", 401),
    ]
    refusals = ["INFO refused: not a login request", "INFO refused: unknown user"]
    assert log_of(login) == ["INFO admitted: 'testuser'"] * len(LOGINS) + refusals


def test_protected_endpoint_names_the_caller(start: Start) -> None:
    function = start("restricted_access_lambda")
    kind, answer = function.invoke({"requestContext": {"authorizer": {"principalId": "Zoë"}}})
    assert (kind, answer["statusCode"], json.loads(answer["body"])["caller"]) == (
        "response",
        200,
        "Zoë",
    )
    assert log_of(function) == ["INFO answered: 'Zoë'"]


def test_google_out_of_reach_is_an_error_of_ours(start: Start) -> None:
    function = start(
        "jwt_auth_token_google", GOOGLE_CLIENT_ID=CLIENT_ID, HTTPS_PROXY="http://127.0.0.1:1"
    )
    kind, answer = function.invoke(token_event(f"Bearer {google_token()}"))
    assert (kind, answer["errorType"]) == ("error", "RuntimeError")
    assert log_of(function) == ["ERROR certificates not fetched: ProxyError"]


BAD_SETTINGS = {
    "basic_auth": ("JWT_SECRET", "short-secret"),
    "google_auth": ("GOOGLE_CLIENT_ID", ""),
    None: ("CORS_ALLOW_ORIGIN", "no-origin"),
}


@pytest.mark.parametrize("script", HANDLERS)
def test_bad_setting_is_reported_by_name_and_not_shown(start: Start, script: str) -> None:
    variable, value = BAD_SETTINGS[LAYERS[script]]
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
