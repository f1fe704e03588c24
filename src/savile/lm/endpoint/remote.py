"""A base behind an API: many requests at a time, each paid once and kept.

A request is sent when its answer is not kept, the purse allows the most it can cost, and no rate
limit is being waited for. Attempts that fail are repeated (`patience.py`). What a request cost is
recorded before its answer is used; equal questions of one call are asked once.

Samples of a chat come in one request where the server gives several at a time, else one by one;
each is kept by itself, so the first three of nine are found when three are asked.

Cost: one request a chat; nothing for a question that was answered before.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar, Final, Protocol, final

from savile.errors import EnvironmentProblem, Problem, SavileError
from savile.lm.base import Answer, Answers, Asked, Base, Chat, before
from savile.lm.endpoint import labels, usage
from savile.lm.endpoint.cache import Cache
from savile.lm.endpoint.failures import Failure, Refusal, Stopped
from savile.lm.endpoint.patience import Patience
from savile.lm.endpoint.purse import TICK_SECONDS, Purse
from savile.lm.endpoint.question import Dialect, Question, advice
from savile.lm.endpoint.replies import Reply, Said, chat_reply, completion_reply, parts, shared
from savile.spec.endpoint import EndpointSection

TOGETHER: Final = "a request's time includes the network and other requests at the same time"
FILTERED: Final = frozenset({"content_filter", "content_policy_violation"})
READERS: Final = {"chat": chat_reply, "completions": completion_reply}


class Heard(Protocol):
    """A body and how long it took."""

    @property
    def body(self) -> Any:
        """The parsed JSON."""

    @property
    def seconds(self) -> float:
        """The seconds of the attempt."""


class Wire(AbstractContextManager[object], Protocol):
    """What sends requests while its context is open."""

    def ask(self, fields: dict[str, Any]) -> Heard:
        """Send one request; raises Failure, Refusal or UnusableBase."""


@final
class Endpoint(Base):
    """A model behind an API that answers chats."""

    gives: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, base: EndpointSection, *, wire: Wire, purse: Purse, cache: Cache) -> None:
        """Ask the model that `base` names.

        Args:
            base: the spec's section.
            wire: what sends requests.
            purse: what may be paid.
            cache: answers that were paid for.
        """
        self.base, self.name, self.device, self.context = base, base.name, "cpu", None
        self.note = TOGETHER if base.concurrency > 1 else None
        self._wire, self._purse, self._cache = wire, purse, cache
        self._counts, self._dialect = usage.Counts(), Dialect()
        self._patience = Patience(base.endpoint, base.give_up_seconds)
        self._tally: Counter[str] = Counter()
        self._doubts: Counter[str] = Counter()
        self._models: set[str] = set()
        self._lock = threading.Lock()

    def prompt_tokens(self, chat: Chat) -> int:
        """Return the most tokens a chat can have."""
        return self._counts.most(chat)

    def answer_tokens(self, text: str) -> int:
        """Return the most tokens an answer can have."""
        return usage.answer_tokens(text)

    def most_usd(self, chat: Chat, asked: Asked) -> float:
        """Return the most that the answer to a chat can cost in one attempt; 0 without prices."""
        question = self._question(chat, asked)
        return self._most(question)

    def answers(self, chats: Sequence[Chat], asked: Asked) -> Answers:
        """Yield answers as they arrive, and an empty group now and then while none does.

        Raises:
            InterruptedRun: the ceiling is reached, or no answer came in time.
            UnusableBase: the endpoint refuses everything: key, model, credit.
            EnvironmentProblem: it refuses one of the chats.
        """
        rows: dict[str, list[int]] = defaultdict(list)
        questions: dict[str, Question] = {}
        for row, chat in enumerate(chats):
            question = self._question(chat, asked)
            key = question.key(self.base)
            rows[key].append(row)
            questions[key] = question
        self._patience.stopping.clear()
        with self._wire:
            pool = ThreadPoolExecutor(self.base.concurrency, thread_name_prefix="savile-ask")
            try:
                asking: dict[Future[list[Reply]], str] = {
                    pool.submit(self._replies, question): key for key, question in questions.items()
                }
                while asking:
                    done, _ = wait(asking, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
                    ready = [(asking.pop(future), future) for future in done]
                    yield [
                        (row, answer)
                        for key, future in ready
                        if not isinstance(future.exception(), Stopped)  # another one says why
                        for row in rows[key]
                        for answer in self._answers(questions[key], future.result())
                    ]
            finally:
                self._patience.stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def tally(self) -> Mapping[str, Any]:
        """Return requests, retries, USD and doubts since the last call."""
        with self._lock:
            found: dict[str, Any] = dict(self._tally)
            found["waited_seconds"] = self._patience.waited_seconds
            found["doubts"] = dict(self._doubts)
            found["answered_as"] = sorted(self._models)
            self._tally.clear()
            self._doubts.clear()
            self._models.clear()
            self._patience.waited_seconds = 0.0
        return {"endpoint": found}

    # ── one question ─────────────────────────────────────────────────────────────────────────

    def _question(self, chat: Chat, asked: Asked) -> Question:
        named = labels.naming(chat, asked.labels) if asked.labels else chat
        limit = self.base.max_tokens or asked.max_new_tokens
        return Question(
            chat=named,
            max_tokens=limit,
            labels=asked.labels,
            stop=asked.stop,
            json_schema=None if asked.constraint is None else asked.constraint.text,
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.seed,
            n=asked.n,
        )

    def _most(self, question: Question) -> float:
        prompt = self._counts.most(question.chat)
        return usage.usd(self.base.price, prompt, question.n * question.max_tokens) or 0.0

    def _replies(self, question: Question) -> list[Reply]:
        """Return the kept samples of a question, and ask for those that are missing; what ends the
        run ends all asking."""
        found: list[Reply] = []
        while len(found) < question.n and (
            kept := self._cache.get(self._key(question, len(found)))
        ):
            found.append(kept)
        self._count("cached", len(found))
        while len(found) < question.n:
            first = len(found)
            try:
                new = self._asked(replace(question, first=first, n=question.n - first))
            except SavileError:
                self._patience.stopping.set()
                raise
            for n, reply in enumerate(new, first):
                self._cache.put(self._key(question, n), reply)
            found += new
        return found

    def _key(self, question: Question, sample: int) -> str:
        return question.key(self.base, sample)

    def _asked(self, question: Question) -> list[Reply]:
        patience, failures = self._patience, 0
        started = patience.clock()
        while True:
            patience.enter()
            fields = self._dialect.spoken(question.fields(self.base))
            try:
                return self._attempt(question, fields)
            except Failure as failure:
                self._count("retries")
                patience.after(failure, failures, started)
                failures += 1
            except Refusal as refusal:
                if not self._dialect.learns(refusal, list(fields)):
                    return self._refused(question, refusal)

    def _attempt(self, question: Question, fields: dict[str, Any]) -> list[Reply]:
        """Send one request with its money set aside."""
        held = self._most(question)
        self._purse.hold(held, self._patience.stopping)
        paid, facts = 0.0, dict[str, Any]()
        try:
            self._count("requests")
            heard = self._wire.ask(fields)
            said = READERS[self.base.api](heard.body)
            counted = self._counts.believe(question.chat, question.max_tokens, said)
            paid = usage.usd(self.base.price, counted.prompt, counted.completion) or 0.0
            facts = {"prompt_tokens": counted.prompt, "written": counted.completion}
        except Failure as failure:
            paid, facts = (held, {"failed": failure.what}) if failure.billed else (0.0, {})
            raise
        finally:
            self._purse.pay(held, paid, facts)
        return self._read(question, said, counted, heard.seconds)

    def _read(
        self, question: Question, said: Said, counted: usage.Counted, seconds: float
    ) -> list[Reply]:
        texts = [choice.text for choice in said.choices]
        written = parts(counted.completion, texts)
        replies = [
            Reply(
                text=before(choice.text, question.ends(self.base)).strip(),
                finish=choice.finish,
                prompt_tokens=counted.prompt,
                completion_tokens=tokens,
                doubt=counted.doubt,
                seconds=seconds,
                model=said.model,
                steps=choice.steps,
                together=len(texts),
            )
            for choice, tokens in zip(said.choices, written, strict=True)
        ]
        return replies[: question.n]

    def _refused(self, question: Question, refusal: Refusal) -> list[Reply]:
        """Return empty answers where a filter took offence; else the technique cannot run."""
        if refusal.code not in FILTERED:
            raise EnvironmentProblem(
                Problem(
                    where=self.base.endpoint,
                    what="the endpoint refuses a prompt",
                    found=refusal.what,
                    fix=advice(refusal),
                )
            )
        empty = Reply(
            text="", finish="content_filter", prompt_tokens=0, completion_tokens=0, seconds=0.0
        )
        return [empty] * question.n

    def _answers(self, question: Question, replies: Sequence[Reply]) -> list[Answer]:
        """Return the samples of a chat; the first bears what they share."""
        prompt, seconds = shared(replies)
        return [
            self._answer(
                question, reply, prompt_tokens=0 if n else prompt, seconds=seconds * (not n)
            )
            for n, reply in enumerate(replies)
        ]

    def _answer(
        self, question: Question, reply: Reply, *, prompt_tokens: int, seconds: float
    ) -> Answer:
        label = labels.read(reply.text, question.labels) if question.labels else None
        if label is None and question.labels and reply.steps:
            label = labels.likeliest(reply.steps, question.labels)
            self._count("by_logprobs", int(label is not None))
        self._count("answers")
        self._count("cut", int(reply.finish == "length"))
        self._count("filtered", int(reply.finish == "content_filter"))
        with self._lock:
            self._doubts.update([reply.doubt] if reply.doubt else [])
            self._models.update([reply.model] if reply.model else [])
        return Answer(
            text=reply.text,
            label=label,
            prompt_tokens=prompt_tokens,
            completion_tokens=reply.completion_tokens,
            seconds=seconds,
            usd=usage.usd(self.base.price, prompt_tokens, reply.completion_tokens),
        )

    def _count(self, what: str, times: int = 1) -> None:
        with self._lock:
            self._tally[what] += times
