"""Handlers as functions: deployed under an environment, called with an event, and heard in all that they say."""

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

# What pytest and the coverage of subprocesses need; everything else is what the test gives.
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


class Watch(logging.Handler):
    """Collects what handlers log, answer and raise in a whole test run, and what must never be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []  # (who, text)
        self.secrets: set[str] = set()

    def hears(self, who: str, text: str) -> None:
        self.said.append((who, text))

    def emit(self, record: logging.LogRecord) -> None:
        self.hears(record.name, self.format(record))  # with the traceback that it would print

    def guards(self, *secrets: str) -> None:
        """Note texts that are secret; of a token, the payload and the signature."""
        for secret in secrets:
            parts = secret.removeprefix("Bearer ").split(".")
            self.secrets.update(
                part
                for part in (parts[1:] if len(parts) == 3 else [secret])
                if len(set(part)) >= 10
            )


WATCH = Watch()


@contextlib.contextmanager
def heard(who: str) -> Iterator[None]:
    """Tell the watch of an exception, and of those that Python would print above it."""
    try:
        yield
    except Exception as error:
        WATCH.hears(
            who,
            f"{error!r} {error.__cause__!r} {None if error.__suppress_context__ else error.__context__!r}",
        )
        raise


class Function:
    """A deployed handler: called with an event, it answers what API Gateway would get, as JSON in UTF-8."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __call__(self, event: Any) -> Any:
        with heard(self.module.__name__):
            answer = self.module.lambda_handler(json.loads(json.dumps(event)), None)
            sent = json.loads(json.dumps(answer, ensure_ascii=False).encode())
        WATCH.hears(
            self.module.__name__, json.dumps(without_issued_token(sent), ensure_ascii=False)
        )
        return sent


def outcome(function: Function, event: Any) -> Any:
    """Return an authorizer's answer, or None for a 401."""
    try:
        return function(event)
    except Exception as error:
        if str(error) != "Unauthorized":
            raise
        return None


Deploy = Callable[..., Function]  # script, then its environment by keyword


def deployed(monkeypatch: pytest.MonkeyPatch, script: str, **environment: str) -> Function:
    """Import a handler's file fresh, under the given environment and nothing else."""
    for name in set(os.environ) - KEPT:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    WATCH.guards(environment.get("JWT_SECRET", ""), environment.get("JWT_SECRET_PREVIOUS", ""))
    loader = SourceFileLoader(script, str(ROOT / f"{script}.py"))
    module = ModuleType(script)
    with heard(script):
        loader.exec_module(module)
    return Function(module)


def without_issued_token(answer: Any) -> Any:
    """Return an answer less the token that a good login is there to hand out."""
    if isinstance(answer, dict) and answer.get("statusCode") == 200:
        body = json.loads(answer["body"])
        WATCH.guards(body.pop("token", ""))
        return {**answer, "body": json.dumps(body)}
    return answer
