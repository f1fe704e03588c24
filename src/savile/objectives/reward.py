"""A reward model: a scalar head on the hidden state of an answer's last token, from comparisons.

    r(x, y) = w . h_last(x, y) + b,    L = - log sigmoid(r(x, y_w) - r(x, y_l))

Source: Ouyang et al. 2022, arXiv 2203.02155, section 3.5, equation 1, with one comparison a prompt;
the model of choice is Bradley & Terry 1952.

It is no policy: in a chain such as `sft+reward+ppo` the delta's state and the head are kept aside
as the reward, and the policy goes on from where it was.

Cost: one tree of prompt and both answers a pair, forward and backward; a head of D + 1 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from savile.lm.model import LM
from savile.lm.packing import packs
from savile.lm.tree import Paths, Tree, build
from savile.objectives.base import Encoded, Objective, TrainingData, Written
from savile.objectives.base_pairs import Pair, PairBatch, pair_paths, pairs_of

HEAD: Final = "reward"
"""The head's name in `LM.heads`."""
TOKENS_PER_TREE: Final = 4096
"""Most separate tokens of one forward pass when answers are scored."""


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return - log P(chosen wins) of n comparisons, [n], from their scores [n]."""
    return -logsigmoid(chosen - rejected)


@final
@dataclass(frozen=True, kw_only=True)
class RewardModel(Objective):
    """Learn what people prefer as a number."""

    needs: ClassVar[tuple[str, ...]] = ("preferences", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("reward",)

    def modules(self, lm: LM) -> dict[str, nn.Module]:
        """Return the scalar head, small at the start so that no answer is preferred yet."""
        head = nn.Linear(lm.sites.width, 1)
        nn.init.normal_(head.weight, std=1 / (lm.sites.width + 1))
        nn.init.zeros_(head.bias)
        return {HEAD: head}

    def items(self, lm: LM, data: TrainingData) -> list[Pair]:
        """Return the comparisons that have both answers."""
        return pairs_of(data)

    def trees(self, items: Sequence[Pair], tokens_per_tree: int) -> list[PairBatch]:
        """Pack comparisons; each counts the same."""
        return [
            PairBatch(
                tree=_tree([pair_paths(pair) for pair in pack]),
                examples=len(pack),
                share=len(pack) / len(items),
                pairs=pack,
            )
            for pack in packs(items, tokens_per_tree, pair_paths)
        ]

    def loss(self, lm: LM, batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the comparisons' mean."""
        scores = _scores(lm, batch.tree).view(-1, 2)
        right = (scores[:, 0] > scores[:, 1]).float().mean()
        loss = bradley_terry(scores[:, 0], scores[:, 1]).mean()
        return batch.share * loss, {"pair_accuracy": batch.share * float(right)}

    @torch.no_grad()
    def judge(self, lm: LM, data: TrainingData, items: Sequence[Pair]) -> tuple[float, float]:
        """Return (share of pairs ranked right, loss)."""
        found = [self.loss(lm, batch) for batch in self.trees(items, data.tokens_per_tree)]
        accuracy = sum(told["pair_accuracy"] for _, told in found)
        return accuracy, sum(float(loss) for loss, _ in found)

    @torch.no_grad()
    def rewards(self, lm: LM, rows: Sequence[Encoded], written: Sequence[Written]) -> list[float]:
        """Score answers to rows, in their order."""
        scores = dict.fromkeys(range(len(written)), 0.0)
        paths = [Paths(rows[one.row].prompt, [one.answer]) for one in written]
        for pack in packs(list(scores), TOKENS_PER_TREE, paths.__getitem__):
            tree = _tree([paths[n] for n in pack])
            scores |= dict(zip(pack, _scores(lm, tree).tolist(), strict=True))
        return list(scores.values())


def _tree(groups: Sequence[Paths]) -> Tree:
    """Return the tree of prompts and answers in which every answer's last token is a node.

    A tree's last tokens are only predicted, so each answer is followed by one more.
    """
    return build([Paths(one.prompt, [[*a, 0] for a in one.completions]) for one in groups])


def _scores(lm: LM, tree: Tree) -> Tensor:
    """Return the head's value at the last token of every sequence, [sequences]."""
    last = np.flatnonzero(np.diff(tree.targets.sequence, append=-1))
    _, hidden = lm.logits_and_hidden(tree, tree.targets.source[last])
    scores: Tensor = lm.heads[HEAD](hidden)
    return scores.squeeze(-1)
