"""Writes every figure and picture of the documents from the raw results.

    python bench/table.py [--check]

The newest file of each name in `bench/results/` counts. With --check nothing is written, and the
exit code is 1 when a document is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import endpoint_table
import evaluation_table
import goals_table
import ladder_table
import memory_table
import profile_table
import race_table
import search_table
import technique_table
import training_table
from board_table import board, boards, lines, one
from claims_table import claims
from pictures import growth

BENCH = Path(__file__).resolve().parent
DOCUMENTS = (
    BENCH / "README.md",
    BENCH.parent / "README.md",
    BENCH.parent / "docs" / "boards.md",
    BENCH.parent / "docs" / "techniques.md",
)

Record = dict[str, Any]


def main() -> None:
    """Write the documents, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    results = newest(BENCH / "results")
    sections = {
        "goals": goals_table.goals(results),
        "glance": goals_table.glance(results),
        "ratios": training_table.short(results),
        "training": training_table.ratios(results),
        "gate": training_table.gates(results),
        "grid": training_table.grids(results),
        "profiles": profile_table.profiles(results),
        "growth": training_table.growth(results),
        "evaluation": evaluation_table.ratios(results),
        "evaluation_growth": evaluation_table.growth(results),
        "startup": startup(results),
        "coverage": coverage(results),
        "served": endpoint_table.served(results),
        "rough_endpoint": endpoint_table.rough(results.get("rough-endpoint", [])),
        "judge": judges(results.get("judge", [])),
        "memory": memory(results),
        "memory_expected": memory_table.expected(results.get("memory-estimates", [])),
        "ladder": ladder_table.ladders(results),
        "overhead": ladder_table.overheads(results),
        "prompt_search": search_table.simulated(results.get("prompt-search", [])),
        "prompt_gain": search_table.gained(results.get("prompt-gain", [])),
        "bad_start": bad_starts(results),
        "replays": race_table.replays(results.get("racing", [])),
        "race_worlds": race_table.worlds(results.get("racing", [])),
        "machine": machines(results),
        "board": board(results.get("board-hard_routing", [])),
        "boards": boards(results),
        "claims": claims(results),
        "techniques": technique_table.techniques(results.get("techniques", [])),
        "technique_files": technique_table.files(results.get("techniques", [])),
    }
    texts = {path: fill(path.read_text(encoding="utf-8"), sections) for path in DOCUMENTS}
    texts |= {
        BENCH.parent / "docs" / f"growth-{name.removeprefix('scaling-')}.svg": growth(records)
        for name, records in results.items()
        if name.startswith("scaling-")
    }
    texts |= {
        BENCH.parent / "docs" / f"growth-{name.removeprefix('evaluation-growth-')}.svg": growth(
            records, evaluation_table.SIDES, "a question"
        )
        for name, records in results.items()
        if name.startswith(evaluation_table.GROWTH)
    }
    texts |= {
        BENCH.parent / "docs" / f"{name}.svg": profile_table.picture(records)
        for name, records in results.items()
        if name.startswith(profile_table.PREFIX)
    }
    stale = []
    for path, new in texts.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != new:
            stale.append(path.relative_to(BENCH.parent).as_posix())
            if not check:
                path.write_text(new, encoding="utf-8")
    if check and stale:
        sys.exit(f"stale: {', '.join(stale)}; run python bench/table.py")


def newest(folder: Path) -> dict[str, list[Record]]:
    """Return the records of the newest file of each name, `YYYY-MM-DD-name.jsonl`."""
    files = {path.stem[11:]: path for path in sorted(folder.glob("????-??-??-*.jsonl"))}
    return {
        name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for name, path in sorted(files.items(), reverse=True)
    }


def fill(text: str, sections: dict[str, str]) -> str:
    """Replace what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    for name, section in sections.items():
        start, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        before, found, rest = text.partition(start)
        if found:
            text = before + start + section + end + rest.partition(end)[2]
    return text


def bad_starts(results: dict[str, list[Record]]) -> str:
    """Return where techniques end whose search starts far too high or too low."""
    parts: list[str] = []
    for name in sorted(name for name in results if name.startswith("bad-start-")):
        records = results[name]
        setup = one(records, "setup")
        budget = f"{setup['budget']:,} presentations" if setup["budget"] else "its own budget"
        parts += [
            f"`{setup['case']}`, seeds: {setup['seeds']}, {budget}:",
            "",
            "| technique | from its own rate | from x100 | from x1/100 |",
            "|---|---|---|---|",
        ]
        runs = {(r["technique"], f"{r['factor']:g}"): r for r in records if r["kind"] == "start"}
        for record in (r for r in records if r["kind"] == "technique"):
            technique, endings = record["technique"], record["endings"]
            good = runs[technique, "1"]
            cells = [f"{_scored(good)} [{good['low']:.3f}, {good['high']:.3f}]"]
            cells += [f"{_scored(runs[technique, f])}, {endings[f]}" for f in ("100", "0.01")]
            parts.append(f"| {technique} | {' | '.join(cells)} |")
        parts.append("")
    return lines(parts[:-1])


def _scored(run: Record) -> str:
    score = run["status"] if run["score"] is None else f"{run['score']:.3f}"
    return f"{score} at {run['learning_rate']:g}" if run["learning_rate"] else score


def judges(records: list[Record]) -> str:
    """Return what is known of each judge, and how it decided each kind of pair."""
    found = [r for r in records if r["kind"] == "judge"]
    if not found:
        return ""
    kinds = list(found[0]["by_kind"])
    heads = (
        "judge", "right, single verdicts", "kappa", "first answer", "same in both orders",
        "longer wins", "turned by an instruction", "less turned back", "by empty text",
    )  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for r in found:
        bias = r["bias"]
        doubt = " (cannot tell)" if r["cannot_tell"] else ""
        cells = [
            limits(r["right"]),
            limits(r["kappa"], unit=1) + doubt,
            limits(bias["first"]),
            limits(bias["consistent"]),
            limits(bias["longer"]),
            limits(r["turned"]),
            f"{100 * r['shift']['value']:.0f} %",
            limits(r["turned_by_length"]),
        ]
        rows.append(f"| {' | '.join([r['judge'], *cells])} |")
    rows += [
        "",
        f"Decided for the better answer in both orders, by what is wrong with the other "
        f"({found[0]['pairs']} pairs):",
        "",
        f"| judge | {' | '.join(kinds)} |",
        "|---|" + "--:|" * len(kinds),
        *(
            f"| {' | '.join([r['judge'], *(limits(r['by_kind'][kind]) for kind in kinds)])} |"
            for r in found
        ),
    ]
    return lines(rows)


def limits(value: Record | None, unit: int = 100) -> str:
    """Return a value with its 95 % limits, in percent or as it is; a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    shown = [
        f"{unit * value[name]:.{0 if unit == 100 else 2}f}" for name in ("value", "low", "high")
    ]
    return f"{shown[0]}{' %' if unit == 100 else ''} [{shown[1]}, {shown[2]}]"


def startup(results: dict[str, list[Record]]) -> str:
    """Return what each command takes before it has anything to do."""
    found = [r for r in results.get("startup", []) if r["kind"] == "startup"]
    rows = ["| command | CPU seconds | heavy libraries imported |", "|---|--:|---|"]
    for r in found:
        heavy = ", ".join(r["heavy_modules"]) or "none"
        rows.append(f"| `{r['command']}` | {r['cpu_seconds_median']:.2f} | {heavy} |")
    floor = f"the bare interpreter: {found[0]['python_cpu_seconds_median']:.2f}" if found else ""
    told = [f"Median of {found[0]['runs']}; {floor}."] if found else []
    return lines([*rows, "", *told]) if found else ""


def coverage(results: dict[str, list[Record]]) -> str:
    """Return how often the picked row's limits hold its true score, by kind of board."""
    found = [r for r in results.get("coverage", []) if r["kind"] == "world"]
    rows = [
        "| board | test rows | coverage | mean width | formerly | width | picking ignored | width "
        "| false claims | formerly |",
        "|---|" + "--:|" * 9,
    ]
    for r in found:
        limits = [
            f"{r[f'{rule}_coverage']:.1%} | {r[f'{rule}_width']:.3f}"
            for rule in ("present", "former", "plain")
        ]
        claims = [f"{r[f'{rule}_false_claims']:.1%}" for rule in ("present", "former")]
        rows.append(f"| {r['world']} | {r['n']} | {' | '.join([*limits, *claims])} |")
    return lines(rows) if found else ""


def memory(results: dict[str, list[Record]]) -> str:
    """Return the table of peak memory by chain of objectives."""
    rows = ["| base | chain | peak | to LoRA SFT |", "|---|---|--:|--:|"]
    for name in sorted(name for name in results if name.startswith("memory-")):
        rows += [
            f"| {r['shape']} | {r['chain']} | {r['peak'] / 1e6:,.0f} MB | {r['ratio']:.2f} |"
            for r in results[name]
            if r["kind"] == "memory"
        ]
    return lines(rows)


def machines(results: dict[str, list[Record]]) -> str:
    """Return one line for each result file: what it was measured on."""
    rows = []
    for name, records in results.items():
        line = one(records, "machine")
        versions = ", ".join(f"{k} {v}" for k, v in line["versions"].items() if v != "absent")
        probes = [r for r in records if r["kind"] == "pass"]
        rate = [p["probe_fp32_gflop_per_cpu_second"] for p in probes]
        commit = f"; commit {line['commit']}" if line.get("commit") else ""
        probe = f"; matmul probe {min(rate)}-{max(rate)} GFLOP a CPU second (fp32)" if rate else ""
        rows.append(
            f"- {name}: {line['cpu']}, {line['cores']} cores, {' '.join(line['flags'])}; "
            f"{versions}; load before {line['load_average_before']}: {line['note']}{probe}{commit}"
        )
    return lines(rows)


if __name__ == "__main__":
    main()
