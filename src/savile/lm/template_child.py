"""Renders chats with a chat template under limits of time and memory; run as a process of its own.

Reads {"template", "variables", "chats", "cpu_seconds", "bytes"} as JSON from stdin and writes the
length of every rendered chat, null for one the template refuses. The environment is transformers'
own sandbox, so a template may do here what it may do when training asks for it, and no more.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template


def main() -> None:
    """Render what stdin asks for; end with the signal SIGXCPU when the time is up."""
    asked: dict[str, Any] = json.load(sys.stdin)
    seconds = math.ceil(time.process_time()) + asked["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (asked["bytes"], asked["bytes"]))
    json.dump([_length(asked, chat) for chat in asked["chats"]], sys.stdout)


def _length(asked: dict[str, Any], chat: list[dict[str, str]]) -> int | None:
    try:
        rendered = render_jinja_template(
            [chat],
            chat_template=asked["template"],
            add_generation_prompt=chat[-1]["role"] == "user",
            **asked["variables"],
        )[0]  # of texts and indices
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a template may raise anything, to refuse a chat among others
        return None
    return len(rendered[0])


if __name__ == "__main__":
    main()
