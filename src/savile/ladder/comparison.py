"""How a policy that was trained on preferences or a reward differs from the one it started from.

    win rate             share of test rows it answers better by the task's metric, ties count half
    KL                   mean over its own sampled answers of log p - log p_start, nats an answer
    preference accuracy  share of held-out pairs whose chosen answer gained more than the rejected
    reward accuracy      share of held-out pairs a reward model ranks right
    length accuracy      share of them whose chosen answer is the longer one
    chosen moved         mean change of log p of held-out chosen answers, nats
    score moved          change on dev rows of the metric
    reward moved         change on dev rows of the reward it was trained by, where there was one

A falling likelihood of chosen answers (Rafailov et al. 2024, arXiv 2404.12358) and a reward that
rises while the metric falls (Gao, Schulman, Hilton 2022, arXiv 2210.10760) are said in words.

    shares: Wilson's interval, as of a score (`stats/limits.py`)
    others: mean -+ sqrt(u^2 V_rows + t^2 s^2 / K),  u and t with N - 1 and K - 1 degrees of freedom
            for N rows and K seeds

The scatter s of the seeds' means holds some noise of the rows again: a little too wide, never too
narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from savile.chain import Chained
from savile.deltas.base import Attached
from savile.job import Job, compared
from savile.ladder.bench import Bench
from savile.lm.generate import sample
from savile.lm.local import Local
from savile.lm.rollouts import Rollout, token_logprobs
from savile.objectives.base import Encoded, Reward, Written
from savile.predict import predict
from savile.prompts.base import Frame
from savile.stats import ALPHA, mean_of_seeds, quantile
from savile.types import Example, Prediction, Preference

TOKENS_PER_TREE: Final = 4096
WORTH_SAYING: Final = 1.0
"""Nats an answer by which chosen answers must have fallen before it is said."""
SHARES: Final = ("win_rate", "preference_accuracy", "reward_accuracy", "length_accuracy")
"""Values between 0 and 1."""
Rows = dict[str, list[float]]
"""A value for every row, by name."""


def on_dev(job: Job, attached: Attached, chained: Chained) -> Rows:
    """Return per dev row how the task's metric, and a policy's reward, moved from the start."""
    if chained.start is None:
        return {}
    rows = [Encoded(job.lm.encode_prompt(job.frame.messages(row)), []) for row in job.dev]
    reward = None if chained.reward is None else chained.reward(rows, job.dev)

    def values() -> dict[str, np.ndarray[Any, Any]]:
        found = predict(Local(job.lm), job.frame, job.dev, max_new_tokens=job.max_new_tokens)
        scores = {"score_moved": _scores(job.metric, job.frame, job.dev, found)}
        if reward is None:
            return scores
        written = [Written(n, job.lm.encode_completion(p.text)) for n, p in enumerate(found)]
        return {"reward_moved": np.asarray(reward(written)), **scores}

    after = values()
    with attached.at(chained.start):
        before = values()
    return {name: (after[name] - before[name]).tolist() for name in after}


def on_test(
    bench: Bench,
    attached: Attached,
    start: Mapping[str, torch.Tensor],
    frame: Frame,
    test: Sequence[Example],
    found: Sequence[Prediction],
    max_new_tokens: int,
) -> Rows:
    """Return per test row and per held-out pair how the policy differs from its start."""
    lm = bench.lm
    after = _scores(bench.metric, frame, test, found)
    with attached.at(start):
        before = _scores(
            bench.metric,
            frame,
            test,
            predict(Local(lm), frame, test, max_new_tokens=max_new_tokens),
        )
    rows: Rows = {"win_rate": ((np.sign(after - before) + 1) / 2).tolist()}
    prompts = [lm.encode_prompt(frame.messages(row)) for row in test]
    answers = sample(lm, prompts, max_new_tokens, seeds=range(len(prompts)))
    drawn = [_sequence(p, a) for p, a in zip(prompts, answers, strict=True)]
    rows["kl"] = _moved(bench, attached, start, drawn)
    rows |= _pairs(bench, attached, start, frame)
    return rows


def of_judge(bench: Bench, reward: Callable[[Sequence[Encoded]], Reward], frame: Frame) -> Rows:
    """Return per held-out pair whether a reward model, and the length alone, ranks it right."""
    pairs = compared(bench.lm, frame, [p for p in bench.test_preferences if _both(p)])
    rows = [Encoded(pair.prompt, []) for pair in pairs]
    answers = [(pair.chosen or [], pair.rejected or []) for pair in pairs]
    written = [Written(n, answer) for n, both in enumerate(answers) for answer in both]
    scores = np.asarray(reward(rows)(written)).reshape(-1, 2)
    lengths = np.asarray([(len(a), len(b)) for a, b in answers]).reshape(-1, 2)
    return {
        "reward_accuracy": ((np.sign(scores[:, 0] - scores[:, 1]) + 1) / 2).tolist(),
        "length_accuracy": ((np.sign(lengths[:, 0] - lengths[:, 1]) + 1) / 2).tolist(),
    }


def of_units(
    trials: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Return the summary over seeds of what trials (dev) and measurements (test) wrote down."""
    return {
        **summary([result.get("moved") or {} for result in trials]),
        **summary([result.get("moved") or {} for result in measured]),
    }


def summary(units: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean, limits (not of a single row) and number of rows of every value, from one
    mapping a seed."""
    names = dict.fromkeys(name for unit in units for name in unit)
    found = {}
    for name in names:
        values = np.asarray([unit[name] for unit in units if unit.get(name)], dtype=np.float64)
        if values.size:
            mean, half = mean_and_half(values)
            found[name] = {"value": mean, "n": float(values.shape[1])}
            if half is not None:
                share = mean_of_seeds(values.tolist()) if name in SHARES else None
                low, high = share[1:] if share else (mean - half, mean + half)
                found[name] |= {"low": low, "high": high}
    return found


def mean_and_half(values: np.ndarray[Any, Any]) -> tuple[float, float | None]:
    """Return the mean of values [K seeds, N rows] and half the width of its 95 % interval; None of
    a single row, which says nothing of others."""
    seeds, rows = values.shape
    mean = float(values.mean())
    if rows == 1:
        return mean, None
    v_rows = float(values.mean(0).var(ddof=1)) / rows
    v_seeds, t = 0.0, 0.0
    if seeds > 1:
        v_seeds = float(values.mean(1).var(ddof=1)) / seeds
        t = quantile(ALPHA / 2, seeds - 1)
    u = quantile(ALPHA / 2, rows - 1)
    return mean, (u**2 * v_rows + t**2 * v_seeds) ** 0.5


def warnings(found: Mapping[str, Mapping[str, float]], *, tuned_start: bool) -> list[str]:
    """Return what the numbers mean where they mean trouble, in words.

    Args:
        found: from `of_units`.
        tuned_start: whether the policy it started from had been trained itself.
    """

    def low(name: str) -> float:
        return found.get(name, {}).get("low", -math.inf)

    def high(name: str) -> float:
        return found.get(name, {}).get("high", math.inf)

    said = []
    if high("chosen_moved") < -WORTH_SAYING and low("preference_accuracy") > 0.5:
        first = "" if tuned_start else " or SFT on the chosen answers first"
        means = (
            f"the metric rose by {found['score_moved']['value']:.3g} on dev all the same: it "
            "writes better answers than the chosen ones"
            if low("score_moved") > 0
            else f"it learned to avoid, not to prefer; a larger beta{first} helps"
        )
        fell = f"by {-found['chosen_moved']['value']:.1f} nats"
        said.append(f"chosen answers became less likely ({fell}): {means}")
    if low("reward_moved") > 0 and high("score_moved") < 0:
        said.append(
            f"its reward rose by {found['reward_moved']['value']:.3g} while the metric fell by "
            f"{-found['score_moved']['value']:.3g} on dev: it games the reward"
        )
    return said


def _scores(
    metric: Any, frame: Frame, rows: Sequence[Example], found: Sequence[Prediction]
) -> np.ndarray[Any, Any]:
    """Return the metric of each row alone, [N]."""
    references = [row.accepted for row in rows]
    statistics = metric.statistics([p.answer for p in found], references, frame.labels)
    return np.asarray(metric.aggregate(statistics), dtype=np.float64)


def _pairs(
    bench: Bench, attached: Attached, start: Mapping[str, torch.Tensor], frame: Frame
) -> Rows:
    pairs = compared(bench.lm, frame, [p for p in bench.test_preferences if _both(p)])
    if not pairs:
        return {}
    flat = [
        _sequence(pair.prompt, answer)
        for pair in pairs
        for answer in (pair.chosen, pair.rejected)
        if answer is not None
    ]
    moved = np.asarray(_moved(bench, attached, start, flat)).reshape(-1, 2)
    return {
        "preference_accuracy": ((np.sign(moved[:, 0] - moved[:, 1]) + 1) / 2).tolist(),
        "chosen_moved": moved[:, 0].tolist(),
    }


def _both(preference: Preference) -> bool:
    return preference.chosen is not None and preference.rejected is not None


def _moved(
    bench: Bench,
    attached: Attached,
    start: Mapping[str, torch.Tensor],
    sequences: Sequence[Rollout],
) -> list[float]:
    """Return log p - log p_start of every sequence."""
    after = token_logprobs(bench.lm, sequences, TOKENS_PER_TREE)
    with attached.at(start):
        before = token_logprobs(bench.lm, sequences, TOKENS_PER_TREE)
    both: Iterable[tuple[torch.Tensor, torch.Tensor]] = zip(after, before, strict=True)
    return [float((a - b).sum()) for a, b in both]


def _sequence(prompt: Sequence[int], answer: list[int]) -> Rollout:
    none = torch.zeros(0)
    return Rollout(row=0, prompt=prompt, answer=answer, logprobs=none, reference=none)
