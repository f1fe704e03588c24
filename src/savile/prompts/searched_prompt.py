"""The best of many prompts, by successive halving on training rows: instruction and form searched.

    candidates = {prompt.instruction, prompt.variants…, proposals…} x {the given form, `formats`…}
    taken      = the last of a halving by the mean over rows of p(right answer | prompt)

p is the probability among the labels of a closed set, else the geometric mean over tokens: between
0 and 1 for every wording of the labels. Candidates that write the same are one. It searches what
stands before it: `few_shot+searched_prompt` searches around the demonstrations, whose rows judge
nothing.

Source: Zhou et al. 2023, arXiv 2211.01910 (candidates of an instruction, scored by likelihood on a
subset, the good ones on more rows); Sclar et al. 2024, arXiv 2310.11324 (forms); the halving and
its corrected gain in `base_halving.py`.

What differs: candidates are people's, rewriting rules' and, where it is asked, a model's
(`base_proposing.py`); a candidate has to beat the given prompt; and the gain that is claimed allows
for having picked the best of many. Dev and test have no part in it.
Cost: at most `budget` rows scored a seed, those of a candidate behind their shared prefix; no
labelled row but the `judged` ones and those that a proposer reads; `proposals` instructions that
are written.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, final

from annotated_types import Ge, Le, MaxLen

from savile.errors import DataError, Problem
from savile.prompts import base_proposing
from savile.prompts.base import Frame, Model, Prompt, Proposals, pool_of
from savile.prompts.base_format import Format
from savile.prompts.base_halving import searched
from savile.retrieval import same
from savile.types import Example

JOINTS: Final = re.compile(r"[_-]+")
"""What joins the words of a label that was made for programs."""
CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {"turns": "plain", "input_label": "Input:", "output_label": "Output:"},
    "questions": {"turns": "plain", "input_label": "Question:", "output_label": "Answer:"},
    "labelled": {"turns": "chat", "input_label": "Input:", "output_label": "Output:"},
    "start": {"instruction": "start"},
    "before": {"instruction": "before"},
    "after": {"instruction": "after"},
}
"""What a rule changes of the given form; `spaced` changes the words of labels."""


class Candidate(NamedTuple):
    """A prompt of the search."""

    name: str
    frame: Frame


@final
@dataclass(frozen=True, kw_only=True)
class SearchedPrompt(Prompt):
    """Search the wording of the instruction and the form of the prompt."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "weights")
    stochastic: ClassVar[bool] = True

    formats: Annotated[
        tuple[Literal["plain", "questions", "labelled", "start", "before", "after", "spaced"], ...],
        MaxLen(7),
    ] = ("plain", "questions", "labelled", "start", "before", "after", "spaced")
    """Forms that are tried beside the given one: `plain` text or `questions` in the place of turns,
    `labelled` turns, the instruction at the `start`, `before` or `after` the question, and labels
    `spaced` where they are joined by _ or -."""
    budget: Annotated[int, Ge(2), Le(10_000_000)] = 1024
    """Rows scored at most, summed over candidates."""
    judged: Annotated[int, Ge(2), Le(65536)] = 128
    """Training rows that judge at most; those that are shown are none of them."""
    proposals: Annotated[int, Ge(0), Le(64)] = 0
    """Instructions that a model writes and that are tried beside the given ones: the spec's
    `prompt.proposer`, else the base itself."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame of the prompt that the search took, with the record of the search.

        Raises:
            DataError: nothing to search, or too few rows; the neighbors of rows are not looked up.
        """
        pool = pool_of(train)
        if model is None:
            longest = ("x" * base_proposing.MOST_LETTERS,) if self.proposals else ()
            found = self.candidates(frame, pool, longest)
            probe = max(pool, key=lambda row: len(row.input), default=None)
            return found[0].frame if probe is None else max(found, key=_size(probe)).frame
        if frame.retriever is not None and frame.retriever.embedder:
            what = "searched_prompt cannot search around neighbors by vectors"
            raise DataError(Problem(what=what, fix="Write it before them in the technique's name"))
        proposed, read = self._proposed(frame, pool, rng, model)
        found = self.candidates(frame, pool, proposed.texts)
        if len(found) == 1:
            what = "there is nothing to search"
            fix = "Give prompt.variants, `formats` or `proposals`"
            raise DataError(Problem(what=what, fix=fix))
        judges = self._judges(frame, pool, read, rng)
        won, record = searched(
            [one.name for one in found],
            len(judges),
            self.budget,
            lambda one, rows: model.probabilities(found[one].frame, judges[rows.start : rows.stop]),
        )
        record = replace(
            record, proposed=tuple(proposed.texts), proposer=proposed.by, usd=proposed.usd
        )
        return replace(found[won].frame, searched=record)

    def candidates(
        self, frame: Frame, pool: Sequence[Example], proposed: Sequence[str] = ()
    ) -> list[Candidate]:
        """Return the given prompt, then all others that write something else.

        Args:
            frame: the given one.
            pool: training rows.
            proposed: instructions that a model wrote.
        """
        wordings = [("", frame.instruction)]
        wordings += [(f"variant {n}", text) for n, text in enumerate(frame.variants, 1)]
        wordings += [(f"proposal {n}", text) for n, text in enumerate(proposed, 1)]
        every = [
            Candidate(
                ", ".join(filter(None, (wording, rule))) or "given",
                replace(frame, instruction=text, format=form, variants=()),
            )
            for wording, text in wordings
            for rule, form in [("", frame.format), *((r, _changed(frame, r)) for r in self.formats)]
        ]
        different: dict[str, Candidate] = {}
        for one in every:
            shown = [one.frame.longest().messages(row) for row in pool[:1]]
            different.setdefault(repr((shown, one.frame.label_words)), one)
        return list(different.values())

    def _proposed(
        self, frame: Frame, pool: Sequence[Example], rng: random.Random, model: Model
    ) -> tuple[Proposals, list[Example]]:
        """Return the instructions that a model wrote, and the rows it read for that."""
        if not self.proposals:
            return Proposals([], "", None), []
        whole = [row for row in pool if frame.shows_target(row)]
        read = rng.sample(whole, min(base_proposing.READ, len(whole) // 2))
        made = model.proposals(
            base_proposing.asked(frame, read),
            self.proposals,
            shown=read,
            seed=rng.getrandbits(31),
            max_new_tokens=base_proposing.MOST_TOKENS,
        )
        return made._replace(texts=list(base_proposing.wordings(made.texts))), read

    def _judges(
        self, frame: Frame, pool: Sequence[Example], read: Sequence[Example], rng: random.Random
    ) -> list[Example]:
        """Return rows that no demonstration shows and no proposer read, in a drawn order."""
        shown = {same(row.input) for row in (*frame.demonstrations, *read)}
        rest = [row for row in pool if same(row.input) not in shown and frame.shows_target(row)]
        rng.shuffle(rest)
        return rest[: self.judged]


def _changed(frame: Frame, rule: str) -> Format:
    """Return the form of a frame as a rule rewrites it."""
    if rule != "spaced":
        return replace(frame.format, **CHANGES[rule])
    words = {label: JOINTS.sub(" ", word).strip() for label, word in _words(frame).items()}
    distinct = len(set(words.values())) == len(words) and all(words.values())
    return replace(frame.format, words=words) if distinct else frame.format


def _words(frame: Frame) -> dict[str, str]:
    return dict(zip(frame.labels, frame.label_words, strict=True))


def _size(row: Example) -> Callable[[Candidate], int]:
    """Return what measures a candidate by the letters of its prompt for a row."""
    return lambda one: sum(len(turn.content) for turn in one.frame.longest().messages(row))
