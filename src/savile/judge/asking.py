"""Pairs before a judge: both orders of each, and a verdict that counts only when they agree.

    verdict = what both orders prefer, else a tie        value of a pair for a = 1, 1/2 or 0

Equal answers are a tie and a missing answer loses, unasked. What is too long for the judge, or
comes back as none of its three words, is unread. A pair with an unread verdict is a tie where a
value is needed, and `unread` where verdicts are held against what is known: a judge that says
nothing agrees with nobody.

Source: Zheng et al. 2023, arXiv 2306.05685, section 3.4 ("swapping positions").
Cost: two requests a pair, each of one word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple

from savile.judge.question import ANSWER_TOKENS, FIRST, LABELS, TIE, Pair, Side, chats
from savile.lm.base import Answer, Asked, Base, Chat

Heard = Side | Literal["unread"]
"""What was heard of a judge about a pair."""
HOW: Final = Asked(labels=LABELS, max_new_tokens=ANSWER_TOKENS)
"""How every verdict is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What a judge said about one pair."""

    row: str
    """Identity of the question."""
    ab: Side | None
    """The verdict with `a` shown first; None: unread."""
    ba: Side | None
    """The verdict with `b` shown first."""
    lengths: tuple[int, int]
    """Characters of `a` and of `b`."""
    asked: bool = True
    """False where the verdict needed no judge."""

    @property
    def verdict(self) -> Side:
        """What both orders say, else a tie."""
        return self.ab if self.ab is not None and self.ab == self.ba else "tie"

    @property
    def heard(self) -> Heard:
        """The verdict, `unread` where one of its orders is."""
        return "unread" if self.ab is None or self.ba is None else self.verdict

    @property
    def value(self) -> float:
        """1 when `a` wins, 0 when `b` does, 1/2 for a tie."""
        return {"a": 1.0, "b": 0.0, "tie": 0.5}[self.verdict]


class Session(NamedTuple):
    """What one call of a judge left behind."""

    judged: tuple[Judged, ...]
    """In the order of the pairs."""
    usd: float | None
    """What the verdicts cost at an endpoint; None where requests have no price."""

    def to_json(self) -> dict[str, Any]:
        """Return the session as JSON values."""
        return {"judged": [asdict(one) for one in self.judged], "usd": self.usd}


def from_json(value: Mapping[str, Any]) -> Session:
    """Return the session that `to_json` wrote."""
    judged = (Judged(**{**one, "lengths": tuple(one["lengths"])}) for one in value["judged"])
    return Session(tuple(judged), value["usd"])


def judge(
    base: Base,
    criterion: str,
    pairs: Sequence[Pair],
    on_pairs: Callable[[float], None] = lambda pairs: None,
) -> Session:
    """Return the verdicts of a base on pairs.

    Args:
        base: what judges.
        criterion: what makes an answer the better one, as a question.
        pairs: in any order; one that needs no judge is not asked.
        on_pairs: told how many pairs are done, 0 while a base waits; may raise InterruptedRun.
    """
    orders = {
        number: chats(criterion, pair) for number, pair in enumerate(pairs) if pair.known is None
    }
    asked = [(number, swapped) for number in orders for swapped in (False, True)]
    asked = [(n, swapped) for n, swapped in asked if _fits(base, orders[n][swapped])]
    found: dict[tuple[int, bool], Answer] = {}
    with closing(base.answers([orders[n][swapped] for n, swapped in asked], HOW)) as groups:
        for group in groups:
            found.update((asked[place], answer) for place, answer in group)
            on_pairs(len(found) / 2)
    judged = tuple(_judged(pair, number, found) for number, pair in enumerate(pairs))
    paid = [answer.usd for answer in found.values() if answer.usd is not None]
    return Session(judged, sum(paid) if len(paid) == len(found) > 0 else None)


def _fits(base: Base, chat: Chat) -> bool:
    if base.context is None:
        return True
    longest = max(base.answer_tokens(label) for label in LABELS)
    return base.prompt_tokens(chat) + longest <= base.context


def _judged(pair: Pair, number: int, found: Mapping[tuple[int, bool], Answer]) -> Judged:
    known = pair.known
    ab, ba = (
        (known, known)
        if known is not None
        else (_side(found.get((number, swapped)), swapped) for swapped in (False, True))
    )
    lengths = (len((pair.a or "").strip()), len((pair.b or "").strip()))
    return Judged(row=pair.row, ab=ab, ba=ba, lengths=lengths, asked=known is None)


def _side(answer: Answer | None, swapped: bool) -> Side | None:
    if answer is None or answer.label is None:
        return None
    if answer.label == TIE:
        return "tie"
    return "a" if (answer.label == FIRST) != swapped else "b"
