"""Several deltas on one base at once: `prompt_tuning+lora` trains the soft prompt and the update.

Each keeps its own default learning rate: the plan's rate is the first one's, and the others follow
in the proportion of their defaults. Source: the combinations of He et al. 2021, arXiv 2110.04366.

Cost: the sum of its members'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from savile.deltas.base import Attached, Delta
from savile.lm.model import LM


def joined(deltas: Sequence[Delta]) -> Delta | None:
    """Return one delta that stands for all of them; None for none.

    What trains the base's own weights attaches first and detaches last: what others keep of the
    weights is then gone before the weights come back.
    """
    if len(deltas) < 2:
        return deltas[0] if deltas else None
    return Joined(members=tuple(sorted(deltas, key=lambda d: "weights" not in d.occupies)))


@dataclass(frozen=True, kw_only=True)
class Joined(Delta):
    """Deltas that train together."""

    in_auto: ClassVar[bool] = False

    members: tuple[Delta, ...]
    """In the order they attach."""
    learning_rate: float | None = None
    """None: the first member's."""

    def default_rate(self, lm: LM) -> float:
        """Return the first member's learning rate."""
        return self.members[0].start_rate(lm)

    def attach(self, lm: LM, seed: int) -> Attached:
        """Attach every member, each with a seed of its own."""
        return _Attached(lm, self, seed)


class _Attached(Attached):
    def __init__(self, lm: LM, delta: Joined, seed: int) -> None:
        super().__init__(lm)
        first = delta.start_rate(lm)
        self._members: list[Attached] = []
        self.factors = [member.start_rate(lm) / first for member in delta.members]
        try:
            for number, member in enumerate(delta.members):
                self._members.append(member.attach(lm, seed + number))
        except BaseException:
            self.detach()
            raise

    @property
    def members(self) -> Sequence[Attached]:
        return self._members

    def parameters(self) -> dict[str, Tensor]:
        return {
            f"{number}.{name}": tensor
            for number, member in enumerate(self.members)
            for name, tensor in member.parameters().items()
        }

    def rate_factor(self, name: str) -> float:
        number, own = name.split(".", 1)
        return self.factors[int(number)] * self.members[int(number)].rate_factor(own)

    def state(self) -> dict[str, Tensor]:
        return {
            f"{number}.{name}": tensor
            for number, member in enumerate(self.members)
            for name, tensor in member.state().items()
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        for number, member in enumerate(self.members):
            start = f"{number}."
            own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            member.load(own)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for member in reversed(self.members):
                stack.enter_context(member.disabled())
            yield

    def merge(self) -> bool:
        merged = [member.merge() for member in self.members]
        return all(merged)

    def to_peft(self) -> None:
        return None  # one adapter folder holds one method

    def detach(self) -> None:
        while self._members:
            self._members.pop().detach()
