"""From messages to token ids: the model's own chat template, and never a special token from user
text.

Train = serve: prompt ids come from the template with `add_generation_prompt`, completion ids are
the assistant's text plus the token that ends its turn, so the ids of a training row are those a
server builds for the same messages. A text that contains the spelling of a special token is
tokenized as plain text (the template is rendered around random markers and the texts are encoded
apart). A base without a chat template gets a plain one (`PLAIN`), recorded with the artifact.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from savile.errors import EnvironmentProblem, IntegrityError, Problem
from savile.types import Message

PLAIN: Final = (
    "{{ bos_token or '' }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}{{ m.content }}\n"
    "{% else %}{{ m.content }}{{ eos_token }}\n\n{% endif %}{% endfor %}"
)
"""Plain text turns for bases that were never trained on a chat format."""
MOST_KEPT: Final = 1 << 20
"""Token ids that are kept (8 MB, and about as much of text): a ladder asks the same rows again and
again, and rendering a template takes longer than a small model's share of the row."""


class Template:
    """Encodes chats for one tokenizer, each once."""

    def __init__(self, tokenizer: Any) -> None:
        """Find how the template ends an assistant turn.

        Args:
            tokenizer: a `PreTrainedTokenizerFast`; its `chat_template` is set to `PLAIN` when
            absent.

        Raises:
            EnvironmentProblem: no end-of-turn token exists.
            IntegrityError: the template cannot be rendered.
        """
        self.tokenizer = tokenizer
        self.plain = tokenizer.chat_template is None
        if self.plain:
            tokenizer.chat_template = PLAIN
        self._kept: dict[Hashable, array[int]] = {}
        self._n_kept = 0
        self.special: tuple[str, ...] = tuple(
            sorted({str(t) for t in tokenizer.added_tokens_encoder}, key=len, reverse=True)
        )
        mark = f"savile{secrets.token_hex(16)}"
        self.system_role = self._renders([Message(role="system", content=mark)])
        self.end = self._end_of_turn()

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a chat up to where the assistant starts to write."""
        return self._once(
            tuple(messages), lambda: self._encode(self._merged(messages), generate=True)
        )

    def encode_completion(self, text: str) -> list[int]:
        """Return the ids of an assistant's turn: its text as plain text, then the end of turn."""
        return self._once(text, lambda: [*self._plain_ids(text), self.end])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids without white space around it."""
        return self.written(ids).strip()

    def written(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids as it stands, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _once(self, key: Hashable, ids: Callable[[], list[int]]) -> list[int]:
        """Return ids that are computed once; when too many are kept, keeping begins again."""
        if (kept := self._kept.get(key)) is None:
            kept = array("q", ids())
            self._n_kept += len(kept)
            if self._n_kept > MOST_KEPT:
                self._kept, self._n_kept = {}, len(kept)
            self._kept[key] = kept
        return kept.tolist()

    def _encode(self, messages: Sequence[Message], *, generate: bool) -> list[int]:
        if not any(special in m.content for m in messages for special in self.special):
            text = self._render(messages, generate=generate)
            return list(self.tokenizer.encode(text, add_special_tokens=False))
        ids: list[int] = []
        marks = [f"savile{secrets.token_hex(16)}" for _ in messages]
        marked = [Message(role=m.role, content=k) for m, k in zip(messages, marks, strict=True)]
        rest = self._render(marked, generate=generate)
        for mark, message in zip(marks, messages, strict=True):
            before, _, rest = rest.partition(mark)
            ids += self.tokenizer.encode(before, add_special_tokens=False) if before else []
            ids += self._plain_ids(message.content)
        return ids + (self.tokenizer.encode(rest, add_special_tokens=False) if rest else [])

    def _plain_ids(self, text: str) -> list[int]:
        if not text:
            return []
        return list(
            self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        )

    def _render(self, messages: Sequence[Message], *, generate: bool) -> str:
        chat = [{"role": m.role, "content": m.content} for m in messages]
        text: str = self.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=generate
        )
        return text

    def _renders(self, messages: Sequence[Message]) -> bool:
        probe = [*messages, Message(role="user", content="y")]
        try:
            return messages[0].content in self._render(probe, generate=True)
        except Exception:  # noqa: BLE001 - a template may raise anything, Jinja errors included
            return False

    def _merged(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Put the system text into the first user turn where the template knows no system role."""
        if self.system_role or not messages or messages[0].role != "system":
            return messages
        first = Message(role="user", content=f"{messages[0].content}\n\n{messages[1].content}")
        return [first, *messages[2:]]

    def _end_of_turn(self) -> int:
        """Return the first special token after an assistant's text, else the tokenizer's eos."""
        mark = f"savile{secrets.token_hex(16)}"
        chat = [Message(role="user", content="x"), Message(role="assistant", content=mark)]
        try:
            after = self._render(chat, generate=False).rpartition(mark)[2]
        except Exception as error:
            raise IntegrityError(
                Problem(
                    what=f"the base's chat template cannot be rendered: {error}",
                    fix="Repair chat_template.jinja of the base, or choose another base.",
                )
            ) from error
        for token in self.tokenizer.encode(after, add_special_tokens=False) if after else []:
            if token in self.tokenizer.all_special_ids or token in self._added_special():
                return int(token)
        if self.tokenizer.eos_token_id is None:
            raise EnvironmentProblem(
                Problem(
                    what="the tokenizer has no token that ends an answer",
                    expected="an eos_token in tokenizer_config.json",
                )
            )
        return int(self.tokenizer.eos_token_id)

    def _added_special(self) -> set[int]:
        return {i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
