"""What a model folder must look like before anything of it is loaded: plain JSON, whole
safetensors.

The files are validated here, not by the flags of a library: keys that name code or kernels are
refused at any depth, weights come from safetensors alone, and every header is checked against the
size of its file. Nothing in a folder is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from savile.errors import EnvironmentProblem, IntegrityError, Problem
from savile.lm import architecture

FORBIDDEN: Final = frozenset({"auto_map", "trust_remote_code", "custom_code", "custom_pipelines"})
"""Keys through which a configuration has run code (CVE-2025-66448, CVE-2026-4372 and others)."""
CONFIGURATIONS: Final = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
)
"""The JSON files of a folder that transformers may read as settings."""
IDENTIFYING: Final = (
    *CONFIGURATIONS,
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
)
"""What makes a model another one, beside its weights."""
TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "vocab*", "*.model", "*.tiktoken")
"""Files of which a tokenizer can be made."""
EMBEDDINGS: Final = ("embed_tokens", "wte", "embed_in", "word_embeddings")
"""What architectures call the embedding of the tokens, one row for each."""
MAX_HEADER: Final = 100_000_000
"""Bytes of a safetensors header; the format's own limit."""


def validate(folder: Path) -> dict[str, Any]:
    """Check a model folder and return its configuration.

    Raises:
        EnvironmentProblem: a file is missing, the architecture cannot be used, or the number of
            tokens in the configuration is not that of the weights.
        IntegrityError: pickled weights only, code in a configuration, damaged weights.
    """
    config = _json(folder / "config.json")
    _no_adapter(folder)
    for name in CONFIGURATIONS:
        path = folder / name
        if path.exists():
            for key, value in _walk(_json(path)):
                _refuse_code(path, key, value)
    architecture.check(folder, config)
    shapes: dict[str, Any] = {}
    for file in weight_files(folder):
        shapes |= check_safetensors(file)
    _same_rows(folder, config, shapes)
    if not any(next(folder.glob(name), None) for name in TOKENIZERS):
        what = "the folder holds no tokenizer"
        raise EnvironmentProblem(Problem(what=what, where=str(folder), expected=TOKENIZERS[0]))
    return config


def identity(folder: Path) -> str:
    """Return a sha256 over configuration, weights, tokenizer and template of a folder."""
    digest = hashlib.sha256()
    for path in [*(folder / name for name in IDENTIFYING), *weight_files(folder)]:
        if path.exists():
            digest.update(path.name.encode())
            with path.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, all shards of an index."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        table = _json(index).get("weight_map")
        names = sorted({str(v) for v in table.values()}) if isinstance(table, dict) else []
        for name in names:
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise IntegrityError(
                    Problem(
                        what="an index names a file outside its folder",
                        where=str(index),
                        found=name,
                    )
                )
        missing = [name for name in names if not (folder / name).exists()]
        if missing or not names:
            raise IntegrityError(
                Problem(
                    what="shards of the model are missing", where=str(index), found=str(missing)
                )
            )
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(
        p.name for p in folder.glob("*.pt")
    )
    if pickled:
        raise IntegrityError(
            Problem(
                what="the model has only pickled weights, which can run code when loaded",
                where=str(folder),
                found=", ".join(pickled),
                expected="model.safetensors",
                fix="Convert it once, where you trust it, with safetensors' convert tool.",
            )
        )
    raise EnvironmentProblem(
        Problem(
            what="the folder holds no model weights",
            where=str(folder),
            expected="model.safetensors",
        )
    )


def check_safetensors(file: Path) -> dict[str, Any]:
    """Check a safetensors header against the file's size: whole, in order, without overlap.

    Returns:
        The shape of every tensor, as the header writes it.
    """
    size = file.stat().st_size
    with file.open("rb") as handle:
        head = handle.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        if not 0 < length <= min(MAX_HEADER, size - 8):
            raise IntegrityError(
                Problem(
                    what="the file is truncated or no safetensors file",
                    where=str(file),
                    found=f"{size} bytes, header length {length}",
                )
            )
        try:
            header = json.loads(handle.read(length))
            entries = {key: entry for key, entry in header.items() if key != "__metadata__"}
            offsets = (entry["data_offsets"] for entry in entries.values())
            spans = sorted((int(a), int(b)) for a, b in offsets)
            shapes = {key: entry.get("shape") for key, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                Problem(
                    what="the safetensors header cannot be read", where=str(file), found=str(error)
                )
            ) from error
    at = 0
    for start, end in spans:
        if start != at or end < start:
            raise IntegrityError(
                Problem(
                    what="tensors overlap or leave gaps", where=str(file), found=f"{start}..{end}"
                )
            )
        at = end
    if at != size - 8 - length:
        raise IntegrityError(
            Problem(
                what="the file is truncated",
                where=str(file),
                found=f"{size} bytes",
                expected=f"{at + 8 + length} bytes",
                fix="Copy or download it again.",
            )
        )
    return shapes


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EnvironmentProblem(
            Problem(
                what=f"{path.name} is missing",
                where=str(path.parent),
                fix="A base is a folder as transformers saves it, or a Hugging Face id.",
            )
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise EnvironmentProblem(
            Problem(what="the file is not readable JSON", where=str(path), found=str(error))
        ) from error
    if not isinstance(loaded, dict):
        raise EnvironmentProblem(Problem(what="expected a JSON object", where=str(path)))
    return loaded


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name), inner
            yield from _walk(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, key)


def _refuse_code(path: Path, key: str, value: Any) -> None:
    kernel = "attn_implementation" in key and "/" in json.dumps(value)  # also one per sub-model
    if (key in FORBIDDEN and value) or kernel:
        raise IntegrityError(
            Problem(
                what="the model's configuration asks for foreign code, which Savile never runs",
                where=str(path),
                found=f"{key}: {value!r}"[:200],
                fix="Use a base whose architecture transformers itself knows.",
            )
        )


def _no_adapter(folder: Path) -> None:
    """Refuse an adapter: transformers would load the base it names instead of this folder."""
    if (folder / "adapter_config.json").exists():
        raise EnvironmentProblem(
            Problem(
                what="the folder holds an adapter (adapter_config.json), not a base",
                where=str(folder),
                fix="Name the base it was trained on, or a folder with the adapter merged.",
            )
        )


def _same_rows(folder: Path, config: dict[str, Any], shapes: dict[str, Any]) -> None:
    """Refuse a configuration whose vocab_size is not the number of embedding rows."""
    size = config.get("vocab_size")
    names = tuple(f"{name}.weight" for name in EMBEDDINGS)
    found = {key: shape for key, shape in shapes.items() if key.endswith(names)}
    if not isinstance(size, int) or len(found) != 1:
        return
    name, shape = found.popitem()
    if isinstance(shape, list) and len(shape) == 2 and shape[0] != size:
        raise EnvironmentProblem(
            Problem(
                what="the configuration and the weights do not have the same number of tokens",
                where=str(folder / "config.json"),
                found=f"vocab_size {size}",
                expected=f"{shape[0]}, the rows of {name}",
                fix="Save the model again with transformers, or correct vocab_size.",
            )
        )
