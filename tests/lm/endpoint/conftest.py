"""An endpoint that is opened at a server on loopback, with a key to look for afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from savile.lm.base import Answer, Asked
from savile.lm.endpoint import Endpoint, open_endpoint
from savile.lm.endpoint import patience as waiting
from savile.lm.endpoint.purse import Purse
from savile.spec.endpoint import EndpointSection
from savile.types import Message
from tests.endpoint_server import Server

KEY = "sk-test-0123456789abcdef"
Open = Callable[..., Endpoint]


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the key, and no proxy between the test and its server."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return KEY


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait hundredths of seconds where a run waits seconds."""
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.01)


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Return a function that opens a server's model as a base."""

    def open_(server: Server, *, purse: Purse | None = None, **settings: Any) -> Endpoint:
        base = EndpointSection(endpoint=server.url, model="m", **settings)
        return open_endpoint(base, purse or Purse(), tmp_path / "answers")

    return open_


def ask(base: Endpoint, *texts: str, labels: tuple[str, ...] = (), limit: int = 20) -> list[Answer]:
    """Return the answers to some questions, in their order."""
    chats = [[Message(role="user", content=text)] for text in texts]
    asked = Asked(labels=labels, max_new_tokens=limit)
    found = dict(pair for group in base.answers(chats, asked) for pair in group)
    return [found[row] for row in range(len(texts))]
