"""Which architectures can be a base: those the installed transformers knows as causal models.

Its table is read as text, for importing transformers takes seconds.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from savile.errors import EnvironmentProblem, Problem


def check(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a configuration whose architecture cannot be used.

    Raises:
        EnvironmentProblem: the kind of model is unknown, or is no causal language model.
    """
    _known_type(folder, config)
    _causal(folder, config)


def _known_type(folder: Path, config: dict[str, Any]) -> None:
    """Refuse an architecture that the installed transformers does not have, without loading it."""
    name = config.get("model_type")
    if isinstance(name, str) and name:
        listed = _listed_types()
        if (
            f'"{name}"' in listed or '"llama"' not in listed
        ):  # a list we cannot read refuses nothing
            return
    raise EnvironmentProblem(
        Problem(
            what="the installed transformers does not know this kind of model"
            if name
            else "the configuration names no kind of model",
            where=str(folder / "config.json"),
            found=f"model_type {name!r}"[:100] if name else "no model_type",
            expected="an architecture of transformers, such as llama, qwen3 or gpt2",
            fix="A newer transformers may know it." if name else "",
        )
    )


def _listed_types() -> str:
    """Return the source text of transformers' table of architectures."""
    found = importlib.util.find_spec("transformers")
    if found is None or found.origin is None:
        return ""
    auto = Path(found.origin).parent / "models" / "auto"
    tables = [auto / "auto_mappings.py", auto / "configuration_auto.py"]
    return "\n".join(t.read_text(encoding="utf-8") for t in tables if t.is_file())


def _causal(folder: Path, config: dict[str, Any]) -> None:
    named = config.get("architectures") or []
    named = [str(n) for n in named] if isinstance(named, list) else [str(named)]
    causal = [n for n in named if n.endswith(("ForCausalLM", "LMHeadModel"))]
    if config.get("is_encoder_decoder") or (named and not causal):
        raise EnvironmentProblem(
            Problem(
                what="the base is no causal (decoder-only) language model",
                where=str(folder / "config.json"),
                found=", ".join(named) or "is_encoder_decoder",
                expected="an architecture that ends in ForCausalLM",
            )
        )
