"""Opens the endpoint of a spec: key, client, one free look at whether it is there."""

from __future__ import annotations

import importlib
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from savile import store
from savile.errors import EnvironmentProblem, Problem
from savile.lm.endpoint.cache import Cache
from savile.lm.endpoint.purse import Purse
from savile.lm.endpoint.remote import Endpoint
from savile.lm.endpoint.secret import Secret
from savile.spec.endpoint import EndpointSection, decisive


def identity(base: EndpointSection) -> str:
    """Return the sha256 that stands for an endpoint in the manifest: what is asked, of whom.

    What answers there can change without a sign; the board tells the names it answered under.
    """
    return store.sha256(store.dump_json(decisive(base)))


def open_endpoint(base: EndpointSection, purse: Purse, answers: Path | None) -> Endpoint:
    """Return the endpoint, after asking it for its models, which costs nothing.

    Args:
        base: the spec's section.
        purse: what may be paid.
        answers: folder of kept answers; None keeps none.

    Raises:
        EnvironmentProblem: the client is not installed, the key cannot be sent, nothing answers.
    """
    wire: Any = _wire_module().Wire(base, Secret(base.key_env, os.environ))
    with wire:
        wire.look()
    return Endpoint(base, wire=wire, purse=purse, cache=Cache(answers))


def unopened(base: EndpointSection) -> Endpoint:
    """Return the endpoint for estimates: it counts tokens and money, and can ask nothing."""
    return Endpoint(base, wire=_NoWire(), purse=Purse(), cache=Cache(None))


class _NoWire(nullcontext[None]):
    def ask(self, fields: dict[str, Any]) -> NoReturn:
        raise AssertionError("an estimate asks nothing")


def _wire_module() -> Any:
    try:
        return importlib.import_module("savile.lm.endpoint.wire")
    except ImportError as error:
        raise EnvironmentProblem(
            Problem(
                where="base.endpoint",
                what="a model behind an API needs the openai client, which is not installed",
                found=str(error),
                fix="Install it: pip install 'savile[api]'",
            )
        ) from error
