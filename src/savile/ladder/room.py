"""Whether a technique fits the memory before it runs, and what is done so that it does.

What does not fit (`needs.py`) is trained in smaller trees, whose gradients add up to those of the
same optimizer step; then with layers computed twice; what does not fit either is not run, and its
row says what it needs. Where memory runs out all the same, training starts again from where it
began with trees half as large, and answering goes on with half as many rows at once
(`lm/local.py`). A row says what was done.

Where nobody says what is in use or free, nothing is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from savile.deltas.base import Attached
from savile.errors import NoMemory
from savile.job import Job
from savile.ladder.needs import SCATTER, Known, of_answering, of_training
from savile.lm import live, memory
from savile.lm.base import Base
from savile.lm.local import Local
from savile.objectives.base import Objective
from savile.prompts.base import Frame
from savile.types import Example

T = TypeVar("T")
LEAST_TOKENS: Final = 256
"""Tokens of the smallest trees; one row alone may be longer."""
MOST_HALVINGS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """How a training runs in the memory there is."""

    job: Job
    twice: bool = False
    """Whether layers are computed twice."""
    expected: int | None = None
    """The highest use, in bytes; None where nobody says what is in use."""
    changed: str | None = None
    """What was done so that it fits, in words."""

    def computing(self) -> AbstractContextManager[None]:
        """Return the context to train in."""
        return live.checkpointed(self.job.lm) if self.twice else nullcontext()


def fitted(
    name: str, job: Job, objectives: Sequence[Objective], attached: Attached, known: Known
) -> Fitted:
    """Return how a technique is trained in the memory that is free.

    Args:
        name: of the technique.
        job: its training.
        objectives: trained in turn.
        attached: its delta, on the base.
        known: what was counted before; takes what is counted now.

    Raises:
        NoMemory: there is no way.
    """
    lm = job.lm
    used, free = memory.bytes_in_use(lm.device), memory.free_bytes(lm.device)
    if used is None or free is None:
        return Fitted(job=job)
    whole = job.plan.tokens_per_tree
    for twice in (False, True) if lm.uses_tree else (False,):
        if (name, twice) not in known:
            known[name, twice] = of_training(job, objectives, attached, twice=twice)
        needs, tokens = known[name, twice], whole
        while needs.at(tokens) > free and tokens > LEAST_TOKENS:
            tokens //= 2
        if (need := needs.at(tokens)) <= free:
            means = [f"trees of {tokens:,} tokens"] if tokens < whole else []
            means += ["layers computed twice"] if twice else []
            wanted = f"{_size(known[name, False].at(whole))} of memory were needed"
            return Fitted(
                job=replace(job, plan=replace(job.plan, tokens_per_tree=tokens)),
                twice=twice,
                expected=used + need,
                changed=f"{wanted}, {_size(free)} free: {', '.join(means)}" if means else None,
            )
    raise _no_room(need, free)


def answering(base: Base, frame: Frame, rows: Sequence[Example], limit: int) -> int | None:
    """Return the highest use that answering rows is expected to have, None where nobody says.

    Raises:
        NoMemory: so much is not free.
    """
    if not isinstance(base, Local):
        return None
    used, free = memory.bytes_in_use(base.device), memory.free_bytes(base.device)
    if used is None or free is None:
        return None
    need = int(SCATTER * of_answering(base.lm, frame, rows, limit))
    if need > free:
        raise _no_room(need, free)
    return used + need


def notes(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was done so that trials and their answers fit the memory, each once."""
    said = dict.fromkeys(one for result in results for one in result.get("memory", ()))
    if fewer := [result["rows_at_once"] for result in results if "rows_at_once" in result]:
        said[f"memory ran out while answering: the rows at once were cut to {min(fewer)}"] = None
    return list(said)


def trained(
    way: Fitted, attached: Attached, train: Callable[[Job], T], halvings: int = MOST_HALVINGS
) -> tuple[T, dict[str, Any]]:
    """Return what `train` gives, and for the trial's record what it was expected to need and what
    was done so that memory sufficed, in words.

    A training that runs out of memory starts again, from the state it began with and with trees
    half as large, `halvings` times at most: the same as if it had begun so.

    Args:
        way: how it is to run.
        attached: what it trains.
        train: trains a job.
        halvings: of the trees.
    """
    start = attached.state()
    tokens = way.job.plan.tokens_per_tree
    done = [] if way.changed is None else [way.changed]
    for left in range(halvings, -1, -1):
        job = replace(way.job, plan=replace(way.job.plan, tokens_per_tree=tokens))
        try:
            with way.computing():
                return train(job), {"expected_bytes": way.expected, "memory": done}
        except (MemoryError, RuntimeError) as error:
            if not memory.ran_out(error) or not left or tokens <= LEAST_TOKENS:
                raise
        attached.load(start)  # not above, where the error still holds what was computed
        for parameter in attached.parameters().values():
            parameter.grad = None
        memory.trim()
        done.append(
            f"memory ran out in trees of {tokens:,} tokens: trained again from its start in trees "
            f"of {tokens // 2:,}"
        )
        tokens //= 2
    raise AssertionError("the last try returns or raises")


def _no_room(need: int, free: int) -> NoMemory:
    return NoMemory(f"needs about {_size(need)} of memory, {_size(free)} free")


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
