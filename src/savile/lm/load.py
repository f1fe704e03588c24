"""Loads a base model by name: the embedded ones, a local folder, or a Hugging Face id.

The one code path: resolve the name to a folder (`resolve.py`), validate it (`folder.py`), load it
with transformers from safetensors alone, check that every weight is there and finite, and wrap it
as an `LM`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from savile.errors import EnvironmentProblem, IntegrityError, NoMemory, Problem
from savile.lm import folder as model_folder
from savile.lm import memory, template_limits
from savile.lm.model import LM
from savile.lm.quantization import Quantization, quantize
from savile.lm.resolve import EMBEDDED, resolve

WORKING: Final = 200_000_000
"""Bytes that have to be free beside the weights: the tokenizer's library ends the process where it
cannot have some of them."""
BIG: Final = 2_000_000_000
"""Bytes of weights above which a CPU keeps them in bfloat16."""


def identity(base: str, folder: Path) -> str:
    """Return the sha256 that stands for a base in the manifest."""
    return model_folder.identity(resolve(base, folder))


def load(
    base: str,
    *,
    folder: Path,
    device: str = "auto",
    dtype: str = "auto",
    quantization: Quantization | None = None,
) -> LM:
    """Load and validate a base.

    Args:
        base: `embedded`, `embedded-large`, a folder, or a Hugging Face id.
        folder: where relative folders start.
        device: `auto` takes CUDA when there is one.
        dtype: `auto`, `float32` or `bfloat16` of the weights.
        quantization: keep the trunk's linear maps in 8 or 4 bits.

    Raises:
        EnvironmentProblem: missing, or not usable here.
        IntegrityError: unsafe or damaged files.
    """
    path = resolve(base, folder)
    model_folder.validate(path)
    where = _device(device)
    weights = _dtype(dtype, where, path)
    _check_room(base, path, weights, where)
    with quiet():
        tokenizer = tokenizer_of(path)
        if base not in EMBEDDED:
            template_limits.check(tokenizer, path)
        model = _weights(path, weights)
    _check(model, tokenizer, path)
    if quantization is not None:
        quantize(model, quantization, where)
    model.to(where)  # type: ignore[arg-type]
    lm = LM(model, tokenizer, name=base)
    lm.quantization = quantization
    if weights == torch.float32 and dtype == "auto" and has_bfloat16(where):
        lm.amp = torch.bfloat16
    return lm


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:  # torch asserts when built without CUDA
        raise EnvironmentProblem(
            Problem(
                what="the device cannot be used here",
                where="compute.device",
                found=f"{device!r}: {_first(error)}",
                expected="auto, cpu, or cuda where PyTorch finds a GPU",
            )
        ) from error
    return where


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # avx512_bf16 alone is slower than float32 (0.6-0.75x at widths 256-1024, docs/log.md)
        return bool(torch.cpu._is_amx_tile_supported())
    return False


def _dtype(dtype: str, device: torch.device, path: Path) -> torch.dtype:
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    if device.type == "cuda" and has_bfloat16(device):
        return torch.bfloat16
    size = sum(file.stat().st_size for file in model_folder.weight_files(path))
    return torch.bfloat16 if size > BIG else torch.float32


def _check_room(base: str, path: Path, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a base whose weights do not fit, before they are read.

    Raises:
        NoMemory: with the bytes that are needed and those that are free.
    """
    shapes = (model_folder.check_safetensors(file) for file in model_folder.weight_files(path))
    weights = sum(math.prod(shape or ()) for own in shapes for shape in own.values())
    need = dtype.itemsize * weights + WORKING
    for place in {torch.device("cpu"), device}:  # on the way to a GPU they pass the memory here
        free = memory.free_bytes(place)
        if free is not None and need > free:
            raise NoMemory(
                Problem(
                    what=f"the base does not fit the memory ({place})",
                    where=base,
                    found=f"{free:,} bytes free",
                    expected=f"{need:,} bytes: its weights ({dtype}) and some to work with",
                    fix="Free some memory, or name a smaller base; compute.dtype: bfloat16 halves "
                    "what float32 needs.",
                )
            )


def tokenizer_of(path: Path) -> Any:
    """Load the tokenizer of a folder.

    Raises:
        EnvironmentProblem: there is none, or it is not a fast one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentProblem(
            Problem(what="the tokenizer cannot be loaded", where=str(path), found=_first(error))
        ) from error
    if not tokenizer.is_fast:
        raise EnvironmentProblem(
            Problem(
                what="the base has no fast tokenizer", where=str(path), expected="a tokenizer.json"
            )
        )
    return tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars, warnings and reports off: what is wrong is raised."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _weights(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise EnvironmentProblem(
            Problem(what="the model cannot be loaded", where=str(path), found=_first(error))
        ) from error
    except SafetensorError as error:
        raise IntegrityError(
            Problem(what="the weights cannot be read", where=str(path), found=_first(error))
        ) from error
    model: PreTrainedModel = loaded[0]
    info: dict[str, Any] = loaded[1]
    missing = sorted(info["missing_keys"]) + sorted(str(k) for k in info["mismatched_keys"])
    if missing:
        raise IntegrityError(
            Problem(what="weights are missing", where=str(path), found=", ".join(missing[:5]))
        )
    return model


def _check(model: PreTrainedModel, tokenizer: Any, path: Path) -> None:
    rows = len(model.get_input_embeddings().get_parameter("weight"))
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        raise EnvironmentProblem(
            Problem(
                what="the tokenizer knows more tokens than the model",
                where=str(path),
                found=f"token id {largest}",
                expected=f"at most {rows - 1} (the embedding has {rows} rows)",
            )
        )
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise IntegrityError(
                Problem(what="the base has NaN or infinite weights", where=str(path), found=name)
            )


def _first(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
