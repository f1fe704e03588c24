"""Fixed probes for the training log: teacher-forced accuracy of the current weights by skill.

All label-mapping probes use held-out items and fresh labels, so they measure in-context learning
and not memory. Whole answers count: every token of the answer must be the most likely one.
"""

from __future__ import annotations

import random

import lexicon as lex
import torch
from model import Model
from routing import Document, Turn, list_words
from tickets import (
    Ticket,
    Verbs,
    arithmetic_chain,
    arithmetic_question,
    rationale,
    ticket_text,
)
from tokenizer import ASSISTANT, END, PAD, DocumentEncoder
from world import CLOSINGS, OPENINGS, TRIGGER, attributes


def covered(rng: random.Random, items: list[str], n_queries: int = 8) -> Document:
    """Four classes, one item and one demonstration each, then queries about the same items."""
    keys, labels = rng.sample(items, 4), rng.sample(lex.LABELS, 4)
    order = rng.sample(range(4), 4) + [rng.randrange(4) for _ in range(n_queries)]
    document = []
    for index in order:
        ticket = Ticket(keys[index], rng.choice(list(lex.PROBLEMS)))
        document.append(Turn("user", ticket_text(rng, ticket)))
        document.append(Turn("assistant", labels[index], 1.0))
    return document


def queues(rng: random.Random, class_of: dict[str, int], labels: list[str], n: int) -> Document:
    """Tickets to queues whose names stand in the system prompt."""
    document = [Turn("system", "route the ticket to " + list_words(random.Random(1), labels))]
    for _ in range(n):
        item = rng.choice(list(class_of))
        ticket = Ticket(item, rng.choice(list(lex.PROBLEMS)))
        document.append(Turn("user", ticket_text(rng, ticket)))
        document.append(Turn("assistant", labels[class_of[item]], 1.0))
    return document


def sums(rng: random.Random, n_operations: int, by_steps: bool) -> Document:
    """One question in familiar words, without demonstrations."""
    chain = arithmetic_chain(rng, n_operations)
    verbs = Verbs(lex.PLUS_WORDINGS, lex.MINUS_WORDINGS)
    words = {"t": rng.choice(lex.THINGS), "n": rng.choice(lex.NAMES), "s": "{s}"}
    frame = (rng.choice(OPENINGS).format(**words), rng.choice(CLOSINGS).format(**words))
    question = arithmetic_question(rng, chain, verbs, frame)
    answer = f"{rationale(chain)} answer {chain.result}" if by_steps else str(chain.result)
    system = Turn("system", "work out the total")
    question += f" {TRIGGER}" if by_steps else ""
    return [system, Turn("user", question), Turn("assistant", answer, 1.0)]


def build_probes(seed: int = 123) -> dict[str, list[Document]]:
    """The fixed probe documents by name."""
    rng = random.Random(seed)
    probes = {"covered_held_out": [covered(rng, lex.HELD_OUT_ITEMS) for _ in range(40)]}
    probes["covered_seen"] = [covered(rng, lex.TRAIN_ITEMS) for _ in range(24)]
    easy, hard = [], []
    for _ in range(24):
        labels = rng.sample(lex.LABELS, 4)
        classes = {i: lex.EASY_DEPARTMENTS.index(lex.ITEM_DEPARTMENT[i]) for i in lex.EASY_ITEMS}
        easy.append(queues(rng, classes, labels[:3], 20))
        keys = rng.sample(lex.HARD_ITEMS, 12)
        hard.append(queues(rng, {key: i % 4 for i, key in enumerate(keys)}, labels, 20))
    probes |= {"easy": easy, "hard": hard, "attributes": [attributes(rng, 120) for _ in range(24)]}
    for n in (1, 2, 3, 4):
        probes[f"steps_{n}"] = [sums(rng, n, True) for _ in range(40)]
        probes[f"direct_{n}"] = [sums(rng, n, False) for _ in range(40)]
    return probes


def shot_bin(name: str, shot: int) -> str | None:
    """Key of the figure that this answer counts for."""
    if name.startswith("covered"):
        return name if shot >= 4 else None
    if name in ("easy", "hard"):
        bins = {0: "0", 1: "1", 2: "2-3", 3: "2-3"}
        return f"{name}_{bins.get(shot, '4-9' if shot < 10 else '10+')}"
    return name


@torch.no_grad()
def run_probes(
    model: Model, encoder: DocumentEncoder, probes: dict[str, list[Document]], length: int = 256
) -> dict[str, float]:
    """Whole-answer accuracy by probe (and by number of demonstrations)."""
    hits: dict[str, list[bool]] = {}
    for name, documents in probes.items():
        encoded = [encoder.encode(document, length)[0] for document in documents]
        longest = max(map(len, encoded))
        ids = torch.tensor([e + [PAD] * (longest - len(e)) for e in encoded])
        best = model.logits(ids).argmax(-1)
        for row, tokens in enumerate(encoded):
            starts = [i for i, token in enumerate(tokens) if token == ASSISTANT]
            for shot, start in enumerate(starts):
                stop = tokens.index(END, start)
                right = best[row, start:stop].tolist() == tokens[start + 1 : stop + 1]
                if key := shot_bin(name, shot):
                    hits.setdefault(key, []).append(right)
    return {key: round(sum(values) / len(values), 3) for key, values in hits.items()}
