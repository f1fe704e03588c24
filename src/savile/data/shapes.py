"""From cells to questions and answers: the shapes of the field are recognized and said.

    columns            any two columns, or templates such as "{subject}: {body}"
    prompt_completion  {"prompt", "completion"}, texts or lists of messages (TRL)
    chat               {"messages": [{"role", "content"}, ...]} (OpenAI): the last turn answers
    alpaca             {"instruction", "input", "output"}
    sharegpt           {"conversations": [{"from", "value"}, ...]}
    steps              columns whose answers are steps, then a line `#### answer` (GSM8K)

`data.input`, `data.output` and `data.format` overrule the guess. A template is filled in one pass,
so braces inside cells stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from savile.data.rows import Number, Row, Table, hint, shown
from savile.errors import DataError, Problem

INPUTS = (
    "input", "text", "question", "query", "prompt", "sentence", "ticket", "message", "utterance",
    "body", "content", "document", "article", "review", "comment", "source", "src", "mr",
)  # fmt: skip
OUTPUTS = (
    "output", "label", "category", "intent", "class", "answer", "completion", "response", "target",
    "tgt", "reference", "ref", "summary", "translation", "queue", "sentiment", "topic",
)  # fmt: skip
RATIONALES = ("rationale", "reasoning", "chain_of_thought", "explanation", "steps")
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
         "system": "system", "developer": "system"}  # fmt: skip
STEPS = re.compile(r"\A(.*?)\n####[ \t]*(\S.*)\Z", re.DOTALL)
"""Worked steps, then `#### answer` as the last line."""
IDENTIFIER = re.compile(r"\A(id|idx|index|uuid|.*_id|_.*|unnamed.*)\Z", re.IGNORECASE)
"""Columns that are never guessed to be a question or an answer."""
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
SAMPLE = 50
"""Rows looked at to recognize a shape."""


class Fields(NamedTuple):
    """What one row says. None and empty texts are dealt with by the caller."""

    input: str | None
    outputs: tuple[str | None, ...]
    """The answer; several when the row gives a list of acceptable ones."""
    rationale: str | None = None
    rejected: str | None = None
    """A worse answer to the same question."""


class BadCell(Exception):
    """A row that does not have the shape."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How to get question, answer and steps out of a row."""

    name: str
    said: str
    """What was recognized, for people."""
    columns: tuple[str, ...]
    """Columns that are used."""
    extract: Callable[[Row], Fields]
    """Raises BadCell."""


class Wanted(NamedTuple):
    """What the spec says about the shape."""

    format: str = "auto"
    input: str | None = None
    output: str | None = None
    rationale: str | None = None


def recognize(table: Table, wanted: Wanted) -> Shape:
    """Return the shape of a table's rows; raises DataError when nothing fits."""
    present = table.columns
    name = wanted.format
    if name == "auto":
        name = "columns" if wanted.input or wanted.output else _guess(table, present)
    if name in ("chat", "sharegpt"):
        return _chat(table, name, present)
    if name == "alpaca":
        _require(table, ("instruction", "output"), present)
        return Shape(
            name=name,
            said="recognized as Alpaca (instruction, input, output)",
            columns=("instruction", "input", "output"),
            extract=_alpaca,
        )
    if name == "prompt_completion":
        _require(table, ("prompt", "completion"), present)
        return _pairs(table, wanted._replace(input="prompt", output="completion"), name)
    chosen = _choose(table, wanted, present)
    return _pairs(table, chosen, name)


def _guess(table: Table, present: Sequence[str]) -> str:
    columns = set(present)
    if "messages" in columns:
        return "chat"
    if "conversations" in columns:
        return "sharegpt"
    if {"instruction", "output"} <= columns:
        return "alpaca"
    if {"prompt", "completion"} <= columns:
        return "prompt_completion"
    return "auto"


def _require(table: Table, names: Sequence[str], present: Sequence[str]) -> None:
    for name in names:
        if name not in present:
            found = ", ".join(present[:20])
            what = f"no column '{name}'; present: {found}{hint(name, present)}"
            fix = "Check data.input, data.output, data.format, and that there is a header row"
            raise DataError(Problem(where=table.name, what=what, fix=fix))


def _choose(table: Table, wanted: Wanted, present: Sequence[str]) -> Wanted:
    """Fill in the columns that the spec leaves out, from the names that are usual."""
    used = {name for text in wanted[1:] if text for name in names_in(text)}
    free = [c for c in present if c not in used and not IDENTIFIER.match(c)]
    lowered = {column.lower(): column for column in reversed(free)}
    output = wanted.output or next((lowered[n] for n in OUTPUTS if n in lowered), None)
    inputs = [n for n in INPUTS if n in lowered and lowered[n] != output]
    given = wanted.input or (lowered[inputs[0]] if inputs else None)
    rest = [c for c in free if c not in (output, given)]
    if len(rest) == 1 and (output is None) != (given is None):
        output, given = (output or rest[0]), (given or rest[0])
    elif len(rest) == 2 and output is None and given is None:
        given, output = rest
    if given is None or output is None:
        found = ", ".join(present[:20])
        what = f"cannot tell which column is the question and which the answer; present: {found}"
        fix = "Set data.input and data.output"
        raise DataError(Problem(where=table.name, what=what, fix=fix))
    steps = wanted.rationale or next((lowered[n] for n in RATIONALES if n in lowered), None)
    rationale = None if steps in (given, output) and not wanted.rationale else steps
    return wanted._replace(input=given, output=output, rationale=rationale)


def names_in(template: str) -> tuple[str, ...]:
    """Return the columns a template uses; a text without braces is a column itself."""
    return tuple(PLACEHOLDER.findall(template)) if "{" in template else (template,)


def _pairs(table: Table, wanted: Wanted, name: str) -> Shape:
    given, output, rationale = wanted.input or "", wanted.output or "", wanted.rationale
    used = tuple(n for text in (given, output, rationale) if text for n in names_in(text))
    _require(table, used, table.columns)
    sample = table.rows[:SAMPLE]
    steps = name == "steps" or (
        name == "auto"
        and rationale is None
        and all(_is_steps(row.cells.get(output)) for row in sample)
    )
    said = f"read {shown(given)} as the input and {shown(output)} as the output"
    said += f", {shown(rationale)} as worked steps" if rationale else ""
    said += ", split at '####' into worked steps and answer" if steps else ""

    def extract(row: Row) -> Fields:
        outputs = _outputs(row, output)
        reasons = _text(row, rationale) if rationale else None
        if steps:
            reasons, outputs = _split_steps(outputs)
        return Fields(_fill(row, given), outputs, reasons)

    return Shape(name="steps" if steps else name, said=said, columns=used, extract=extract)


def _is_steps(value: Any) -> bool:
    return isinstance(value, str) and STEPS.match(value) is not None


def _split_steps(outputs: tuple[str | None, ...]) -> tuple[str, tuple[str, ...]]:
    match = STEPS.match(outputs[0] or "")
    if match is None:
        raise BadCell(
            "the answer has no line '#### answer' at its end", "Or set data.format: columns"
        )
    return match[1].strip(), (match[2].strip(),)


def _cell(row: Row, column: str) -> Any:
    if column not in row.cells:
        present = ", ".join(list(row.cells)[:20])
        raise BadCell(f"no '{column}'; present: {present}{hint(column, row.cells)}")
    return row.cells[column]


def _text(row: Row, column: str) -> str | None:
    value = _cell(row, column)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        return _conversation(value, "role", "content")
    kind = "an array" if isinstance(value, list) else "an object"
    raise BadCell(f"'{column}' should be a text, found {kind}")


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "role" in value and "content" in value


def _outputs(row: Row, column: str) -> tuple[str | None, ...]:
    value = row.cells.get(column)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return tuple(map(str, value))
    if isinstance(value, list) and len(value) == 1 and _is_message(value[0]):
        return (_content(value[0]["content"]),)
    if "{" in column:
        return (_fill(row, column),)
    return (_text(row, column),)


def _fill(row: Row, template: str) -> str | None:
    if "{" not in template:
        return _text(row, template)
    return PLACEHOLDER.sub(lambda found: _text(row, found[1]) or "", template)


def _alpaca(row: Row) -> Fields:
    instruction, output = _text(row, "instruction"), _text(row, "output")
    extra = _text(row, "input") if "input" in row.cells else None
    given = f"{instruction}\n\n{extra}" if instruction and extra and extra.strip() else instruction
    return Fields(given, (output,))


def _chat(table: Table, name: str, present: Sequence[str]) -> Shape:
    column = "messages" if name == "chat" else "conversations"
    role, content = ("role", "content") if name == "chat" else ("from", "value")
    _require(table, (column,), present)
    what = "OpenAI chat messages" if name == "chat" else "ShareGPT conversations"

    def extract(row: Row) -> Fields:
        turns = turns_of(_cell(row, column), column, role, content)
        if turns[-1][0] != "assistant":
            found = f"found {turns[-1][0]}"
            raise BadCell(f"the last turn of '{column}' should be the assistant's, {found}")
        return Fields(joined(turns[:-1]), (turns[-1][1],))

    said = f"recognized as {what}; the last assistant turn is the answer"
    return Shape(name=name, said=said, columns=(column,), extract=extract)


def turns_of(
    value: Any, column: str, role: str = "role", content: str = "content", least: int = 2
) -> list[tuple[str, str]]:
    """Return the (speaker, text) turns of a dialogue; raises BadCell for anything else."""
    if not isinstance(value, list) or len(value) < least:
        raise BadCell(f"'{column}' should be a list of at least {least} turns")
    turns = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, Mapping) or role not in turn or content not in turn:
            raise BadCell(f"turn {number} of '{column}' should have '{role}' and '{content}'")
        speaker = ROLES.get(str(turn[role]))
        if speaker is None:
            found = shown(str(turn[role]))
            raise BadCell(f"turn {number} of '{column}' has an unknown {role} {found}")
        turns.append((speaker, _content(turn[content])))
    return turns


def _content(value: Any) -> str:
    """Return the text of a message; a list of parts may hold texts only."""
    if value is None or (isinstance(value, str) and not isinstance(value, Number)):
        return value or ""
    if isinstance(value, list):
        if all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
            return "".join(str(part.get("text", "")) for part in value)
        raise BadCell("a message holds a part that is not text (an image or a file)")
    raise BadCell("the content of a message should be a text")


def _conversation(value: Sequence[Mapping[str, Any]], role: str, content: str) -> str:
    return joined([(ROLES.get(str(t[role]), "user"), _content(t[content])) for t in value])


def joined(turns: Sequence[tuple[str, str]]) -> str:
    """Join the turns before the answer: a single question as it is, a dialogue with speakers."""
    system = [text for speaker, text in turns if speaker == "system" and text.strip()]
    talk = [(speaker, text) for speaker, text in turns if speaker != "system"]
    if len(talk) == 1:
        body = talk[0][1]
    else:
        body = "\n".join(f"{speaker.capitalize()}: {text}" for speaker, text in talk)
    return "\n\n".join([*system, body]) if system else body
