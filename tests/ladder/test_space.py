"""What a run will write is known before it starts, and a volume without room is refused."""

from pathlib import Path

import pytest

from savile import spec as specs
from savile import store
from savile.errors import EnvironmentProblem
from savile.ladder import run as ladder
from savile.ladder import space
from savile.ladder.bases import bases_of
from savile.ladder.bench import bench_of
from savile.ladder.folder import RunFolder, unit_id
from savile.ladder.plan import from_json
from savile.ladder.prepare import prepare
from tests import small_case

LADDER = "[zero_shot, {few_shot: {k: 2}}, {lora: {learning_rate: 0.02}}, prompt_tuning, full]"


def written(folder: Path, technique: str) -> int:
    name = unit_id(technique, 0).removesuffix(".seed0")
    return sum(file.stat().st_size for file in folder.glob(f"*/{name}.*/*"))


def test_the_estimate_is_close_and_what_is_committed_needs_nothing(
    tiny_base: Path, tmp_path: Path
) -> None:
    task = small_case.write_case(tmp_path / "case", tiny_base, ladder=LADDER)
    spec = specs.load(task)
    ladder.run(spec, tmp_path / "run")
    prepared = prepare(spec, tmp_path / "run")
    bench = bench_of(spec, prepared.dataset, *bases_of(spec, prepared.folder))
    cells = {c.technique: c for c in from_json(store.read_json(tmp_path / "run" / "plan.json"))}
    assert len(prepared.candidates) == len(cells) == 5
    for candidate in prepared.candidates:
        cell = cells[candidate.name]
        found = space.bytes_of(RunFolder(tmp_path / "new"), cell, candidate, bench, 40)
        assert 1 / 1.5 < found / written(tmp_path / "run", candidate.name) < 1.5
        assert space.bytes_of(prepared.folder, cell, candidate, bench, 40) == 0


def test_a_volume_without_room_is_refused_before_anything_trains(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "free_bytes", lambda path: 4_321)
    with pytest.raises(EnvironmentProblem, match=r"found 4,321 bytes free; expected about \d+,\d+"):
        ladder.run(specs.load(task), tmp_path / "run")
    assert not list((tmp_path / "run").glob("*/*"))


def test_free_bytes_are_those_of_the_volume_a_folder_will_be_on(tmp_path: Path) -> None:
    here, there = store.free_bytes(tmp_path), store.free_bytes(tmp_path / "not" / "yet")
    assert here is not None
    assert there is not None
    assert abs(here - there) < 0.01 * here
