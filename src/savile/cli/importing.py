"""Imports without the garbage collector: what they make lives as long as the process.

torch and transformers make 400,000 objects, which the collector would walk through again and again
while they come, in the run that follows, and once more at the end.

Cost: none; it saves a fifth of a command's start and more, docs/log.md.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import inside the context; what was there when it ends is never collected."""
    collects, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if collects:
            gc.enable()
