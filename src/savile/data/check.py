"""What `savile check` says: sizes, balance, lengths, duplicates, leaks, and where rows went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from savile.data.dataset import Dataset, Rejected
from savile.data.tokens import OVERHEAD, counter
from savile.spec import reward
from savile.spec.model import Spec

LABELS_SHOWN = 10
ASIDE_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Health:
    """Facts about the data, as text and as JSON."""

    task: str
    gives: Sequence[str]
    """What the data give to techniques."""
    profile: Mapping[str, Any]
    """Counts and lengths of every split; see `profile.py`."""
    fates: Sequence[Mapping[str, Any]]
    """Where every row went."""
    tokens: Mapping[str, Any] | None
    """Lengths in tokens against the context; None when the tokenizer is not on this machine."""
    candidates: Sequence[Mapping[str, str | None]]
    """Every technique of the ladder, with the reason when it cannot run."""
    notes: Sequence[str]
    warnings: Sequence[str]
    hashes: Mapping[str, str]
    rejected: Sequence[Mapping[str, Any]] = ()
    """Every row that is set aside: file, line, reason, detail, sha256 of its cells."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {"schema_version": 1, **asdict(self)}

    def lines(self) -> list[str]:
        """Return the report as lines of plain text."""
        text = [f"task {self.task}"]
        text += [_rows_line(fate) for fate in self.fates]
        for split, found in self.profile["splits"].items():
            words, answer = found["input_words"], found["output_words"]
            text.append(
                f"{split}: {found['rows']} rows; words a question {words['median']} (95 %: "
                f"{words['p95']}, most {words['max']}), an answer {answer['median']} (most "
                f"{answer['max']})"
            )
        text += self._aside() + self._balance() + self._tokens()
        text.append(self._duplicates())
        for candidate in self.candidates:
            reason = f": {candidate['reason']}" if candidate["reason"] else ""
            text.append(f"{'not run' if reason else 'will run'}: {candidate['name']}{reason}")
        text += [f"note: {note}" for note in self.notes]
        return text + [f"warning: {warning}" for warning in self.warnings]

    def _aside(self) -> list[str]:
        text = [f"set aside: {Rejected(**row).told}" for row in self.rejected[:ASIDE_SHOWN]]
        if (more := len(self.rejected) - ASIDE_SHOWN) > 0:
            text.append(f"set aside: … {more} more rows (all with --json)")
        return text

    def _balance(self) -> list[str]:
        text = []
        for split, found in self.profile.get("labels", {}).items():
            if not found["counts"]:
                continue
            items = list(found["counts"].items())
            shown = ", ".join(f"{label} {count}" for label, count in items[:LABELS_SHOWN])
            more = f", … {len(items) - LABELS_SHOWN} more" if len(items) > LABELS_SHOWN else ""
            text.append(f"{split} labels: {len(items)} ({shown}{more})")
        test = self.profile.get("labels", {}).get("test")
        if test and test["majority"] is not None:
            majority, share = test["majority"], test["majority_share"]
            text.append(f"always answering {majority!r} would be right in {share:.1%} of test")
        clash = self.profile.get("conflicts")
        if clash:
            text.append(
                f"conflicting labels: {clash['groups']} inputs, {clash['rows']} rows; best "
                f"possible accuracy on test {clash['ceiling']:.1%}"
            )
        return text

    def _tokens(self) -> list[str]:
        if self.tokens is None:
            return ["tokens: not counted (the base model's tokenizer is not on this machine)"]
        found = self.tokens
        text = f"tokens a row: {found['median']} (95 %: {found['p95']}, most {found['max']})"
        if found["context"] is None:
            return [text]
        return [f"{text}; context {found['context']}: {found['over_context']} rows do not fit"]

    def _duplicates(self) -> str:
        leaks, near = self.profile["leaks"], self.profile["near_duplicates"]
        marks = self.profile["rows_with_special_marks"]
        text = (
            f"duplicates: {self.profile['duplicates_in_train']} in train; {leaks['rows']} rows in "
            f"more than one split ({leaks['exact']} exact); {near['rows']} of {near['looked_up']} "
            "test rows nearly in train or dev"
        )
        if marks:
            text += f"; {marks} rows hold marks like <|…|>, which are encoded as plain text"
        return text


def _rows_line(fate: Mapping[str, Any]) -> str:
    parts = [f"{key.replace('used_', '')} {fate[key]}" for key in fate if key.startswith("used")]
    parts += [f"{reason} {count}" for reason, count in fate["quarantined"].items()]
    return f"{fate['stage']}: {fate['n_in']} rows = {' + '.join(parts)}"


def health(spec: Spec, dataset: Dataset) -> Health:
    """Return what is to know about the data before a run; the test stays sealed.

    Args:
        spec: the spec the data were loaded from.
        dataset: what `savile.data.load` returned.
    """
    candidates = spec.candidates(dataset.gives, len(dataset.train))
    return Health(
        task=spec.task,
        gives=sorted(dataset.gives),
        profile=dataset.profile,
        fates=dataset.fates,
        tokens=_count_tokens(spec, dataset),
        candidates=[{"name": c.name, "reason": c.reason} for c in candidates],
        notes=[*dataset.notes, *reward.told(spec.reward, candidates)],
        warnings=dataset.warnings,
        hashes=dataset.hashes,
        rejected=[row._asdict() for row in dataset.rejected],
    )


def _count_tokens(spec: Spec, dataset: Dataset) -> dict[str, Any] | None:
    found = counter(spec.base, spec.folder)
    if found is None:
        return None
    head = found.count(f"{spec.prompt.system or ''} {spec.prompt.instruction or ''}") + OVERHEAD
    rows = [found.count(e.input) + found.count(e.output) for e in (*dataset.train, *dataset.dev)]
    lengths = sorted(head + length for length in (*rows, *dataset.test.lengths(found.count)))
    last = len(lengths) - 1
    over = sum(length > found.context for length in lengths) if found.context else None
    return {
        "tokenizer": found.source,
        "context": found.context,
        "median": lengths[last // 2],
        "p95": lengths[int(last * 0.95)],
        "max": lengths[last],
        "over_context": over,
    }
