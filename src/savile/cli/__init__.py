"""The `savile` command line."""

from savile.cli.edge import main

__all__ = ["main"]
