"""The loop: rates, accumulation, the state it keeps, and what happens when numbers break."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, final

import pytest
import torch
from torch import Tensor, nn

from savile.deltas.base import Attached
from savile.deltas.full import Full
from savile.deltas.lora import LoRA
from savile.dev import Dev, Look
from savile.errors import DataError
from savile.job import Job, Plan, encode, training_data
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.metrics.exact_match import ExactMatch
from savile.objectives.base import Batch, Encoded, Objective, TrainingData
from savile.objectives.sft import SFT
from savile.predict import predict
from savile.prompts.base import Frame
from savile.train import Trained, train
from savile.types import Example, Preference
from tests import tiny
from tests.losses import mean_loss

Spoil = Callable[[Tensor, int], Tensor]


@final
@dataclass(frozen=True, kw_only=True)
class Spoiled(Objective):
    """SFT whose loss is spoiled at some of its calls."""

    needs: ClassVar[tuple[str, ...]] = ()
    spoil: Spoil
    calls: list[int]

    def items(self, lm: LM, data: TrainingData) -> Sequence[Encoded]:
        return data.rows

    def trees(self, items: Sequence[Encoded], tokens_per_tree: int) -> list[Batch]:
        return SFT().trees(items, tokens_per_tree)

    @torch.no_grad()
    def judge(
        self, lm: LM, data: TrainingData, items: Sequence[Encoded]
    ) -> tuple[float | None, float]:
        return SFT().judge(lm, data, items)

    def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        self.calls.append(len(self.calls))
        loss, _ = SFT().loss(lm, batch)
        spoiled = self.spoil(loss, self.calls[-1])
        return spoiled, {"said": float(spoiled.detach())}


def job(lm: LM, rows: Sequence[Example], **changes: object) -> Job:
    plan = Plan(learning_rate=5e-3, examples=8 * 12, batch_size=8, evaluations=3)
    made = Job(
        lm=lm,
        objective=SFT(),
        frame=Frame(),
        train=rows,
        dev=rows,
        metric=ExactMatch(),
        plan=plan,
        seed=0,
        max_new_tokens=4,
    )
    own = {k: v for k, v in changes.items() if k in {f.name for f in fields(Job)}}
    of_plan = {k: v for k, v in changes.items() if k not in own}
    return replace(made, **own, plan=replace(plan, **of_plan))  # type: ignore[arg-type]


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def finite(attached: Attached) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in attached.parameters().values())


def test_the_rate_rises_and_falls_in_straight_lines() -> None:
    plan = Plan(learning_rate=1.0, examples=100, batch_size=1, warmup=0.1)
    rates = [plan.schedule(step) for step in range(plan.steps)]
    assert plan.steps == 100
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[10:] == pytest.approx([(100 - i) / 90 for i in range(10, 100)])
    assert min(rates) > 0


def test_without_warm_up_the_first_step_is_the_peak() -> None:
    plan = Plan(learning_rate=0.5, examples=40, batch_size=4, warmup=0.0)
    shares = [plan.schedule(step) for step in range(10)]
    assert shares == pytest.approx([(10 - i) / 10 for i in range(10)])


@pytest.mark.parametrize("examples", [0, 1, 8, 9])
def test_there_is_always_one_step(examples: int) -> None:
    plan = Plan(learning_rate=0.5, examples=examples, batch_size=8)
    assert plan.steps == 1
    assert 0 < plan.schedule(0) <= 1


def test_accumulation_gives_the_same_training(trained_lm: LM, eight: list[Example]) -> None:
    losses: list[list[float]] = []
    for tokens in (1, 10_000):
        found: list[float] = []
        with LoRA(r=2).attach(trained_lm, 0) as attached:
            train(
                job(trained_lm, eight, tokens_per_tree=tokens),
                attached,
                on_progress=lambda p, kept=found: kept.append(p.loss),  # type: ignore[misc]
            )
        losses.append(found)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-4)
    assert len(losses[0]) == 12


def test_a_training_adds_up(trained_lm: LM, eight: list[Example]) -> None:
    seen: list[int] = []
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train(
            job(trained_lm, eight), attached, on_progress=lambda p: seen.append(p.examples)
        )
    rows = encode(trained_lm, Frame(), eight)
    assert (made.status, made.reason) == ("ok", None)
    assert (made.steps, made.examples) == (12, 96)
    assert seen == list(range(8, 97, 8))
    assert made.tokens == 12 * sum(len(r.prompt) + len(r.completion) for r in rows)
    assert made.flops > 0
    assert made.seconds > 0
    assert [entry["step"] for entry in made.history] == [4, 8, 12]


def test_the_best_state_by_dev_score_is_kept(trained_lm: LM, eight: list[Example]) -> None:
    kept: list[dict[str, Tensor]] = []

    def ruin(loss: Tensor, call: int) -> Tensor:
        return loss if call < 8 else -20 * loss  # the last steps unlearn

    spoiled = Spoiled(spoil=ruin, calls=[])
    with LoRA().attach(trained_lm, 0) as attached:
        made = train(job(trained_lm, eight, objective=spoiled, learning_rate=2e-2), attached)
        kept.append(attached.state())
        loss = mean_loss(trained_lm, encode(trained_lm, Frame(), eight))
        answers = predict(Local(trained_lm), Frame(), eight, max_new_tokens=4)
    assert list(made.answers) == answers
    best = max(made.history, key=lambda entry: (entry["dev_score"], -entry["dev_loss"]))
    assert best is not made.history[-1]
    assert made.dev_score == best["dev_score"]
    assert made.dev_loss == best["dev_loss"] == pytest.approx(loss, rel=1e-5)


STEPS = Frame(reasoning=True, trigger="?", answer_marker="=")


def with_steps(rows: Sequence[Example], n: int) -> list[Example]:
    """Give worked steps to the first `n` rows."""
    return [replace(row, rationale="x") for row in rows[:n]] + list(rows[n:])


def test_the_dev_loss_counts_only_rows_that_show_their_steps(
    trained_lm: LM, eight: list[Example]
) -> None:
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        rows = with_steps(eight, 8)
        made = train(job(trained_lm, rows, frame=STEPS, dev=with_steps(eight, 3)), attached)
        three = encode(trained_lm, STEPS, rows[:3])
        assert made.dev_loss == pytest.approx(mean_loss(trained_lm, three), rel=1e-5)


def test_without_steps_on_dev_the_score_alone_keeps_the_best_state(
    trained_lm: LM, eight: list[Example]
) -> None:
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        steps = job(trained_lm, with_steps(eight, 8), frame=STEPS, dev=eight, max_new_tokens=8)
        made = train(replace(steps, plan=replace(steps.plan, learning_rate=2e-2)), attached)
    assert (made.status, made.dev_loss) == ("ok", None)
    assert [look["dev_loss"] for look in made.history] == [None] * 3
    assert made.dev_score == max(look["dev_score"] for look in made.history)


@pytest.mark.parametrize("seed", range(6))
def test_a_broken_step_is_undone(trained_lm: LM, eight: list[Example], seed: int) -> None:
    rng = random.Random(seed)
    at, value = rng.randrange(12), rng.choice([math.nan, math.inf, -math.inf])
    only_gradient = rng.random() < 0.5

    def spoil(loss: Tensor, call: int) -> Tensor:
        if call != at:
            return loss
        if only_gradient:
            loss.register_hook(lambda g: g * math.nan)
            return loss
        return loss * value

    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train(job(trained_lm, eight, objective=Spoiled(spoil=spoil, calls=[])), attached)
        assert finite(attached)
    assert made.status == "ok"
    rollbacks = [entry for entry in made.history if entry.get("event") == "rollback"]
    assert rollbacks == [{"step": at, "event": "rollback", "why": "not finite", "slowdown": 0.5}]
    looks = [entry for entry in made.history if "dev_score" in entry]
    assert all(math.isfinite(look["said"]) for look in looks)
    assert made.steps == 12
    assert made.dev_score is not None
    json.dumps(made._replace(answers=())._asdict(), allow_nan=False)


@pytest.mark.parametrize("start", [0, 5])
def test_what_stays_broken_is_called_diverged(
    trained_lm: LM, eight: list[Example], start: int
) -> None:
    def spoil(loss: Tensor, call: int) -> Tensor:
        return loss if call < start else loss * math.nan

    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train(job(trained_lm, eight, objective=Spoiled(spoil=spoil, calls=[])), attached)
        assert finite(attached)
    assert made.status == "diverged"
    assert made.reason == f"diverged at step {start}: loss or gradient not finite"
    slowdowns = [entry["slowdown"] for entry in made.history if "event" in entry]
    assert slowdowns == [1 / 2, 1 / 4, 1 / 8, 1 / 16]
    assert (made.dev_score is None) is (start == 0)
    json.dumps(made._replace(answers=())._asdict(), allow_nan=False)


def test_a_rate_beyond_all_measure_leaves_finite_weights(eight: list[Example]) -> None:
    lm = tiny.lm("llama")
    before = lm.model.state_dict()["lm_head.weight"].clone()
    with Full().attach(lm, 0) as attached:
        made = train(job(lm, eight, learning_rate=1e30), attached)
        assert finite(attached)
    json.dumps(made._replace(answers=())._asdict(), allow_nan=False)
    assert torch.equal(lm.model.state_dict()["lm_head.weight"], before)


def test_a_dev_loss_that_is_never_finite_is_diverged(
    trained_lm: LM, eight: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spoiled, "judge", lambda *_: (None, math.nan))
    spoiled = Spoiled(spoil=lambda loss, call: loss, calls=[])
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        start = attached.state()
        made = train(job(trained_lm, eight, objective=spoiled), attached)
        assert equal(attached.state(), start)
    assert made.status == "diverged"
    assert made.dev_score is None
    json.dumps(made._replace(answers=())._asdict(), allow_nan=False)


def run(lm: LM, rows: list[Example], seed: int) -> tuple[Trained, dict[str, Tensor]]:
    with LoRA(r=2).attach(lm, seed) as attached:
        return train(job(lm, rows, seed=seed, batch_size=3), attached), attached.state()


def test_the_seed_decides_the_bits(trained_lm: LM, eight: list[Example]) -> None:
    (first, a), (second, b), (_, other) = (run(trained_lm, eight, s) for s in (1, 1, 2))
    assert equal(a, b)
    assert first.history == second.history
    assert not equal(a, other)


def test_short_weights_are_trained_through_float32_masters(eight: list[Example]) -> None:
    model = tiny.model("llama", scale=1.0).bfloat16()
    lm = LM(model, tiny.tokenizer(), name="short")
    rate = 1e-5  # one step is far below the spacing of bfloat16 at these weights
    with Full().attach(lm, 0) as attached:
        before = attached.state()["lm_head.weight"]
        train(job(lm, eight, learning_rate=rate, examples=8 * 40, warmup=0.0), attached)
        after = attached.state()["lm_head.weight"]
    assert after.dtype == torch.bfloat16
    large = before.abs() > 0.02
    spacing = 0.02 * 2**-8
    assert spacing > rate
    assert float((after - before)[large].ne(0).float().mean()) > 0.3


@final
@dataclass(frozen=True, kw_only=True)
class BreaksItsHead(SFT):  # type: ignore[misc]
    """SFT with a head; after some steps the head's weight is not finite."""

    calls: list[int]

    def modules(self, lm: LM) -> dict[str, nn.Module]:
        return {"own": nn.Linear(2, 1)}

    def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        self.calls.append(len(self.calls))
        if len(self.calls) == 8:
            with torch.no_grad():
                lm.heads["own"].get_parameter("weight").fill_(math.inf)
        loss, told = super().loss(lm, batch)
        return loss + 0 * lm.heads["own"](torch.ones(2)).sum(), told


def test_a_rollback_brings_the_heads_back_too(trained_lm: LM, eight: list[Example]) -> None:
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train(job(trained_lm, eight, objective=BreaksItsHead(calls=[])), attached)
    assert made.status == "ok", made.reason
    assert sum("event" in entry for entry in made.history) == 1


def test_a_job_holds_no_test_row() -> None:
    named = {field.name for field in fields(Job)}
    assert named >= {"train", "dev"}
    assert not any("test" in name for name in named)


def test_shown_rows_are_not_trained_on(trained_lm: LM, eight: list[Example]) -> None:
    frame = Frame(demonstrations=tuple(eight[:3]))
    assert len(encode(trained_lm, frame, eight)) == 5
    twins = [*eight, *(replace(row, id=f"{row.id}-again") for row in eight)]
    assert len(encode(trained_lm, frame, twins)) == 10  # nor are their duplicates
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        everything = Frame(demonstrations=tuple(eight))
        with pytest.raises(DataError, match="no training row is left"):
            train(job(trained_lm, eight, frame=everything), attached)
        with pytest.raises(DataError, match="no dev row"):
            train(job(trained_lm, eight, dev=()), attached)


def test_judged_answers_to_shown_questions_are_not_trained_on(
    trained_lm: LM, eight: list[Example]
) -> None:
    judged = [Preference(id=r.id, input=r.input, chosen=r.output, rejected="no") for r in eight]
    given = job(trained_lm, eight, frame=Frame(demonstrations=tuple(eight[:3])))
    found = training_data(given, eight, judged)
    assert (len(found.rows), len(found.preferences)) == (5, 5)


def test_fewer_rows_than_a_batch_repeat(trained_lm: LM, eight: list[Example]) -> None:
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train(job(trained_lm, eight[:3]), attached)
    assert (made.status, made.examples) == ("ok", 96)


def test_the_mean_loss_is_the_mean_over_tokens(trained_lm: LM, eight: list[Example]) -> None:
    rows = encode(trained_lm, Frame(), eight)
    tokens = [trained_lm.logprobs(build([Paths(row.prompt, [row.completion])])) for row in rows]
    wanted = -float(torch.cat(tokens).mean())
    assert mean_loss(trained_lm, rows) == pytest.approx(wanted, rel=1e-5)
    assert mean_loss(trained_lm, rows, 1) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("looks", "reached", "slowed_at"),
    [
        ((0.5, 0.4, 0.3, 0.2), None, []),
        ((0.5, 1.2, 0.3, 0.2), None, [4]),  # above 2 x 0.5 + 0.1
        ((0.5, 1.0, 0.3, 0.2), None, []),
        ((1.4, 0.6, 0.5, 0.4), 0.6, [2]),  # the short run with this rate had come to 0.6
        ((1.2, 0.6, 0.5, 0.4), 0.6, []),
        ((0.5, math.nan, 0.3, 0.2), None, [4]),
        ((0.5, 0.4, 0.3, 9.0), None, []),  # nothing is left to train
    ],
)
def test_a_training_that_collapses_goes_on_from_its_best_state_at_a_quarter_of_the_rate(
    trained_lm: LM,
    eight: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    looks: tuple[float, ...],
    reached: float | None,
    slowed_at: list[int],
) -> None:
    told = iter(looks)
    monkeypatch.setattr(Dev, "look", lambda self: Look(0.5, next(told)))
    own = job(trained_lm, eight)
    plan = Plan(learning_rate=1e-3, examples=32, batch_size=4, evaluations=4, reached=reached)
    with LoRA().attach(trained_lm, 0) as attached:
        made = train(replace(own, plan=plan), attached)
    events = [entry for entry in made.history if "event" in entry]
    assert [entry["step"] for entry in events] == slowed_at
    assert [entry["slowdown"] for entry in events] == [0.25] * len(slowed_at)
    assert {entry["why"] for entry in events} <= {"collapsed"}
    assert (made.steps, made.status) == (8, "ok")


def test_a_first_look_that_has_learned_is_no_collapse_beside_a_short_run(
    trained_lm: LM, eight: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter((1.4, 0.9, 0.8, 0.7))
    monkeypatch.setattr(Dev, "look", lambda self: Look(0.5, next(told)))
    high_at_first = Spoiled(spoil=lambda loss, call: loss + 3, calls=[])
    plan = Plan(learning_rate=1e-3, examples=32, batch_size=4, evaluations=4, reached=0.6)
    own = replace(job(trained_lm, eight, objective=high_at_first), plan=plan)
    with LoRA().attach(trained_lm, 0) as attached:
        made = train(own, attached)
    assert not [entry for entry in made.history if "event" in entry]


@final
@dataclass(frozen=True, kw_only=True)
class Rewarded(SFT):  # type: ignore[misc]
    """An objective whose loss is minus a reward."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "reward", "parameters")


@pytest.mark.parametrize(
    ("looks", "objective"),
    [
        ([(0.5, 0.5), (0.6, 1.5), (0.5, 0.6), (0.5, 0.5)], SFT()),  # too sure, and yet better
        ([(0.5, 0.3), (0.5, 0.9), (0.5, 0.8), (0.5, 0.7)], Rewarded()),  # rewards below zero
        ([(0.5, -0.5), (0.5, 0.4), (0.5, 0.3), (0.5, 0.2)], Rewarded()),
    ],
)
def test_a_loss_that_rises_while_the_score_does_and_a_reward_are_no_collapse(
    trained_lm: LM,
    eight: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    looks: list[tuple[float, float]],
    objective: SFT,
) -> None:
    told = iter(looks)
    monkeypatch.setattr(Dev, "look", lambda self: Look(*next(told)))
    plan = Plan(learning_rate=1e-3, examples=32, batch_size=4, evaluations=4)
    own = replace(job(trained_lm, eight, objective=objective), plan=plan)
    with LoRA().attach(trained_lm, 0) as attached:
        made = train(own, attached)
    assert not [entry for entry in made.history if "event" in entry]
    assert made.dev_score == max(score for score, _ in looks)
