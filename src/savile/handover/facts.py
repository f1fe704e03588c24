"""savile.json: what an exported folder is, for the loader: form, technique, base, what was measured
and what was checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from savile import store
from savile.errors import IntegrityError, Problem, UsageError
from savile.ladder.written import candidate_json
from savile.spec import Candidate

NAME: Final = "savile.json"
FORMAT: Final = 1


@dataclass(frozen=True, kw_only=True)
class OfBase:
    """The base that a technique was measured on."""

    spec: Any
    """As the spec names it: text, or an endpoint's section."""
    name: str
    sha256: str
    """Of its weights, configuration, tokenizer and template, or of what names an endpoint."""
    dtype: str | None = None
    """Type of its weights; None where it was not loaded and the run left it open, or there are
    none."""
    quantization: str | None = None
    """How its weights are stored, where they are quantized."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The technique's row on the board."""

    task: str
    metric: str
    score: float
    low: float
    high: float
    """Limits of the 95 % interval."""
    n: int
    """Rows of the test."""
    seeds: int
    seed_index: int
    """Which of the seeds was exported."""
    score_of_seed: float


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How what was written, read back, compares with what was measured."""

    rows: int
    of: str
    """Where the rows are from."""
    difference: float | None
    """Largest difference of a logit (relative where it is above 1); None where the files hold no
    weights."""
    same_answers: int | None
    """Rows answered as in the run; None where they were not in the run."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything about an exported folder but its files."""

    form: str
    candidate: Candidate
    base: OfBase
    max_new_tokens: int
    measured: Measured
    checked: Checked


_FACTS: Final = TypeAdapter(Facts)


def write(folder: Path, facts: Facts) -> None:
    """Write savile.json."""
    document = {**asdict(facts), "candidate": candidate_json(facts.candidate), "format": FORMAT}
    store.write_json(folder / NAME, document)


def read(folder: Path) -> Facts:
    """Return the facts of an exported folder.

    Raises:
        UsageError: it is none.
        IntegrityError: its savile.json is not the one that was written.
    """
    path = folder / NAME
    if not path.is_file():
        fix = "Write one with `savile export`"
        raise UsageError(Problem(where=str(folder), what="holds no exported technique", fix=fix))
    document = store.read_json(path)
    found = document.pop("format", None) if isinstance(document, dict) else None
    if found != FORMAT:
        raise IntegrityError(
            Problem(
                where=str(path),
                what="has a format this version cannot read",
                found=str(found),
                expected=str(FORMAT),
            )
        )
    try:
        return _FACTS.validate_json(store.dump_json(document), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = f"is not the one that was written: `{place}`: {first['msg']}"
        raise IntegrityError(Problem(where=str(path), what=what)) from error
