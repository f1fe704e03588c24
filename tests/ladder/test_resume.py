"""Every delta and every objective that is stopped inside its training, and started again, leaves
the bytes of a training that was not; what stops a whole run stands in `test_kill.py`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from savile import registry
from savile.errors import InterruptedRun, Problem
from savile.ladder.bench import Bench
from savile.ladder.folder import WEIGHTS
from savile.ladder.progress import PASSES_TRAINED_ROW
from savile.ladder.teaching import Teaching
from savile.ladder.trial import Attempt, run_trial
from savile.lm.local import Local
from savile.metrics.exact_match import ExactMatch
from savile.prompts.base import Frame
from savile.spec import Candidate
from savile.types import Example, Preference
from tests import tiny
from tests.gates import Gate

EXAMPLES = 48
"""Three steps, so that the second is stopped."""
TRAIN = [Example(id=str(n), input=f"put {n}", output="yes" if n % 2 else "no") for n in range(16)]
JUDGED = [
    Preference(id=row.id, input=row.input, chosen=row.output, rejected="maybe") for row in TRAIN
]


@pytest.fixture(scope="module")
def bench() -> Bench:
    frame, teacher = Frame(labels=("yes", "no")), Local(tiny.lm("llama", seed=4))
    return Bench(
        bases=[Local(tiny.lm("llama"))],
        frame=frame,
        train=TRAIN,
        dev=TRAIN[:4],
        metric=ExactMatch(),
        seed=0,
        preferences=JUDGED,
        dev_preferences=JUDGED[:4],
        teaching=Teaching(base=teacher, frame=frame, train=TRAIN),
    )


def _tuned(delta: tuple[str, dict[str, Any]], objective: str) -> Candidate:
    name = f"{delta[0]}+{objective}"
    return Candidate(name=name, deltas=(delta,), objectives=((objective, {}),))


def stop_after(n: int) -> Callable[[float], None]:
    """Return a listener that stops a trial after `n` presentations."""

    def listen(passes: float) -> None:
        if passes >= n * PASSES_TRAINED_ROW:
            raise InterruptedRun(Problem(what="stopped"))

    return listen


def stopped_and_again(bench: Bench, candidate: Candidate) -> int:
    """Return how many files of a trial differ after it was stopped inside and run again."""
    attempt = Attempt(candidate=candidate, seed_index=0, learning_rate=0.01, examples=EXAMPLES)
    whole = run_trial(bench, attempt)
    assert whole.result["status"] == "ok", whole.result["reason"]
    with pytest.raises(InterruptedRun):
        run_trial(bench, replace(attempt, on_passes=stop_after(EXAMPLES // 2)))
    again = run_trial(bench, attempt)
    assert WEIGHTS in whole.files
    assert [p.text for p in again.predictions] == [p.text for p in whole.predictions]
    assert again.files.keys() == whole.files.keys()
    return sum(again.files[name] != blob for name, blob in whole.files.items())


@pytest.mark.parametrize("name", sorted(registry.parts("deltas")))
def test_a_delta_that_is_stopped_and_started_again(name: str, bench: Bench, gate: Gate) -> None:
    differ = stopped_and_again(bench, _tuned((name, {}), "sft"))
    assert differ == 0
    gate(name, "resume", differ, "files after a stop inside")


@pytest.mark.parametrize("name", sorted(registry.parts("objectives")))
def test_an_objective_that_is_stopped_and_started_again(
    name: str, bench: Bench, gate: Gate
) -> None:
    differ = stopped_and_again(bench, _tuned(("lora", {"r": 2}), name))
    assert differ == 0
    gate(name, "resume", differ, "files after a stop inside")
