"""Write the four business cases: `python pretraining/cases.py`.

All inputs come from the part of the text space that pretraining may not use (`is_reserved`), all
departments, labels and new verbs are held out of every label-mapping task. Deterministic.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import lexicon as lex
from tickets import (
    Ticket,
    Verbs,
    Voice,
    arithmetic_chain,
    arithmetic_question,
    is_reserved,
    random_mood,
    rationale,
    reply_text,
    ticket_text,
)

Row = dict[str, str]
FOLDER = Path(__file__).parents[1] / "src" / "savile" / "embedded" / "cases"

# every department is cut across the queues
QUEUE_ITEMS = {
    "anchor": ["screen", "exam"],
    "ledger": ["camera", "tyre"],
    "lantern": ["medicine", "course"],
    "bench": ["bandage", "engine"],
}
HARD_PARTITION = {item: queue for queue, items in QUEUE_ITEMS.items() for item in items}
BRAND = Voice(
    "good morning {name} ,",
    "we heard about the {x} .",
    "expect {dept} to {act} soon .",
    "fair winds , {sign}",
)
BRAND_SIGN = "savile harbor"


def hard_row(rng: random.Random) -> Row:
    """A ticket whose queue depends on the item, with two overriding rules."""
    item, problem = rng.choice(list(HARD_PARTITION)), rng.choice(list(lex.PROBLEMS))
    mood = random_mood(rng)
    label = HARD_PARTITION[item]
    if problem == "cancel":
        label = "ledger"
    if problem in ("broken", "wrong") and mood == "angry":
        label = "bench"
    return {"input": ticket_text(rng, Ticket(item, problem, mood), reserved=True), "output": label}


def easy_row(rng: random.Random) -> Row:
    """A ticket whose queue is the department of its item."""
    item = rng.choice(lex.EASY_ITEMS)
    label = lex.EASY_LABELS[lex.EASY_DEPARTMENTS.index(lex.ITEM_DEPARTMENT[item])]
    ticket = Ticket(item, rng.choice(list(lex.PROBLEMS)), random_mood(rng))
    return {"input": ticket_text(rng, ticket, reserved=True), "output": label}


def refund_row(rng: random.Random) -> Row:
    """A balance of two to four operations; half of the operations in the company's own words."""
    verbs = Verbs(
        ["refund {b}", "refund {b}", "plus {b}", "add {b}"],
        ["charge {b}", "charge {b}", "minus {b}", "take away {b}"],
    )
    while True:
        chain = arithmetic_chain(rng, rng.randint(2, 4))
        text = arithmetic_question(rng, chain, verbs, ("i have {s} points", "what is left ?"))
        if is_reserved(text):
            return {"input": text, "output": str(chain.result), "rationale": rationale(chain)}


def voice_row(rng: random.Random) -> Row:
    """A ticket and its reply in the brand's voice."""
    ticket = Ticket(
        item=rng.choice(lex.HELD_OUT_ITEMS),
        problem=rng.choice(list(lex.PROBLEMS)),
        mood=random_mood(rng),
        name=rng.choice(lex.NAMES),
    )
    text = ticket_text(rng, ticket, reserved=True)
    return {"input": text, "output": reply_text(BRAND, ticket, BRAND_SIGN)}


HARD_YAML = """\
# Route a customer's ticket to one of four queues by a house rule that nobody wrote down.
# The rule cuts across the departments and two exceptions override it, so demonstrations help a
# little, tuning helps a lot, and more labels keep paying.
task: hard_routing
base: embedded
data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl, input: input, output: output}
prompt:
  instruction: route the ticket to anchor , ledger , lantern , bench
  labels: [anchor, ledger, lantern, bench]
metric: accuracy
seed: 0
"""
EASY_YAML = """\
# Route a customer's ticket to one of three queues, one for each department.
# The base model knows which item belongs to which department, so a few labels are enough.
task: easy_routing
base: embedded
data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl, input: input, output: output}
prompt:
  instruction: route the ticket to lantern , anchor , meadow
  labels: [lantern, anchor, meadow]
metric: accuracy
seed: 0
"""
REFUND_YAML = """\
# Work out a customer's balance after two to four bookings.
# About half of the bookings use the company's own words (refund, charge), which the base model
# never calculated with. Written steps (the trigger) beat direct answers by far, and tuning on
# steps solves it. Without "answer directly" the model writes steps unasked.
task: refund_arithmetic
base: embedded
data:
  {train: train.jsonl, dev: dev.jsonl, test: test.jsonl, input: input, output: output,
   rationale: rationale}
prompt:
  instruction: answer directly . work out the total
  trigger: think step by step
  answer_marker: answer
metric: numeric
seed: 0
"""
VOICE_YAML = """\
# Answer a customer in the brand's voice, which the base model has never seen.
# One example shows most of the voice; tuning makes it a habit. The system text repeats the
# instruction because the base model knows "sign as" only after "write a reply".
task: brand_voice
base: embedded
data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl, input: input, output: output}
prompt:
  instruction: write a reply
  system: write a reply . sign as savile harbor .
metric: phrase_f1
ladder:
  - zero_shot
  - system
  - one_shot
  - system+one_shot
  - {few_shot: {k: 4}}
  - prompt_tuning
  - lora
  - full
  - system+lora
seed: 0
"""
CASES: dict[str, tuple[Callable[[random.Random], Row], dict[str, int], str]] = {
    "hard_routing": (hard_row, {"train": 512, "dev": 200, "test": 600}, HARD_YAML),
    "easy_routing": (easy_row, {"train": 128, "dev": 100, "test": 400}, EASY_YAML),
    "refund_arithmetic": (refund_row, {"train": 256, "dev": 100, "test": 400}, REFUND_YAML),
    "brand_voice": (voice_row, {"train": 256, "dev": 80, "test": 200}, VOICE_YAML),
}
# which draw of the test rows is shipped: a case whose design was changed after a look at its test
# rows got new ones; the replaced rows stay excluded
TEST_DRAWS = {"hard_routing": 2, "brand_voice": 2}


def distinct(
    draw: Callable[[random.Random], Row], rng: random.Random, size: int, seen: set[str]
) -> list[Row]:
    """Draw `size` rows whose inputs are not in `seen`, and put them there."""
    rows: list[Row] = []
    while len(rows) < size:
        row = draw(rng)
        if row["input"] not in seen:
            seen.add(row["input"])
            rows.append(row)
    return rows


def draw_case(name: str) -> dict[str, list[Row]]:
    """Draw the splits of one case: no input occurs twice, nor in a test split that was replaced."""
    draw, sizes, _ = CASES[name]
    rng, seen = random.Random(f"case {name}"), set[str]()
    splits = {split: distinct(draw, rng, size, seen) for split, size in sizes.items()}
    for number in range(2, TEST_DRAWS.get(name, 1) + 1):
        fresh = random.Random(f"case {name} test {number}")
        splits["test"] = distinct(draw, fresh, sizes["test"], seen)
    return splits


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_case(name: str, folder: Path) -> None:
    """Write the splits of one case and its task file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.yaml").write_text(CASES[name][2])
    for split, rows in draw_case(name).items():
        write_rows(folder / f"{split}.jsonl", rows)


def main() -> None:
    """Write all cases."""
    for name in CASES:
        write_case(name, FOLDER / name)


if __name__ == "__main__":
    main()
