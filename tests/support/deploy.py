"""Handlers as functions: deployed with an environment, and called with an event."""

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
from support.secrets_watch import WATCH

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
