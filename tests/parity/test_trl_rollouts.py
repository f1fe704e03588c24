"""RLOO gives TRL's loss and gradients: same answers, same advantages, same policy."""

import copy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl import RLOOConfig, RLOOTrainer

from savile.deltas.full import Full
from savile.lm.rollouts import Rollout, token_logprobs
from savile.objectives.base_rollouts import Judged
from savile.objectives.rloo import RLOO, leave_one_out
from tests import tiny
from tests.parity.test_trl import shaken

GROUP, BETA = 2, 0.3
ANSWERS = [
    ([1, 20, 21, 22], [50, 51, 4]),
    ([1, 20, 21, 22], [53, 4]),
    ([1, 40], [64, 65, 66, 4]),
    ([1, 40], [67, 4]),
]
REWARDS = torch.tensor([0.25, 1.0, -0.5, 0.75])
LIMIT = 1e-5


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
    rollouts: list[Rollout], advantages: Tensor, folder: Path
) -> tuple[float, dict[str, Tensor]]:
    policy = shaken(copy.deepcopy(tiny.model("llama")))
    trainer = RLOOTrainer(
        model=policy,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=RLOOConfig(
            output_dir=str(folder),
            num_generations=GROUP,
            beta=0.0,  # the KL is in the advantages; its loss has no reference
            per_device_train_batch_size=GROUP,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}]),
        processing_class=tiny.lm("llama").tokenizer,
    )
    n, before, after = len(ANSWERS), *(max(map(len, side)) for side in zip(*ANSWERS, strict=True))
    prompts, answers = torch.zeros(n, before, dtype=torch.long), torch.zeros(n, after).long()
    seen, mask = torch.zeros_like(prompts), torch.zeros_like(answers)
    for row, (prompt, answer) in enumerate(ANSWERS):
        prompts[row, before - len(prompt) :] = torch.tensor(prompt)
        seen[row, before - len(prompt) :] = 1
        answers[row, : len(answer)] = torch.tensor(answer)
        mask[row, : len(answer)] = 1
    inputs = {
        "prompt_ids": prompts, "prompt_mask": seen, "completion_ids": answers,
        "completion_mask": mask, "advantages": advantages,
        "old_logps": torch.stack([one.logprobs.sum() for one in rollouts]),
    }  # fmt: skip
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    named = {k: p.grad for k, p in policy.named_parameters() if p.grad is not None}
    return float(loss.detach()), named


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL sets an option that is renamed
@pytest.mark.parametrize("tokens_per_tree", [1, 4096])
def test_loss_and_gradients_are_trls(tokens_per_tree: int, tmp_path: Path) -> None:
    rollouts, objective = rolled_out(), RLOO(beta=BETA)
    kls = torch.tensor([one.kl for one in rollouts])
    ahead = leave_one_out((REWARDS - BETA * kls).view(-1, GROUP)).flatten()
    wanted, their = theirs(rollouts, ahead, tmp_path)
    lm, total = tiny.lm("llama"), 0.0
    judged = [Judged(one, a[None]) for one, a in zip(rollouts, ahead, strict=True)]
    with Full().attach(lm, 0) as attached:
        shaken(lm.model)
        for batch in objective.trees(judged, tokens_per_tree):
            loss, _ = objective.loss(lm, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        our = {k: p.grad for k, p in attached.parameters().items() if p.grad is not None}
        assert total == pytest.approx(wanted, abs=LIMIT)  # advantages cancel
        assert set(their) <= set(our)
        for name, gradient in their.items():
            assert float((our[name] - gradient).norm()) <= LIMIT * float(gradient.norm()), name
