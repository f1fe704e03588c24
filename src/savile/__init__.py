"""Savile measures every way of customizing a language model on one honest board.

import savile
run = savile.run("task.yaml")
run.board, run.verdict, run.best.predict(["where is my parcel?"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from savile.api import Run, load_customized, run

__all__ = ["Run", "__version__", "load_customized", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the API when it is asked for, so that `import savile` costs nothing."""
    if name in ("Run", "load_customized", "run"):
        return getattr(import_module("savile.api"), name)
    raise AttributeError(f"module 'savile' has no attribute {name!r}")
