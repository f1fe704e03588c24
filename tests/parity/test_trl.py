"""DPO and IPO give TRL's loss and gradients: same rows, same policy, same reference."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import DPOConfig, DPOTrainer

from savile.deltas.full import Full
from savile.lm.model import LM
from savile.objectives.base import Compared, TrainingData
from savile.objectives.base_pairs import FromPairs
from savile.objectives.dpo import DPO
from savile.objectives.ipo import IPO
from tests import tiny
from tests.gates import Gate

PAIRS = [
    Compared([1, 20, 21, 22], [50, 51, 4], [50, 53, 54, 4]),
    Compared([1, 20, 21, 30, 31], [60, 4], [61, 62, 63, 4]),
    Compared([1, 40], [64, 65, 66, 4], [67, 4]),
]
LIMIT = 1e-5


def shaken(model: nn.Module) -> nn.Module:
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=rng)
    return model


def padded(sides: Sequence[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    """Return prompts and answers as TRL's collators give them: right-padded, prompts masked."""
    longest = max(len(a) + len(b) for a, b in sides)
    ids = torch.zeros(len(sides), longest, dtype=torch.long)
    seen, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(sides):
        n, whole = len(prompt), [*prompt, *answer]
        ids[row, : len(whole)] = torch.tensor(whole)
        seen[row, : len(whole)] = 1
        mask[row, n : len(whole)] = 1
    return {"input_ids": ids, "attention_mask": seen, "completion_mask": mask}


def theirs(kind: str, beta: float, folder: Path) -> tuple[float, dict[str, Tensor]]:
    lm = tiny.lm("llama")
    reference = copy.deepcopy(tiny.model("llama"))
    policy = shaken(tiny.model("llama"))
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(folder),
            loss_type=[kind],
            beta=beta,
            report_to=[],
            use_cpu=True,
            disable_dropout=True,
            bf16=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=lm.tokenizer,
    )
    sides = [(p.prompt, p.chosen or []) for p in PAIRS] + [
        (p.prompt, p.rejected or []) for p in PAIRS
    ]
    inputs = padded(sides)
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    named = {k: p.grad for k, p in policy.named_parameters() if p.grad is not None}
    return float(loss.detach()), named


def ours(objective: FromPairs, tokens_per_tree: int) -> tuple[float, dict[str, Tensor]]:
    lm: LM = tiny.lm("llama")
    data = TrainingData(preferences=PAIRS, batch_size=3, tokens_per_tree=tokens_per_tree)
    items = objective.items(lm, data)  # the reference is the model as it is
    total = 0.0
    with Full().attach(lm, 0) as attached:
        shaken(lm.model)
        for batch in objective.trees(items, tokens_per_tree):
            loss, _ = objective.loss(lm, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total, {
            k: p.grad.clone() for k, p in attached.parameters().items() if p.grad is not None
        }


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL sets an option that is renamed
@pytest.mark.parametrize("tokens_per_tree", [1, 4096])
@pytest.mark.parametrize(("kind", "objective"), [("sigmoid", DPO(beta=0.3)), ("ipo", IPO(tau=0.3))])
def test_loss_and_gradients_are_trls(
    kind: str, objective: FromPairs, tokens_per_tree: int, tmp_path: Path, gate: Gate
) -> None:
    wanted, their = theirs(kind, 0.3, tmp_path)
    found, our = ours(objective, tokens_per_tree)
    assert found == pytest.approx(wanted, rel=LIMIT)
    gate(objective, "parity", abs(found - wanted) / abs(wanted), "TRL, loss")
    gate(objective, "parity", worst_of(our, their), "TRL, gradient")


def worst_of(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Assert that gradients agree by name; return the largest relative error."""
    assert set(theirs) <= set(ours)
    worst = 0.0
    for name, gradient in theirs.items():
        error = float((ours[name] - gradient).norm() / gradient.norm())
        assert error <= LIMIT, name
        worst = max(worst, error)
    return worst
