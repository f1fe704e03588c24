"""Write the figures of `log/` into `README.md`, between its two markers."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
SKILLS = ["covered_held_out", "covered_seen", "easy_10+", "hard_10+", "attributes"]
SKILLS += [f"{mode}_{n}" for mode in ("steps", "direct") for n in (1, 2, 3, 4)]


def percent(value: float) -> str:
    """A share without its leading zero."""
    return f"{value:.3f}".removeprefix("0")


def training_table(size: str) -> list[str]:
    """Skills by tokens seen, about eight rows."""
    records = [
        json.loads(line) for line in (HERE / "log" / f"{size}.jsonl").read_text().splitlines()
    ]
    probes = [record for record in records if "covered_seen" in record]
    stride = max(len(probes) // 8, 1)
    shown = [*probes[stride - 1 : -1 : stride], probes[-1]]
    lines = ["| tokens | loss | " + " | ".join(SKILLS) + " |", "|---" * (len(SKILLS) + 2) + "|"]
    for record in shown:
        cells = [percent(record[skill]) for skill in SKILLS]
        tokens = f"{record['tokens'] / 1e6:.1f} M"
        lines.append(f"| {tokens} | {record['loss']} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Rewrite the part of the README between the markers."""
    checkpoints = json.loads((HERE / "log" / "checkpoints.json").read_text())
    figures = json.loads((HERE / "log" / "figures.json").read_text())
    lines = ["| size | parameters | bytes | tokens | sha256 |", "|---|---|---|---|---|"]
    for size, facts in sorted(checkpoints.items(), reverse=True):
        lines.append(
            f"| {size} | {facts['parameters']:,} | {facts['bytes']:,} "
            f"| {facts['tokens'] / 1e6:.1f} M | `{facts['sha256'][:16]}...` |"
        )
    sizes = [size for size in ("small", "large") if size in figures]
    for case in figures[sizes[0]]:
        lines += ["", f"`{case}` (test split)", "", "| rung | " + " | ".join(sizes) + " |"]
        lines.append("|---" * (len(sizes) + 1) + "|")
        for rung in figures[sizes[0]][case]:
            cells = []
            for size in sizes:
                entry = figures[size].get(case, {}).get(rung)
                text = percent(entry["mean"]) if entry else ""
                if entry and len(entry["runs"]) > 1:
                    text += f" ({percent(min(entry['runs']))}-{percent(max(entry['runs']))})"
                cells.append(text)
            lines.append(f"| {rung} | {' | '.join(cells)} |")
    for size in sizes:
        lines += ["", f"Skills during training, {size}:", "", *training_table(size)]
    readme = (HERE / "README.md").read_text()
    head, rest = readme.split(BEGIN)
    tail = rest.split(END)[1]
    (HERE / "README.md").write_text("\n".join([head + BEGIN, "", *lines, "", END]) + tail)


if __name__ == "__main__":
    main()
