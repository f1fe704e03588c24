"""The spec of a task: read it with `load`, get its techniques with `Spec.candidates`."""

from savile.spec.ladder import Candidate
from savile.spec.loading import load
from savile.spec.model import Spec

__all__ = ["Candidate", "Spec", "load"]
