"""An independent server gives the embedded base's answers: `transformers serve` on loopback."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "served.py"
NEEDED = ("openai", "fastapi", "uvicorn")


@pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason="needs the extra transformers[serving]")
def test_the_embedded_base_answers_the_same_behind_an_api() -> None:
    command = [sys.executable, str(SCRIPT), "--rows", "24", "--no-result"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)["techniques"]
    assert [t["technique"] for t in found] != []
    for technique in found:
        assert technique["same_answers"] == technique["rows"] == 24
        assert technique["same_prompt_tokens"] == 24
        assert technique["scores"][0] == technique["scores"][1]
        assert technique["usd_per_1000"] > 0
