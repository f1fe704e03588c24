"""Module names in short, as PEFT writes them: `v_proj` stands for every module that ends so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from savile.errors import Problem, UsageError

PEFT_PREFIX: Final = "base_model.model."
"""What PEFT writes before a module's name."""


def named(wanted: Sequence[str], known: Iterable[str], where: str) -> list[str]:
    """Return the full names that end in one of the wanted.

    Args:
        wanted: last parts of names, such as `v_proj` or `mlp.c_proj`.
        known: full names.
        where: the setting they come from, for the error.

    Raises:
        UsageError: one of the wanted matches nothing.
    """
    names = list(known)
    missing = [end for end in wanted if not any(_ends(name, end) for name in names)]
    if missing:
        raise UsageError(
            Problem(
                what="the base has no such module",
                where=where,
                found=", ".join(missing),
                expected=", ".join(sorted({name.rsplit(".", 1)[-1] for name in names})),
            )
        )
    return [name for name in names if any(_ends(name, end) for end in wanted)]


def shortened(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """Return the shortest ends that match the names and nothing else: `c_attn`, but `mlp.c_proj`
    where the attention has a `c_proj` too.

    Args:
        names: full names, all of them known.
        known: every full name the ends could match.
    """
    own = set(names)
    others = [name for name in known if name not in own]
    found = set()
    for name in own:
        parts = name.split(".")
        ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        found.add(next(end for end in ends if not any(_ends(other, end) for other in others)))
    return sorted(found)


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")
