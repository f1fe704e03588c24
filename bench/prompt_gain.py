"""What the prompt search gains on sealed tests: on the case it was developed on, and on two others.

    python bench/prompt_gain.py [--seeds 3]

For each bundled case two boards are run: `zero_shot` beside `searched_prompt`, and few-shot (k = 4)
beside the same with the search behind it. The instruction's variants follow one pattern in both
routing cases, that of `easy_routing`. A record has what each seed's search claimed on the training
rows that chose, and the paired difference of the test scores. Results go to `bench/results/`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import kept
import machine
from savile.spec import load

VARIANTS = {
    "easy_routing": ("route the ticket to : {l}", "{l}", "route the message to {l}"),
    "hard_routing": ("route the ticket to : {l}", "{l}", "route the message to {l}"),
    "brand_voice": ("write a reply .", "write a reply . begin with good morning", "reply"),
}
FEW = {"few_shot": {"k": 4}}
LADDERS: tuple[list[Any], ...] = (
    ["zero_shot", "searched_prompt"],
    [FEW, {"few_shot+searched_prompt": FEW}],
)


def main() -> None:
    """Run the boards and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    kept.write("prompt-gain", [machine.line(), *measured(seeds)])


def measured(seeds: int) -> Iterator[dict[str, Any]]:
    """Yield a record for each case and ladder."""
    for case, variants in VARIANTS.items():
        path = Path(str(resources.files("savile") / "embedded" / "cases" / case / "task.yaml"))
        labels = " , ".join(load(path).prompt.labels or ())
        wordings = [text.format(l=labels) for text in variants]
        for ladder in LADDERS:
            with tempfile.TemporaryDirectory() as scratch:
                record = run(path, Path(scratch) / "run", ladder, wordings, seeds)
            print(json.dumps({"kind": "gain", "case": case, **record}), flush=True)
            yield {"kind": "gain", "case": case, **record}


def run(
    path: Path, out: Path, ladder: list[Any], variants: list[str], seeds: int
) -> dict[str, Any]:
    """Run one board of a technique and the same with the search."""
    given = {"ladder": ladder, "prompt.variants": variants, "seeds": seeds}
    settings = [part for k, v in given.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    command = [sys.executable, "-m", "savile", "run", str(path), "--out", str(out), "--json"]
    done = subprocess.run([*command, *settings], stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    rows = {row["technique"]: row for row in document["board"] if row["kind"] != "baseline"}
    searched = next(name for name in rows if "searched_prompt" in name)
    plain = next(name for name in rows if name != searched)
    found = [json.loads(file.read_bytes()) for file in sorted(out.glob("trials/*/result.json"))]
    return {
        "plain": plain,
        "searched": searched,
        "metric": document["metric"],
        "seeds": seeds,
        "n_test": document["n_test"],
        "scores": [rows[plain]["score_by_seed"], rows[searched]["score_by_seed"]],
        "test": gain(document["verdict"]["comparisons"], searched, plain),
        "searches": [
            {key: one["searched"][key] for key in ("won", "rows", "scored", "gain", "low", "high")}
            | {"candidates": len(one["searched"]["tried"])}
            for one in found
            if "searched" in one
        ],
    }


def gain(comparisons: list[dict[str, Any]], searched: str, plain: str) -> dict[str, float]:
    """Return the paired difference of the test scores, searched minus plain, with its limits."""
    one = next(c for c in comparisons if {c["a"], c["b"]} == {searched, plain})
    value, low, high = one["difference"], one["low"], one["high"]
    if one["a"] != searched:
        value, low, high = -value, -high, -low
    return {"value": value, "low": low, "high": high, "p": one["p"]}


if __name__ == "__main__":
    main()
