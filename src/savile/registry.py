"""Finds every technique part by looking at the files of its folder; no list is kept anywhere.

A part is one file of `prompts/`, `deltas/`, `objectives/` or `metrics/` (not a contract, `base.py`
or `base_*.py`) that defines one final dataclass; the file's name is the part's name in a spec.
`describe` reads names, settings and documentation from the syntax tree alone, so that `check`,
`schema` and `techniques` know every delta without importing torch; `load` imports the one class
that is asked for.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

Axis = Literal["prompts", "deltas", "objectives", "metrics", "export"]
AXES: Final[tuple[Axis, ...]] = ("prompts", "deltas", "objectives", "metrics")
"""What a spec names; the forms of `export/` are found in the same way."""
NO_PART: Final = re.compile(r"__init__|base(_.*)?")
"""Files of an axis that hold no part: contracts, and what several parts share."""
MISSING: Final = object()
"""Default of a setting that has none."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a part: a setting of the spec, a column of the docs."""

    name: str
    annotation: str
    default: Any
    doc: str


@dataclass(frozen=True, kw_only=True)
class PartInfo:
    """What is known of a part without importing it."""

    axis: Axis
    name: str
    class_name: str
    summary: str
    """First sentence of the file."""
    source: str
    """The paper, from the file's `Source:` line."""
    doc: str
    """The whole header of the file: formula, source, differences, cost."""
    settings: tuple[Setting, ...]
    facts: dict[str, Any]
    """Literal class variables such as `needs`, `gives`, `replaces`, `stochastic`."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What the part needs from the data or from other parts."""
        return tuple(self.facts.get("needs", ()))

    @property
    def module(self) -> str:
        """The dotted name of the part's module."""
        return f"savile.{self.axis}.{self.name}"


@cache
def parts(axis: Axis) -> dict[str, PartInfo]:
    """Return every part of one axis by name, in alphabetical order."""
    folder = Path(__file__).parent / axis
    names = sorted(p.stem for p in folder.glob("*.py") if not NO_PART.fullmatch(p.stem))
    return {name: described for name in names if (described := describe(axis, name)) is not None}


def find(name: str) -> PartInfo | None:
    """Return the prompt, delta or objective called `name` (names are unique over the axes)."""
    for axis in AXES[:3]:
        if name in parts(axis):
            return parts(axis)[name]
    return None


def load(axis: Axis, name: str) -> type[Any]:
    """Import and return the class of one part."""
    info = parts(axis)[name]
    cls: type[Any] = getattr(importlib.import_module(info.module), info.class_name)
    return cls


def describe(axis: Axis, name: str) -> PartInfo | None:
    """Read one part's file; None when it defines no final dataclass."""
    tree = ast.parse((Path(__file__).parent / axis / f"{name}.py").read_text(encoding="utf-8"))
    doc = ast.get_docstring(tree) or ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _decorated(node, "final"):
            settings, facts = _members(node)
            return PartInfo(
                axis=axis,
                name=name,
                class_name=node.name,
                summary=doc.split("\n\n")[0].replace("\n", " "),
                source=_paragraph(doc, "Source:"),
                doc=doc,
                settings=settings,
                facts=facts,
            )
    return None


def _decorated(node: ast.ClassDef, name: str) -> bool:
    return any(isinstance(d, ast.Name) and d.id == name for d in node.decorator_list)


def _members(node: ast.ClassDef) -> tuple[tuple[Setting, ...], dict[str, Any]]:
    settings: list[Setting] = []
    facts: dict[str, Any] = {}
    for item, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        annotation = ast.unparse(item.annotation)
        value = MISSING if item.value is None else ast.literal_eval(item.value)
        if annotation.startswith("ClassVar"):
            facts[item.target.id] = value
            continue
        settings.append(
            Setting(
                name=item.target.id, annotation=annotation, default=value, doc=_doc_of(following)
            )
        )
    return tuple(settings), facts


def _doc_of(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


def _paragraph(doc: str, start: str) -> str:
    for paragraph in doc.split("\n\n"):
        if paragraph.startswith(start):
            text = " ".join(paragraph.split())[len(start) :].strip()
            return text.rstrip(".")
    return ""
