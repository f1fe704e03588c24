"""An endpoint on loopback that does what it is told: answers, or any way of misbehaving."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Act = Callable[["Exchange"], None]
"""What to do with one request."""


class Exchange:
    """One request and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: Body) -> None:
        self.handler, self.body = handler, body
        self.path = handler.path
        self.headers = dict(handler.headers)

    @property
    def question(self) -> str:
        """The last message, or the plain prompt."""
        messages = self.body.get("messages")
        return str(messages[-1]["content"] if messages else self.body["prompt"])

    def send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer with bytes."""
        self.handler.send_response(status)
        given = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in {**given, **(headers or {})}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(content)
        self.handler.wfile.flush()

    def say(self, text: str, *, usage: Any = ..., **more: Any) -> None:
        """Answer in the protocol's shape, with true usage (a token is four bytes) or another."""
        sent = json.dumps(self.body.get("messages", self.body.get("prompt")))
        counts = {"prompt_tokens": len(sent) // 4 + 1, "completion_tokens": len(text) // 4 + 1}
        counts["total_tokens"] = sum(counts.values())
        choice = {"index": 0, "finish_reason": "stop", **more}
        if self.path.endswith("/chat/completions"):
            choice = {"message": {"role": "assistant", "content": text}, **choice}
        else:
            choice = {"text": text, **choice}
        found = counts if usage is ... else usage
        self.send(
            200,
            json.dumps(
                {"model": "served", "choices": [choice], **({"usage": found} if found else {})}
            ).encode(),
        )


class Server:
    """Runs on a free port; one act a request, the last one again and again."""

    def __init__(self, *acts: Act, models: list[str] | int = 404) -> None:
        self.acts, self.models = list(acts), models
        self.seen: list[Exchange] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self) -> None:
                outer.listed(Exchange(self, {}))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                outer.act(Exchange(self, json.loads(self.rfile.read(length))))

            def finish(self) -> None:
                with suppress(OSError):  # a client that gave up
                    super().finish()
                self.rfile.close()

            def log_message(self, *words: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # a client that gave up
        self.host = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.host}/v1"

    def listed(self, exchange: Exchange) -> None:
        """Answer the question for models."""
        if isinstance(self.models, int):
            exchange.send(self.models, b'{"error": {"message": "who are you?"}}')
        else:
            listed = {"data": [{"id": name} for name in self.models]}
            exchange.send(200, json.dumps(listed).encode())

    def act(self, exchange: Exchange) -> None:
        """Do the next act."""
        with self._lock:
            self.seen.append(exchange)
            act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        act(exchange)

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()


def answers(text: str | Callable[[str], str], **more: Any) -> Act:
    """Answer properly, with a text or what is made of the question."""

    def act(exchange: Exchange) -> None:
        exchange.say(text if isinstance(text, str) else text(exchange.question), **more)

    return act


def status(code: int, body: Any = None, headers: Mapping[str, str] | None = None) -> Act:
    """Answer with an error."""
    content = {"error": {"message": f"told to say {code}"}} if body is None else body
    return lambda exchange: exchange.send(code, json.dumps(content).encode(), headers)


def sends(content: bytes, headers: Mapping[str, str] | None = None) -> Act:
    """Answer 200 with any bytes."""
    return lambda exchange: exchange.send(200, content, headers)


def truncated(exchange: Exchange) -> None:
    """Promise more than is sent, then close."""
    exchange.send(200, b'{"choices": [{"mess', {"Content-Length": "5000"})
    exchange.handler.close_connection = True


def closes(exchange: Exchange) -> None:
    """Close the connection without a word."""
    exchange.handler.close_connection = True


def stalls(seconds: float) -> Act:
    """Say nothing for a while, then close."""

    def act(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.handler.close_connection = True

    return act


def drips(pieces: int, pause: float) -> Act:
    """Send a byte now and then: no single wait is long, the answer never ends."""

    def act(exchange: Exchange) -> None:
        exchange.handler.send_response(200)
        exchange.handler.send_header("Content-Length", "100000")
        exchange.handler.end_headers()
        for _ in range(pieces):
            try:
                exchange.handler.wfile.write(b" ")
                exchange.handler.wfile.flush()
            except OSError:
                break
            time.sleep(pause)
        exchange.handler.close_connection = True

    return act
