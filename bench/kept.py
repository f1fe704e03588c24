"""Where raw results lie, and how they are written: JSON lines, one file a measurement and day."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
Record = Mapping[str, Any]


def write(name: str, records: Iterable[Record], folder: Path = RESULTS) -> None:
    """Write all records to `<date>-<name>.jsonl`, the machine's line first, and say so."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{datetime.now(UTC).date()}-{name}.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written: {file.name}", flush=True)


def shown(records: Iterable[Record]) -> Iterator[Record]:
    """Print records as they come, without their curves, and pass them on."""
    for record in records:
        print(json.dumps({k: v for k, v in record.items() if k != "curve"}), flush=True)
        yield record
