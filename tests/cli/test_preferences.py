"""`savile preferences`: what it prints and writes."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from savile import cli, data
from savile import spec as specs
from tests import small_case
from tests.endpoint_server import Server

HOT = ("--samples", "6", "--temperature", "8")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    return small_case.write_case(folder, small_case.write_base(folder / "base"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pairs_are_written_counted_and_read_back(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs.jsonl"
    given = ["preferences", str(task), "-o", str(out), *HOT, "--technique", "few_shot(k=2)"]
    assert cli.main([*given, "--seed", "5"]) == 0
    said = capsys.readouterr()
    rows = rows_of(out)
    assert f"wrote {out}: {len(rows)} pairs from 46 questions" in said.out
    assert "note: 2 rows are shown in the prompt and not asked" in said.out
    assert "next: data.preferences: pairs.jsonl in the spec" in said.out
    assert "100%  46 rows answered" in said.err
    assert {row["seed"] for row in rows} == {5}
    found = data.load(specs.load(task, [f"data.preferences={out}"]))
    assert len(found.preferences) + len(found.dev_preferences) == len(rows)


def test_json_is_one_document(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs.jsonl"
    given = ["preferences", str(task), "-o", str(out), *HOT, "--rows", "20", "--json", "-q"]
    assert cli.main(given) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert said.err == ""
    assert document["pairs"] == len(rows_of(out)) == document["questions"]["paired"]
    assert sum(document["questions"].values()) == 20
    assert (document["samples"], document["temperature"], document["top_p"]) == (6, 8.0, 1.0)


def test_an_endpoint_s_answers_are_kept_beside_the_file_and_never_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    number = itertools.count()
    with Server(lambda exchange: exchange.say(("yes", "no")[next(number) % 2])).running() as server:
        base = f"{{endpoint: '{server.url}', model: m}}"
        spec = small_case.write_case(tmp_path / "case", Path("BASE"), ladder="[zero_shot]")
        spec.write_text(spec.read_text().replace("BASE", base))
        given = ["preferences", str(spec), "--samples", "2", "--rows", "12", "-q", "-o"]
        assert cli.main([*given, str(tmp_path / "one.jsonl")]) == 0
        asked = len(server.seen)
        assert asked == 24
        assert cli.main([*given, str(tmp_path / "two.jsonl")]) == 0
        assert len(server.seen) == asked
        assert (tmp_path / "one.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()
        changed = f"base={base[:-1]}, request: {{temperature: 0}}}}"
        three = tmp_path / "three.jsonl"
        assert cli.main([*given, str(three), "--set", changed]) == 2
        assert "base.request.temperature: is set" in capsys.readouterr().err
        assert not three.exists()


def test_logs_are_paired(task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs, out = tmp_path / "logs.csv", tmp_path / "pairs.jsonl"
    logs.write_text("prompt,response,rating\nq,a,3\nq,b,1\nq,c,2\n", encoding="utf-8")
    given = ["preferences", str(task), "-o", str(out), "--from-logs", str(logs)]
    assert cli.main([*given, "--pairs-per-row", "2"]) == 0
    assert [(row["chosen"], row["rejected"]) for row in rows_of(out)] == [("a", "b"), ("a", "c")]
    assert "read the columns 'prompt', 'response', 'rating'" in capsys.readouterr().out


def test_a_file_that_is_there_is_not_written_over(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs.jsonl"
    out.write_text("mine", encoding="utf-8")
    assert cli.main(["preferences", str(task), "-o", str(out), "--from-logs", "nowhere.csv"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"
