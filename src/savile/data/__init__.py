"""The data of a task: `load` a spec's rows into a `Dataset` whose test split is sealed."""

from savile.data.dataset import Dataset, SealedTest
from savile.data.loading import load

__all__ = ["Dataset", "SealedTest", "load"]
