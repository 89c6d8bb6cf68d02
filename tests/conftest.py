"""What pytest sets up for every test module."""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.deploy import WATCH, Deploy, deployed
from support.tokens import AUTHORIZERS, Target, aimed_at

settings.register_profile(
    "kit", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("kit")


def pytest_configure() -> None:
    logging.getLogger().addHandler(WATCH)


@pytest.fixture(autouse=True)
def no_secret_is_said() -> Iterator[None]:
    """Fail a test in which a handler logs, returns or raises a secret."""
    lasting = set(WATCH.secrets)  # of modules and their fixtures
    yield
    leaks = WATCH.leaks()
    WATCH.said.clear()
    WATCH.secrets = lasting
    assert leaks == []


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Deploy:
    """Deploy a handler: deploy(script, **environment)."""
    return partial(deployed, monkeypatch)


@pytest.fixture
def aim(deploy: Deploy) -> Iterator[Callable[..., Target]]:
    """Deploy an authorizer, and know how to make tokens for it: aim(script, **environment)."""
    with contextlib.ExitStack() as stack:
        yield lambda script, **environment: stack.enter_context(
            aimed_at(script, deploy, **environment)
        )


@pytest.fixture(params=AUTHORIZERS)
def target(request: pytest.FixtureRequest, aim: Callable[..., Target]) -> Target:
    """Deploy each authorizer in turn."""
    return aim(request.param)


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that connects to another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        assert host in ("127.0.0.1", "::1", "localhost"), f"a test tried to reach {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
