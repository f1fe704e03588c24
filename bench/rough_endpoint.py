"""A run against a server on loopback that misbehaves, to the end: what it meets, leaves and pays.

    python bench/rough_endpoint.py [--rows 60] [--no-result]

The server knows the answers of a bundled case, and is rough: it limits rates (429, Retry-After),
fails (500), stalls beyond the timeout, breaks off inside an answer, and sends what is no JSON. The
same command is given until its board is there: under a ceiling that is too low, under one that is
enough, and from an empty folder beside it. Each is one line: exit code, what became of the
requests, what was paid and kept, and what stands on the board, which has to be that of a calm
server.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

import kept
import machine
from savile import cli, data, store
from savile import spec as specs
from savile.ladder.folder import RunFolder
from savile.spec import init

CASE: Final = "easy_routing"
LADDER: Final = "[zero_shot, {few_shot: {k: 4}}]"
PRICE: Final = {"input": 1.0, "output": 4.0}
TIMEOUT: Final = 1.0
SHARES: Final = {"429": 0.06, "500": 0.05, "stall": 0.03, "cut": 0.04, "no JSON": 0.04}
"""Of the requests, what becomes of them; the others are answered."""
STREAK: Final = 2
"""A question is met with roughness at most so often: what never passes is an outage."""


class Rough:
    """A model behind an API that knows the answers of a case, and its server."""

    def __init__(self, answers: dict[str, str], shares: dict[str, float]) -> None:
        self.answers, self.shares = answers, shares
        self.did: Counter[str] = Counter()
        self._rng, self._lock = random.Random(0), threading.Lock()
        self._met: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.say(200, {"data": [{"id": "rough"}]})

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                outer.answer(self, json.loads(self.rfile.read(length)))

            def say(self, status: int, body: Any, **headers: str) -> None:
                self.send(status, json.dumps(body).encode(), **headers)

            def send(self, status: int, content: bytes, length: int = 0, **headers: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(length or len(content)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = bool(length)

            def log_message(self, *words: object) -> None:
                pass

        self.handler = Handler

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve while the block runs; yields the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, handler: Any, body: dict[str, Any]) -> None:
        """Answer one request, or misbehave."""
        asked = json.dumps(body["messages"])
        with self._lock:
            way = self._way(asked)
            self.did[way] += 1
        with suppress(OSError):  # a client that gave up
            getattr(self, "_" + way.replace(" ", "_"))(handler, body, asked)

    def _way(self, asked: str) -> str:
        point = self._rng.random()
        for way, share in self.shares.items():
            if point < share and self._met[asked] < STREAK:
                self._met[asked] += 1
                return way
            point -= share
        return "answered"

    def _answered(self, handler: Any, body: dict[str, Any], asked: str) -> None:
        text = self.answers.get(body["messages"][-1]["content"], "none")
        usage = {"prompt_tokens": len(asked) // 4, "completion_tokens": len(text) // 4 + 1}
        usage["total_tokens"] = sum(usage.values())
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        handler.say(200, {"model": "rough", "choices": [choice], "usage": usage})

    def _429(self, handler: Any, body: dict[str, Any], asked: str) -> None:
        handler.say(429, {"error": {"message": "slow down"}}, Retry_After="0.3")

    def _500(self, handler: Any, body: dict[str, Any], asked: str) -> None:
        handler.say(500, {"error": {"message": "something broke"}})

    def _stall(self, handler: Any, body: dict[str, Any], asked: str) -> None:
        time.sleep(TIMEOUT * 1.5)
        handler.close_connection = True

    def _cut(self, handler: Any, body: dict[str, Any], asked: str) -> None:
        handler.send(200, b'{"choices": [{"message": {"role": "assist', length=4000)

    def _no_JSON(self, handler: Any, body: dict[str, Any], asked: str) -> None:  # noqa: N802
        handler.send(200, b'{"choices": [{"message": {"content": "half an ans"')


def measure(rows: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what each command left behind: against a calm server first, which tells the cost."""
    task = init.copy_case(CASE, folder / "case")
    dataset = data.load(specs.load(task))
    every = [*dataset.train, *dataset.dev, *dataset.test.open("the server knows the answers")]
    answers = {row.input: row.output for row in every}
    calm, rough = Rough(answers, {}), Rough(answers, SHARES)
    with calm.serving() as quiet, rough.serving() as loud:
        first = _step(calm, Command(task, folder / "calm" / "run", quiet, rows, 1000.0))
        yield {"step": "a calm server", **first}
        low, run = 0.5 * first["usd_paid"], folder / "rough" / "run"
        for name, out, usd in (
            ("a rough one, the ceiling at half of that", run, low),
            ("the same command", run, low),
            ("the ceiling raised", run, 1000.0),
            ("the same command, finished", run, 1000.0),
            ("another folder beside it", run.with_name("beside"), 1000.0),
        ):
            yield {"step": name, **_step(rough, Command(task, out, loud, rows, usd))}


class Command(NamedTuple):
    """One call of `savile run`."""

    task: Path
    out: Path
    url: str
    rows: int
    usd: float

    @property
    def words(self) -> list[str]:
        """Return its command line."""
        base = {"endpoint": self.url, "model": "rough", "price": PRICE, "timeout_seconds": TIMEOUT}
        changes = {
            "base": json.dumps(base),
            "ladder": LADDER,
            "budget.test_rows": str(self.rows),
            "budget.usd": str(self.usd),
            "seeds": "1",
        }
        sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
        return ["run", str(self.task), "--out", str(self.out), "-q", "--json", *sets]


def _step(server: Rough, command: Command) -> dict[str, Any]:
    before, started = Counter(server.did), time.perf_counter()
    with redirect_stdout(io.StringIO()) as printed:
        code = cli.main(command.words)
    seconds = time.perf_counter() - started
    folder, document = RunFolder(command.out), json.loads(printed.getvalue())
    payments = list(store.read_events(folder.payments_path))
    problems = (document.get("error") or {}).get("problems", [])
    return {
        "kind": "step",
        "ceiling_usd": command.usd,
        "exit_code": code,
        "said": "; ".join(problem["what"] for problem in problems),
        "seconds": seconds,
        "server": dict(server.did - before),
        "usd_paid": sum(payment["usd"] for payment in payments),
        "usd_failed": sum(payment["usd"] for payment in payments if "failed" in payment),
        "answers_kept": sum(1 for _ in folder.answers_path.rglob("*.json")),
        "units_committed": len(folder.events("committed")),
        "rows": [
            {key: row[key] for key in ("technique", "status", "n", "score", "usd_per_1000")}
            for row in document.get("board", ())
            if row["kind"] != "baseline"
        ],
    }


def wrong(steps: list[dict[str, Any]]) -> list[str]:
    """Return what a run that can be relied on would not have left."""
    calm, ceiling, again, raised, finished, beside = steps
    promises = {
        "the ceiling was passed": ceiling["usd_paid"] > ceiling["ceiling_usd"],
        "the ceiling did not stop the run": {ceiling["exit_code"], again["exit_code"]} != {75},
        "a board is not the calm one": any(
            step["rows"] != calm["rows"] for step in (raised, finished, beside)
        ),
        "an answer was asked twice": raised["answers_kept"] != calm["answers_kept"],
        "what was finished was asked again": bool(finished["server"] or beside["server"]),
        "a folder beside it was charged": beside["usd_paid"] > 0,
    }
    return [promise for promise, broken in promises.items() if broken]


def main() -> None:
    """Measure and write the result; fails when something was left behind that should not be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--no-result", action="store_true")
    given = parser.parse_args()
    os.environ |= {"OPENAI_API_KEY": "sk-rough-0123456789", "NO_PROXY": "127.0.0.1"}
    line = machine.line()
    setup = {"kind": "setup", "case": CASE, "rows": given.rows, "price": PRICE, "shares": SHARES}
    with tempfile.TemporaryDirectory() as folder:
        steps = list(measure(given.rows, Path(folder)))
    records = [line, {**setup, "timeout_seconds": TIMEOUT}, *steps]
    print("\n".join(json.dumps(record) for record in records[1:]))
    if broken := wrong(steps):
        sys.exit("; ".join(broken))
    if not given.no_result:
        kept.write("rough-endpoint", records)


if __name__ == "__main__":
    main()
