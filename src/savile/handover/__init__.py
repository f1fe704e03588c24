"""Hands a measured technique over: writes it, checks what was written, opens it again."""

from savile.handover.opening import Handed, load_customized
from savile.handover.writing import Export, export

__all__ = ["Export", "Handed", "export", "load_customized"]
