"""Losses that tests hold trained models against."""

from collections.abc import Sequence

from savile.lm.model import LM
from savile.objectives.base import Encoded, TrainingData
from savile.objectives.sft import SFT


def mean_loss(lm: LM, rows: Sequence[Encoded], tokens_per_tree: int = 4096) -> float:
    """Return the mean negative log-likelihood of the answers' tokens."""
    data = TrainingData(rows=rows, batch_size=1, tokens_per_tree=tokens_per_tree)
    return SFT().judge(lm, data, rows)[1]
