"""What techniques are called: a name with settings and base, and the short name people use."""

from __future__ import annotations

import re

from savile.spec.endpoint import ON


def without_settings(name: str) -> str:
    """Return a candidate's name without what stands in parentheses, and without its base."""
    return re.sub(r"\([^)]*\)", "", name.partition(ON)[0])
