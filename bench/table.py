"""Writes every figure of `bench/README.md` and of the README's speed section from the raw results.

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

import search_table
import technique_table
from board_table import board, boards, lines, one
from claims_table import claims

BENCH = Path(__file__).resolve().parent
DOCUMENTS = (
    BENCH / "README.md",
    BENCH.parent / "README.md",
    BENCH.parent / "docs" / "boards.md",
    BENCH.parent / "docs" / "techniques.md",
)
CASES = {"short": "a short instruction", "labels": "an instruction that names all 77 intents"}

Record = dict[str, Any]


def main() -> None:
    """Write the documents, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    results = newest(BENCH / "results")
    sections = {
        "ratios": ratios(results),
        "gate": gates(results),
        "grid": grids(results),
        "startup": startup(results),
        "coverage": coverage(results),
        "served": served(results),
        "judge": judges(results.get("judge", [])),
        "memory": memory(results),
        "prompt_search": search_table.simulated(results.get("prompt-search", [])),
        "prompt_gain": search_table.gained(results.get("prompt-gain", [])),
        "bad_start": bad_starts(results),
        "machine": machines(results),
        "board": board(results.get("board-hard_routing", [])),
        "boards": boards(results),
        "claims": claims(results),
        "techniques": technique_table.techniques(results.get("techniques", [])),
        "technique_files": technique_table.files(results.get("techniques", [])),
    }
    stale = []
    for path in DOCUMENTS:
        old = path.read_text(encoding="utf-8")
        new = fill(old, sections)
        if new != old:
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


def ratios(results: dict[str, list[Record]]) -> str:
    """Return the table of rates: real tokens a CPU second, and how many times the peer's."""
    rows = [
        "| prompt | Savile | TRL + PEFT as shipped | TRL + PEFT at its best "
        "| times shipped | times best |",
        "|---|---|---|---|---|---|",
    ]
    for records in speed(results):
        setup, result = one(records, "setup"), one(records, "summary")
        rows.append(
            f"| {CASES[setup['case']]}, {mean_tokens(setup)} tokens a row "
            f"| {result['ours_tokens_per_cpu_second']:,.0f} "
            f"| {result['shipped_tokens_per_cpu_second']:,.0f} "
            f"| {result['best_tokens_per_cpu_second']:,.0f} ({result['best_option']}) "
            f"| {span(result['ratio_to_shipped'])} | **{span(result['ratio_to_best'])}** |"
        )
    return lines(rows)


def gates(results: dict[str, list[Record]]) -> str:
    """Return the table of the equality gate."""
    rows = [
        "| prompt | loss of step 1, ours and theirs | relative difference "
        "| gradient norm, ours and theirs | relative difference, worst tensor "
        "| relative difference of the loss curve, worst step |",
        "|---|---|---|---|---|---|",
    ]
    for records in speed(results):
        gate = one(records, "gate")
        losses, norms = gate["first_loss"], gate["gradient_norm"]
        rows.append(
            f"| {one(records, 'setup')['case']} | {losses[0]:.6f}, {losses[1]:.6f} "
            f"| {gate['first_loss_relative']:.1e} | {norms[0]:.4f}, {norms[1]:.4f} "
            f"| {gate['gradient_relative_worst_tensor']:.1e} ({gate['tensors']} tensors) "
            f"| {gate['curve_relative_worst_step']:.1e} ({gate['curve_steps']} steps) |"
        )
    return lines(rows)


def grids(results: dict[str, list[Record]]) -> str:
    """Return what each of the peer's options reached in one pass, by case."""
    parts = []
    for records in speed(results):
        parts += [
            f"Prompt with {CASES[one(records, 'setup')['case']]}:",
            "",
            "| option of the peer | real tokens a CPU second |",
            "|---|---|",
        ]
        tried = [r for r in records if r["kind"] == "grid"]
        for r in sorted(tried, key=lambda r: -r["tokens_per_cpu_second"]):
            parts.append(f"| {r['option']} | {r['tokens_per_cpu_second']:,.0f} |")
        parts.append("")
    return lines(parts[:-1])


def served(results: dict[str, list[Record]]) -> str:
    """Return the table of answers through our own loading and through an independent server."""
    rows = [
        "| case | technique | same answers | same prompt tokens | score, ours and served "
        "| median request, ours and served |",
        "|---|---|--:|--:|---|---|",
    ]
    for name in sorted(name for name in results if name.startswith("served-")):
        record = one(results[name], "served")
        for found in record["techniques"]:
            scores = " ".join(f"{score:.3f}" for score in found["scores"])
            seconds = " ".join(f"{1000 * s:.0f} ms" for s in found["latency_p50_seconds"])
            n = found["rows"]
            rows.append(
                f"| {record['case']} | {found['technique']} | {found['same_answers']} of {n} "
                f"| {found['same_prompt_tokens']} of {n} | {scores} | {seconds} |"
            )
    return lines(rows)


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
    """Return the sentence about the start-up."""
    if "startup" not in results:
        return ""
    record = one(results["startup"], "startup")
    heavy = ", ".join(record["heavy_modules"]) or "none"
    return lines(
        [
            f"`{record['command']}`: {record['cpu_seconds_median']:.2f} CPU seconds, median of "
            f"{record['runs']} (the bare interpreter: {record['python_cpu_seconds_median']:.2f}). "
            f"Heavy libraries imported: {heavy}."
        ]
    )


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
        probe = f"; matmul probe {min(rate)}-{max(rate)} GFLOP a CPU second (fp32)" if rate else ""
        rows.append(
            f"- {name}: {line['cpu']}, {line['cores']} cores, {' '.join(line['flags'])}; "
            f"{versions}; load before {line['load_average_before']}: {line['note']}{probe}"
        )
    return lines(rows)


def speed(results: dict[str, list[Record]]) -> list[list[Record]]:
    """Return the records of every speed comparison."""
    return [records for name, records in results.items() if name.startswith("lora-sft")]


def mean_tokens(setup: Record) -> int:
    """Return the mean length of a row in tokens."""
    mean: float = setup["tokens"] / setup["rows"]
    return round(mean)


def span(ratio: list[float]) -> str:
    """Return a median with its range over blocks."""
    return f"{ratio[0]:.1f} ({ratio[1]:.1f}-{ratio[2]:.1f})"


if __name__ == "__main__":
    main()
