"""Files that cannot be read: D1 to D26 of the list of bad inputs."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.bad_inputs.material import (
    CSV,
    GOOD_CSV,
    ROW,
    Case,
    a_folder,
    a_socket,
    bad_train,
    bomb,
    check,
    fifo,
    jsonl,
    loop,
    table,
    with_lines,
)

CASES = [
    Case(
        "D1-value-missing",
        3,
        ("train.jsonl:4:21", 'expected a value after "label":', "^"),
        bad_train('{"text":"a","label":}'),
    ),
    Case(
        "D1-comma-missing",
        3,
        ("train.jsonl:4:14", "expected a comma"),
        bad_train('{"text": "a" "label": "no"}'),
    ),
    Case(
        "D2-cut",
        3,
        ("line 40 ends inside a string", "truncated?", "bytes", "40 lines"),
        {"train.jsonl": jsonl()[:-6]},
    ),
    Case(
        "D2-cut-object",
        3,
        ("line 40 ends inside an object", "truncated?"),
        {"train.jsonl": jsonl()[:-2]},
    ),
    Case("D3-empty", 3, ("train.jsonl is empty (0 rows)",), {"train.jsonl": b""}),
    Case("D3-newlines", 3, ("train.jsonl is empty (0 rows)",), {"train.jsonl": b"\n\r\n\n"}),
    Case(
        "D3-header-only",
        3,
        ("train.csv is empty (0 rows)",),
        {**GOOD_CSV, "train.csv": b"text,label\n"},
        CSV,
    ),
    Case(
        "D6-utf16",
        3,
        ("UTF-16LE", "FF FE", "iconv"),
        {"train.jsonl": jsonl().decode().encode("utf-16")},
    ),
    *(
        Case(
            f"D6-{name.lower()}-without-bom",
            3,
            (f"looks like {name} (", "NUL", f"iconv -f {name}"),
            {"train.jsonl": jsonl().decode().encode(name)},
        )
        for name in ("UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE")
    ),
    Case("D6-utf32", 3, ("UTF-32LE", "iconv"), {"train.jsonl": jsonl().decode().encode("utf-32")}),
    Case(
        "D7-latin1",
        3,
        ("train.jsonl:4", "0xE9", "byte 14", "cp1252"),
        {"train.jsonl": with_lines(jsonl(), 4, '{"text": "caf\x00"}').replace(b"\0", b"\xe9")},
    ),
    Case(
        "D8-raw-nul", 3, ("train.jsonl:4:11", "NUL"), bad_train('{"text": "\x00", "label": "no"}')
    ),
    Case(
        "D9-surrogate",
        3,
        ("train.jsonl:4:12", "lone surrogate"),
        bad_train('{"text": "a\\ud800b", "label": "no"}'),
    ),
    Case(
        "D10-nan",
        3,
        ("train.jsonl:4:24", "NaN is not JSON"),
        bad_train('{"text": "a", "label": NaN}'),
    ),
    Case(
        "D10-infinity",
        3,
        ("-Infinity is not JSON",),
        bad_train('{"text": "a", "label": -Infinity}'),
    ),
    Case(
        "D11-duplicate-key",
        3,
        ("train.jsonl:4", "'label' occurs twice"),
        bad_train('{"text": "a", "label": "no", "label": "yes"}'),
    ),
    Case(
        "D12-array",
        3,
        ("train.jsonl:4:1", "expected an object, found an array"),
        bad_train("[1, 2]"),
    ),
    Case("D12-text", 3, ("expected an object, found a text",), bad_train('"hello"')),
    Case("D12-number", 3, ("expected an object, found a number",), bad_train("12")),
    Case(
        "D13-long-line",
        3,
        ("train.jsonl:4", "line longer than 4096 bytes", "data.max_line"),
        bad_train(ROW % ("a" * 5000, "no")),
        overrides=("data.max_line=4096",),
    ),
    Case(
        "D13-depth",
        3,
        ("train.jsonl:4", "nested too deeply"),
        bad_train('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    ),
    Case(
        "D14-missing-column",
        3,
        ("train.jsonl:7", "row 7 has no 'label'; present: text, lable", "did you mean 'lable'?"),
        bad_train('{"text": "some thing", "lable": "no"}', at=7),
    ),
    Case(
        "D15-extra-strict",
        3,
        ("columns that are not used: mood",),
        bad_train('{"text": "x y z", "label": "no", "mood": "bad"}'),
        overrides=("data.strict=true",),
    ),
    Case(
        "D16-types",
        3,
        ("'label' is", "a number in line 4", "a text in line 1", "cast: str"),
        bad_train('{"text": "some thing", "label": 1}'),
    ),
    Case(
        "D17-null",
        3,
        ("train.jsonl:4", "empty output", "1 of 40 rows (2.5%)", "allow_drop"),
        bad_train('{"text": "some thing", "label": null}'),
    ),
    Case("D17-blank", 3, ("train.jsonl:4", "empty input"), bad_train(ROW % ("  ", "no"))),
    Case(
        "D18-short",
        3,
        ("train.csv:3: 1 field, header has 2",),
        {**GOOD_CSV, "train.csv": with_lines(table("train"), 3, "only one")},
        CSV,
    ),
    Case(
        "D18-long",
        3,
        ("train.csv:3: 3 fields, header has 2",),
        {**GOOD_CSV, "train.csv": with_lines(table("train"), 3, "a, b,no")},
        CSV,
    ),
    Case(
        "D19-quote",
        3,
        ("train.csv:5:1", "quote opens here and never closes"),
        {**GOOD_CSV, "train.csv": with_lines(table("train"), 5, '"never closed,no')},
        CSV,
    ),
    Case(
        "D19-quote-that-a-later-quote-ends",
        3,
        ("train.csv:5:6", "quote opens here", "up to line 9", "^"),
        {
            **GOOD_CSV,
            "train.csv": with_lines(
                table("train"), 5, '"ok","never closed', *"abc", 'x "y" z,"no"'
            ),
        },
        CSV,
    ),
    Case(
        "D19-quote-that-swallows-rows",
        3,
        ("train.csv:5: 1 field, header has 2", "goes on to line 7", "quote never closed"),
        {**GOOD_CSV, "train.csv": with_lines(table("train"), 5, '"never closed,no', "a,no", 'b"')},
        CSV,
    ),
    Case(
        "D19-text-after-quote",
        3,
        ("train.csv:5", "after a closing quote"),
        {**GOOD_CSV, "train.csv": with_lines(table("train"), 5, '"a "b" c",no')},
        CSV,
    ),
    Case(
        "D21-duplicate-header",
        3,
        ("train.csv:1", "'label' occurs twice"),
        {**GOOD_CSV, "train.csv": with_lines(table("train"), 1, "label,label")},
        CSV,
    ),
    Case(
        "D21-empty-header",
        3,
        ("column 2", "has no name"),
        {**GOOD_CSV, "train.csv": with_lines(table("train"), 1, "text,")},
        CSV,
    ),
    Case(
        "D22-semicolon",
        3,
        ("1 column 'text;label'", "delimiter ';'? Set data.delimiter"),
        {**GOOD_CSV, "train.csv": table("train", "text;label", ";")},
        CSV,
    ),
    Case(
        "D22-tab",
        3,
        ("1 column", "'tab'", "data.delimiter"),
        {**GOOD_CSV, "train.csv": table("train", "text\tlabel", "\t")},
        CSV,
    ),
    Case(
        "D23-no-header",
        3,
        ("no column 'text'", "header"),
        {**GOOD_CSV, "train.csv": with_lines(table("train"), 1, "hello,no")},
        CSV,
        ("data.input=text", "data.output=label"),
    ),
    Case(
        "D24-gzip",
        3,
        ("is gzip, not csv",),
        {**GOOD_CSV, "train.csv": gzip.compress(table("train"))},
        CSV,
    ),
    Case(
        "D24-xlsx",
        3,
        ("zip archive (xlsx?), not csv",),
        {**GOOD_CSV, "train.csv": b"PK\x03\x04" + b"\0" * 50},
        CSV,
    ),
    Case(
        "D24-parquet",
        3,
        ("is Parquet, not csv",),
        {**GOOD_CSV, "train.csv": b"PAR1" + b"\0" * 50},
        CSV,
    ),
    Case("D24-html", 3, ("is HTML, not jsonl",), {"train.jsonl": b"<!DOCTYPE html><p>Not found"}),
    Case(
        "D24-extension",
        3,
        ("format of the file is not known", ".jsonl"),
        {"train.txt": jsonl()},
        overrides=("data.train=train.txt",),
    ),
    Case(
        "D24-bad-parquet",
        3,
        ("train.parquet", "not readable as Parquet"),
        {"train.parquet": b"PAR1 no, it is not"},
        overrides=("data.train=train.parquet",),
    ),
    Case(
        "D25-gzip-cut",
        3,
        ("train.jsonl.gz", "cut off or damaged"),
        {"train.jsonl.gz": gzip.compress(jsonl())[:-20]},
        overrides=("data.train=train.jsonl.gz",),
    ),
    Case(
        "D25-bomb",
        3,
        ("expands more than 300 times",),
        {"train.jsonl.gz": bomb()},
        overrides=("data.train=train.jsonl.gz",),
    ),
    Case(
        "D25-not-gzip",
        3,
        ("is not gzip",),
        {"train.jsonl.gz": jsonl()},
        overrides=("data.train=train.jsonl.gz",),
    ),
    Case("D26-folder", 3, ("expected a file, found a folder",), prepare=a_folder),
    Case("D26-pipe", 3, ("expected a file, found a named pipe",), prepare=fifo),
    Case(
        "D26-device", 3, ("expected a file, found a device",), overrides=("data.train=/dev/zero",)
    ),
    Case("D26-loop", 3, ("train.jsonl", "symbolic links"), prepare=loop),
    Case("D26-socket", 3, ("found a socket",), prepare=a_socket),
    Case(
        "D26-missing",
        3,
        ("does not exist", "did you mean 'train.jsonl'?"),
        overrides=("data.train=tarin.jsonl",),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_said(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, tmp_path, monkeypatch)
