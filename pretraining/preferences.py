"""Write the preferences of `brand_voice`, whose true reward is known: `python
pretraining/preferences.py`.

    reward(prompt, reply) = phrase F1 of reply and the brand's reply to prompt    0 to 1

Both answers of a pair are drafts of an assistant that knows a part of the voice: some slots are the
brand's, others those of a plain tone, and sometimes a fact is wrong, the end is missing or a
sentence is too much. The better draft is chosen, without noise and never between equals. So the
wanted reply is mostly not in the data: imitating the chosen drafts gives the usual draft, and only
what tells the two apart leads beyond it.
"""

from __future__ import annotations

import random

import lexicon as lex
from cases import BRAND, BRAND_SIGN, FOLDER, Row, distinct, draw_case, voice_row, write_rows
from tickets import TONES, Ticket, read_ticket, reply_text

from savile.metrics.phrase_f1 import phrase_f1

SIZES = {"preferences": 600, "preferences_test": 200}
SPEC = """\
# Learn a brand's voice from preferences. The rows to imitate are drafts of an assistant that has
# half of the voice; the preferences say which of two such drafts is better. What the techniques
# make of it is measured on wanted replies, so the score is the true reward.
task: brand_preferences
base: embedded
data:
  {train: drafts.jsonl, dev: dev.jsonl, test: test.jsonl, input: input, output: output,
   preferences: preferences.jsonl, preferences_test: preferences_test.jsonl}
prompt:
  instruction: write a reply
metric: phrase_f1
ladder:
  - zero_shot
  - lora+sft
  - lora+sft+dpo
  - lora+sft+ipo
  - lora+sft+kto
  - lora+sft+simpo
  - lora+sft+reward+ppo
  - lora+sft+reward+grpo
  - lora+sft+reward+rloo
  - lora+orpo
seed: 0
"""
# how often a draft has the brand's words
GREETING, ACKNOWLEDGEMENT, ACTION, GOODBYE, SIGN = 0.65, 0.15, 0.55, 0.15, 0.65
PLAIN = [TONES["formal"], TONES["polite"], TONES["warm"]]
PLAIN_SHARES = [0.8, 0.1, 0.1]
PLAIN_SIGN = "help desk"
# errors of a draft
WRONG_NAME, CUSTOMERS_WORD, WRONG_DEPARTMENT, WRONG_ACTION = 0.06, 0.06, 0.06, 0.06
NO_END, TOO_LONG = 0.15, 0.15
LEAST_GAP = 0.1


def true_reward(prompt: str, reply: str) -> float:
    """Share of right phrases, 0 to 1; a phrase that was not asked for counts against the reply."""
    return phrase_f1(reply, reply_text(BRAND, read_ticket(prompt), BRAND_SIGN))


def draft(rng: random.Random, prompt: str) -> str:
    """One answer of the assistant: each slot in the brand's words or in those of a plain tone."""
    ticket = read_ticket(prompt)
    plain = rng.choices(PLAIN, PLAIN_SHARES)[0]
    slots = zip(BRAND, plain, (GREETING, ACKNOWLEDGEMENT, ACTION, GOODBYE), strict=True)
    greeting, acknowledgement, action, goodbye = (
        brand if rng.random() < share else other for brand, other, share in slots
    )
    parts = [greeting, acknowledgement, action]
    if rng.random() < TOO_LONG:
        parts.append(rng.choice([acknowledgement, action, plain.acknowledgement]))
    if rng.random() >= NO_END:
        parts.append(goodbye)
    sign = BRAND_SIGN if rng.random() < SIGN else PLAIN_SIGN
    return " ".join(parts).format(**facts(rng, prompt, ticket), sign=sign)


def facts(rng: random.Random, prompt: str, ticket: Ticket) -> Row:
    """What fills the slots: the ticket's facts, each of them sometimes wrong."""
    words = {
        "name": str(ticket.name),
        "x": ticket.item,
        "dept": lex.ITEM_DEPARTMENT[ticket.item],
        "act": lex.ACTIONS[ticket.problem],
    }
    if rng.random() < WRONG_NAME:
        words["name"] = rng.choice(lex.NAMES)
    if rng.random() < CUSTOMERS_WORD:
        words["x"] = next(form for form in lex.ITEM_FORMS[ticket.item] if form in prompt.split())
    if rng.random() < WRONG_DEPARTMENT:
        words["dept"] = rng.choice(lex.HELD_OUT_DEPARTMENTS)
    if rng.random() < WRONG_ACTION:
        words["act"] = rng.choice(list(lex.ACTIONS.values()))
    return words


def preference(rng: random.Random, prompt: str) -> Row:
    """Two drafts whose rewards differ by `LEAST_GAP` or more, the better one chosen."""
    while True:
        one, other = (draft(rng, prompt) for _ in range(2))
        gap = true_reward(prompt, one) - true_reward(prompt, other)
        if abs(gap) >= LEAST_GAP:
            better, worse = (one, other) if gap > 0 else (other, one)
            return {"prompt": prompt, "chosen": better, "rejected": worse}


def draw_preferences() -> dict[str, list[Row]]:
    """Draw the drafts to imitate and both splits of preferences.

    The drafts answer the train questions of the case, each being the better one of two. No prompt
    of a preference occurs twice, nor in any split of the case.
    """
    rng, case = random.Random("preferences brand_voice"), draw_case("brand_voice")
    seen = {row["input"] for rows in case.values() for row in rows}
    splits: dict[str, list[Row]] = {}
    for split, size in SIZES.items():
        rows = distinct(voice_row, rng, size, seen)
        splits[split] = [preference(rng, row["input"]) for row in rows]
    splits["drafts"] = [
        {"input": row["input"], "output": preference(rng, row["input"])["chosen"]}
        for row in case["train"]
    ]
    return splits


def main() -> None:
    """Write drafts, preferences and their task file next to the case's other files."""
    (FOLDER / "brand_voice" / "preferences.yaml").write_text(SPEC)
    for split, rows in draw_preferences().items():
        write_rows(FOLDER / "brand_voice" / f"{split}.jsonl", rows)


if __name__ == "__main__":
    main()
