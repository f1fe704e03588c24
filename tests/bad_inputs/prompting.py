"""Bad inputs of the prompt side, whole: each through the command line, against a real server where
one is asked. `python -m tests.bad_inputs.prompting` writes the table of `docs/bad_inputs.md`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import pytest

import savile
from savile import cli
from savile.errors import SavileError
from savile.lm import constrained, sentences
from savile.lm.endpoint import patience
from tests import small_case
from tests.bad_inputs.material import GOOD, jsonl, lines
from tests.endpoint_server import Act, Exchange, Server, answers, sends, status

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "bad_inputs.md"
BEGIN, END = "<!-- prompting:begin -->\n", "<!-- prompting:end -->"
DEFAULTS: Final = {
    "task": "tickets",
    "data": "{train: train.jsonl, dev: dev.jsonl, test: test.jsonl}",
    "prompt": "{labels: [no, yes]}",
    "base": "embedded",
    "ladder": "[zero_shot]",
    "seeds": "1",
    "compute": "{device: cpu, dtype: float32, threads: 1}",
}
SERVED: Final = "{endpoint: 'URL', model: m}"
PRICED: Final = "{endpoint: 'URL', model: m, price: {input: 1, output: 1}}"
FREE: Final = "{instruction: Answer.}"
KEY: Final = "sk-bad-0123456789abcdef"
SAYS_NO: Final[Act] = answers("no")
Prepare = Callable[[pytest.MonkeyPatch], object]


class Bad(NamedTuple):
    """One bad input, and what has to become of it."""

    what: str
    """For the table."""
    code: int
    said: tuple[str, ...]
    """Pieces of the message; the line that holds the first of them stands in the table."""
    sections: Mapping[str, str] = {}
    """What the spec says; URL is the server's address, BASE a tiny model of 256 tokens."""
    command: str = "check"
    server: tuple[Act, ...] = ()
    files: Mapping[str, bytes] = {}
    prepare: Prepare | None = None
    after: Callable[[Path], int] | None = None
    """Called with the run folder in the place of a command line, after a good run."""


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    text: str


def outcome(bad: Bad, folder: Path) -> Outcome:
    """Write the spec of a bad input, give it to the command line, and return what came back."""
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(folder)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("COLUMNS", "2000")
        patch.setattr(patience, "FIRST_SECONDS", 0.01)
        server = Server(*bad.server or (SAYS_NO,), models=["m"])
        stack.enter_context(server.running())
        if bad.prepare:
            bad.prepare(patch)
        for name, content in {**GOOD, **bad.files}.items():
            (folder / name).write_bytes(content)
        text = "".join(f"{k}: {v}\n" for k, v in {**DEFAULTS, **bad.sections}.items())
        if "BASE" in text:
            small_case.write_base(folder / "base")
        text = text.replace("URL", server.url).replace("BASE", "base")
        (folder / "task.yaml").write_text(text, encoding="utf-8")
        heard = io.StringIO()
        stack.enter_context(contextlib.redirect_stdout(heard))
        stack.enter_context(contextlib.redirect_stderr(heard))
        code = _after(bad.after) if bad.after else cli.main(_words(bad.command))
        return Outcome(code, heard.getvalue().replace(server.host, "HOST"))


def _words(command: str) -> list[str]:
    name, *more = command.split()
    out = ["-o", "runs/a", "-q"] if name == "run" else []
    return [name, "task.yaml", *out, *more]


def _after(act: Callable[[Path], int]) -> int:
    code = cli.main(_words("run"))
    assert code == 0
    try:
        return act(Path("runs/a"))
    except SavileError as error:
        sys.stdout.write(f"error: {error}\n")
        return error.exit_code


# ── what is prepared, and what comes after ───────────────────────────────────────────────────


def no_key(patch: pytest.MonkeyPatch) -> None:
    patch.delenv("OPENAI_API_KEY")


def without(module: str) -> Prepare:
    """Return what hides a module from whoever imports it late."""

    def prepare(patch: pytest.MonkeyPatch) -> None:
        imported = importlib.import_module

        def hidden(name: str, *more: Any) -> Any:
            if name == module:
                raise ModuleNotFoundError(f"No module named {name.split('.')[-1]!r}")
            return imported(name, *more)

        patch.setattr(importlib, "import_module", hidden)

    return prepare


def no_llguidance(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(constrained, "LIBRARY", "no_such_library")


def no_sentences(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sentences, "LIBRARY", "no_such_library")


def edited(old: str, new: str) -> Callable[[Path], int]:
    """Return what exports a prompt, edits its file as a hand would, and asks it."""

    def act(run: Path) -> int:
        assert cli.main(["export", str(run), "-o", "handed", "--form", "prompt"]) == 0
        path = Path("handed") / "prompt.yaml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        savile.load_customized("handed").predict(["is it so?"])
        return 0

    return act


def latin1(run: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        stdin = SimpleNamespace(buffer=io.BytesIO(b"is it so?\ncaf\xe9 is it?\n"))
        patch.setattr("sys.stdin", stdin)
        return cli.main(["predict", str(run)])


def surrogate(run: Path) -> int:
    return cli.main(["predict", str(run), "caf\udce9"])


def keyed(exchange: Exchange) -> None:
    """Answer only who has the right key."""
    known = exchange.headers["authorization"] == "Bearer sk-right"
    (SAYS_NO if known else status(401, {"error": {"message": "bad key"}}))(exchange)


def unknown(exchange: Exchange) -> None:
    exchange.send(404, b'{"error": {"code": "model_not_found", "message": "no such model"}}')


PROMPTS: Final = "{labels: [no, yes], regex: '[ab]+'}"
SCHEMA: Final = b'{"type": "object", "properties": {"a": {"type": "strin"}}}'
LEAKED: Final = {"train.jsonl": jsonl(at=4, row=lines("test")[8])}
MANY: Final = str(list(range(1, 101)))
CONTEXT: Final = status(
    400, {"error": {"code": "context_length_exceeded", "message": "8192 tokens at most"}}
)
BROKE: Final = status(429, {"error": {"code": "insufficient_quota", "message": "quota exceeded"}})


def spec(what: str, *said: str, **sections: str) -> Bad:
    """Return a bad input that the spec alone shows: exit code 2."""
    return Bad(what, 2, said, sections)


CASES: Final = {
    # the endpoint's section
    "key-in-spec": spec(
        "a key in the spec", "a spec holds no key", base=f"{{model: m, api_key: {KEY}}}"
    ),
    "key-as-name": spec(
        "the key itself in key_env",
        "never the key itself",
        base=f"{{endpoint: 'URL', model: m, key_env: {KEY}}}",
    ),
    "no-scheme": spec(
        "an address without http://",
        "should start with http:// or https://",
        base="{endpoint: 'host/v1', model: m}",
    ),
    "whole-call": spec(
        "the address of one call",
        "is the address before /chat/completions",
        base="{endpoint: 'http://host/v1/chat/completions', model: m}",
    ),
    "below-zero-price": spec(
        "a price below 0",
        "'input' should be at least 0",
        base="{endpoint: 'URL', model: m, price: {input: -1, output: 2}}",
    ),
    "no-prices": spec(
        "a ceiling without prices",
        "'budget.usd' needs the prices of every endpoint",
        base=SERVED,
        budget="{usd: 1}",
    ),
    "own-fields": spec(
        "a field that Savile sets itself",
        "'request' may not set 'stop'",
        base="{endpoint: 'URL', model: m, request: {stop: [x]}}",
    ),
    "overruled-sampling": spec(
        "a temperature in `request` under self-consistency",
        "'request' sets 'temperature', which self_consistency decides (0.7)",
        base="{endpoint: 'URL', model: m, request: {temperature: 1}}",
        ladder="[zero_shot, {self_consistency: {n: 3}}]",
    ),
    "overruled-schema": spec(
        "a response_format in `request` under constrained_json",
        "'request' sets 'response_format', which constrained_json decides",
        base="{endpoint: 'URL', model: m, request: {response_format: {type: text}}}",
        prompt="{json_schema: {type: object}}",
        metric="json_fields",
        ladder="[constrained_json]",
    ),
    "twice": spec(
        "one model twice on a board",
        "the base 'm' is named twice",
        base="null",
        bases="[{endpoint: 'URL', model: m}, {endpoint: 'http://there/v1', model: m}]",
    ),
    # what the endpoint says
    "missing-key": Bad(
        "no key, and the endpoint wants one",
        4,
        ("asks for a key, and OPENAI_API_KEY is not set",),
        {"base": SERVED},
        "run",
        (keyed,),
        prepare=no_key,
    ),
    "wrong-key": Bad(
        "a key that is refused",
        4,
        ("refuses the key in OPENAI_API_KEY",),
        {"base": SERVED},
        "run",
        (keyed,),
    ),
    "nobody-there": Bad(
        "an address where nothing listens",
        4,
        ("http://127.0.0.1:9/v1: the endpoint cannot be reached",),
        {"base": "{endpoint: 'http://127.0.0.1:9/v1', model: m}"},
        "run",
    ),
    "unknown-model": Bad(
        "a model that the endpoint does not know",
        4,
        ("does not know the model 'mm'", "It lists m"),
        {"base": "{endpoint: 'URL', model: mm}"},
        "run",
        (unknown,),
    ),
    "not-the-protocol": Bad(
        "a web page in the place of an answer",
        4,
        ("answers cannot be used (3 attempts)", "is not JSON: '<html>"),
        {"base": SERVED},
        "run",
        (sends(b"<html>Welcome</html>"),),
    ),
    "no-credit": Bad(
        "an account without credit",
        4,
        ("the account has no credit left",),
        {"base": SERVED},
        "run",
        (BROKE,),
    ),
    "outage": Bad(
        "an endpoint that asks to wait for longer than `give_up_seconds`",
        75,
        ("the endpoint gives no answer", "the same command goes on"),
        {"base": "{endpoint: 'URL', model: m, give_up_seconds: 30}"},
        "run",
        (status(503, headers={"Retry-After": "60"}),),
    ),
    "ceiling": Bad(
        "a ceiling below what the run costs",
        75,
        ("stopped before the ceiling of 0.0001 USD would be passed",),
        {"base": PRICED, "budget": "{usd: 0.0001}"},
        "run",
    ),
    "lies-about-usage": Bad(
        "an endpoint that lies about usage",
        0,
        ("came with a usage that cannot be true",),
        {"base": PRICED},
        "run",
        (answers("no", usage={"prompt_tokens": 0, "completion_tokens": 0}),),
    ),
    "endpoint-context": Bad(
        "a prompt over the endpoint's context",
        6,
        ("the endpoint refuses a prompt", "Shorten the prompt"),
        {"base": SERVED},
        "run",
        (CONTEXT,),
    ),
    "weights-asked-of-an-api": Bad(
        "training a model behind an API",
        6,
        ("needs a base whose weights are here, not behind an API",),
        {"base": SERVED, "ladder": "[lora]"},
        "run",
    ),
    # prompts and their rows
    "over-the-context": Bad(
        "worked examples over the context",
        6,
        ("tokens, the model's context is 256",),
        {"base": "BASE", "ladder": "[{few_shot: {k: 12}}]"},
        "run",
    ),
    "label-prefix": Bad(
        "a label that is the beginning of another (served)",
        0,
        ("not sure",),
        {"base": SERVED, "prompt": "{labels: [no, yes, not sure]}"},
        server=(answers("Not sure."),),
        after=lambda run: cli.main(["predict", str(run), "is it so?"]),
    ),
    "answer-among-the-examples": Bad(
        "a training row that asks what a test row asks",
        3,
        ("1 rows are in more than one split", "1 of train in test"),
        {"ladder": "[{few_shot: {k: 4}}]"},
        files=LEAKED,
    ),
    "near-answer-among-the-judged": Bad(
        "a judged answer that nearly asks what a test row asks",
        3,
        ("1 of 40 test rows (2.5%) nearly repeat a row of train, dev or the judged answers",),
        {
            "data": "{train: train.jsonl, dev: dev.jsonl, test: test.jsonl, strict: true, "
            "preferences: judged.jsonl}"
        },
        files={
            "judged.jsonl": "".join(
                json.dumps({"prompt": text, "chosen": "no", "rejected": "yes"}) + "\n"
                for text in ("w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11", *(f"other {i}" for i in "abc"))
            ).encode(),
            "test.jsonl": jsonl(
                "test",
                at=5,
                row='{"text": "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w12", "label": "no"}',
            ).replace(b"w12", b"w11 w12"),
        },
    ),
    "unread-steps": Bad(
        "steps without the mark of an answer",
        0,
        ("no answer could be read",),
        {"base": SERVED, "ladder": "[chain_of_thought]"},
        "run",
        (answers("I think and think"),),
    ),
    "bootstrap-solves-none": Bad(
        "a base that solves no row by its own steps",
        6,
        ("the base solved none of 40 training rows",),
        {"base": SERVED, "ladder": "[{bootstrap: {k: 2, tries: 40}}]"},
        "run",
        (answers("who knows"),),
    ),
    "k-beyond-train": Bad(
        "more examples than rows",
        2,
        ("'few_shot(k=64)' shows 64 demonstrations, train has 40 rows",),
        {"ladder": "[{few_shot: {k: 64}}]"},
    ),
    "k-zero": spec("no example", "'k' should be at least 1", ladder="[{few_shot: {k: 0}}]"),
    "two-choosers": Bad(
        "two parts that choose the examples",
        6,
        ("few_shot and nearest both change the prompt's examples",),
        {"base": SERVED, "ladder": "[few_shot+nearest]"},
        "run",
    ),
    "words-of-no-label": Bad(
        "words for what is no label",
        2,
        ("format.words: 'maybe' is no label; expected labels: no, yes",),
        {"ladder": "[zero_shot, {format: {words: {maybe: perhaps}}}]"},
    ),
    "words-twice": Bad(
        "the same words for two labels",
        2,
        ("format.words: 'yes' stands for two labels",),
        {"ladder": "[{format: {words: {no: 'yes'}}}]"},
    ),
    "encoder-missing": Bad(
        "a relative folder of a sentence encoder that is missing",
        4,
        ("the sentence encoder './encoder' was not found", "start at the spec's folder"),
        {"ladder": "[{nearest_sentences: {encoder: ./encoder}}]"},
    ),
    "no-sentence-transformers": Bad(
        "nearest_sentences without its extra",
        6,
        ("pip install 'savile[sentences]'",),
        {"base": SERVED, "ladder": "[{nearest_sentences: {encoder: .}}]"},
        "run",
        prepare=no_sentences,
    ),
    "no-client": Bad(
        "an endpoint without its extra",
        4,
        ("pip install 'savile[api]'",),
        {"base": SERVED},
        "run",
        prepare=without("savile.lm.endpoint.wire"),
    ),
    "no-llguidance": Bad(
        "constrained_regex without its extra",
        6,
        ("constrained answers need llguidance",),
        {"base": "BASE", "prompt": "{regex: 'no|yes'}", "ladder": "[constrained_regex]"},
        "run",
        prepare=no_llguidance,
    ),
    # sampling and search
    "negative-temperature": spec(
        "a temperature below 0",
        "'temperature' should be above 0",
        ladder="[{self_consistency: {temperature: -0.5}}]",
    ),
    "no-samples": spec(
        "no sample", "'n' should be at least 1", ladder="[{self_consistency: {n: 0}}]"
    ),
    "empty-stop": spec("an empty stop string", "'stop' holds an empty text", prompt="{stop: ['']}"),
    "stop-in-marker": Bad(
        "a stop string inside the mark of an answer",
        2,
        ("'swer' ends every answer of 'chain_of_thought'",),
        {"prompt": "{stop: [swer]}", "ladder": "[chain_of_thought]"},
    ),
    "explosion": spec(
        "sweeps whose product explodes",
        "1,000,000, of which this item alone gives 1,000,000",
        ladder=f"[{{few_shot+self_consistency: {{k: {MANY}, n: {MANY}, top_p: {MANY}}}}}]",
    ),
    # shapes of answers
    "bad-regex": spec(
        "an expression that is none", "'regex' cannot be used", prompt="{regex: '[0-9'}"
    ),
    "regex-and-labels": spec(
        "an expression beside labels", "'regex' is for written answers", prompt=PROMPTS
    ),
    "schema-missing": spec(
        "a schema's file that is missing",
        "the file of 'json_schema' cannot be read",
        prompt="{json_schema: schema.json}",
    ),
    "bad-schema": Bad(
        "a schema that is none",
        2,
        ("'json_schema' cannot be used",),
        {"prompt": "{json_schema: schema.json}"},
        files={"schema.json": SCHEMA},
    ),
    # judges
    "judge-alone": spec(
        "a judge in the place of a metric",
        "a judge never stands in the place of a metric",
        judge="{base: embedded-large}",
    ),
    "judge-of-itself": Bad(
        "a judge that is the base it judges",
        0,
        ("It judges answers of m, itself: models favor what they wrote: treat with care",),
        {"base": SERVED, "metric": "accuracy", "judge": f"{{base: {SERVED}}}"},
    ),
    "no-such-opponent": spec(
        "a judge's opponent that is on no board",
        "no technique of the ladder is called 'zero_sht'; did you mean 'zero_shot'?",
        metric="accuracy",
        judge="{base: embedded-large, against: zero_sht}",
    ),
    # files of prompts, and questions
    "edited-labels": Bad(
        "prompt.yaml, edited to hold a label twice",
        2,
        ("prompt.yaml: frame.labels: holds 'no' twice",),
        {"base": SERVED},
        after=edited('  - "yes"\n', '  - "no"\n'),
    ),
    "edited-empty": Bad(
        "prompt.yaml, edited to hold an empty label",
        2,
        ("prompt.yaml: frame.labels.1: is '', an answer that nobody can see",),
        {"base": SERVED},
        after=edited('  - "yes"\n', '  - ""\n'),
    ),
    "edited-samples": Bad(
        "prompt.yaml, edited to draw no sample",
        2,
        ("prompt.yaml: frame.samples: is 0; expected at least 1, at most 128",),
        {"base": SERVED},
        after=edited("  samples: 1\n", "  samples: 0\n"),
    ),
    "edited-many": Bad(
        "prompt.yaml, edited to draw a million samples",
        2,
        ("prompt.yaml: frame.samples: is 1000000; expected at least 1, at most 128",),
        {"base": SERVED},
        after=edited(
            "  samples: 1\n  temperature: 0.0\n", "  samples: 1000000\n  temperature: 0.7\n"
        ),
    ),
    "edited-key": Bad(
        "prompt.yaml, edited with a key that is none",
        2,
        ("prompt.yaml: has the unknown key `frame.tempreature`",),
        {"base": SERVED},
        after=edited("  temperature: 0.0\n", "  tempreature: 0.0\n"),
    ),
    "latin-1": Bad(
        "questions on standard input that are not UTF-8",
        3,
        ("standard input, line 2: not UTF-8 at byte 13 (0xE9)",),
        {"base": SERVED},
        after=latin1,
    ),
    "surrogate": Bad(
        "a question on the command line that is not UTF-8",
        2,
        ("error: input 1: is not UTF-8",),
        {"base": SERVED},
        after=surrogate,
    ),
}


def message(bad: Bad, text: str) -> str:
    """Return what is said, on one line, as the table shows it."""
    line = next(line for line in reversed(text.splitlines()) if bad.said[0] in line)
    return re.sub(r"\s+", " ", line.removeprefix("error: ")).strip()


def rows() -> Iterator[str]:
    """Yield the table's lines, each case done anew."""
    yield "| | input | exit code | what is said |\n|--:|---|--:|---|\n"
    for number, bad in enumerate(CASES.values(), 1):
        with tempfile.TemporaryDirectory() as folder:
            found = outcome(bad, Path(folder))
        said = message(bad, found.text.replace(f"{folder}/", "")).replace("|", "\\|")
        yield f"| {number} | {bad.what} | {found.code} | {said} |\n"


def main() -> None:
    """Write the table."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(before + BEGIN + "".join(rows()) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
