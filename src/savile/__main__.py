"""`python -m savile` is `savile`."""

from __future__ import annotations

import sys

from savile.cli import main

if __name__ == "__main__":
    sys.exit(main())
