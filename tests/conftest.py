"""What every test module shares: deploying a handler, building events, judging policies, and watching what is said."""

import base64
import hmac
import importlib.util
import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
HANDLERS = [
    "jwt_auth_token",
    "jwt_auth_token_websocket",
    "jwt_auth_token_google",
    "jwt_create_token",
    "restricted_access_lambda",
]
SECRET = "s3cr3t-that-signs-tokens-0123456789abcdef"
PREVIOUS = "s3cr3t-of-last-month-fedcba9876543210abcd"
CLIENT_ID = "123456789012-abcdef.apps.googleusercontent.com"
API = "arn:aws:execute-api:eu-west-1:123456789012:abcdef1234"
ARN = f"{API}/prod/GET/api"
CONNECT_ARN = f"{API}/prod/$connect"

# What pytest and the coverage of subprocesses need; everything else is what the test gives.
KEPT = {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "SSL_CERT_FILE", "PYTEST_CURRENT_TEST", "PYTEST_VERSION"}


class Watch:
    """Collects what handlers log, answer and raise in a whole test run, and what must never be in it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []  # (who, text)
        self.secrets: set[str] = set()

    def hears(self, who: str, text: str) -> None:
        self.said.append((who, text))

    def guards(self, *secrets: str) -> None:
        """Note texts that are secret; of a token, the payload and the signature."""
        for secret in secrets:
            parts = secret.removeprefix("Bearer ").split(".")
            self.secrets.update(part for part in (parts[1:] if len(parts) == 3 else [secret]) if len(set(part)) >= 10)

    def leaks(self) -> list[str]:
        """Return what was said that contains a secret."""
        return [
            f"{secret!r} in {who}: {text[:200]}" for who, text in self.said for secret in self.secrets if secret in text
        ]


WATCH = Watch()


class Function:
    """A deployed handler: called with an event, it answers what API Gateway would get, as JSON."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __call__(self, event: Any) -> Any:
        try:
            answer = json.loads(json.dumps(self.module.lambda_handler(json.loads(json.dumps(event)), None)))
        except Exception as error:
            # The context is what a traceback prints besides the error itself.
            WATCH.hears(self.module.__name__, f"{error!r} {error.__cause__!r} {visible_context(error)!r}")
            raise
        WATCH.hears(self.module.__name__, json.dumps(without_issued_token(answer), ensure_ascii=False))
        return answer


def visible_context(error: BaseException) -> BaseException | None:
    """Return the exception that Python would print above this one."""
    return None if error.__suppress_context__ else error.__context__


def without_issued_token(answer: Any) -> Any:
    """Return an answer less the token that a good login is there to hand out."""
    if isinstance(answer, dict) and answer.get("statusCode") == 200:
        body = json.loads(answer["body"])
        WATCH.guards(body.pop("token", ""))
        return {**answer, "body": json.dumps(body)}
    return answer


class Listener(logging.Handler):
    """Passes every log line on to the watch, with the traceback that it would print."""

    def emit(self, record: logging.LogRecord) -> None:
        WATCH.hears(record.name, self.format(record))


def pytest_configure() -> None:
    logging.getLogger().addHandler(Listener())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the test that judges what was said in the whole run at its end."""
    items.sort(key=lambda item: "whole_run" in item.name)


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Function]]:
    """Import a handler's file fresh, under the given environment and nothing else."""
    level = logging.getLogger().level

    def deploy(script: str, **environment: str) -> Function:
        for name in set(os.environ) - KEPT:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        WATCH.guards(environment.get("JWT_SECRET", ""), environment.get("JWT_SECRET_PREVIOUS", ""))
        spec = importlib.util.spec_from_file_location(script, ROOT / f"{script}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            WATCH.hears(script, f"{error!r} {error.__cause__!r} {visible_context(error)!r}")
            raise
        return Function(module)

    yield deploy
    logging.getLogger().setLevel(level)


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token with changes; a change to ... leaves the claim out."""
    now = int(time.time())
    good = {"user_id": "testuser", "sub": "testuser", "iat": now, "exp": now + 3600, "jti": "1"} | changes
    return {name: value for name, value in good.items() if value is not ...}


def make_jwt(secret: str = SECRET, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a good HS256 token with changed claims."""
    return jws(
        {"alg": "HS256", "typ": "JWT"} | (headers or {}), json.dumps(claims(**changes)).encode(), secret.encode()
    )


def jws(header: dict[str, Any] | bytes, payload: bytes, key: bytes) -> str:
    """Return a compact HS256 JWS of any header and payload, which a library might refuse to make (RFC 7515 §3.1)."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{base64url(head)}.{base64url(payload)}"
    token = f"{signed}.{base64url(hmac.digest(key, signed.encode(), 'sha256'))}"
    WATCH.guards(token)
    return token


def base64url(data: bytes) -> str:
    """Return data in base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token_event(token: Any, method_arn: str = ARN) -> dict[str, Any]:
    """Return the event of a TOKEN authorizer."""
    if isinstance(token, str):
        WATCH.guards(token)
    return {"type": "TOKEN", "authorizationToken": token, "methodArn": method_arn}


def connect_event(headers: Any = None, query: Any = None) -> dict[str, Any]:
    """Return the event of a WebSocket API's $connect authorizer."""
    return {
        "type": "REQUEST",
        "methodArn": CONNECT_ARN,
        "headers": headers,
        "queryStringParameters": query,
        "requestContext": {"routeKey": "$connect", "eventType": "CONNECT", "stage": "prod"},
    }


def proxy_event(body: Any, **changes: Any) -> dict[str, Any]:
    """Return the event of a REST API's Lambda proxy integration."""
    event = {"httpMethod": "POST", "path": "/auth", "headers": None, "body": body, "isBase64Encoded": False}
    return event | changes


def decision(answer: dict[str, Any], method_arn: str) -> str:
    """Return what IAM decides about a method under an authorizer's policy: "Allow", "Deny", or "silent".

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
    """
    effects = {
        statement["Effect"]
        for statement in answer["policyDocument"]["Statement"]
        if statement["Action"] == "execute-api:Invoke" and concerns(statement, method_arn)
    }
    return "Deny" if "Deny" in effects else "Allow" if "Allow" in effects else "silent"


def concerns(statement: dict[str, Any], method_arn: str) -> bool:
    """Tell whether a statement is about a method; NotResource is about all that it does not list."""
    assert ("Resource" in statement) != ("NotResource" in statement)
    patterns = statement["Resource" if "Resource" in statement else "NotResource"]
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return any(iam_match(pattern, method_arn) for pattern in patterns) == ("Resource" in statement)


def iam_match(pattern: str, text: str) -> bool:
    """Tell whether a pattern in which only * and ? are wildcards matches a whole text."""
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.split(r"([*?])", pattern))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        assert host in ("127.0.0.1", "::1", "localhost"), f"a test tried to reach {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
