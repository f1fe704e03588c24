"""KTO and the reward model give TRL's loss and gradients: same rows, same model, same reference."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import LlamaForSequenceClassification
from trl import KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from savile.deltas.full import Full
from savile.lm.model import LM
from savile.objectives.base import Batch, Objective, TrainingData
from savile.objectives.kto import KTO, Judged
from savile.objectives.reward import HEAD, RewardModel
from tests import tiny
from tests.gates import Gate
from tests.parity.test_trl import LIMIT, PAIRS, padded, shaken, worst_of

BETA = 0.4
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL sets a renamed option


def data(tokens_per_tree: int) -> TrainingData:
    return TrainingData(preferences=PAIRS, batch_size=6, tokens_per_tree=tokens_per_tree)


def kto_of_trl(rows: list[Judged], folder: Path) -> tuple[float, dict[str, Tensor]]:
    policy = shaken(tiny.model("llama"))
    trainer = KTOTrainer(
        model=policy,  # type: ignore[arg-type]
        ref_model=tiny.model("llama"),
        args=KTOConfig(
            output_dir=str(folder),
            beta=BETA,
            desirable_weight=1.5,
            undesirable_weight=0.5,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": "a", "completion": "b", "label": n > 0} for n in range(8)]
        ),
        processing_class=tiny.lm("llama").tokenizer,
    )
    other = padded([(row.prompt, row.other) for row in rows])
    inputs = padded([(row.prompt, row.answer) for row in rows])
    inputs |= {f"KL_{name}": tensor for name, tensor in other.items()}
    inputs["label"] = torch.tensor([row.wanted for row in rows])
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    named = {k: p.grad for k, p in policy.named_parameters() if p.grad is not None}
    return float(loss.detach()), named


def ours(objective: Objective, lm: LM, step: Sequence[Batch]) -> tuple[float, dict[str, Tensor]]:
    total = 0.0
    with Full().attach(lm, 0) as attached:
        for batch in step:
            loss, _ = objective.loss(lm, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        named = {k: p.grad for k, p in attached.parameters().items() if p.grad is not None}
        return total, {name: gradient.clone() for name, gradient in named.items()}


@pytest.mark.parametrize("tokens_per_tree", [1, 4096])
def test_ktos_loss_and_gradients_are_trls(tokens_per_tree: int, tmp_path: Path, gate: Gate) -> None:
    lm, given = tiny.lm("llama"), data(tokens_per_tree)
    objective = KTO(beta=BETA, desirable_weight=1.5, undesirable_weight=0.5)
    items = objective.items(lm, given)  # the reference is the model as it is
    shaken(lm.model)
    wanted, their = kto_of_trl(items, tmp_path)
    step = next(objective.batches(lm, given, items, random.Random(0)))
    assert len(items) == given.batch_size
    assert step[0].z0 > 0.01
    found, our = ours(objective, lm, step)
    assert found == pytest.approx(wanted, rel=LIMIT)
    gate(objective, "parity", abs(found - wanted) / wanted, "TRL, loss")
    gate(objective, "parity", worst_of(our, their), "TRL, gradient")


def reward_of_trl(head: nn.Linear, folder: Path) -> tuple[float, dict[str, Tensor]]:
    base = tiny.model("llama")
    base.config.num_labels = 1
    model = LlamaForSequenceClassification(base.config).float().eval()
    model.model.load_state_dict(base.model.state_dict())
    model.score.weight.data.copy_(head.weight)
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(folder), report_to=[], use_cpu=True, bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"chosen": "a", "rejected": "b"}]),
        processing_class=tiny.lm("llama").tokenizer,
    )  # fmt: skip
    sides = [(row.prompt, row.chosen or []) for row in PAIRS]
    inputs = padded([*sides, *((row.prompt, row.rejected or []) for row in PAIRS)])
    del inputs["completion_mask"]
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    named = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    del named["score.weight"]
    return float(loss.detach()), named


@pytest.mark.parametrize("tokens_per_tree", [1, 4096])
def test_the_reward_models_loss_and_gradients_are_trls(
    tokens_per_tree: int, tmp_path: Path, gate: Gate
) -> None:
    lm, objective = tiny.lm("llama"), RewardModel()
    head = nn.Linear(tiny.WIDTH, 1).requires_grad_(False)
    head.weight.copy_(torch.linspace(-1, 1, tiny.WIDTH)[None])
    lm.heads = {HEAD: head}
    wanted, their = reward_of_trl(head, tmp_path)
    items = objective.items(lm, data(tokens_per_tree))
    found, our = ours(objective, lm, objective.trees(items, tokens_per_tree))
    assert found == pytest.approx(wanted, rel=LIMIT)
    gate(objective, "parity", abs(found - wanted) / wanted, "TRL, loss")
    gate(objective, "parity", worst_of(our, their), "TRL, gradient")
