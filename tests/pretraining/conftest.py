"""Makes the scripts of `pretraining/` importable, which are no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "pretraining"))
