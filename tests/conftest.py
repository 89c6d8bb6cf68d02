"""What pytest sets up for every test module: deploying, targets, a table, and the watch over what is said."""

import logging
import socket
from collections.abc import Iterator
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the test that judges what was said in the whole run at its end."""
    items.sort(key=lambda item: "whole_run" in item.name)


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    level = logging.getLogger().level
    yield partial(deployed, monkeypatch)
    logging.getLogger().setLevel(level)


@pytest.fixture(params=AUTHORIZERS)
def target(request: pytest.FixtureRequest, deploy: Deploy) -> Iterator[Target]:
    with aimed_at(request.param, deploy) as target:
        yield target


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        assert host in ("127.0.0.1", "::1", "localhost"), f"a test tried to reach {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
