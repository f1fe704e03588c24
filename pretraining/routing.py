"""Documents about routing: classification with re-mapped labels, policies, and symbol maps.

A document is one task as a dialogue of many turns, which trains every number of shots at once. The
label words are drawn anew for every document, so that only the demonstrations, the definitions or
the names in the system prompt can tell what a label means.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import lexicon as lex
from tickets import Ticket, invented_word, random_mood, ticket_text


class Turn(NamedTuple):
    """One message: role `system`, `user` or `assistant`, its text, its weight in the loss."""

    role: str
    text: str
    weight: float = 0.0


Document = list[Turn]
LABEL_WEIGHT = 2.0
EARLY_WEIGHT = 4.0  # the first answers: little to go by, and one-shot prompts are there
OUTPUT_WEIGHT = 1.0


def random_labels(rng: random.Random, n: int) -> list[str]:
    """Draw n different label words; never a case label, never a held-out word.

    Most come from all words of the world: a model that knows a hundred labels by heart has
    preferences among other words, which drown the demonstrations.
    """
    source = rng.random()
    if source < 0.3:
        return rng.sample(lex.LABELS, n)
    if source < 0.9:
        return rng.sample(LABEL_WORDS, n)
    words = {invented_word(rng): None for _ in range(n)} | dict.fromkeys(rng.sample(lex.LABELS, n))
    return list(words)[:n]


TRAIN_FORMS = [form for item in lex.TRAIN_ITEMS for form in lex.ITEM_FORMS[item]]
NO_LABELS = lex.HELD_OUT_WORDS | {*lex.CASE_LABELS, *lex.HELD_OUT_PROBLEMS, *lex.BRAND_WORDS}
LABEL_WORDS = [word for word in lex.all_words() if word not in NO_LABELS]
SYMBOLS = TRAIN_FORMS + lex.NAMES + lex.CITIES + lex.LABELS + list(lex.PROBLEMS) + lex.FREE_VERBS
NAME_PROMPTS = [
    "route the ticket to {l}",
    "route the ticket to : {l}",
    "route the message to {l}",
    "choose one of {l}",
    "labels : {l}",
    "which queue : {l} ?",
    "sort the ticket into {l}",
    "the answer is one of {l}",
    "classify the message : {l}",
]
PLAIN_PROMPTS = [
    "route the ticket",
    "classify the message",
    "choose the queue",
    "answer with the label",
]


def list_words(rng: random.Random, words: list[str]) -> str:
    """Join words by commas, at times with an 'or' before the last."""
    if rng.random() < 0.2 and len(words) > 1:
        return " , ".join(words[:-1]) + " or " + words[-1]
    return " , ".join(words)


def symbol_map(rng: random.Random, room: int, *, clean: bool = False) -> Document:
    """Arbitrary words to labels: the plainest lookup, with distractor words unless clean."""
    n = rng.randint(2, 6) if clean else rng.randint(3, 10)
    keys = rng.sample(SYMBOLS, n)
    if rng.random() < 0.2:
        keys = list({invented_word(rng): None for _ in range(n)})
    labels = random_labels(rng, len(keys) if clean else rng.randint(2, min(len(keys), 6)))
    label_of = {key: labels[i % len(labels)] for i, key in enumerate(keys)}
    document = []
    for _ in range(room // 4):
        key, filler = rng.choice(keys), rng.choice(SYMBOLS)
        text = key
        if not clean and filler not in label_of and rng.random() < 0.3:
            text = rng.choice([f"{key} {filler}", f"{filler} {key}"])
        document += [Turn("user", text), Turn("assistant", label_of[key], LABEL_WEIGHT)]
    return document


class Rule(NamedTuple):
    """What decides the class: a slot of the ticket, class by key, and overriding problems."""

    slot: str
    class_of: dict[str, int]
    overrides: dict[str, int]


def draw_rule(rng: random.Random, n_classes: int, kind: str, items: list[str]) -> Rule:
    """Draw a task of the given kind over the given items."""
    if kind == "department":
        per = 2 if rng.random() < 0.3 else 1
        names = rng.sample(lex.TRAIN_DEPARTMENTS, n_classes * per)
        pairs = [
            (forms[0], i % n_classes) for i, d in enumerate(names) for forms in lex.DEPARTMENTS[d]
        ]
        return Rule("item", dict(pairs), {})
    if kind in ("item", "override", "invented"):
        per = rng.choice([1, 1, 1, 2, 3, 4])
        if kind == "invented":
            keys = list({invented_word(rng): None for _ in range(n_classes * min(per, 2))})
        elif rng.random() < 0.4 and items is lex.TRAIN_ITEMS:  # few departments, cut across
            names = rng.sample(lex.TRAIN_DEPARTMENTS, max(n_classes * per // 3, 2))
            pool = [forms[0] for d in names for forms in lex.DEPARTMENTS[d]]
            keys = rng.sample(pool, min(len(pool), n_classes * per))
        else:
            keys = rng.sample(items, n_classes * per)
        overrides = {}
        if kind == "override":
            problems = rng.sample(lex.TRAIN_PROBLEMS, rng.randint(1, 3))
            overrides = {p: rng.randrange(n_classes) for p in problems}
        return Rule("item", {key: i % n_classes for i, key in enumerate(keys)}, overrides)
    pools = {"problem": lex.TRAIN_PROBLEMS, "city": lex.CITIES, "mood": ["calm", "angry"]}
    pool = pools[kind]
    keys = rng.sample(pool, min(len(pool), n_classes * rng.choice([1, 1, 2])))
    return Rule(kind, {key: i % n_classes for i, key in enumerate(keys)}, {})


def rule_prompt(rng: random.Random, rule: Rule, labels: list[str], kind: str) -> str | None:
    """System text: names only, definitions (full or partial), or nothing."""
    style = rng.random()
    names = rng.choice(NAME_PROMPTS).format(l=list_words(rng, labels))
    if style < 0.38:
        return names
    if style > 0.78:
        return rng.choice([*PLAIN_PROMPTS, None, None])
    full, entries = rng.random() < 0.5, []
    for index in rng.sample(range(len(labels)), len(labels)):
        keys = [key for key, value in rule.class_of.items() if value == index]
        if not full and rng.random() < 0.3:
            continue
        if kind == "department" and rng.random() < 0.5:
            keys = list(dict.fromkeys(lex.ITEM_DEPARTMENT[key] for key in keys))
        shown = keys if full else rng.sample(keys, rng.randint(min(1, len(keys)), len(keys)))
        shown = [rng.choice(lex.ITEM_FORMS.get(key, (key,))) for key in shown]
        shown += [p for p, value in rule.overrides.items() if value == index]
        if shown:
            entries.append(f"{labels[index]} means " + " , ".join(shown))
    opening = names if rng.random() < 0.5 else rng.choice(PLAIN_PROMPTS)
    return " . ".join([opening, " ; ".join(entries)]) if entries else opening


KINDS = {
    "item": 5.0,
    "department": 4.0,
    "override": 2.0,
    "problem": 1.3,
    "invented": 1.0,
    "city": 0.4,
}
KINDS["mood"] = 0.3


def classification(
    rng: random.Random,
    room: int,
    *,
    items: list[str] = lex.TRAIN_ITEMS,
    kind: str | None = None,
    n_classes: int | None = None,
) -> Document:
    """A ticket classification task with labels drawn for this document."""
    kind = kind or rng.choices(list(KINDS), list(KINDS.values()))[0]
    n_classes = n_classes or rng.choices([2, 3, 4, 5, 6], [3, 4, 5, 1, 1])[0]
    n_classes = 2 if kind == "mood" else n_classes
    rule = draw_rule(rng, n_classes, kind, items)
    n_classes = max(rule.class_of.values()) + 1
    labels = random_labels(rng, n_classes)
    if rng.random() < 0.2 and kind in ("problem", "mood", "department") and not rule.overrides:
        labels = fixed_labels(rule, kind, n_classes)
    prompt = rule_prompt(rng, rule, labels, kind)
    document = [Turn("system", prompt)] if prompt else []
    keys = list(rule.class_of)
    weights = [rng.random() ** 2 + 0.05 for _ in keys] if rng.random() < 0.3 else None
    with_city = kind == "city" or rng.random() < 0.1
    problems = rng.sample(list(lex.PROBLEMS), rng.randint(2, 12))
    others = rng.sample(items, min(len(items), rng.randint(4, 16)))
    for _ in range(room // 8 + 2):
        key = rng.choices(keys, weights)[0]
        ticket = Ticket(
            item=key if rule.slot == "item" else rng.choice(others),
            problem=key if kind == "problem" else rng.choice([*problems, *rule.overrides]),
            mood=key if kind == "mood" else random_mood(rng),
            city=(key if kind == "city" else rng.choice(lex.CITIES)) if with_city else None,
        )
        label = labels[rule.overrides.get(ticket.problem, rule.class_of[key])]
        document.append(Turn("user", ticket_text(rng, ticket)))
        weight = EARLY_WEIGHT if len(document) < 10 else LABEL_WEIGHT
        document.append(Turn("assistant", label, weight))
    return document


def fixed_labels(rule: Rule, kind: str, n_classes: int) -> list[str]:
    """Labels that say what they mean: the department, the problem or the mood itself."""
    names: dict[int, str] = {}
    for key, index in rule.class_of.items():
        names.setdefault(index, lex.ITEM_DEPARTMENT[key] if kind == "department" else key)
    return [names[index] for index in range(n_classes)]


def clean_start(rng: random.Random, room: int) -> Document:
    """Curriculum of the first tokens: clean symbols, or one item per class."""
    if rng.random() < 0.5:
        return symbol_map(rng, room, clean=True)
    n = rng.randint(2, 4)
    keys, labels, short = rng.sample(lex.TRAIN_ITEMS, n), random_labels(rng, n), rng.random() < 0.5
    document = []
    for _ in range(room // 6):
        index = rng.randrange(n)
        form = rng.choice(lex.ITEM_FORMS[keys[index]])
        text = rng.choice(["my ", "the "]) + form
        if not short:
            text = ticket_text(rng, Ticket(keys[index], rng.choice(lex.TRAIN_PROBLEMS)))
        document += [Turn("user", text), Turn("assistant", labels[index], LABEL_WEIGHT)]
    return document


def policy(rng: random.Random, room: int) -> Document:
    """A policy in the system prompt decides; half of the documents write the lookup out."""
    slot = rng.choices(["team", "problem", "item", "city", "topic"], [5, 1.5, 1.5, 1, 1.5])[0]
    n = rng.randint(2, 6)
    pools = {"team": lex.TRAIN_DEPARTMENTS, "problem": lex.TRAIN_PROBLEMS, "item": lex.TRAIN_ITEMS}
    pools |= {"city": lex.CITIES, "topic": [invented_word(rng) for _ in range(12)] + lex.LABELS}
    keys = rng.sample(list(dict.fromkeys(pools[slot])), n)
    labels = random_labels(rng, n)
    verb = rng.choice(["{k} goes to {l}", "send {k} to {l}", "{k} is for {l}"])
    lines = " , ".join(verb.format(k=k, l=label) for k, label in zip(keys, labels, strict=True))
    steps = rng.random() < 0.5
    where = rng.random()
    system = "policy : " + lines
    if steps and where < 0.5:
        system += " . think step by step"
    elif not steps and where < 0.3:
        system += " . answer directly"
    document = [Turn("system", system)]
    for _ in range(room // 10 + 2):
        index = rng.randrange(n)
        key = keys[index]
        items = {"team": [f[0] for f in lex.DEPARTMENTS.get(key, [])], "item": [key]}
        ticket = Ticket(
            item=rng.choice(items.get(slot) or lex.TRAIN_ITEMS),
            problem=key if slot == "problem" else rng.choice(list(lex.PROBLEMS)),
            mood=random_mood(rng),
            city=key if slot == "city" else None,
            topic=key if slot == "topic" else None,
        )
        text = ticket_text(rng, ticket)
        if steps and where >= 0.5:
            text += " think step by step"
        thought = f"item {ticket.item} ; team {key}" if slot == "team" else f"{slot} {key}"
        answer = f"steps : {thought} . answer {labels[index]}" if steps else labels[index]
        document += [Turn("user", text), Turn("assistant", answer, OUTPUT_WEIGHT)]
    return document
