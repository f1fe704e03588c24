"""What a run on an endpoint costs at most, before anything is asked; nothing heavy is imported.

    requests = sum over techniques and seeds of (judging dev rows + test rows) x samples + fitting
               + 2 x pairs of a judge + proposals
    USD      = sum over requests of the most that each can cost (`lm/endpoint/usage.py`)

The prompts are those of the run. The test stays sealed: its rows count by their bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from savile import registry
from savile.data import Dataset
from savile.data.human_verdicts import load_human_verdicts
from savile.judge import made
from savile.judge.asking import HOW
from savile.judge.question import Pair, chats
from savile.ladder.seeds import derive
from savile.ladder.task import frame_of, judges
from savile.lm.base import Asked
from savile.lm.endpoint import Endpoint, unopened
from savile.predict import answer_limit, asked_of
from savile.prompts import base_proposing
from savile.prompts.base import Prompt, fold
from savile.spec import Candidate, Spec
from savile.spec.endpoint import EndpointSection
from savile.spec.judge import JudgeSection
from savile.types import Example

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Estimate(NamedTuple):
    """The most that a run asks and pays."""

    requests: int
    usd: float | None
    """None where the spec gives no prices."""


def at_most(spec: Spec, dataset: Dataset) -> Estimate | None:
    """Return the most that a run can cost when nothing is asked twice; None without endpoints."""
    if not spec.endpoints:
        return None
    bases = [None if isinstance(base, str) else unopened(base) for base in spec.every_base]
    rows = [*judges(dataset.dev), *_of_bytes(dataset)]
    requests, usd = 0, 0.0
    for asking in _asking(spec, dataset, rows):
        if (base := bases[asking.candidate.base]) is not None:
            n, paid = _technique(base, spec, dataset, asking)
            requests, usd = requests + n, usd + paid
    if spec.judge is not None and (base := bases[spec.judging_base]) is not None:
        n, paid = _judge(base, spec.judge, spec, dataset)
        requests, usd = requests + n, usd + paid
    place = spec.proposing_base
    if place is not None and (base := bases[place]) is not None:
        n, paid = _proposals(base, spec, dataset)
        requests, usd = requests + n, usd + paid
    priced = all(endpoint.price for endpoint in spec.endpoints)
    return Estimate(requests, usd if priced else None)


def notes(spec: Spec, dataset: Dataset, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what `savile check` says about the endpoints of a spec; nothing without one."""
    found = at_most(spec, dataset)
    if found is None:
        return []
    told = f"endpoint: at most {found.requests:,} requests"
    if found.usd is None:
        said = [f"{told}; their price (base.price) would tell what they cost"]
    else:
        ceiling = spec.budget.usd
        limit = "no ceiling is set" if ceiling is None else f"budget.usd stops at {ceiling:g} USD"
        said = [
            f"{told} and {found.usd:.2g} USD (a token a byte, answers of full length, no repeated "
            f"attempt); {limit}"
        ]
    return said + [note for base in spec.endpoints for note in _about_key(base, environment)]


class _Asking(NamedTuple):
    """A technique that runs, how often, and the rows it is asked."""

    candidate: Candidate
    seeds: int
    rows: Sequence[Example]


def _asking(spec: Spec, dataset: Dataset, rows: Sequence[Example]) -> Iterator[_Asking]:
    candidates = spec.candidates(dataset.gives, len(dataset.train))
    for candidate in candidates:
        if candidate.reason is None and candidate.demonstrations <= len(dataset.train):
            yield _Asking(candidate, spec.seeds, rows)
    if (teacher := spec.teaching_candidate) is not None:
        taught = any("teacher" in c.needs and c.reason is None for c in candidates)
        yield _Asking(teacher, 1, [*rows, *(dataset.train if taught else ())])


def _technique(base: Endpoint, spec: Spec, dataset: Dataset, asking: _Asking) -> tuple[int, float]:
    prompts: list[Prompt] = [
        registry.load("prompts", name)(**settings) for name, settings in asking.candidate.prompts
    ]
    chance = any(prompt.stochastic for prompt in prompts)
    requests, usd = 0, 0.0
    for index in range(asking.seeds if chance else 1):
        seed = derive(spec.seed, index, "prompt")
        frame = fold(prompts, frame_of(spec, dataset), dataset.train, seed).longest()
        asked = asked_of(frame, answer_limit(base, frame, dataset.train))
        requests += len(asking.rows) * asked.n
        fitted = sum(prompt.asks(len(dataset.train)) for prompt in prompts)
        if fitted:
            own = sorted(base.most_usd(frame.messages(row), asked) for row in dataset.train)
            requests, usd = requests + fitted, usd + sum(own[-fitted:])
        alone = replace(asked, n=1)  # a server without `n` is sent the prompt once a sample
        usd += asked.n * sum(base.most_usd(frame.messages(row), alone) for row in asking.rows)
    return requests, usd


def _proposals(base: Endpoint, spec: Spec, dataset: Dataset) -> tuple[int, float]:
    """Return the instructions that are asked for, and the most they cost with the longest rows."""
    asked = sum(
        spec.seeds * int(settings.get("proposals", 0))
        for candidate in spec.candidates(dataset.gives, len(dataset.train))
        if candidate.reason is None
        for _, settings in candidate.with_defaults
    )
    rows = sorted(dataset.train, key=lambda row: -len(row.input + row.output))
    chat = base_proposing.asked(frame_of(spec, dataset), rows[: base_proposing.READ])
    how = Asked(max_new_tokens=base_proposing.MOST_TOKENS, temperature=1.0)
    return asked, asked * base.most_usd(chat, how)


def _judge(base: Endpoint, judge: JudgeSection, spec: Spec, dataset: Dataset) -> tuple[int, float]:
    """Return the requests of a judge and the most they cost; answers count with their limit."""
    longest = "x" * answer_limit(base, frame_of(spec, dataset), dataset.train)
    rows = sorted(_of_bytes(dataset), key=lambda row: len(row.input))[-judge.rows :]
    pairs = [Pair(row="", question=row.input, a=longest, b=longest) for row in rows]
    times = sum(asking.seeds for asking in _asking(spec, dataset, ()))
    once = [Pair(row="", question=p.input, a=p.a, b=p.b) for p in load_human_verdicts(spec).pairs]
    once += made.pairs()
    usd = [sum(_most(base, judge.criterion, pair) for pair in some) for some in (pairs, once)]
    return 2 * (times * len(pairs) + len(once)), times * usd[0] + usd[1]


def _most(base: Endpoint, criterion: str, pair: Pair) -> float:
    return sum(base.most_usd(chat, HOW) for chat in chats(criterion, pair))


def _of_bytes(dataset: Dataset) -> list[Example]:
    """Return rows that are as long as those of the sealed test."""
    lengths = dataset.test.lengths(lambda text: len(text.encode("utf-8")))
    return [Example(id="", input="x" * length, output="") for length in lengths]


def _about_key(base: EndpointSection, environment: Mapping[str, str]) -> list[str]:
    if not environment.get(base.key_env):
        return [f"endpoint: {base.key_env} is not set; it is asked without a key"]
    parts = urlsplit(base.endpoint)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        return [f"endpoint: the key in {base.key_env} would travel unencrypted (http)"]
    return []
