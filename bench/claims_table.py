"""What articles about customizing language models claim, beside the figures of our own boards.

A claim names two groups of techniques; the best of each on a board stands for it. "Beyond the
intervals" means that the two 95 % intervals do not meet, which is stricter than a paired test.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from board_table import lines

Record = dict[str, Any]


class Claim(NamedTuple):
    """One sentence that is often read, and the rows that can speak to it."""

    text: str
    cases: tuple[str, ...]
    left: tuple[str, ...]
    """Techniques that should be lower."""
    right: tuple[str, ...]
    """Techniques that should be higher, or as good where `same`."""
    same: bool = False


STEPS = "chain_of_thought+"


def steps(*names: str) -> tuple[str, ...]:
    """Return techniques and the same ones with worked steps, as cases with steps run them."""
    return (*names, *(f"{STEPS}{name}" for name in names))


def calibrated(*names: str) -> tuple[str, ...]:
    """Return techniques with the scores of their labels calibrated."""
    return tuple(f"{name}+{way}_calibration" for name in names for way in ("contextual", "domain"))


EXAMPLES = ("routing_examples",)
RANDOM = ("few_shot(k=8, selection=random)",)
ROUTING = ("hard_routing", "easy_routing")
CASES = (*ROUTING, "refund_arithmetic", "brand_voice")
PROMPTS = (
    "zero_shot",
    "one_shot",
    *(f"few_shot(k={k})" for k in (4, 8, 16)),
    "nearest(k=8)",
    "chain_of_thought",
    "few_shot(k=4)+chain_of_thought",
)
SOFT = steps("prompt_tuning", "p_tuning", "prefix_tuning")
FEW_AND_LORA = ("few_shot(k=4)+lora", "few_shot(k=4)+chain_of_thought+lora")
PEFT = steps("bottleneck", "lora", "dora", "pissa", "ia3", "bitfit", "layer_norm")
CLAIMS = (
    Claim(
        "A few examples beat none", (*ROUTING, "brand_voice"), ("zero_shot",), ("few_shot(k=8)",)
    ),
    Claim("More examples beat fewer", ROUTING, ("few_shot(k=8)",), ("few_shot(k=16)",)),
    Claim("Examples like the question beat random ones", EXAMPLES, RANDOM, ("nearest(k=8)",)),
    Claim("Calibration adds to a bare question", EXAMPLES, ("zero_shot",), calibrated("zero_shot")),
    Claim("Calibration adds to examples", EXAMPLES, RANDOM, calibrated(*RANDOM)),
    Claim(
        "Worked steps beat direct answers where there are steps",
        ("refund_arithmetic",),
        ("zero_shot", "few_shot(k=8)"),
        ("chain_of_thought",),
    ),
    Claim("Prompt learning beats prompting", CASES, PROMPTS, SOFT),
    Claim("Parameter-efficient tuning beats prompt learning", CASES, SOFT, PEFT),
    Claim("Parameter-efficient tuning is as good as full", CASES, PEFT, steps("full"), same=True),
    Claim("Tuning beats prompting", CASES, PROMPTS, steps("lora", "full")),
    Claim("Examples in the prompt add to tuning", CASES, steps("lora"), FEW_AND_LORA),
    Claim(
        "Steps add to tuning where there are steps",
        ("refund_arithmetic",),
        ("lora",),
        (f"{STEPS}lora",),
    ),
    Claim("Averaging copies beats one training", CASES, steps("lora"), steps("lora+soup")),
    Claim(
        "Preferences add to fine-tuning", ("brand_preferences",), ("lora+sft",), ("lora+sft+dpo",)
    ),
    Claim(
        "DPO is as good as a reward model and PPO",
        ("brand_preferences",),
        ("lora+sft+dpo",),
        ("lora+sft+reward+ppo",),
        same=True,
    ),
    Claim(
        "A small tuned model matches a large prompted one",
        ("hard_small_and_big", "easy_small_and_big"),
        ("teacher embedded-large: few_shot(k=16)",),
        ("lora", "full", "lora+distill"),
    ),
)


def claims(results: dict[str, list[Record]]) -> str:
    """Return the table of claims on every board that has rows for them."""
    rows = ["| claim | board | lower side | higher side | our figures |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        for case in claim.cases:
            records = [r for r in results.get(f"board-{case}", []) if r["kind"] == "row"]
            left, right = best(records, claim.left), best(records, claim.right)
            if left is not None and right is not None:
                said = judged(left, right, same=claim.same)
                rows.append(f"| {claim.text} | {case} | {told(left)} | {told(right)} | {said} |")
    return lines(rows)


def best(records: list[Record], names: tuple[str, ...]) -> Record | None:
    """Return the highest row of some techniques, None when the board has none of them."""
    found = [r for r in records if r["technique"] in names and r["score"] is not None]
    return max(found, key=lambda r: r["score"], default=None)


def told(row: Record) -> str:
    """Return a row's name and score."""
    limits = f"[{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['technique']} {row['score']:.3f} {limits}"


def judged(left: Record, right: Record, *, same: bool) -> str:
    """Return what two rows say about a claim."""
    apart = right["low"] > left["high"], left["low"] > right["high"]
    if same:
        return "no, beyond the intervals" if any(apart) else "not shown to differ"
    if apart[0]:
        return "yes, beyond the intervals"
    if apart[1]:
        return "**no**: the other way, beyond the intervals"
    if right["score"] > left["score"]:
        return "same direction, within the intervals"
    return "not seen: within the intervals"
