"""Small pieces of text: tickets, invented words, arithmetic chains, brand replies.

A quarter of all tickets and arithmetic questions is *reserved* for the business cases by a checksum
of the text, so that no case input can occur in pretraining, whatever the seeds.
"""

from __future__ import annotations

import random
import re
import zlib
from typing import NamedTuple

import lexicon as lex


def is_reserved(text: str) -> bool:
    """True for the quarter of texts that only the business cases may use."""
    return zlib.crc32(text.encode()) % 4 == 0


class Ticket(NamedTuple):
    """The facts behind one customer message; None means that the message does not tell."""

    item: str
    problem: str
    mood: str | None = None
    name: str | None = None
    city: str | None = None
    order: int | None = None
    topic: str | None = None


def ticket_text(rng: random.Random, ticket: Ticket, *, reserved: bool = False) -> str:
    """Word a ticket at random, inside or outside the part reserved for the cases."""
    forms = lex.ITEM_FORMS.get(ticket.item, (ticket.item,))
    while True:
        body = rng.choice(lex.PROBLEMS[ticket.problem])
        parts = [rng.choice(lex.OPENERS)] if rng.random() < 0.25 else []
        if ticket.name:
            parts.append(f"i am {ticket.name}")
        if ticket.city:
            parts.append(f"i live in {ticket.city}")
        if ticket.order is not None:
            parts.append(f"order {ticket.order}")
        if ticket.topic:
            parts.append(f"about {ticket.topic}")
        parts.append(body.format(x=rng.choice(forms), n=rng.randint(2, 30)))
        if ticket.mood:
            parts.append(rng.choice(lex.MOOD_PHRASES[ticket.mood]))
        text = " , ".join(parts)
        if is_reserved(text) == reserved:
            return text


_WORDINGS = [
    (problem, re.compile(wording.format(x=r"(?P<item>\w+)", n=r"\d+")))
    for problem, wordings in lex.PROBLEMS.items()
    for wording in wordings
]
_CANONICAL = {form: item for item, forms in lex.ITEM_FORMS.items() for form in forms}


def read_ticket(text: str) -> Ticket:
    """Recover item, problem and name from a ticket's words; ValueError where there is no ticket."""
    parts = text.split(" , ")
    names = [part.removeprefix("i am ") for part in parts if part.startswith("i am ")]
    name = next((name for name in names if name in lex.NAMES), None)
    for part in parts:
        for problem, wording in _WORDINGS:
            if (found := wording.fullmatch(part)) and found["item"] in _CANONICAL:
                return Ticket(_CANONICAL[found["item"]], problem, name=name)
    raise ValueError(f"no ticket: {text!r}")


def random_mood(rng: random.Random) -> str | None:
    """Calm or angry in 40 % of the tickets."""
    return rng.choice(["calm", "angry", None, None, None])


def invented_word(rng: random.Random) -> str:
    """A pronounceable word that is (almost surely) no word of the world."""
    syllables = [
        rng.choice(lex.CONSONANTS) + rng.choice(lex.VOWELS) for _ in range(rng.choice([1, 2, 2, 3]))
    ]
    word = "".join(syllables) + rng.choice(lex.ENDINGS)
    return word if len(word) > 2 and word not in lex.HELD_OUT_WORDS else invented_word(rng)


class Chain(NamedTuple):
    """One sum: the start, signed operations, the written steps and the result."""

    start: int
    operations: list[tuple[int, int]]
    steps: list[str]
    result: int


def arithmetic_chain(rng: random.Random, n_operations: int, *, top: int = 40) -> Chain:
    """Draw a chain of additions and subtractions of 1-9 that stays within 0..top."""
    value = start = rng.randint(5, top - 10)
    operations, steps = [], []
    for _ in range(n_operations):
        amount = rng.randint(1, 9)
        sign = 1 if (rng.random() < 0.5 and value + amount <= top) or value < amount else -1
        steps.append(f"{value} {'+' if sign > 0 else '-'} {amount} = {value + sign * amount}")
        value += sign * amount
        operations.append((sign, amount))
    return Chain(start, operations, steps, value)


def rationale(chain: Chain) -> str:
    """The written steps, in the one format used everywhere."""
    return "steps : " + " ; ".join(chain.steps) + " ."


class Verbs(NamedTuple):
    """Wordings of the two operations, each with a {b} for the amount."""

    plus: list[str]
    minus: list[str]


def arithmetic_question(
    rng: random.Random, chain: Chain, verbs: Verbs, frame: tuple[str, str]
) -> str:
    """Word a chain: opening with {s} for the start, the operations, the closing question."""
    opening, closing = frame
    parts = [opening.format(s=chain.start)]
    for sign, amount in chain.operations:
        parts.append(rng.choice(verbs.plus if sign > 0 else verbs.minus).format(b=amount))
    return " . ".join([*parts, closing])


class Voice(NamedTuple):
    """The four parts of a brand reply, as templates."""

    greeting: str
    acknowledgement: str
    action: str
    goodbye: str


GREETINGS = [
    "dear {name} ,",
    "hi {name} ,",
    "hey {name} ,",
    "hello {name} ,",
    "ok {name} .",
    "{name} !",
]
ACKNOWLEDGEMENTS = [
    "we regret the trouble with your {x} .",
    "so sorry about your {x} !",
    "{x} noted .",
    "thanks for telling us about the {x} !",
    "thank you for writing about your {x} .",
    "your {x} matters to us .",
    "we heard about the {x} .",
]
TEAM_ACTIONS = [
    "our {dept} team will {act} .",
    "the {dept} team will happily {act} .",
    "{dept} will {act} .",
    "good news , {dept} will {act} !",
    "may we ask our {dept} team to {act} ?",
    "{dept} : {act} .",
    "expect {dept} to {act} soon .",
]
GOODBYES = [
    "sincerely , {sign}",
    "hugs , {sign}",
    "{sign}",
    "cheers , {sign}",
    "with respect , {sign}",
]
GOODBYES += ["bye , {sign}", "take care , {sign}", "yours , {sign}"]
TONES = {
    "formal": Voice(GREETINGS[0], ACKNOWLEDGEMENTS[0], TEAM_ACTIONS[0], GOODBYES[0]),
    "warm": Voice(GREETINGS[1], ACKNOWLEDGEMENTS[1], TEAM_ACTIONS[1], GOODBYES[1]),
    "blunt": Voice("", ACKNOWLEDGEMENTS[2], TEAM_ACTIONS[2], GOODBYES[2]),
    "cheerful": Voice(GREETINGS[2], ACKNOWLEDGEMENTS[3], TEAM_ACTIONS[3], GOODBYES[3]),
    "polite": Voice(GREETINGS[0], ACKNOWLEDGEMENTS[4], TEAM_ACTIONS[4], GOODBYES[4]),
    "brief": Voice(GREETINGS[4], "", TEAM_ACTIONS[5], GOODBYES[5]),
}


def random_voice(rng: random.Random) -> Voice:
    """A voice that no tone name describes: parts mixed at random, sometimes with free words."""
    greeting, goodbye = rng.choice(GREETINGS), rng.choice(GOODBYES)
    words = lex.LABELS + lex.FREE_VERBS + lex.CASE_LABELS + lex.SIGN_WORDS + lex.BRAND_WORDS[1:]
    if rng.random() < 0.5:
        word = rng.choice(words) if rng.random() < 0.8 else invented_word(rng)
        greeting = word + rng.choice([" {name} ,", " {name} !", " {name} ."])
    if rng.random() < 0.5:
        goodbye = " ".join(rng.sample(words, rng.randint(1, 2))) + " , {sign}"
    return Voice(greeting, rng.choice(ACKNOWLEDGEMENTS), rng.choice(TEAM_ACTIONS), goodbye)


def reply_text(voice: Voice, ticket: Ticket, sign: str) -> str:
    """Answer a ticket in a voice."""
    facts = {
        "name": ticket.name,
        "x": ticket.item,
        "dept": lex.ITEM_DEPARTMENT[ticket.item],
        "act": lex.ACTIONS[ticket.problem],
        "sign": sign,
    }
    return " ".join(part.format(**facts) for part in voice if part)
