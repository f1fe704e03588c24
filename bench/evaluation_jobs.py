"""The evaluation jobs (goal B8): prompts that share worked examples, and what is asked after them.

A job is one line; the prompts are token ids, the same for every side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import texts
from case import write_model
from savile.lm.base import Chat
from savile.lm.load import load
from savile.lm.model import LM
from savile.types import Message


class Job(NamedTuple):
    """One kind of evaluation."""

    title: str
    asks: str
    """A name of `evaluation.KINDS`: `labels` are scored, `text` is written."""
    shots: int
    texts: str = "banking77"
    """A name of `texts.SOURCES`."""
    shape: str = "5M"
    """A name of `case.SHAPES`, with random weights; or `embedded`, the base that is trained."""
    labels: int = 77
    """How many of them are scored."""
    new_tokens: int = 0
    """Most tokens of a written answer; 0: those of the longest label and its end."""
    asked: tuple[int, int] = (64, 4)
    """Questions of a timed pass: ours, a peer's. A peer's time is linear in them."""


INSTRUCTION = {
    "banking77": "Classify the customer's message.",
    "gsm8k": "Solve the problem step by step.",
}
JOBS = {
    "labels-0": Job("77 labels, no example", "labels", 0),
    "labels-16": Job("77 labels, 16 examples", "labels", 16, asked=(64, 1)),
    "labels-0-embedded": Job("77 labels, no example", "labels", 0, shape="embedded"),
    "labels-8-embedded": Job(
        "77 labels, 8 examples", "labels", 8, shape="embedded", asked=(64, 2)
    ),
    "text-16": Job("written labels, 16 examples", "text", 16, asked=(64, 16)),
    "text-8-gsm8k": Job(
        "chain of thought, 8 examples", "text", 8, "gsm8k", new_tokens=64, asked=(32, 16)
    ),
}  # fmt: skip
GROWTH = {
    "labels": [Job("", "labels", 0, labels=n, asked=(64, 2)) for n in (2, 5, 10, 20, 40, 77)],
    "shots": [Job("", "labels", n, asked=(64, 1)) for n in (1, 2, 4, 8, 16)],
}


class Questions(NamedTuple):
    """What every side is asked."""

    chats: list[Chat]
    prompts: list[list[int]]
    """Their token ids."""
    labels: list[str]
    choices: list[list[int]]
    """Token ids of the labels, the token that ends them included."""
    new_tokens: int


def base(folder: Path, job: Job, corpus: Sequence[texts.Text]) -> LM:
    """Return the job's base in float32; a random one is written to `folder`."""
    if job.shape == "embedded":
        return load("embedded", folder=folder, device="cpu", dtype="float32")
    path = folder / f"{job.texts}-{job.shape}"
    if not path.is_dir():
        write_model(path, job.shape, (f"{row.question} {row.answer}" for row in corpus))
    return load(str(path), folder=folder, device="cpu", dtype="float32")


def questions(lm: LM, job: Job, corpus: list[texts.Text], n: int) -> Questions:
    """Return `n` questions behind the job's worked examples, seeded."""
    rows = texts.sample(corpus, job.shots + n, seed=0)
    start = [Message(role="system", content=INSTRUCTION[job.texts])]
    for row in rows[: job.shots]:
        start.append(Message(role="user", content=row.question))
        start.append(Message(role="assistant", content=row.answer))
    chats = [[*start, Message(role="user", content=row.question)] for row in rows[job.shots :]]
    closed = job.texts == "banking77"
    labels = sorted({row.answer for row in corpus})[: job.labels] if closed else []
    choices = [lm.encode_completion(label) for label in labels]
    prompts = [lm.encode_prompt(chat) for chat in chats]
    longest = job.new_tokens or max(map(len, choices))
    assert max(map(len, prompts)) + longest <= lm.context, "a prompt exceeds the context"
    return Questions(list(chats), prompts, labels, choices, longest)
