"""What a search over prompts tried, what it took, and how sure it is of the gain: plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One prompt of the search."""

    name: str
    """What it changes of the given prompt."""
    rows: int
    """How many rows it was scored on before it was dropped, or at the end."""
    score: float
    """Its mean on them, 0 to 1."""
    given: float
    """That of the given prompt on the same rows."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A search over prompts, as it stands in a trial's result and in a prompt's file."""

    won: str
    """The name of the prompt that was taken."""
    tried: tuple[Tried, ...]
    """Every prompt, the given one first."""
    rows: int
    """Training rows that judged."""
    scored: int
    """Rows scored, summed over prompts."""
    gain: float
    """Of the best rival over the given prompt, on the rows that chose it; it was taken if above
    0."""
    low: float
    """The lower 95 % limit of that gain on new rows: allows for picking the best of all rivals."""
    high: float
    """The upper 95 % limit."""
    proposed: tuple[str, ...] = ()
    """The instructions that a model wrote for the search, in the order of their names."""
    proposer: str = ""
    """The model that wrote them."""
    usd: float | None = None
    """What they cost at an endpoint; None where requests have no price."""

    def told(self) -> str:
        """Return the search in a line."""
        rivals = len(self.tried) - 1
        return (
            f"'{self.won}' of {rivals + 1} prompts, {self.gain:+.3f} [{self.low:+.3f}, "
            f"{self.high:+.3f}] in the probability of right answers on {self.rows} training rows, "
            f"corrected for the best of {rivals}{self._told_of_proposals()}"
        )

    def _told_of_proposals(self) -> str:
        if not self.proposer:
            return ""
        paid = "" if self.usd is None else f" for {self.usd:.2g} USD"
        n = len(self.proposed)
        wrote = "1 instruction was" if n == 1 else f"{n} instructions were"
        return f"; {wrote} proposed by {self.proposer}{paid}"
