"""A base's chat template is tried in a child process before it is rendered in this one.

A template is a program from the base's author. transformers' sandbox keeps it from files and
processes, but not from looping forever or from filling the memory; so chats of the shapes that
training and serving use are rendered in a child with a limit on time, memory and output first.

What this does not see: a template that behaves for these chats and not for yours.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from savile.errors import EnvironmentProblem, IntegrityError, Problem

CPU_SECONDS: Final = 5
WALL_SECONDS: Final = 120
"""For a template that sleeps, or a machine that does; computing is limited by `CPU_SECONDS`."""
MOST_BYTES: Final = 1 << 30
"""Of the child's address space, of which Python and transformers' template code take 0.2 GiB."""
MOST_CHARACTERS: Final = 1_000_000
"""Of one rendered chat; the longest that is tried has some thousand."""
DEMONSTRATIONS: Final = 16
"""Of the longest chat that is tried."""
MOST_TURNS: Final = 1 + 2 * DEMONSTRATIONS + 2
CHILD: Final = Path(__file__).with_name("template_child.py")


def check(tokenizer: Any, where: Path) -> None:
    """Refuse a base whose chat template needs too much for a chat of ordinary size.

    Args:
        tokenizer: with its `chat_template`; none is fine.
        where: the base's folder, for the message.

    Raises:
        IntegrityError: it takes too long, too much memory, or writes too much.
    """
    if (what := trouble(tokenizer)) is not None:
        raise IntegrityError(
            Problem(
                where=str(where),
                what=f"the base's chat template {what} for a chat of at most {MOST_TURNS} turns",
                fix="Repair chat_template.jinja of the base, or choose another base.",
            )
        )


def trouble(tokenizer: Any) -> str | None:
    """Return what is wrong with the template as a verb and its object, None when it is fine."""
    if tokenizer.chat_template is None:
        return None
    asked = {"template": tokenizer.get_chat_template(), "variables": tokenizer.special_tokens_map}
    return _tried(json.dumps(asked, sort_keys=True))


def chats() -> list[list[dict[str, str]]]:
    """Return chats of the shapes that prompts have: a question, with system text, with many turns,
    and with the answer that is learned."""
    system = {"role": "system", "content": "Answer in one word."}
    question = {"role": "user", "content": "Where is my parcel? " * 10}
    answer = {"role": "assistant", "content": "shipping"}
    shown = [question, answer] * DEMONSTRATIONS
    starts = [[], [system], shown, [system, *shown]]
    return [[*start, question, *end] for start in starts for end in ([], [answer])]


@lru_cache
def _tried(asked: str) -> str | None:
    limits = {"chats": chats(), "cpu_seconds": CPU_SECONDS, "bytes": MOST_BYTES}
    try:
        done = subprocess.run(  # noqa: S603 - our own file, by the running interpreter
            [sys.executable, "-P", str(CHILD)],
            input=json.dumps({**json.loads(asked), **limits}),
            capture_output=True,
            text=True,
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"takes more than {WALL_SECONDS} s"
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"takes more than {CPU_SECONDS} s of computing"
    if done.returncode < 0 or "MemoryError" in done.stderr:
        return f"needs more than {MOST_BYTES >> 20} MiB"
    if done.returncode:
        said = done.stderr.strip().split("\n")[-1]
        raise EnvironmentProblem(Problem(what="a chat template cannot be tried", found=said[:300]))
    longest = max((n for n in json.loads(done.stdout) if n is not None), default=0)
    return f"writes {longest:,} characters" if longest > MOST_CHARACTERS else None
