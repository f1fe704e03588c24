"""GRPO and RLOO give TRL's loss and gradients: same answers, same advantages, same policy."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from savile.deltas.full import Full
from savile.lm.rollouts import Rollout, token_logprobs
from savile.objectives.base_rollouts import FromRollouts, Judged
from savile.objectives.grpo import GRPO, group_advantages
from savile.objectives.rloo import RLOO, leave_one_out
from tests import tiny
from tests.gates import Gate
from tests.parity.test_trl import LIMIT, shaken, worst_of

GROUP, BETA = 2, 0.3
ANSWERS = [
    ([1, 20, 21, 22], [50, 51, 4]),
    ([1, 20, 21, 22], [53, 4]),
    ([1, 40], [64, 65, 66, 4]),
    ([1, 40], [67, 4]),
]
REWARDS = torch.tensor([0.25, 1.0, -0.5, 0.75])
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL sets a renamed option


def rolled_out() -> list[Rollout]:
    """The answers, as if a policy near the one that is trained had written them."""
    none = torch.zeros(0)
    bare = [
        Rollout(row=0, prompt=prompt, answer=answer, logprobs=none, reference=none)
        for prompt, answer in ANSWERS
    ]
    lm = tiny.lm("llama")
    reference = token_logprobs(lm, bare, 4096)
    rng = torch.Generator().manual_seed(2)
    return [
        Rollout(
            row=0, prompt=one.prompt, answer=one.answer, reference=theirs,
            logprobs=theirs + 0.02 * torch.randn(len(theirs), generator=rng),
        )
        for one, theirs in zip(bare, reference, strict=True)
    ]  # fmt: skip


def theirs(
    kind: type[GRPOTrainer] | type[RLOOTrainer],
    settings: GRPOConfig | RLOOConfig,
    advantages: Tensor,
    said: dict[str, Tensor],
    kl: float,
) -> tuple[float, dict[str, Tensor]]:
    """Return the loss and gradients of a trainer of TRL that is handed a finished round."""
    policy = shaken(tiny.model("llama"))
    trainer = kind(
        model=policy,  # type: ignore[arg-type]
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=settings,  # type: ignore[arg-type]
        train_dataset=Dataset.from_list([{"prompt": "a"}]),
        processing_class=tiny.lm("llama").tokenizer,
    )
    trainer.beta = kl  # given to its settings, it would load a reference by a name
    both = zip(*ANSWERS, strict=True)
    prompts, answers = ([torch.tensor(side) for side in sides] for sides in both)
    inputs = {
        "prompt_ids": pad_sequence(prompts, batch_first=True, padding_side="left"),
        "completion_ids": pad_sequence(answers, batch_first=True),
        "advantages": advantages,
        **said,
    }
    for name in ("prompt", "completion"):
        inputs[f"{name}_mask"] = (inputs[f"{name}_ids"] != 0).long()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    named = {k: p.grad for k, p in policy.named_parameters() if p.grad is not None}
    return float(loss.detach()), named


def ours(
    objective: FromRollouts, judged: Sequence[Judged], tokens_per_tree: int
) -> tuple[float, dict[str, Tensor]]:
    lm, total = tiny.lm("llama"), 0.0
    with Full().attach(lm, 0) as attached:
        shaken(lm.model)
        for batch in objective.trees(judged, tokens_per_tree):
            loss, _ = objective.loss(lm, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        named = {k: p.grad for k, p in attached.parameters().items() if p.grad is not None}
        return total, {name: gradient.clone() for name, gradient in named.items()}


def config(folder: Path) -> dict[str, object]:
    return {
        "output_dir": str(folder),
        "num_generations": GROUP,
        "beta": 0.0,
        "per_device_train_batch_size": GROUP,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }


@pytest.mark.parametrize("tokens_per_tree", [1, 4096])
def test_rloos_loss_and_gradients_are_trls(
    tokens_per_tree: int, tmp_path: Path, gate: Gate
) -> None:
    rollouts, objective = rolled_out(), RLOO(beta=BETA)
    kls = torch.tensor([one.kl for one in rollouts])
    ahead = leave_one_out((REWARDS - BETA * kls).view(-1, GROUP)).flatten()
    settings = RLOOConfig(**config(tmp_path))  # type: ignore[arg-type]
    old = {"old_logps": torch.stack([one.logprobs.sum() for one in rollouts])}
    wanted, their = theirs(RLOOTrainer, settings, ahead, old, 0.0)  # the KL is in the advantages
    judged = [Judged(one, a[None]) for one, a in zip(rollouts, ahead, strict=True)]
    found, our = ours(objective, judged, tokens_per_tree)
    assert found == pytest.approx(wanted, abs=LIMIT)  # advantages cancel
    gate(objective, "parity", abs(found - wanted), "TRL, loss")
    gate(objective, "parity", worst_of(our, their), "TRL, gradient")


@pytest.mark.parametrize("tokens_per_tree", [1, 4096])
def test_grpos_loss_and_gradients_are_trls(
    tokens_per_tree: int, tmp_path: Path, gate: Gate
) -> None:
    rollouts, objective = rolled_out(), GRPO(beta=BETA)
    ahead = group_advantages(REWARDS.view(-1, GROUP)).flatten()
    settings = GRPOConfig(
        **config(tmp_path),  # type: ignore[arg-type]
        loss_type="grpo",
        use_bias_correction_kl=False,  # of DeepSeek-V3.2; the paper has none
    )
    said = {
        "old_per_token_logps": pad_sequence([one.logprobs for one in rollouts], batch_first=True),
        "ref_per_token_logps": pad_sequence([one.reference for one in rollouts], batch_first=True),
    }
    wanted, their = theirs(GRPOTrainer, settings, ahead, said, BETA)
    judged = [
        Judged(one, a.expand(len(one.answer))) for one, a in zip(rollouts, ahead, strict=True)
    ]
    found, our = ours(objective, judged, tokens_per_tree)
    assert found == pytest.approx(wanted, abs=LIMIT)  # advantages cancel
    gate(objective, "parity", abs(found - wanted), "TRL, loss")
    gate(objective, "parity", worst_of(our, their), "TRL, gradient")
