"""HTTP to an endpoint through the `openai` client: one attempt, its time and size limited.

The client brings what providers agree on (addresses, headers, error shapes). Its own retries are
off: they sleep where a run cannot be stopped, know no ceiling, and leave no trace in the record.
An attempt ends after `timeout_seconds` even when a server sends a byte now and then.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, final

import httpx2
import openai

from savile.errors import Problem, UnusableBase
from savile.lm.endpoint.failures import Failure, Refusal, plain, said
from savile.lm.endpoint.patience import retry_after
from savile.lm.endpoint.replies import json_of
from savile.lm.endpoint.secret import Secret
from savile.spec.endpoint import EndpointSection

MOST_BYTES: Final = 16 << 20
CONNECT_SECONDS: Final = 10.0
PASSING: Final = frozenset({408, 409, 425, 429})
"""Status codes, beside 5xx, after which another attempt makes sense."""
REFUSED: Final = frozenset({400, 413, 422})
"""Status codes that speak about this request."""
BROKE: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
CALLED: Final = {"chat": "/chat/completions", "completions": "/completions"}
UNTIL: Final = "savile_until"


class Heard(NamedTuple):
    """A body and how long it took."""

    body: Any
    seconds: float


@final
class Wire:
    """Connections to one endpoint: a context manager, inside which many threads may ask."""

    def __init__(self, base: EndpointSection, secret: Secret) -> None:
        """Remember where to connect; nothing is sent."""
        self.base, self.secret = base, secret
        self._listed: list[str] = []
        self._tls = httpx2.create_ssl_context()

    def __enter__(self) -> Self:
        base = self.base
        limit = httpx2.Limits(
            max_connections=base.concurrency, max_keepalive_connections=base.concurrency
        )
        connect = min(CONNECT_SECONDS, base.timeout_seconds)
        self._client = openai.OpenAI(
            api_key=self.secret.reveal(),
            base_url=base.endpoint,
            max_retries=0,
            timeout=httpx2.Timeout(base.timeout_seconds, connect=connect),
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultHttpxClient(
                verify=self._tls,
                limits=limit,
                event_hooks={"request": [self._start], "response": [_limit]},
            ),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def look(self) -> None:
        """Ask for the list of models, which costs nothing and which some endpoints do not have.

        Raises:
            UnusableBase: the endpoint cannot be reached, or refuses the key.
        """
        try:
            answer = self._client.models.with_raw_response.list()
            listed = self._heard(answer.content)["data"]
            self._listed = [plain(model["id"]) for model in listed]
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise self._refused(error.status_code, error.body, {}) from None
        except openai.APIConnectionError as error:
            failure = self._broken(error)
            raise UnusableBase(
                Problem(
                    where=self.base.endpoint,
                    what="the endpoint cannot be reached",
                    found=failure.what,
                    fix="Check base.endpoint, and that the server runs",
                )
            ) from None
        except (Failure, KeyError, TypeError):
            return  # an answer of another shape lists nothing

    def ask(self, fields: dict[str, Any]) -> Heard:
        """Send one request and return what came back.

        Raises:
            Failure: nothing usable came; another attempt may help.
            Refusal: the request itself is refused.
            UnusableBase: the endpoint will refuse every request.
        """
        started = time.perf_counter()
        try:
            content = self._send(fields)
        except openai.APIStatusError as error:
            body = error.body if error.body is not None else error.response.text
            raise self._refused(error.status_code, body, dict(error.response.headers)) from None
        except openai.APIConnectionError as error:
            raise self._broken(error) from None
        body = self._heard(content)
        seconds = time.perf_counter() - started
        if isinstance(body, dict) and "choices" not in body and "error" in body:
            inner = body["error"]
            code = inner.get("code") if isinstance(inner, dict) else None
            raise self._refused(code if isinstance(code, int) else 500, body, {})
        return Heard(body, seconds)

    def _send(self, fields: dict[str, Any]) -> bytes:
        model, rest = fields["model"], {k: v for k, v in fields.items() if k != "model"}
        if self.base.api == "chat":
            messages = rest.pop("messages")
            chat = self._client.chat.completions.with_raw_response
            return chat.create(model=model, messages=messages, extra_body=rest).content
        prompt = rest.pop("prompt")
        text = self._client.completions.with_raw_response
        return text.create(model=model, prompt=prompt, extra_body=rest).content

    def _heard(self, content: bytes) -> Any:
        text = self.secret.hide(content.decode("utf-8", "replace"))
        return self.secret.hidden(json_of(text.encode("utf-8")))

    def _start(self, request: httpx2.Request) -> None:
        request.extensions[UNTIL] = time.monotonic() + self.base.timeout_seconds

    def _broken(self, error: openai.APIConnectionError) -> Failure:
        cause = error.__cause__
        if isinstance(error, openai.APITimeoutError):
            early = isinstance(cause, httpx2.ConnectTimeout | httpx2.PoolTimeout)
            what = "no connection" if early else "no answer"
            limit = self.base.timeout_seconds
            return Failure(f"{what} within {limit:g} seconds", billed=not early)
        words = plain(self.secret.hide(str(cause or error))) or type(cause).__name__
        if isinstance(cause, httpx2.ConnectError):
            return Failure(f"no connection: {words}")
        return Failure(f"the connection broke: {words}", billed=True)

    def _refused(self, status: int, body: Any, headers: dict[str, str]) -> Exception:
        message, code, field = said(self.secret.hidden(body))  # before words are clipped
        what = f"HTTP {status}: {message}" if message else f"HTTP {status}"
        if status in (401, 403):
            return self._locked(status, message)
        if status == 402 or code in BROKE:
            return self._unusable("the account has no credit left", what)
        if status == 404 or code == "model_not_found":
            return self._unknown(what)
        if status in REFUSED:
            return Refusal(what, code=code, field=field)
        if status in PASSING or status >= 500:
            after = retry_after(headers)
            return Failure(what, after=after, everyone=status == 429)
        return self._unusable("the endpoint refuses requests", what)

    def _unknown(self, found: str) -> UnusableBase:
        model, path = self.base.model, CALLED[self.base.api]
        near = difflib.get_close_matches(model, self._listed, n=3, cutoff=0.4) or self._listed[:3]
        if model in self._listed or not near:
            fix = "Check base.endpoint, which mostly ends in /v1, and base.model"
        else:
            fix = f"It lists {', '.join(near)}"
        what = f"the endpoint does not know the model {model!r}, or no {path}"
        return UnusableBase(Problem(where=self.base.endpoint, what=what, found=found, fix=fix))

    def _locked(self, status: int, message: str) -> UnusableBase:
        variable = self.secret.variable
        what = f"the endpoint refuses the key in {variable}"
        if not self.secret.given:
            what = f"the endpoint asks for a key, and {variable} is not set"
        return self._unusable(what, f"HTTP {status}: {message}")

    def _unusable(self, what: str, found: str) -> UnusableBase:
        return UnusableBase(Problem(where=self.base.endpoint, what=what, found=found))


def _limit(response: httpx2.Response) -> None:
    stream = response.stream
    if isinstance(stream, httpx2.SyncByteStream):
        response.stream = _Limited(stream, response.request.extensions[UNTIL])


class _Limited(httpx2.SyncByteStream):
    """A body that ends with an error when it takes too long or is too large."""

    def __init__(self, stream: httpx2.SyncByteStream, until: float) -> None:
        self._stream, self._until = stream, until

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._stream:
            size += len(piece)
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout("the answer took too long")
            if size > MOST_BYTES:
                raise httpx2.RemoteProtocolError(f"the answer has more than {MOST_BYTES:,} bytes")
            yield piece

    def close(self) -> None:
        """Close the connection's stream."""
        self._stream.close()
