"""A base behind an API that speaks OpenAI's protocol: asked over HTTP, cached, and paid for."""

from savile.lm.endpoint.opening import identity, open_endpoint, unopened
from savile.lm.endpoint.remote import Endpoint

__all__ = ["Endpoint", "identity", "open_endpoint", "unopened"]
