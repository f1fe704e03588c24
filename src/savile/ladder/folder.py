"""The run folder, where the truth of a run lies; reading it needs no torch.

spec.yaml          the resolved spec
manifest.json      identity (spec, data, base, code, versions), machine, time
rejected.jsonl     rows of the data that are set aside, each with its reason; absent without any
plan.json          presentations and learning rates of every technique, made once
events.jsonl       what happened, append-only
payments.jsonl    what was paid to an endpoint, one line a request
trials/<id>/       one search piece or one trained technique and seed, committed once
measured/<id>/     its predictions on the sealed test
judged/<id>/       what a judge said about them, about made pairs and about those of people
board.json         the answer; report.html the same for people

Beside the run folders, `.savile/test_openings/<test>/<run>.json` remembers which runs looked at a
test: a changed spec gets a new folder, but the test it looks at again is the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from savile import store
from savile.errors import IntegrityError, Problem, UsageError
from savile.ladder.identity import Difference, first_difference, refuse
from savile.types import Prediction

RESULT: Final = "result.json"
PREDICTIONS: Final = "predictions.jsonl"
FRAME: Final = "frame.json"
WEIGHTS: Final = "delta.safetensors"
START: Final = "start.safetensors"
"""The policy that a preference technique is compared with."""
JUDGE: Final = "judge.safetensors"
"""The reward model a technique trained on its way."""
REJECTED: Final = "rejected.jsonl"
OPENINGS: Final = ".savile/test_openings"
ANSWERS: Final = ".savile/answers"


def answers_beside(path: Path) -> Path:
    """Return the folder of endpoints' answers that a run folder, or a file, shares with those
    beside it."""
    return path.resolve().parent / ANSWERS


def unit_id(technique: str, seed: int, piece: int | None = None) -> str:
    """Return the folder name of a unit: readable, safe on every file system, unique per name."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", technique).strip("-")[:40]
    unique = hashlib.sha256(technique.encode()).hexdigest()[:6]
    end = "" if piece is None else f".search{piece}"
    return f"{readable}-{unique}.seed{seed}{end}"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A committed unit, verified when it was read; weights stay on disk until they are needed."""

    path: Path
    result: Mapping[str, Any]
    predictions: tuple[Prediction, ...] = ()

    def files(self) -> dict[str, bytes]:
        """Read every file.

        Raises:
            IntegrityError: a byte changed since it was committed.
        """
        return store.read_dir(self.path)


@dataclass(frozen=True)
class RunFolder:
    """One run's files. Everything durable goes through `savile.store`."""

    path: Path

    @property
    def events_path(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def payments_path(self) -> Path:
        """What was paid to endpoints, one line a request."""
        return self.path / "payments.jsonl"

    @property
    def answers_path(self) -> Path:
        """Answers of endpoints, shared by the runs beside this one."""
        return answers_beside(self.path)

    # ── identity ─────────────────────────────────────────────────────────────────────────────

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest, None when the folder holds no run."""
        file = self.path / "manifest.json"
        return dict(store.read_json(file)) if file.is_file() else None

    @property
    def planned(self) -> bool:
        """Whether a run got as far as its plan; before that there is nothing to lose."""
        return (self.path / "plan.json").is_file()

    def difference(self, identity: Mapping[str, Any]) -> Difference | None:
        """Return how the run in this folder differs from `identity`; None for the same or none."""
        manifest = self.manifest() if self.planned else None
        return None if manifest is None else first_difference(manifest["identity"], identity)

    def begin(
        self,
        identity: Mapping[str, Any],
        facts: Mapping[str, Any],
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        """Start the run or go on with it; needs the run lock.

        Args:
            identity: what a run that goes on has to share.
            facts: for the manifest.
            spec: the whole spec for spec.yaml, where `identity` leaves something of it out.

        Raises:
            UsageError: the folder holds another run.
        """
        store.sweep(self.path)
        if (difference := self.difference(identity)) is not None:
            raise refuse(self.path, difference)
        if not self.planned:
            store.write_atomic(self.path / "spec.yaml", _yaml(spec or identity["spec"]))
            store.write_json(self.path / "manifest.json", {"identity": identity, **facts})
        store.mend_events(self.events_path)
        self._record_unrecorded()
        self.record("session")

    def list_rejected(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write down which rows of the data are set aside, and why."""
        if rows:
            lines = b"".join(store.dump_json(row, indent=None) for row in rows)
            store.write_atomic(self.path / REJECTED, lines)

    def same_device(self, device: str) -> None:
        """Record the device of this session.

        Raises:
            UsageError: an earlier session ran on another one; their numbers do not belong together.
        """
        before = self.events("device")
        if before and before[0]["device"] != device:
            raise refuse(
                self.path, Difference(key="device", before=before[0]["device"], now=device)
            )
        self.record("device", device=device)

    def refuse_strangers(self) -> None:
        """Raise UsageError when the folder is neither a run's nor empty; nothing is written."""
        if self.manifest() is not None or not self.path.is_dir():
            return
        known = {".lock", "events.jsonl", "spec.yaml", "payments.jsonl"}
        strangers = sorted(item.name for item in self.path.iterdir() if item.name not in known)
        if strangers:
            raise UsageError(
                Problem(
                    where=str(self.path),
                    what="is not a run folder and not empty",
                    found=", ".join(strangers[:3]),
                    fix="Give a new folder with --out",
                )
            )

    def count_opening(self, ids_hash: str, identity: Mapping[str, Any]) -> int:
        """Remember that this run opened a test; return how many runs beside it ever did.

        Args:
            ids_hash: of the test's rows.
            identity: of the run; going on with it, or repeating it, is the same look at the test.
        """
        ledger = self.path.resolve().parent / OPENINGS / ids_hash[:16]
        run = store.sha256(store.dump_json(identity))[:16]
        if not (ledger / f"{run}.json").exists():
            store.write_json(ledger / f"{run}.json", {"run": self.path.name, "time": store.now()})
        return len(list(ledger.glob("*.json")))

    # ── units ────────────────────────────────────────────────────────────────────────────────

    def commit(
        self,
        unit: str,
        result: Mapping[str, Any],
        predictions: Sequence[Prediction] = (),
        files: Mapping[str, bytes] | None = None,
    ) -> Unit:
        """Commit one unit (`trials/<id>` or `measured/<id>`) and return it as it will be read."""
        content = {RESULT: store.dump_json(result), **(files or {})}
        if predictions:
            lines = [store.dump_json(asdict(p), indent=None) for p in predictions]
            content[PREDICTIONS] = b"".join(lines)
        (self.path / unit).parent.mkdir(exist_ok=True)
        store.commit_dir(self.path / unit, content)
        self.record("committed", unit=unit, sha256=store.file_sha256(self._sums(unit)))
        return _unit(self.path / unit)

    def _record_unrecorded(self) -> None:
        """Record units whose rename was the last act of a killed process: they are committed."""
        known = {(event["unit"], event["sha256"]) for event in self.events("committed")}
        for sums in sorted(self.path.glob(f"*/*/{store.MANIFEST}")):
            unit, sha256 = sums.parent.relative_to(self.path).as_posix(), store.file_sha256(sums)
            if (unit, sha256) not in known:
                self.record("committed", unit=unit, sha256=sha256, mended=True)

    def read(self, unit: str) -> Unit | None:
        """Return a committed unit, None when it is still to do.

        Raises:
            IntegrityError: a byte of it changed since.
        """
        if not self._sums(unit).parent.exists():
            return None
        store.verify_dir(self.path / unit)
        return _unit(self.path / unit)

    def _sums(self, unit: str) -> Path:
        return self.path / unit / store.MANIFEST

    # ── events, board ────────────────────────────────────────────────────────────────────────

    def record(self, event: str, **facts: Any) -> None:
        """Append one event with the time."""
        store.append_event(self.events_path, {"time": store.now(), "event": event, **facts})

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return every event of one kind."""
        return [e for e in store.read_events(self.events_path) if e["event"] == event]

    def finish(self, board: Mapping[str, Any]) -> dict[str, Any]:
        """Write the board, record its sum, and return it as it will be read."""
        data = store.dump_json(board)
        store.write_atomic(self.path / "board.json", data)
        self.record("finished", sha256=store.sha256(data))
        return dict(json.loads(data))

    def board(self) -> dict[str, Any] | None:
        """Return the finished board, None when the run is not finished.

        Raises:
            IntegrityError: board.json is not the one the run wrote.
        """
        finished, file = self.events("finished"), self.path / "board.json"
        if not finished or not file.is_file():
            return None
        found, expected = store.file_sha256(file), finished[-1]["sha256"]
        if found != expected:
            raise IntegrityError(
                Problem(
                    where=str(file),
                    what="is not the board the run wrote",
                    found=f"sha256 {found}",
                    expected=f"sha256 {expected}",
                    fix="Remove it; `savile run` writes it again from the committed units",
                )
            )
        return dict(store.read_json(file))


def _unit(path: Path) -> Unit:
    written = path / PREDICTIONS
    lines = written.read_bytes().splitlines() if written.exists() else []
    return Unit(
        path=path,
        result=store.read_json(path / RESULT),
        predictions=tuple(Prediction(**json.loads(line)) for line in lines),
    )


def _yaml(value: Any) -> bytes:
    stream = io.BytesIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(value, stream)
    return stream.getvalue()
