"""README.md of an exported folder: what it is, how to load it, how good it is and on what base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from savile import __version__
from savile.export.base import Form
from savile.handover.facts import Checked, Facts, OfBase
from savile.lm.resolve import EMBEDDED
from savile.retrieval import BASE

IN_PACKAGE: Final = (
    "from importlib.resources import files\n\n"
    'BASE = str(files("savile") / "embedded" / "{}")  # {!r}\n'
)


def card(facts: Facts, form: Form, embedder: str = "") -> str:
    """Return the model card, Markdown; `embedder` is what finds the prompt's worked examples."""
    measured, base = facts.measured, facts.base
    seeds = f"mean of {measured.seeds} seeds" if measured.seeds > 1 else "one seed"
    score = f"**{measured.score:.3f}**, 95 % interval {measured.low:.3f} to {measured.high:.3f}"
    how = ", ".join(_weights(base))
    kept = f" ({how})" if how else ""
    return f"""---
library_name: {form.library}
---

# {facts.candidate.name}

Customized for the task `{measured.task}` and measured with Savile {__version__}.

| | |
|---|---|
| {measured.metric} | {score} ({measured.n} test rows, {seeds}) |
| this seed | number {measured.seed_index}: {measured.score_of_seed:.3f} |
| base | `{base.name}`{kept}, sha256 `{base.sha256}` |
| checked | {told(facts.checked)} |
{_encoder(embedder)}
## Load

```python
{_lines(facts, form)}
```

## Prompt

The scores hold for the prompt in `prompt.yaml`. This writes the messages and reads the answers:

```python
import savile

model = savile.load_customized(".")
model.messages("a question")  # for tokenizer.apply_chat_template, or any chat API
model.predict(["a question"])
```
"""


def _encoder(embedder: str) -> str:
    if embedder in ("", BASE):
        return ""
    where = "not part of this folder, where a relative path starts"
    return f"| sentence encoder | `{embedder}`, {where} |\n"


def _lines(facts: Facts, form: Form) -> str:
    name = facts.base.spec
    if form.holds != "adapter":
        return form.to_load("")
    if name in EMBEDDED:
        return IN_PACKAGE.format(EMBEDDED[name], name) + form.to_load("BASE")
    return form.to_load(json.dumps(name))


def _weights(base: OfBase) -> Iterator[str]:
    if base.dtype:
        yield f"weights in {base.dtype}"
    if base.quantization:
        yield f"quantized to {base.quantization}"


def told(checked: Checked) -> str:
    """Return in words what reading an export back found."""
    if checked.difference is None:
        return f"read back: the same messages for {checked.rows} {checked.of}"
    limit = f"differ by at most {checked.difference:.1e}"
    text = f"read back: logits of {checked.rows} {checked.of} {limit}"
    if checked.same_answers is None:
        return text
    return f"{text}; {checked.same_answers} of {checked.rows} answers are those of the run"
