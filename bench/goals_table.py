"""The performance goals beside what was measured: reached, missed and by how much, not measured.

What is wanted stands here; every measured figure is read from the records (`goal_figures.py`). A
part with several figures (jobs, cases, margins) is reached when each of them is. Ratios are medians
over blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import goal_figures as read
from board_table import lines
from goal_figures import Figure, Reader, Results
from jobs import JOBS


class Unit(NamedTuple):
    """How a wanted figure is shown, and on which side of it a measured one may lie."""

    wanted: str
    least: bool = True


class Part(NamedTuple):
    """One thing that a goal asks for."""

    goal: int
    words: str
    wanted: float
    found: Reader
    peer: str = ""
    """What the figure is a multiple of."""
    unit: Unit = Unit("≥ {:g} times")
    why: str = ""
    """Why it is missed; shown only where it is."""
    absent: str = "not measured"

    def good(self, value: float) -> bool:
        """Return whether a figure reaches what is wanted."""
        return value >= self.wanted if self.unit.least else value <= self.wanted


AT_MOST = Unit("≤ {:g} times", least=False)
SHARE, LIMIT = Unit("≥ {:.0%}"), Unit("≤ {:.0%}", least=False)
SECONDS, NONE, YES = Unit("≤ {:g} s", least=False), Unit("none", least=False), Unit("yes")

TRL, SHIPPED = "TRL at its best", "TRL as shipped"
TRAINER, TRAINER_BF16 = "Trainer + PEFT at its best", "Trainer + PEFT in bf16"
HARNESS, PLAIN, CACHED = "lm-eval at its best", "`generate`", "`generate` with a prefix cache"
ONCE, ONE_BY_ONE = "its dearest technique once, TRL as shipped", "all one by one, TRL + PEFT"

TITLES = {
    1: "LoRA SFT on a CPU",
    2: "Soft prompts, full SFT, DPO",
    3: "Useful FLOP, share of the matmul peak",
    4: "Evaluation",
    5: "A whole ladder on Banking77",
    6: "Racing",
    7: "Start-up and overhead",
    8: "One H200",
}

NO_PADDING = (
    "the peer at its best packs rows without padding and keeps its pages; what is left on both "
    "sides are the frozen base's products, at the same speed"
)
QUICKER_TRL = (
    "the grid has an option (packed, float32, pages kept) more than twice as fast as the best TRL "
    "of the measurement that the goal was set by; nine times that would be near the matmul peak"
)
NOT_BF16 = (
    "in float32, which this machine multiplies nearly twice as fast as bfloat16, the Trainer is "
    "faster than in the type that the goal names"
)
NARROW = (
    "its thirty layers are hardly wider than the eight of the 30M base; presumably what is not "
    "counted as useful weighs the more"
)
EVERY_ANSWER = (
    "rows share the instruction alone and much of each is the answer, so a shared prefix and a "
    "head at predicting positions save little, and long branches have dear attention"
)
REFERENCE = (
    "the peer at its best (float32, eager attention, pages kept) is 1.7 times as fast as the best "
    "TRL of the measurement that the goal was set by, which had 306 tokens a CPU second"
)
EVERY_WEIGHT = (
    "one block of one step; most of the weights are embeddings and output head, and presumably the "
    "optimizer's pass over them and their moments, the same on both sides, takes much of it"
)
SMALL = (
    "at this width attention, norms, rotation, gate and the low-rank products, none of which are "
    "useful FLOP as they are counted, take as long as the frozen products themselves"
)
ALIKE = (
    "with random weights every label is about as likely as the next, so the search computes most "
    "of the trie; on the embedded base it does not"
)
QUICK_HARNESS = (
    "as without examples; and the harness answers several times as many questions a second as in "
    "the measurement that the goal was set by"
)
SMALL_STEPS = (
    "with the shared prefix cached on both sides, presumably what is left is one small step a "
    "token, the same for both"
)
EIGHT_TIMES = (
    "four tuned techniques with their searches present nearly eight times the rows of the dearest "
    "alone, and behind so long a prompt about half the tokens of a step are its own; measured with "
    "32 classes: all 77 in its tokens exceed the embedded base's context of 1,024"
)
MARGIN = (
    "a race saves where the best technique is ahead by more than the margin and the rows can tell "
    "it; elsewhere only the hopeless are stopped"
)
AROUND = (
    "the embedded bases are so small that a run ends within half a minute, and what stands around "
    "its steps (tokens, trees, memory counted, statistics) hardly grows with base or budget"
)
NO_GPU = "no GPU at hand"


def _over_trl(
    job: str,
    words: str,
    goal: int,
    wanted: tuple[float, ...],
    shapes: tuple[str, ...] = (),
    why: str = "",
) -> list[Part]:
    """Return what is wanted over TRL at its best and, where the goal names it, as shipped; at some
    shapes or at all of a job's."""
    sides = list(zip(("best", "shipped"), (TRL, SHIPPED), wanted, strict=False))
    return [
        Part(goal, f"{words}, {shape}", least, read.training(job, shape, side), peer, why=why)
        for shape in shapes or JOBS[job].shapes
        for side, peer, least in sides
    ]  # fmt: skip


GOALS = (
    *_over_trl("lora-short", "Banking77", 1, (2.5, 5), ("5M",), NO_PADDING),
    *_over_trl("lora-short", "Banking77", 1, (3.5, 7), ("30M",), NO_PADDING),
    Part(1, "152k words", 9, read.training("lora-short", "wide", "best"), TRL, why=QUICKER_TRL),
    Part(1, "152k words", 5, read.training("lora-short", "wide", "trainer"), TRAINER,
         why=NOT_BF16),
    Part(1, "152k words", 5, read.trainer_bf16("lora-short", "wide"), TRAINER_BF16),
    *_over_trl("lora-labels", "77 labels named", 1, (15, 30), ("5M",)),
    *_over_trl("lora-long", "GSM8K", 1, (2,), why=EVERY_ANSWER),
    *_over_trl("prompt-tuning", "prompt tuning", 2, (3,)),
    *_over_trl("p-tuning", "P-tuning", 2, (3,)),
    *_over_trl("prefix-tuning", "prefix tuning", 2, (3,)),
    *_over_trl("full", "full SFT", 2, (2,), why=EVERY_WEIGHT),
    *_over_trl("dpo", "DPO", 2, (6, 8), why=REFERENCE),
    Part(3, "135M", 0.55, read.shares("135M"), unit=SHARE, why=NARROW),
    Part(3, "30M", 0.40, read.shares("30M"), unit=SHARE),
    Part(3, "5M", 0.40, read.shares("5M"), unit=SHARE, why=SMALL),
    Part(4, "77 labels, no example, 5M", 25, read.evaluation("labels-0", "best"), HARNESS,
         why=ALIKE),
    Part(4, "77 labels, no example, embedded base", 25,
         read.evaluation("labels-0-embedded", "best"), HARNESS),
    Part(4, "77 labels, 16 examples, 5M", 300, read.evaluation("labels-16", "best"), HARNESS,
         why=QUICK_HARNESS),
    Part(4, "equal answers", 1, read.predictions, unit=SHARE),
    Part(4, "written labels, 16 examples", 13, read.evaluation("text-16", "plain"), PLAIN),
    Part(4, "written labels, 16 examples", 4, read.evaluation("text-16", "cached"), CACHED,
         why=SMALL_STEPS),
    Part(4, "GSM8K, chain of thought", 7, read.evaluation("text-8-gsm8k", "plain"), PLAIN),
    Part(4, "GSM8K, chain of thought", 7, read.evaluation("text-8-gsm8k", "cached"), CACHED,
         why=SMALL_STEPS),
    Part(5, "short instruction", 1, read.ladder("short", "dearest_once"), ONCE, AT_MOST),
    Part(5, "77 labels named", 0.25, read.ladder("labels", "dearest_once"), ONCE, AT_MOST,
         EIGHT_TIMES),
    Part(5, "short instruction", 0.1, read.ladder("short", "one_by_one"), ONE_BY_ONE, AT_MOST),
    Part(5, "77 labels named", 0.1, read.ladder("labels", "one_by_one"), ONE_BY_ONE, AT_MOST),
    Part(5, "the same winner or tie set", 1, read.same_winners, unit=YES),
    Part(6, "winner or a tie of it kept", 0.95, read.races("kept", ".0%"), unit=SHARE),
    Part(6, "wrongly stopped", 0.05, read.races("wrong", ".1%"), unit=LIMIT),
    Part(6, "trained tokens", 0.35, read.races("tokens", ".0%"), unit=LIMIT, why=MARGIN),
    Part(6, "answered rows", 0.25, read.races("answers", ".0%"), unit=LIMIT, why=MARGIN),
    Part(7, "torch in `--help`, `check`, `report`", 0, read.imports, unit=NONE),
    Part(7, "CPU seconds of `--help`", 0.3, read.start("savile --help"), unit=SECONDS),
    Part(7, "the ladder's own overhead", 0.02, read.overheads, unit=LIMIT, why=AROUND),
    Part(8, "LoRA SFT, 0.5B", 2, read.nothing, "the best peer", absent=NO_GPU),
    Part(8, "LoRA SFT, 8B", 1.15, read.nothing, "the best peer", absent=NO_GPU),
    Part(8, "of 790 TFLOP/s, 8B", 0.5, read.nothing, unit=SHARE, absent=NO_GPU),
    Part(8, "eight candidates at once, 0.5B", 3, read.nothing, "eight runs of the best peer",
         absent=NO_GPU),
)  # fmt: skip
"""All parts of all goals. A race that stops wrongly is one in twenty at most: the guard's alpha."""


class Judged(NamedTuple):
    """A part beside its figures."""

    part: Part
    figures: list[Figure]

    @property
    def reached(self) -> bool | None:
        """Whether every figure reaches what is wanted; None where there is no figure."""
        return all(self.part.good(f.value) for f in self.figures) if self.figures else None

    @property
    def worst(self) -> Figure:
        """The figure furthest from what is wanted."""
        return sorted(self.figures, key=lambda f: f.value, reverse=not self.part.unit.least)[0]

    @property
    def shown(self) -> str:
        """The figure; of several the worst, the best, and how many are good."""
        if len(self.figures) < 2:
            return "".join(f.shown for f in self.figures)
        best = max(self.figures, key=lambda f: f.value if self.part.unit.least else -f.value)
        good = f"{sum(self.part.good(f.value) for f in self.figures)} of {len(self.figures)}"
        if best.value == self.worst.value:
            return f"{best.shown} ({good})"
        ends = (f"{f.shown} ({f.where})" for f in (self.worst, best))
        return f"{' to '.join(ends)}; good: {good}"

    @property
    def verdict(self) -> str:
        """What it comes to; a miss as a share or a multiple of the goal."""
        if self.reached is None:
            return self.part.absent
        if self.reached:
            return "reached"
        part = self.worst.value / self.part.wanted if self.part.wanted else self.worst.value
        over = not self.part.unit.least
        return f"**missed**: {part:.1f} times it" if over else f"**missed**: {part:.0%} of it"


def goals(results: Results, parts: tuple[Part, ...] = GOALS) -> str:
    """Return the table of all parts, and why those are missed that are."""
    every = judged(results, parts)
    rows = [
        "| goal | part | against | wanted | measured | | gate, and how it was measured |",
        "|---|---|---|--:|--:|---|---|",
    ]
    for one in every:
        part = one.part
        cells = [
            f"{part.goal} {TITLES[part.goal]}",
            part.words,
            part.peer,
            part.unit.wanted.format(part.wanted),
            one.shown,
            one.verdict,
            one.worst.gate if one.figures else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return lines([*rows, "", counted(every), *_reasons(every)])


def glance(results: Results, parts: tuple[Part, ...] = GOALS) -> str:
    """Return a line for each goal: what is reached, missed, and not measured."""
    every = judged(results, parts)
    rows = ["| goal | reached | missed | not measured |", "|---|---|---|---|"]
    for goal, title in TITLES.items():
        own = [one for one in every if one.part.goal == goal]
        cells = [
            "; ".join(dict.fromkeys(_brief(one) for one in own if one.reached is said))
            for said in (True, False, None)
        ]
        rows.append(f"| {goal} {title} | {' | '.join(cells)} |")
    return lines([*rows, "", counted(every)])


def judged(results: Results, parts: tuple[Part, ...]) -> list[Judged]:
    """Hold every part against the records."""
    return [Judged(part, part.found(results)) for part in parts]


def counted(every: list[Judged]) -> str:
    """Return how many parts are reached, missed and not measured."""
    reached, missed = (sum(one.reached is said for one in every) for said in (True, False))
    return (
        f"Of {len(every)} parts {reached} are reached, {missed} missed and "
        f"{len(every) - reached - missed} not measured."
    )


def _brief(one: Judged) -> str:
    """Return a part with its figure and what is wanted; of several figures the worst."""
    if not one.figures:
        return one.part.words
    peer = "" if one.part.peer in (TRL, HARNESS) else one.part.peer
    wanted = " ".join(filter(None, (one.part.unit.wanted.format(one.part.wanted), peer)))
    return f"{one.part.words}: {one.worst.shown.partition(' (')[0]} ({wanted})"


def _reasons(every: list[Judged]) -> list[str]:
    """Return a line for each reason, with the parts that are missed for it."""
    missed: dict[str, list[str]] = {}
    for one in (one for one in every if one.reached is False):
        named = ", ".join(filter(None, (f"{one.part.goal} {one.part.words}", one.part.peer)))
        missed.setdefault(one.part.why or "not known yet", []).append(named)
    told = [f"- {'; '.join(names)}: {why}." for why, names in missed.items()]
    return ["", "Why not:", "", *told] if told else []
