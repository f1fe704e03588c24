"""The corpus: families of documents, their shares, and `draw_document`.

Everything is drawn on the fly from a seeded `random.Random`; no corpus is stored.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import lexicon as lex
from routing import (
    NAME_PROMPTS,
    OUTPUT_WEIGHT,
    Document,
    Turn,
    classification,
    clean_start,
    list_words,
    policy,
    symbol_map,
)
from tickets import (
    TONES,
    Ticket,
    Verbs,
    arithmetic_chain,
    arithmetic_question,
    invented_word,
    is_reserved,
    random_mood,
    random_voice,
    rationale,
    reply_text,
    ticket_text,
)

REPLY_WEIGHT = 0.5
ARITHMETIC_WEIGHT = 2.0
COPY_WEIGHT = 0.5
PICK_WORDS = lex.CASE_LABELS * 10 + lex.all_words()
COPY_WORDS = [word for word in lex.all_words() if word not in lex.CASE_VERBS]
TRIGGER = "think step by step"
FIELDS = ["item", "problem", "item", "team", "team", "problem", "mood", "name", "city", "order"]
FIELD_PROMPTS = ["give the {f}", "name the {f}", "answer with the {f}", "what is the {f} ?"]
ARITHMETIC_PROMPTS = [
    "work out the total",
    "give the final number",
    "answer with a number",
    "compute the balance",
    "you are a calculator",
]
OPENINGS = [
    "start {s} {t}",
    "i have {s} {t}",
    "{n} has {s} {t}",
    "start with {s} {t}",
    "there are {s} {t}",
]
CLOSINGS = ["total ?", "how many ?", "what is left ?", "result ?", "how many {t} now ?"]


def attributes(rng: random.Random, room: int) -> Document:
    """Name one to three facts of each ticket: in-weights knowledge, extraction, instructions."""
    fields = list(dict.fromkeys(rng.sample(FIELDS, rng.choice([1, 2, 3]))))
    prompt = rng.choice(FIELD_PROMPTS).format(f=" , ".join(fields))
    document = [Turn("system", prompt)] if rng.random() < 0.92 else []
    for _ in range(room // 10 + 2):
        mood = rng.choice(["calm", "angry"]) if "mood" in fields else random_mood(rng)
        ticket = Ticket(
            item=rng.choice(lex.ITEMS),
            problem=rng.choice(list(lex.PROBLEMS)),
            mood=mood,
            name=rng.choice(lex.NAMES) if "name" in fields or rng.random() < 0.1 else None,
            city=rng.choice(lex.CITIES) if "city" in fields or rng.random() < 0.1 else None,
            order=rng.randint(0, 99) if "order" in fields or rng.random() < 0.1 else None,
        )
        values = ticket._asdict() | {"team": lex.ITEM_DEPARTMENT[ticket.item]}
        answer = " , ".join(str(values[field]) for field in fields)
        document.append(Turn("user", ticket_text(rng, ticket)))
        document.append(Turn("assistant", answer, OUTPUT_WEIGHT))
    return document


def document_verbs(rng: random.Random) -> tuple[Verbs, str | None]:
    """Wordings of plus and minus for one document, and their definitions if they are told."""
    style = rng.random()
    plus, minus = rng.sample(lex.PLUS_WORDINGS, 3), rng.sample(lex.MINUS_WORDINGS, 3)
    if style < 0.45:
        return Verbs(plus, minus), None
    pool = rng.sample(lex.FREE_VERBS + lex.LABELS, 6)
    if rng.random() < 0.3:
        pool = [invented_word(rng) for _ in range(6)]
    n_plus, n_minus = rng.choice([1, 1, 2]), rng.choice([1, 1, 2])
    new_plus, new_minus = pool[:n_plus], pool[3 : 3 + n_minus]
    shape = rng.choice(["{w} {b}", "{w} {b}", "{w} {b}", "{b} {w}"])
    meanings = [f"{word} means plus" for word in new_plus]
    meanings += [f"{word} means minus" for word in new_minus]
    rng.shuffle(meanings)
    new_plus = [shape.replace("{w}", word) for word in new_plus]
    new_minus = [shape.replace("{w}", word) for word in new_minus]
    if style < 0.65:  # familiar and new wordings side by side
        new_plus, new_minus = new_plus + plus[:2], new_minus + minus[:2]
    told = " ; ".join(meanings) if rng.random() < 0.45 else None
    return Verbs(new_plus, new_minus), told


def arithmetic(rng: random.Random, room: int) -> Document:
    """Sums of one to four operations, step by step or direct; often with words bound in context."""
    mode = rng.choices(["steps", "direct", "mixed"], [6, 2.5, 1])[0]
    verbs, meanings = document_verbs(rng)
    where = rng.choices(["system", "user", "nowhere"], [4, 5, 1])[0]
    system = [rng.choice(ARITHMETIC_PROMPTS)] if rng.random() < 0.7 else []
    if meanings:
        system.append(meanings)
    if mode == "steps" and where == "system":
        system.append(TRIGGER)
    if mode == "direct" and rng.random() < 0.25:
        system.append("answer directly")
    rng.shuffle(system)
    document = [Turn("system", " . ".join(system))] if system else []
    most = rng.choice([1, 2, 3, 4, 4, 4])
    frame_words = {"t": rng.choice(lex.THINGS), "n": rng.choice(lex.NAMES), "s": "{s}"}
    frame = (rng.choice(OPENINGS).format(**frame_words), rng.choice(CLOSINGS).format(**frame_words))
    vary = rng.random() < 0.3
    for _ in range(room // 16 + 2):
        if vary:
            frame = (
                rng.choice(OPENINGS).format(**frame_words),
                rng.choice(CLOSINGS).format(**frame_words),
            )
        by_steps = mode == "steps" or (mode == "mixed" and rng.random() < 0.6)
        short = [6, 2, 1, 1][:most]
        n_operations = (
            rng.choices(range(1, most + 1), range(1, most + 1))[0]
            if by_steps
            else rng.choices(range(1, most + 1), short)[0]
        )
        question = ""
        while not question or is_reserved(question):
            chain = arithmetic_chain(rng, n_operations)
            question = arithmetic_question(rng, chain, verbs, frame)
        if by_steps and (mode == "mixed" or where == "user"):
            question += " " + TRIGGER
        answer = f"{rationale(chain)} answer {chain.result}" if by_steps else str(chain.result)
        document += [Turn("user", question), Turn("assistant", answer, ARITHMETIC_WEIGHT)]
    return document


def copying(rng: random.Random, room: int) -> Document:
    """Repeat words, or say which word followed: matching of any word, no labels."""
    pool, document = COPY_WORDS, []
    if rng.random() < 0.5:
        document.append(Turn("system", rng.choice(["repeat the words", "say it twice", "copy"])))
        for _ in range(room // 20 + 2):
            words = " ".join(rng.sample(pool, rng.randint(2, 10)))
            document += [Turn("user", words), Turn("assistant", f"{words} {words}", COPY_WEIGHT)]
        return document
    words = rng.sample(pool, rng.randint(6, 20))
    document.append(Turn("system", "the list is " + " ".join(words)))
    for _ in range(room // 5):
        place = rng.randrange(len(words) - 1)
        document.append(Turn("user", "after " + words[place]))
        document.append(Turn("assistant", words[place + 1], OUTPUT_WEIGHT))
    return document


def picking(rng: random.Random, room: int) -> Document:
    """Pick a word of a list by its place: any word can be the answer, and it labels nothing."""
    words = list(dict.fromkeys(rng.sample(PICK_WORDS, rng.randint(2, 6))))
    prompt = rng.choice(NAME_PROMPTS).format(l=list_words(rng, words))
    places = ["first", "second", "third", "number 4", "number 5", "number 6"][: len(words)]
    document = [Turn("system", prompt)]
    for _ in range(room // 6):
        index = rng.randrange(len(words))
        place = "last" if index == len(words) - 1 and rng.random() < 0.5 else places[index]
        asked = rng.choice([f"the {place} one", place, f"please take the {place}"])
        document += [Turn("user", asked), Turn("assistant", words[index], OUTPUT_WEIGHT)]
    return document


def recurrence(rng: random.Random, room: int) -> Document:
    """Say whether this item (or its team) occurred before, or is that of the last ticket."""
    what, last = rng.choice(["item", "team"]), rng.random() < 0.4
    departments = rng.sample(list(lex.DEPARTMENTS), rng.randint(2, 7))
    items = [forms[0] for name in departments for forms in lex.DEPARTMENTS[name]]
    items = rng.sample(items, min(len(items), rng.randint(3, 10)))
    prompt = f"same {what} as the last ticket ?" if last else f"{what} seen before ?"
    document, seen = [Turn("system", prompt)], []
    for _ in range(room // 9 + 2):
        ticket = Ticket(rng.choice(items), rng.choice(list(lex.PROBLEMS)), random_mood(rng))
        key = ticket.item if what == "item" else lex.ITEM_DEPARTMENT[ticket.item]
        answer = "again" if key in (seen[-1:] if last else seen) else "new"
        seen.append(key)
        document.append(Turn("user", ticket_text(rng, ticket)))
        document.append(Turn("assistant", answer, OUTPUT_WEIGHT))
    return document


def free_words(rng: random.Random, most: int) -> str:
    """One or more words from anywhere: sign-offs and openings that can only be copied."""
    if rng.random() < 0.15:
        return " ".join(invented_word(rng) for _ in range(rng.randint(1, 2)))
    pool = (
        lex.LABELS + lex.CASE_LABELS + lex.SIGN_WORDS + lex.SIGN_WORDS + lex.NAMES + lex.FREE_VERBS
    )
    return " ".join(rng.sample(pool + lex.BRAND_WORDS[1:], rng.randint(1, most)))


def tone_name(rng: random.Random) -> str:
    """A word that names a voice of this document only."""
    return rng.choice(lex.LABELS + lex.FREE_VERBS) if rng.random() < 0.5 else invented_word(rng)


def replies(rng: random.Random, room: int) -> Document:
    """Answers to customers: directives in the system prompt, or a voice to imitate."""
    style = rng.choices(["tone", "voice", "any"], [5, 4, 1.5])[0]
    tone = rng.choice(list(TONES))
    voice = TONES[tone] if style == "tone" else random_voice(rng)
    sign = free_words(rng, 3)
    directives = []
    if style == "tone" and rng.random() < 0.75:
        directives.append(f"tone {tone}")
    if style == "voice" and rng.random() < 0.5:
        directives.append(f"tone {tone_name(rng)}")
    if style != "any" and rng.random() < 0.6:
        directives.append(f"sign as {sign}")
    opening = free_words(rng, 2) if rng.random() < 0.25 else ""
    if opening and rng.random() < 0.8:
        directives.append(f"begin with {opening}")
    rng.shuffle(directives)
    document = [Turn("system", " . ".join(["write a reply", *directives]))]
    for _ in range(room // 30 + 2):
        if style == "any":
            voice, sign = TONES[rng.choice(list(TONES))], free_words(rng, 2)
        ticket = Ticket(
            item=rng.choice(lex.ITEMS),
            problem=rng.choice(list(lex.PROBLEMS)),
            mood=random_mood(rng),
            name=rng.choice(lex.NAMES),
        )
        text = reply_text(voice, ticket, sign)
        document.append(Turn("user", ticket_text(rng, ticket)))
        document.append(Turn("assistant", f"{opening} {text}".strip(), REPLY_WEIGHT))
    return document


Family = Callable[[random.Random, int], Document]
MIXTURE: list[tuple[Family, float]] = [
    (symbol_map, 0.04),
    (clean_start, 0.02),
    (classification, 0.32),
    (recurrence, 0.05),
    (copying, 0.05),
    (picking, 0.05),
    (attributes, 0.10),
    (arithmetic, 0.22),
    (policy, 0.04),
    (replies, 0.11),
]


# documents that need no knowledge from the weights: their words may be blurred (see `train.py`)
IN_CONTEXT: set[Family] = {symbol_map, clean_start, classification, copying, picking, recurrence}


def draw_family(rng: random.Random, curriculum: float = 0.0) -> Family:
    """Draw a family of documents; `curriculum` is the share of the easy start."""
    if rng.random() < curriculum:
        return clean_start
    families, shares = zip(*MIXTURE, strict=True)
    return rng.choices(families, shares)[0]


def draw_document(rng: random.Random, room: int) -> Document:
    """Draw one document with about `room` tokens from the mixture."""
    return draw_family(rng)(rng, room)
