"""Handlers as functions: deployed with an environment, called, and watched for secrets."""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

import pytest

from support.files import ROOT

SECRET = "s3cr3t-that-signs-tokens-0123456789abcdef"
PREVIOUS = "s3cr3t-of-last-month-fedcba9876543210abcd"
CLIENT_ID = "123456789012-abcdef.apps.googleusercontent.com"
API = "arn:aws:execute-api:eu-west-1:123456789012:abcdef1234"
ARN = f"{API}/prod/GET/api"
CONNECT_ARN = f"{API}/prod/$connect"
REQUIRED = {"JWT_SECRET": SECRET, "GOOGLE_CLIENT_ID": CLIENT_ID}  # settings of the authorizers

# What pytest and the coverage of subprocesses need. The test gives everything else.
KEPT = {
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "SSL_CERT_FILE",
    "PYTEST_CURRENT_TEST",
    "PYTEST_VERSION",
}


class SecretsWatch(logging.Handler):
    """Collects what handlers say during a test, and the secrets that must not be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []  # who, and what
        self.secrets: set[str] = set()

    def guards(self, *secrets: str) -> None:
        """Note secrets. Of a token, payload and signature are secret: anybody knows the header."""
        for secret in secrets:
            parts = secret.removeprefix("Bearer ").split(".")
            secret_parts = parts[1:] if len(parts) == 3 else [secret]
            self.secrets.update(part for part in secret_parts if len(set(part)) >= 10)

    def hears(self, who: str, text: str) -> None:
        """Note what somebody said."""
        self.said.append((who, text))

    def emit(self, record: logging.LogRecord) -> None:
        """Note a log line, with the traceback that would be printed below it."""
        self.hears(record.name, self.format(record))

    def leaks(self) -> list[str]:
        """Return what was said with a secret in it."""
        everything = "\n".join(text for _, text in self.said)
        leaked = [secret for secret in self.secrets if secret in everything]
        return [
            f"{who} said: {text}"
            for who, text in self.said
            if any(secret in text for secret in leaked)
        ]


WATCH = SecretsWatch()


class Function:
    """A deployed handler. Its response is what API Gateway gets, as JSON in UTF-8."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __call__(self, event: Any) -> Any:
        name = self.module.__name__
        with heard(name):
            response = self.module.lambda_handler(json.loads(json.dumps(event)), None)
            sent = json.loads(json.dumps(response, ensure_ascii=False).encode())
        WATCH.hears(name, json.dumps(without_issued_token(sent), ensure_ascii=False))
        return sent


Deploy = Callable[..., Function]  # script, then its environment by keyword


def deployed(monkeypatch: pytest.MonkeyPatch, script: str, **environment: str) -> Function:
    """Import a handler's file anew, with the given environment and nothing else."""
    for name in set(os.environ) - KEPT:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    WATCH.guards(environment.get("JWT_SECRET", ""), environment.get("JWT_SECRET_PREVIOUS", ""))
    for name in (script, "botocore"):
        logging.getLogger(name).setLevel(logging.NOTSET)  # as in a new process
    module = ModuleType(script)
    with heard(script):
        SourceFileLoader(script, str(ROOT / f"{script}.py")).exec_module(module)
    return Function(module)


def outcome(function: Function, event: Any) -> Any:
    """Return an authorizer's policy, or None for a 401."""
    try:
        return function(event)
    except Exception as error:
        if str(error) != "Unauthorized":
            raise
        return None


@contextlib.contextmanager
def heard(who: str) -> Iterator[None]:
    """Let the watch hear an exception, and those that Python would print above it."""
    try:
        yield
    except Exception as error:
        printed = [error, error.__cause__]
        if not error.__suppress_context__:
            printed.append(error.__context__)
        WATCH.hears(who, " ".join(map(repr, printed)))
        raise


def without_issued_token(response: Any) -> Any:
    """Return a response without the token that a successful login is there to issue."""
    if isinstance(response, dict) and response.get("statusCode") == 200:
        body = json.loads(response["body"])
        WATCH.guards(body.pop("token", ""))
        return response | {"body": json.dumps(body)}
    return response
