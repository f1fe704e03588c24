"""prompt.yaml: the prompt of a technique as people read, compare and edit it.

    frame       everything that turns a question into messages and a text into an answer
    rendered    what one question becomes, to look at

The file is read back to the same frame, so every question becomes the same messages, byte for byte;
`rendered` is not read. Texts of several lines are written as lines, the others in quotes, so that a
label such as `yes` stays a text for every reader of YAML. Source: YAML 1.2.2.

Cost: the bytes of the prompt.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, final

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from savile import store
from savile.errors import Problem, UsageError
from savile.export.base import Customization, Form, Holds, Opened, Where
from savile.ladder.written import FRAME, frame_json
from savile.predict import closed
from savile.prompts.base import Frame
from savile.prompts.base_check import Fault, faults
from savile.spec import constraint

NAME: Final = "prompt.yaml"
FORMAT: Final = "savile-prompt/1"
HEAD: Final = "# The prompt as it was measured; savile.load_customized reads `frame`.\n"
UNFOLDED: Final = 1 << 30
"""Columns of a line: none is broken."""


@final
@dataclass(frozen=True, kw_only=True)
class Prompt(Form):
    """The prompt alone; every other form carries it, too."""

    rank: ClassVar[int] = 4
    holds: ClassVar[Holds] = "prompt"

    def refusal(self, made: Customization) -> str | None:
        """Return None where the prompt is all there is."""
        return None if made.attached is None else "its trained weights would be left out"

    def write(self, made: Customization, folder: Path) -> None:
        """Write prompt.yaml."""
        document = {
            "format": FORMAT,
            "technique": made.candidate.name,
            "settings": made.candidate.settings,
            "max_new_tokens": made.max_new_tokens,
            "answer": reading(made.frame),
            "frame": _plain(made.frame.portable(), whole=True),
            "rendered": [asdict(turn) for turn in made.frame.messages(made.example)],
        }
        store.write_atomic(folder / NAME, HEAD.encode() + _yaml(document))

    @contextmanager
    def opened(self, folder: Path, made: Customization, where: Where) -> Iterator[Opened]:
        """Give the base as it is."""
        assert made.lm is not None
        yield Opened(made.lm, made.lm.template)

    def to_load(self, base: str) -> str:
        """Return the lines for Savile."""
        return (
            'import savile\n\nprompt = savile.load_customized(".")\n'
            'messages = prompt.messages("a question")  # for any chat API'
        )


def reading(frame: Frame) -> str:
    """Return in words how an answer is read out of a model's text."""
    if closed(frame):
        shown = ", each scored in its words" if frame.format.words else ""
        each = ", per token" if frame.length_normalized else ""
        against = ", against what each scores without a question" if frame.calibration else ""
        return f"the likeliest of the labels{shown}{each}{against}"
    if frame.reasoning:
        return f"what follows the last {frame.answer_marker!r}, in upper or lower case"
    held = f", held to the {frame.constraint.kind}" if frame.constraint else ""
    return f"the text without outer white space{held}"


def read(folder: Path) -> Frame:
    """Return the frame of a folder's prompt.yaml.

    Raises:
        UsageError: the file is missing, no such file, of another version, or its frame was edited
            into one that cannot be asked.
    """
    path = folder / NAME
    try:
        document = YAML(typ="safe", pure=True).load(path.read_bytes())
    except FileNotFoundError:
        raise _unreadable(path, "is missing") from None
    except (YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise _unreadable(path, f"is not YAML: {said}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else document
        raise _unreadable(path, f"is no {FORMAT}", found=repr(found)[:80])
    values = document.get("frame")
    try:
        frame = FRAME.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("frame", *first["loc"])))
        raise _unreadable(path, f"`{place}`: {first['msg']}", repr(first["input"])[:80]) from error
    if wrong := list(_wrong(frame)):
        raise UsageError(
            [
                Problem(where=f"{path}: frame.{place}", what=what, expected=known)
                for place, what, known in wrong
            ]
        )
    if unknown := _unknown(values, json.loads(frame_json(frame)), "frame"):
        raise _unreadable(path, f"has the unknown key `{unknown}`")
    return frame


def _wrong(frame: Frame) -> Iterator[Fault]:
    """Yield what a hand may have made of a frame that cannot be asked."""
    yield from faults(frame)
    held = frame.constraint
    if held is not None and (said := constraint.fault_of(held.kind, held.text)):
        yield Fault("constraint.text", f"cannot be used: {said}")


def _unreadable(path: Path, what: str, found: str = "") -> UsageError:
    return UsageError(Problem(where=str(path), what=what, found=found))


def _unknown(given: Any, known: Any, place: str) -> str | None:
    """Return the first key that was given and not understood."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        pairs = [(value, known.get(name), f"{place}.{name}") for name, value in given.items()]
        if strange := next((f"{place}.{name}" for name in given if name not in known), None):
            return strange
    elif isinstance(given, list) and isinstance(known, list):
        pairs = [(a, b, f"{place}.{n}") for n, (a, b) in enumerate(zip(given, known, strict=True))]
    else:
        return None
    return next(filter(None, (_unknown(*pair) for pair in pairs)), None)


def _plain(value: Any, *, whole: bool = False) -> Any:
    """Return a dataclass as plain values; inside it, what has its default is left out."""
    if is_dataclass(value):
        return {
            one.name: _plain(own)
            for one in fields(value)
            if (own := getattr(value, one.name)) != one.default or whole or own is MISSING
            if whole or one.default_factory is MISSING or own != one.default_factory()
        }
    if isinstance(value, Mapping):
        return {key: _plain(own) for key, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, list | tuple) else value


class _Text(SafeRepresenter):
    """Writes texts of several lines as lines, all others in quotes; names of keys as they are."""

    def represent_text(self, text: str) -> ScalarNode:
        return self._scalar(text, "|" if _reads_as_lines(text) else '"')

    def represent_key(self, data: Any) -> Any:
        if isinstance(data, str) and data.isidentifier():
            return self._scalar(data, None)
        return super().represent_key(data)

    def _scalar(self, text: str, style: str | None) -> ScalarNode:
        node: ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", text, style=style)
        return node


def _reads_as_lines(text: str) -> bool:
    """Return whether a text is lines in which everything can be seen."""
    lines = text.split("\n")
    return (
        len(lines) > 1
        and all(line.isprintable() and line == line.rstrip() for line in lines)
        and bool(lines[0])
        and not lines[0].startswith(" ")
        and bool(lines[-1])
    )


_Text.add_representer(str, _Text.represent_text)


def _yaml(document: Mapping[str, Any]) -> bytes:
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Text
    yaml.default_flow_style, yaml.width = False, UNFOLDED
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.BytesIO()
    yaml.dump(dict(document), stream)
    return stream.getvalue()
