"""Readers: every cell verbatim, every shape recognized, and no bytes that crash them."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from savile.data.read import Reading, read_file
from savile.data.shapes import Wanted, recognize
from savile.data.source import Source
from savile.errors import DataError

VERBATIM = [
    "NA",
    "null",
    "None",
    "01",
    "1e5",
    "TRUE",
    " x ",
    "a\nb",
    'say "x"',
    "é",
    "ص",
    "👩‍👩‍👧",
    "e\u0301",
]


def read(folder: Path, name: str, content: bytes, **options: Any) -> list[dict[str, Any]]:
    (folder / name).write_bytes(content)
    return [row.cells for row in read_file(folder / name, name, Reading(**options)).rows]


def fields(folder: Path, row: dict[str, Any], **wanted: str) -> tuple[Any, ...]:
    """Return (shape, input, outputs, rationale) of one row."""
    (folder / "a.jsonl").write_text(json.dumps(row))
    table = read_file(folder / "a.jsonl", "a.jsonl")
    shape = recognize(table, Wanted(**wanted))
    return (shape.name, *shape.extract(table.rows[0]))


def as_csv(cells: list[str], delimiter: str = ",", end: str = "\n") -> bytes:
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if "\r" in "".join(cells) else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["text", "label"])
    writer.writerows([cell, "x"] for cell in cells)
    return text.getvalue().encode()


def test_csv_cells_are_kept_verbatim(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", as_csv(VERBATIM))
    assert [row["text"] for row in rows] == VERBATIM


def test_json_numbers_keep_their_source_text(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", b'{"a": 1e5, "b": 01}\n'.replace(b"01", b"1.50"))
    assert rows == [{"a": "1e5", "b": "1.50"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    content = as_csv(["one", "two words"], end=end)
    assert [row["text"] for row in read(tmp_path, "a.csv", content)] == ["one", "two words"]
    lines = end.join(['{"text": "a"}', '{"text": "b"}']).encode()
    assert [row["text"] for row in read(tmp_path, "a.jsonl", lines)] == ["a", "b"]


def test_mixed_line_ends_across_blocks(tmp_path: Path) -> None:
    line = b'{"text": "' + b"a" * 1000 + b'"}'
    content = (line + b"\r\n") * 1100 + (line + b"\r") * 1100
    assert len(read(tmp_path, "a.jsonl", content)) == 2200


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_byte_order_mark_is_accepted(tmp_path: Path, name: str) -> None:
    content = b"text,label\na,b\n" if name == "a.csv" else b'{"text": "a", "label": "b"}'
    assert read(tmp_path, name, codecs.BOM_UTF8 + content) == [{"text": "a", "label": "b"}]


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "utf-16", "utf-32", "utf-16-le", "utf-7"]
)
def test_a_given_encoding_is_used(tmp_path: Path, encoding: str) -> None:
    content = "text,label\ncafé,b\n".encode(encoding)
    assert read(tmp_path, "a.csv", content, encoding=encoding)[0]["text"] == "café"


@pytest.mark.parametrize("encoding", ["base64", "undefined", "rot13", "no\0pe", "x" * 500])
def test_what_is_no_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match="unknown encoding"):
        read(tmp_path, "a.csv", b"a,b\nc,d\n", encoding=encoding)


@pytest.mark.parametrize("encoding", ["idna", "punycode", "utf-7", "iso2022_jp", "ascii", "utf-16"])
def test_bytes_of_another_encoding_are_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError):
        read(tmp_path, "a.csv", b"a,b\n\xff\xfe\x81,d\n", encoding=encoding)


@pytest.mark.parametrize(("name", "delimiter"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "|")])
def test_delimiters(tmp_path: Path, name: str, delimiter: str) -> None:
    content = as_csv(["a,b"], delimiter)
    given = None if name == "a.tsv" else delimiter
    assert read(tmp_path, name, content, delimiter=given) == [{"text": "a,b", "label": "x"}]


def test_gzip_array_and_parquet_are_the_same_rows(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "x", "n": i} for i in range(5)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    expected = read(tmp_path, "a.jsonl", lines)
    assert read(tmp_path, "b.jsonl.gz", gzip.compress(lines)) == expected
    assert read(tmp_path, "c.json", json.dumps(rows, indent=2).encode()) == expected
    assert read(tmp_path, "d.json", lines) == expected
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    found = read_file(tmp_path / "e.parquet", "e.parquet")
    assert [row.cells for row in found.rows] == expected
    assert len(found.sha256) == 64


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": "b"}\n' * 5)
    lines = Source(path=file, name="a.jsonl").lines()
    next(lines)
    with file.open("ab") as more:
        more.write(b"x")
    with pytest.raises(DataError, match="changed while it was read"):
        list(lines)


def test_lines_of_rows_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,label\n"a\nb",x\n\nc,y\n')
    assert [row.line for row in read_file(tmp_path / "a.csv", "a").rows] == [2, 5]
    (tmp_path / "a.json").write_bytes(b'[\n{"a": 1},\n\n {"a":\n2}, {"a": 3}]')
    assert [row.line for row in read_file(tmp_path / "a.json", "a").rows] == [2, 4, 5]


USER, BOT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}
SYSTEM = {"role": "system", "content": "be kind"}


@pytest.mark.parametrize(
    ("row", "shape", "question", "answer"),
    [
        ({"prompt": "hi", "completion": "yo"}, "prompt_completion", "hi", "yo"),
        ({"prompt": [USER], "completion": [BOT]}, "prompt_completion", "hi", "yo"),
        ({"messages": [USER, BOT]}, "chat", "hi", "yo"),
        ({"messages": [SYSTEM, USER, BOT]}, "chat", "be kind\n\nhi", "yo"),
        ({"messages": [USER, BOT, USER, BOT]}, "chat", "User: hi\nAssistant: yo\nUser: hi", "yo"),
        ({"instruction": "add", "input": "1 2", "output": "3"}, "alpaca", "add\n\n1 2", "3"),
        ({"instruction": "hi", "input": "", "output": "yo"}, "alpaca", "hi", "yo"),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]},
            "sharegpt",
            "hi",
            "yo",
        ),
        ({"text": "hi", "category": "yo"}, "auto", "hi", "yo"),
        ({"Question": "hi", "Answer": "yo"}, "auto", "hi", "yo"),
        ({"frage": "hi", "label": "yo"}, "auto", "hi", "yo"),
        ({"question": "hi", "answer": "so\n#### 4"}, "steps", "hi", "4"),
        ({"id": "7", "text": "hi", "label": True}, "auto", "hi", "true"),
    ],
)
def test_shapes_are_recognized(
    tmp_path: Path, row: dict[str, Any], shape: str, question: str, answer: str
) -> None:
    assert fields(tmp_path, row)[:3] == (shape, question, (answer,))


def test_steps_become_the_rationale(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "1 + 1 = 2\nso two\n#### 2"}
    assert fields(tmp_path, row)[2:4] == (("2",), "1 + 1 = 2\nso two")
    assert fields(tmp_path, row, format="columns")[2] == ("1 + 1 = 2\nso two\n#### 2",)


def test_templates_are_filled_once_and_verbatim(tmp_path: Path) -> None:
    row = {"subject": "{body} {{x}}", "body": "{subject}", "label": "a"}
    found = fields(tmp_path, row, input="{subject}: {body}", output="label")
    assert found[1] == "{body} {{x}}: {subject}"


def test_a_list_of_answers_is_all_of_them(tmp_path: Path) -> None:
    assert fields(tmp_path, {"text": "a", "answer": ["b", "c"]})[2] == ("b", "c")


def rows_or_places(file: Path, content: bytes) -> bool:
    """Whether bytes become rows, or a DataError whose every place lies inside the file."""
    file.write_bytes(content)
    ends = content.count(b"\n") + content.count(b"\r")
    try:
        return bool(read_file(file, file.name).rows)
    except DataError as error:
        lines = [p.where.removeprefix(file.name).strip(":").split(":")[0] for p in error.problems]
        return bool(lines) and all(not line or 1 <= int(line) <= ends + 2 for line in lines)


MARKS = [b'{"a":', b"1", b'"x"', b"}", b"{", b"[", b"]", b",", b"\n", b"\r", b" ", b"\\", b'"']
ODD = [b"\xff", b"\xe9", b"NaN", b"null", b"\\ud800", b"\0", b"\xef\xbb\xbf"]
JSONISH = st.lists(st.sampled_from(MARKS + ODD), max_size=25).map(b"".join)
TABLEISH = st.lists(
    st.sampled_from([b"a,b", b"\n", b"\r\n", b",", b'"', b"x", b'""', b" ", b";", b"\xff", b"\0"]),
    max_size=25,
).map(b"".join)
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(content=st.one_of(st.binary(max_size=80), JSONISH))
@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.jsonl.gz"])
def test_any_bytes_are_rows_or_a_data_error(tmp_path: Path, name: str, content: bytes) -> None:
    assert rows_or_places(tmp_path / name, content)


@QUICK
@given(content=st.one_of(st.binary(max_size=80), TABLEISH, TABLEISH.map(lambda b: b"a,b\n" + b)))
@pytest.mark.parametrize("name", ["f.csv", "f.tsv"])
def test_any_table_is_rows_or_a_data_error(tmp_path: Path, name: str, content: bytes) -> None:
    assert rows_or_places(tmp_path / name, content)


CELLS = st.text(
    alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=9
)


@QUICK
@given(rows=st.lists(st.dictionaries(CELLS, CELLS, max_size=3), min_size=1, max_size=5))
def test_json_lines_round_trip(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert read(tmp_path, "r.jsonl", text.encode()) == rows


@QUICK
@given(cells=st.lists(CELLS, min_size=1, max_size=5))
def test_csv_round_trip(tmp_path: Path, cells: list[str]) -> None:
    content = as_csv(cells)
    expected = [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in cells]
    assert [row["text"] for row in read(tmp_path, "r.csv", content)] == expected
