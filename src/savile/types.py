"""The values that travel between layers: messages, examples, predictions, board rows.

Standard library only, so that `--help`, `check` and `report` start without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
Status = Literal["ok", "not_run", "failed", "diverged", "stopped"]
Kind = Literal["baseline", "prompt", "tuned"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One labelled row of the user's data."""

    id: str
    """Stable identity: a hash of the content, so that adding rows moves no old row."""
    input: str
    """What the model is asked."""
    output: str
    """The wanted answer."""
    rationale: str | None = None
    """Worked steps that lead to the answer, for chain of thought."""
    references: tuple[str, ...] = ()
    """Every acceptable answer; empty means `output` alone."""
    source: str = ""
    """`file:line` of the row, for messages to people."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every acceptable answer, `output` alone when no others were given."""
        return self.references or (self.output,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """A judged pair of answers to one question, or one answer that is wanted or is not."""

    id: str
    """Stable identity: a hash of the content."""
    input: str
    chosen: str | None
    """The better answer; None when only an unwanted one is known."""
    rejected: str | None
    """The worse answer; None when only a wanted one is known."""
    source: str = ""
    """`file:line`, or how the pair was built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What one candidate answered to one example."""

    id: str
    """The example's id."""
    text: str
    """The raw text of the model."""
    answer: str | None
    """The answer extracted from it; None when none could be found (counted as wrong)."""
    prompt_tokens: int = 0
    """Tokens of the prompt, soft tokens included; once for samples that share it."""
    completion_tokens: int = 0
    """Tokens the model wrote in all samples (for a closed set: tokens of the chosen labels)."""
    seconds: float | None = None
    """What the request took; None where many were answered together."""
    usd: float | None = None
    """What the request cost at the endpoint; None for a base without a price for requests."""
    votes: float | None = None
    """Share of the samples that gave the answer; None where only one answer was asked."""


@dataclass(frozen=True, kw_only=True)
class BoardRow:
    """One technique on the board. Seconds, bytes, tokens and USD as the names say; None = not
    applicable."""

    technique: str
    kind: Kind
    status: Status
    reason: str | None = None
    """Why the row has no score, or what to know about its score."""
    score: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Test rows scored: the same rows for every technique."""
    seeds: int = 0
    score_by_seed: tuple[float, ...] = ()
    dev_score: float | None = None
    unparseable: float | None = None
    """Share of answers from which nothing could be extracted (they count as wrong)."""
    votes: float | None = None
    """Mean share of the samples that gave the answer; None without several samples."""
    labels_used: int = 0
    """Labelled examples the technique learned from, chose by (dev, when tuned) or showed."""
    trainable_parameters: int = 0
    trainable_share: float = 0.0
    seconds: float = 0.0
    """Everything this row cost: search, training and prediction, mean over seeds."""
    search_seconds: float = 0.0
    train_seconds: float = 0.0
    predict_seconds: float = 0.0
    train_flops: float = 0.0
    train_examples: int = 0
    """Example presentations, the search included: the budget every tuned technique shares."""
    peak_bytes: int | None = None
    artifact_bytes: int = 0
    prompt_tokens: float | None = None
    """Mean prompt tokens of a request."""
    completion_tokens: float | None = None
    """Mean tokens that answering wrote, in all samples."""
    latency_p50_seconds: float | None = None
    latency_p95_seconds: float | None = None
    usd_once: float | None = None
    """Labels and training, once."""
    usd_per_1000: float | None = None
    """A thousand requests."""
    base: str = ""
    """What answered."""
    base_parameters: int = 0
    """Parameters of the base; 0 where nobody says."""
    remote: bool = False
    """Whether a model behind an API answered."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings that were measured, the chosen learning rate among them."""
    compared: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Other metrics, and how a policy trained on preferences or a reward differs from its start
    (win rate, KL, pairs): value, low, high, n."""
    mistakes: Sequence[Mapping[str, str]] = ()
    """A few wrong answers: input, expected, got."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the board says, and how sure it is."""

    winner: str | None
    tied_with: tuple[str, ...]
    text: str
    decided: bool = False
    """True when the winner stands alone after Holm's correction, not by one seed of chance."""
    more_rows: int | None = None
    """About how many more test rows would decide between the tied."""
    comparisons: Sequence[Mapping[str, Any]] = ()
    """Each paired comparison: a, b, difference, low, high and p of the pair alone, p_holm corrected
    for all pairs; where one seed cannot tell, p is 1 and the limits are the widest."""
