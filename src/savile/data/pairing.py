"""Preference pairs from scored answers: of two answers to a question the higher score is chosen.

    pairs of a question = its n greatest differences of score;  n = 1: the best against the worst

Never of two equal scores. A text that was given twice is one answer with the mean of its scores.
Every pair says which answers it is made of and where it is from (provenance): the columns beyond
prompt, chosen and rejected, which `data.preferences` does not read.

Source: best against worst of n own answers, none from equal scores: Self-Rewarding Language Models
(Yuan et al. 2024, arXiv 2401.10020).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean
from typing import Any, Final, NamedTuple

from savile.errors import DataError, Problem

SAME_SCORE: Final = 1e-9
"""Scores closer than this are equal: a mean of shares may end in other digits."""
PAIRED: Final = "paired"
EQUAL: Final = "all answers scored the same"
FEW: Final = "fewer than two answers"
USED: Final = "told apart"
REPEATED: Final = "repeated another"
EMPTY: Final = "empty"


class Scored(NamedTuple):
    """An answer and what it is worth."""

    text: str
    score: float
    origin: Mapping[str, Any]
    """Which answer it is: its sample's number, or its line."""


class Question(NamedTuple):
    """A question and its scored answers."""

    input: str
    answers: Sequence[Scored]
    origin: Mapping[str, Any] = {}
    """Which question it is: its row."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """Preference pairs, and what became of every question and every answer."""

    pairs: tuple[Mapping[str, Any], ...]
    """Rows of the file that `data.preferences` reads."""
    questions: Mapping[str, int]
    """How many were paired, and how many not, by reason."""
    answers: Mapping[str, int]
    """How many were told apart, and how many left out, by reason."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What all pairs share: technique, base, metric, seed."""
    notes: Sequence[str] = ()

    def summary(self) -> dict[str, Any]:
        """Return what was built as JSON values."""
        scores = {
            f"{side}_score": fmean(pair[f"{side}_score"] for pair in self.pairs)
            for side in ("chosen", "rejected")
            if self.pairs
        }
        longer = sum(len(pair["chosen"]) > len(pair["rejected"]) for pair in self.pairs)
        share = {"chosen_longer": longer / len(self.pairs)} if self.pairs else {}
        return {
            "pairs": len(self.pairs),
            "questions": dict(self.questions),
            "answers": dict(self.answers),
            **self.origin,
            **scores,
            **share,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return what was built as lines of plain text."""
        found = self.summary()
        said = f"{len(self.pairs)} pairs from {sum(self.questions.values())} questions"
        origin = ", ".join(f"{name} {value}" for name, value in self.origin.items())
        text = [f"{said} ({origin})" if origin else said]
        if self.pairs:
            text.append(
                f"mean score: chosen {found['chosen_score']:.3f}, rejected "
                f"{found['rejected_score']:.3f}; the chosen answer is the longer one in "
                f"{found['chosen_longer']:.0%}"
            )
        text += [f"{n} questions: {why}" for why, n in self.questions.items() if why != PAIRED]
        text += [f"{n} answers: {why}" for why, n in self.answers.items() if why != USED]
        return text + [f"note: {note}" for note in self.notes]


def pair_up(
    questions: Iterable[Question],
    *,
    per_question: int,
    origin: Mapping[str, Any],
    left_out: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
) -> Built:
    """Return the pairs of all questions.

    Args:
        questions: with every answer that can be used.
        per_question: most pairs of one question.
        origin: what all pairs share.
        left_out: answers that were not handed over, by reason.
        notes: what else to know.

    Raises:
        DataError: there is not one pair; the message says what became of the questions.
    """
    asked: Counter[str] = Counter({PAIRED: 0})
    answered = Counter(left_out or {})
    pairs: dict[tuple[str, str, str], dict[str, Any]] = {}
    for question in questions:
        given = [answer for answer in question.answers if answer.text.strip()]
        different = _different(given)
        answered += Counter({EMPTY: len(question.answers) - len(given), USED: len(different)})
        answered += Counter({REPEATED: len(given) - len(different)})
        found = _pairs(different)[:per_question]
        asked[PAIRED if found else EQUAL if len(given) > 1 else FEW] += 1
        for chosen, rejected in found:
            row = {
                "prompt": question.input,
                "chosen": chosen.text,
                "rejected": rejected.text,
                "chosen_score": chosen.score,
                "rejected_score": rejected.score,
                **{f"chosen_{name}": value for name, value in chosen.origin.items()},
                **{f"rejected_{name}": value for name, value in rejected.origin.items()},
                **question.origin,
                **origin,
            }
            pairs.setdefault((question.input, chosen.text, rejected.text), row)
    built = Built(
        pairs=tuple(pairs.values()), questions=asked, answers=answered, origin=origin, notes=notes
    )
    if not pairs:
        told = "; ".join(built.lines()[1:]) or "there is no question"
        raise DataError(
            Problem(
                what="no preference pair can be built",
                found=told,
                fix="Draw more samples or hotter ones, or use a metric that tells them apart",
            )
        )
    return built


def _different(answers: Sequence[Scored]) -> list[Scored]:
    """Return one answer for each text, in order, with the mean of its scores."""
    by_text: dict[str, list[Scored]] = defaultdict(list)
    for answer in answers:
        by_text[answer.text].append(answer)
    return [same[0]._replace(score=fmean(a.score for a in same)) for same in by_text.values()]


def _pairs(answers: Sequence[Scored]) -> list[tuple[Scored, Scored]]:
    """Return every (better, worse), the greatest difference first, else in the answers' order."""
    both = (sorted(two, key=lambda one: -one.score) for two in combinations(answers, 2))
    unequal = [
        (better, worse)
        for better, worse in both
        if not math.isclose(better.score, worse.score, rel_tol=0.0, abs_tol=SAME_SCORE)
    ]
    return sorted(unequal, key=lambda two: two[1].score - two[0].score)
