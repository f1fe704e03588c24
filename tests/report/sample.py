"""A realistic board document, built from the types that write real ones."""

import json
from dataclasses import asdict, replace
from typing import Any

from savile.types import BoardRow, Kind, Verdict

TECHNIQUES: list[tuple[str, Kind, float, float, int, float, float, float, float]] = [
    # name, kind, score, half width, trainable, train s, p50 s, prompt tokens, USD per 1000
    ("lora(r=8)", "tuned", 0.907, 0.031, 196_608, 412.0, 0.021, 34, 0.012),
    ("few_shot(k=4)+lora", "tuned", 0.901, 0.034, 196_608, 655.0, 0.034, 188, 0.021),
    ("full", "tuned", 0.893, 0.041, 9_412_864, 730.0, 0.021, 34, 0.012),
    ("p_tuning", "tuned", 0.812, 0.048, 41_216, 390.0, 0.024, 54, 0.013),
    ("prompt_tuning(tokens=20)", "tuned", 0.781, 0.055, 5_120, 377.0, 0.024, 54, 0.013),
    ("few_shot(k=16)", "prompt", 0.743, 0.043, 0, 0.0, 0.071, 655, 0.044),
    ("few_shot", "prompt", 0.702, 0.045, 0, 0.0, 0.049, 344, 0.028),
    ("nearest_neighbor", "baseline", 0.688, 0.046, 0, 0.0, 0.0004, 0, 0.0002),
    ("one_shot", "prompt", 0.561, 0.049, 0, 0.0, 0.029, 72, 0.016),
    ("zero_shot", "prompt", 0.402, 0.048, 0, 0.0, 0.022, 33, 0.012),
    ("majority", "baseline", 0.183, 0.038, 0, 0.0, 0.0001, 0, 0.0),
]
IMPROVING = "still improving when its budget ended: dev loss 1.62 -> 1.47 over its last 25 %"
VERDICT = Verdict(
    winner="lora(r=8)",
    tied_with=("few_shot(k=4)+lora", "full"),
    text="No single winner: lora(r=8) scored highest (0.907), but few_shot(k=4)+lora and full may be "
    "just as good.\n"
    "While they are tied, take lora(r=8): it is the cheapest of them in USD for labels, training "
    "and the first 1,000 requests.\n"
    "Not decided: about 5,210 more test rows (same difference, 80 % power) would separate lora(r=8) "
    "from few_shot(k=4)+lora; now it is a difference of 0.006 (95 % interval -0.021 to 0.033 "
    "for this pair alone; p = 1.000 corrected for 15 comparisons).\n"
    "On new rows of the same kind lora(r=8) would score 0.872 to 0.934 (95 % interval, 400 test rows).\n"
    "The goal of 0.850 is reached: the whole interval lies above it.",
    more_rows=5210,
)


def row(index: int) -> BoardRow:
    """Return one board row of `TECHNIQUES`."""
    name, kind, score, half, trainable, train, p50, tokens, usd = TECHNIQUES[index]
    tuned = kind == "tuned"
    return BoardRow(
        technique=name,
        kind=kind,
        status="ok",
        score=score,
        low=score - 1.1 * half,
        high=score + 0.9 * half,
        n=400,
        seeds=5 if tuned else 1,
        score_by_seed=tuple(score + d for d in (-0.01, 0.0, 0.01, -0.005, 0.005))
        if tuned
        else (score,),
        dev_score=score + 0.01,
        unparseable=0.0 if tuned else 0.035,
        labels_used=1400 if tuned or kind == "baseline" else {"few_shot": 8}.get(name, 0),
        trainable_parameters=trainable,
        trainable_share=trainable / 9_412_864,
        seconds=train + 400 * p50,
        search_seconds=0.4 * train,
        train_seconds=0.6 * train,
        predict_seconds=400 * p50,
        train_flops=train * 2e10,
        train_examples=12_000 if tuned else 0,
        peak_bytes=None if kind == "baseline" else 412_000_000 + 30 * trainable,
        artifact_bytes=4 * trainable,
        prompt_tokens=tokens or None,
        completion_tokens=2.1,
        latency_p50_seconds=p50,
        latency_p95_seconds=2 * p50,
        usd_once=140.0 + train / 9000 if tuned else 0.0,
        usd_per_1000=usd,
        settings={"lora": {"r": 8, "targets": "all"}, "learning_rate": 0.002} if tuned else {},
        mistakes=(
            {
                "input": "my card was charged twice for order 7",
                "expected": "billing",
                "got": "refund",
            },
            {
                "input": "Where is it?\nI ordered a week ago",
                "expected": "shipping",
                "got": "billing",
            },
        ),
    )


def document() -> dict[str, Any]:
    """Return a full board document as it is read from `board.json`."""
    reason = "needs rationales: no row of train has a `rationale`"
    rows = [row(i) for i in range(len(TECHNIQUES))]
    rows[3:5] = [replace(r, reason=IMPROVING) for r in rows[3:5]]
    rows.append(
        BoardRow(technique="chain_of_thought", kind="prompt", status="not_run", reason=reason)
    )
    rows.append(
        BoardRow(technique="bottleneck", kind="tuned", status="diverged", reason="loss at step 40")
    )
    found = {
        "schema_version": 1,
        "task": "support-tickets",
        "base": "embedded",
        "metric": "accuracy",
        "n_test": 400,
        "seeds": 5,
        "test_openings": 1,
        "data": {
            "train": 1400,
            "dev": 200,
            "test": 400,
            "fates": [
                {
                    "stage": "read tickets.csv",
                    "n_in": 2012,
                    "used": 2005,
                    "quarantined": {"empty": 7},
                },
                {
                    "stage": "data",
                    "n_in": 2012,
                    "used_train": 1400,
                    "used_dev": 200,
                    "used_test": 400,
                    "quarantined": {"empty": 7, "duplicate": 5},
                    "examples": {"train": 1400, "dev": 200, "test": 400},
                },
            ],
            "notes": [
                "read as CSV with header",
                "3 inputs have different labels in different rows",
            ],
        },
        "board": [asdict(r) for r in rows],
        "verdict": asdict(VERDICT),
        "seconds": {
            "data": 0.4,
            "load": 1.1,
            "search": 1020.5,
            "train": 1540.2,
            "predict": 161.0,
            "total": 2725.0,
        },
        "machine": {"cpu": "AMD EPYC", "cores": 2, "memory_bytes": 8_200_000_000, "device": "cpu"},
        "versions": {"savile": "0.1.0", "torch": "2.13.0", "python": "3.11.9"},
    }
    loaded: dict[str, Any] = json.loads(json.dumps(found))
    return loaded
