"""A text as a vector of a sentence encoder (the extra `sentences`); the encoder is a local one.

Source: Reimers and Gurevych 2019, arXiv 1908.10084 (sentence-transformers).

Safetensors only, no remote code, nothing is downloaded. Cost: the encoder's pass over each text.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from savile.errors import EnvironmentProblem, Problem
from savile.lm.states import Vectors

LIBRARY = "sentence_transformers"


def encode(encoder: str, texts: Sequence[str]) -> Vectors:
    """Return the vector of each text, float32 [N, D].

    Args:
        encoder: absolute folder of a sentence-transformers model, or its name in the local cache.
        texts: to encode.

    Raises:
        EnvironmentProblem: the library is not installed, or the encoder is not here.
    """
    library = _library()
    if not Path(encoder).is_absolute() and Path(encoder).exists():  # the library would take it
        raise _absent(encoder, "the one in the current folder is not meant")
    try:
        model = library.SentenceTransformer(
            encoder,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError) as error:
        raise _absent(encoder, str(error).strip().splitlines()[0][:200]) from error
    found = model.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)
    return np.asarray(found, dtype=np.float32)


def _absent(encoder: str, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        Problem(
            what="the sentence encoder is not on this machine",
            where="nearest_sentences.encoder",
            found=f"{encoder} ({why})",
            fix=f"Download it first: hf download {encoder}, or name the folder of another",
        )
    )


def _library() -> Any:
    try:
        return importlib.import_module(LIBRARY)
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            Problem(
                what="nearest_sentences needs sentence-transformers, which is not installed",
                found=str(error),
                fix="Install it: pip install 'savile[sentences]', or use nearest (BM25)",
            )
        ) from error
