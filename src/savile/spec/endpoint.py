"""A base behind an API: where it is, how it is asked, and what it costs.

No key stands in a spec: `key_env` names the environment variable that holds it, and what looks like
a key is refused without being repeated.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from savile.spec.section import Count, Section, Text, Usd
from savile.spec.settings import REAL, WHOLE

OPENAI = "https://api.openai.com/v1"
CALLS = ("/chat/completions", "/completions", "/responses")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
OWN_FIELDS = frozenset(
    {"model", "messages", "prompt", "max_tokens", "stream", "stop", "n", "logprobs", "top_logprobs"}
)
"""Fields of a request that `request` may not set, because they are set from the spec."""
WAYS_OF_ASKING = frozenset({"key_env", "concurrency", "timeout_seconds", "give_up_seconds"})
"""Settings that change neither an answer nor its cost."""
KEYS = frozenset({"key", "api_key", "apikey", "token", "password", "secret", "authorization"})
"""What people call a key."""
Seconds = Annotated[float, Field(gt=0.0, le=86_400.0), REAL]


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        raise ValueError("'endpoint' is not a URL such as https://host:8000/v1") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "'endpoint' should hold no user, password or query; a key belongs into the environment "
            "variable that base.key_env names"
        )
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError(
            f"'endpoint' should start with http:// or https:// and name a host; found {value!r}"
        )
    address = value.rstrip("/")
    for call in CALLS:
        if address.endswith(call):
            shorter = address.removesuffix(call)
            raise ValueError(f"'endpoint' is the address before {call}: write {shorter}")
    return address


def _variable(value: Any) -> Any:
    if isinstance(value, str) and not VARIABLE.fullmatch(value):
        raise ValueError(
            "'key_env' should be the name of an environment variable, such as OPENAI_API_KEY, and "
            "never the key itself"
        )
    return value


def _fields(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    owned = sorted(OWN_FIELDS & set(value))
    if owned:
        raise ValueError(f"'request' may not set {owned[0]!r}: the spec decides it")
    return {name: _json(inner) for name, inner in value.items()}


def _json(value: Any) -> Any:
    """Return the JSON value that a text of YAML stands for: `1` is a number, `low` a text."""
    if isinstance(value, dict):
        return {name: _json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


@final
class PriceSection(Section):
    """What an endpoint's tokens cost, in USD per million."""

    input: Usd
    """A million tokens of prompts."""
    output: Usd
    """A million tokens that the model writes, hidden reasoning included."""


@final
class EndpointSection(Section):
    """A model behind an API that speaks OpenAI's protocol."""

    endpoint: Annotated[Text, BeforeValidator(_address)] = Field(
        default_factory=lambda: os.environ.get("OPENAI_BASE_URL") or OPENAI, validate_default=True
    )
    """Address of the API, up to `/v1`; absent: `OPENAI_BASE_URL`, else OpenAI's own."""
    model: Text
    """The model's name at the endpoint."""
    api: Literal["chat", "completions"] = "chat"
    """`chat` sends messages; `completions` sends them as plain text, for models without a chat
    format."""
    key_env: Annotated[Text, BeforeValidator(_variable)] = "OPENAI_API_KEY"
    """The environment variable that holds the key; it may be unset where none is needed."""
    price: PriceSection | None = None
    """What the tokens cost: `{input: USD, output: USD}` per million; absent: no money is shown."""
    max_tokens: Count | None = None
    """Most tokens of an answer, hidden reasoning included; absent: from the longest one in
    train."""
    concurrency: Annotated[int, Field(ge=1, le=512), WHOLE] = 8
    """Requests at the same time."""
    timeout_seconds: Seconds = 60.0
    """The longest one attempt may take."""
    give_up_seconds: Seconds = 600.0
    """The longest one answer may take, with its retries; the run then stops and can go on later."""
    request: Annotated[dict[str, Any], BeforeValidator(_fields)] = Field(default_factory=dict)
    """More fields of every request, as the endpoint documents them: `{reasoning_effort: low}`."""

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, value: Any) -> Any:
        if isinstance(value, dict) and KEYS & {str(name).lower() for name in value}:
            raise ValueError(
                "a spec holds no key: put it into the environment variable OPENAI_API_KEY, or "
                "name another one with base.key_env"
            )
        return value

    @property
    def name(self) -> str:
        """What the board calls it."""
        return f"{self.model} at {urlsplit(self.endpoint).netloc}"


def same_model(one: str | EndpointSection, other: str | EndpointSection) -> bool:
    """Return whether two bases are one model, however it is asked."""
    if isinstance(one, EndpointSection) and isinstance(other, EndpointSection):
        return (one.endpoint, one.model) == (other.endpoint, other.model)
    return one == other


def overruled(base: EndpointSection, decided: Mapping[str, Any]) -> list[str]:
    """Return the fields that `request` sets otherwise than they are decided.

    Args:
        base: with its `request`.
        decided: fields that a technique sets; None where no value of a spec would be the same.
    """
    return [name for name, value in decided.items() if base.request.get(name, value) != value]


def decisive(base: str | EndpointSection) -> Any:
    """Return what of a base can change an answer or its cost, as plain JSON-able values."""
    if isinstance(base, str):
        return base
    return base.model_dump(mode="json", exclude=set(WAYS_OF_ASKING))


def given_by(base: str | EndpointSection) -> frozenset[str]:
    """Return what a base gives techniques: `weights` where its files are here, or fetched, and
    `json_replies` where answers can be held to a JSON schema."""
    if isinstance(base, str):
        return frozenset({"weights", "json_replies"})
    return frozenset({"json_replies"} if base.api == "chat" else ())


def short_name(base: str | EndpointSection) -> str:
    """Return what stands behind `ON` when a board has several bases."""
    return base if isinstance(base, str) else base.model


ON = " on "
"""Stands between a technique and its base where a board has several."""
NAMED, REACHED = "<name>", "<endpoint>"
"""The two ways to write a base, as pydantic's error paths name them."""


def _kind_of_base(value: Any) -> str:
    return REACHED if isinstance(value, (Mapping, EndpointSection)) else NAMED


Base = Annotated[
    Annotated[Text, Tag(NAMED)] | Annotated[EndpointSection, Tag(REACHED)],
    Discriminator(_kind_of_base),
]
