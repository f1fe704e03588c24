"""A YAML file as plain values, with the place of every key and value.

Scalars stay the text that was written (`no`, `010`, `1:30`, `1e-3` are not turned into something
else); the model of the spec decides what is a number. Only `null`, `~` and nothing become None.
Tags such as `!!python/object` are refused, and aliases are expanded up to a limit, so that reading
costs at most `MAX_NODES` steps. Source: YAML 1.2.2 (core schema), read with ruamel.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from savile.errors import Problem, UsageError
from savile.spec.faults import Fault, Loc

MAX_BYTES = 1 << 20
"""A spec is written by hand: one mebibyte is far more than any needs."""
MAX_NODES = 50_000
MAX_DEPTH = 40
CORE = "tag:yaml.org,2002:"
CORE_TAGS = ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "value")


@dataclass(kw_only=True)
class Document:
    """Plain values (dict, list, str, None) and where each of them was written."""

    name: str
    value: Any = None
    keys: dict[Loc, str] = field(default_factory=dict)
    """Place of a key, by the path of its value."""
    places: dict[Loc, str] = field(default_factory=dict)
    """Place of a value."""
    problems: list[Problem] = field(default_factory=list)

    def where(self, loc: Loc, *, at_key: bool = False) -> str:
        """Return the place of `loc`, or of the nearest enclosing value that is written down."""
        tables = (self.keys, self.places) if at_key else (self.places,)
        for length in range(len(loc), -1, -1):
            for table in tables:
                if loc[:length] in table:
                    return table[loc[:length]]
        return self.places.get((), self.name)

    def problem(self, fault: Fault) -> Problem:
        """Return a fault as a problem with its place."""
        return Problem(
            where=self.where(fault.loc, at_key=fault.at_key),
            what=fault.what,
            found=fault.found,
            expected=fault.expected,
            fix=fault.fix,
        )


def read(path: Path) -> Document:
    """Read a YAML file; raises UsageError when it cannot be read as one mapping."""
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        fix = "Write one with `savile init DATA_FILE`"
        raise UsageError(Problem(where=str(path), what=f"the spec {kind}", fix=fix))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(Problem(where=str(path), what=f"cannot read: {error.strerror}")) from error
    if len(data) > MAX_BYTES:
        raise UsageError(Problem(where=str(path), what="a spec of more than 1 MiB is not read"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = f"not UTF-8 at byte {error.start} (0x{data[error.start]:02X})"
        raise UsageError(Problem(where=f"{path}:{line}", what=what)) from error
    return parse(text, str(path))


def parse(text: str, name: str, *, prefix: Loc = (), fixed_place: bool = False) -> Document:
    """Parse YAML text.

    Args:
        text: one YAML document.
        name: what to call it in places (`task.yaml`, or `--set data.leak`).
        prefix: path of the text's root inside the spec (for `--set`).
        fixed_place: use `name` alone as every place, without line and column.
    """
    document = Document(name=name)
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except RecursionError:
        raise UsageError(Problem(where=name, what="nested too deeply")) from None
    except MarkedYAMLError as error:
        raise UsageError(_syntax(error, name, text, fixed_place=fixed_place)) from error
    except (YAMLError, ValueError) as error:
        what = "not YAML: " + " ".join(str(error).split())[:200]
        raise UsageError(Problem(where=name, what=what)) from error
    walk = _Walk(document, fixed_place=fixed_place)
    document.value = None if node is None else walk.value(node, prefix)
    return document


class _Walk:
    """Turns ruamel's nodes into plain values, counting what aliases expand to."""

    def __init__(self, document: Document, *, fixed_place: bool) -> None:
        self.document = document
        self.fixed_place = fixed_place
        self.nodes = 0

    def place(self, node: Node) -> str:
        """Return `file:line:column` of a node, both from 1."""
        if self.fixed_place:
            return self.document.name
        mark = node.start_mark
        return f"{self.document.name}:{mark.line + 1}:{mark.column + 1}"

    def value(self, node: Node, loc: Loc, depth: int = 0) -> Any:
        """Return the plain value of a node and note its place."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            what = "too large or too deeply nested once its aliases are expanded"
            raise UsageError(Problem(where=self.place(node), what=what))
        self.document.places[loc] = self.place(node)
        tag = str(node.tag)
        if not tag.startswith(CORE) or tag.removeprefix(CORE) not in CORE_TAGS:
            shown = "!!" + tag.removeprefix(CORE) if tag.startswith(CORE) else tag
            self.complain(
                node, f"tag {shown} is not allowed; a spec holds text, lists and sections"
            )
            return None
        if isinstance(node, MappingNode):
            return self.mapping(node, loc, depth)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*loc, i), depth + 1) for i, item in enumerate(node.value)]
        return None if tag == CORE + "null" else self.text(node)

    def mapping(self, node: MappingNode, loc: Loc, depth: int) -> dict[str, Any]:
        """Return a mapping; a key that is written twice is a problem."""
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                what = "a key must be one word, not a list or a section; quote a text with braces"
                self.complain(key_node, what)
                continue
            key = self.text(key_node)
            if key in found:
                first = self.document.keys[(*loc, key)]
                self.complain(key_node, f"key '{key}' is written twice (first at {first})")
                continue
            self.document.keys[(*loc, key)] = self.place(key_node)
            found[key] = self.value(value_node, (*loc, key), depth + 1)
        return found

    def text(self, node: Node) -> str:
        """Return a scalar's text; pairs of escaped surrogates become the character they mean."""
        text = str(node.value)
        if text.isascii():
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.complain(node, "a lone surrogate, which is not a character")
            return text.encode("utf-8", "replace").decode("utf-8")

    def complain(self, node: Node, what: str) -> None:
        """Note a problem and go on, so that all are said at once."""
        self.document.problems.append(Problem(where=self.place(node), what=what))


def _syntax(error: MarkedYAMLError, name: str, text: str, *, fixed_place: bool) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = " ".join(f"{error.problem or 'not YAML'}".split())
    context = ""
    if "\\t" in what:
        what = "a tab cannot indent YAML"
    where = name
    if mark is not None and not fixed_place:
        where = f"{name}:{mark.line + 1}:{mark.column + 1}"
        lines = text.splitlines()
        if mark.line < len(lines) and mark.column < 100:
            shown = lines[mark.line][:100].replace("\t", " ")
            context = f"  {shown}\n  {' ' * mark.column}^"
    fix = "Indent with spaces" if "tab" in what else ""
    return Problem(where=where, what=f"not YAML: {what}", fix=fix, context=context)
