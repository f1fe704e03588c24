"""Evaluate exported models on the business cases with plain transformers; write the figures.

`python pretraining/probe.py --size small` measures zero-shot and few-shot prompting over several
draws of demonstrations, and with `--tune` LoRA and full fine-tuning. A closed set is
answered by the label with the highest total log-likelihood of its tokens and `<|end|>`.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import time
from pathlib import Path
from statistics import mean

import torch
from cases import FOLDER
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from tune import TUNERS, tune

from savile.metrics.phrase_f1 import phrase_f1

HERE = Path(__file__).parent
Row = dict[str, str]
Model = torch.nn.Module
TRIGGER, MARKER = "think step by step", "answer"


def load_case(name: str) -> tuple[str, list[str], dict[str, list[Row]]]:
    """Opening words, labels and rows of a case, read from its task file."""
    text = (FOLDER / name / "task.yaml").read_text()
    system = re.findall(r"^  (?:instruction|system): (.*)$", text, re.MULTILINE)[0]
    labels = text.split("  labels: [")[1].split("]")[0].split(", ") if "labels" in text else []
    splits = ("train", "dev", "test")
    rows = {
        s: [json.loads(r) for r in (FOLDER / name / f"{s}.jsonl").read_text().splitlines()]
        for s in splits
    }
    return system, labels, rows


class Prompter:
    """Renders messages to ids exactly like the chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, system: str, by_steps: bool) -> None:
        self.tokenizer, self.system, self.by_steps = tokenizer, system, by_steps
        opening = [{"role": "system", "content": system}]
        self.head = len(tokenizer.apply_chat_template(opening, tokenize=True, return_dict=False))

    def user(self, row: Row) -> str:
        """The user message."""
        return row["input"] + (f"\n{TRIGGER}" if self.by_steps else "")

    def target(self, row: Row) -> str:
        """The assistant message."""
        if self.by_steps:
            return f"{row['rationale']} {MARKER} {row['output']}"
        return row["output"]

    def ids(self, row: Row, shots: list[Row], answer: str | None = None) -> list[int]:
        """Ids of the prompt, or of prompt and answer."""
        messages = [{"role": "system", "content": self.system}]
        for shot in shots:
            messages.append({"role": "user", "content": self.user(shot)})
            messages.append({"role": "assistant", "content": self.target(shot)})
        messages.append({"role": "user", "content": self.user(row)})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        return self.tokenizer.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=answer is None, return_dict=False
        )


def pad_rows(
    rows: list[list[int]], pad: int, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad to the longest row; return ids and attention mask."""
    longest = max(map(len, rows))
    ids = [[pad] * (longest - len(r)) + r if left else r + [pad] * (longest - len(r)) for r in rows]
    masks = [
        [0] * (longest - len(r)) + [1] * len(r) if left else [1] * len(r) + [0] * (longest - len(r))
        for r in rows
    ]
    return torch.tensor(ids), torch.tensor(masks)


@torch.no_grad()
def choose(
    model: Model, prompter: Prompter, labels: list[str], rows: list[Row], shots: list[Row]
) -> list[str]:
    """Pick the most likely label for each row; system text and demonstrations are read once."""
    prefix = prompter.ids(rows[0], shots)
    prefix = prefix[: len(prefix) - len(prompter.ids(rows[0], [])) + prompter.head]
    cache = model(input_ids=torch.tensor([prefix]), use_cache=True).past_key_values
    chosen = []
    for begin in range(0, len(rows), 50):
        chunk = rows[begin : begin + 50]
        prompts = [prompter.ids(row, [])[prompter.head :] for row in chunk]
        wholes = [
            prompter.ids(row, [], label)[prompter.head :] for row in chunk for label in labels
        ]
        ids, mask = pad_rows(wholes, prompter.tokenizer.pad_token_id, left=True)
        places = len(prefix) + (mask.cumsum(1) - 1).clamp(min=0)
        mask = torch.cat([torch.ones(len(wholes), len(prefix), dtype=mask.dtype), mask], 1)
        past = copy.deepcopy(cache)
        past.batch_repeat_interleave(len(wholes))
        kept = 1 + max(len(w) for w in wholes) - min(len(p) for p in prompts)
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            past_key_values=past,
            logits_to_keep=kept,
        )
        logs = log_softmax(out.logits, -1)
        scores = []
        for index, tokens in enumerate(wholes):
            answer = tokens[len(prompts[index // len(labels)]) :]
            picked = logs[index, -len(answer) - 1 : -1]
            scores.append(float(picked.gather(1, torch.tensor(answer)[:, None]).sum()))
        for index in range(len(chunk)):
            mine = scores[index * len(labels) : (index + 1) * len(labels)]
            chosen.append(labels[mine.index(max(mine))])
    return chosen


@torch.no_grad()
def write(
    model: Model, prompter: Prompter, rows: list[Row], shots: list[Row], most: int
) -> list[str]:
    """Greedy answers, 50 rows at a time."""
    texts, tokenizer = [], prompter.tokenizer
    for begin in range(0, len(rows), 50):
        prompts = [prompter.ids(row, shots) for row in rows[begin : begin + 50]]
        ids, mask = pad_rows(prompts, tokenizer.pad_token_id, left=True)
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts += tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def score(texts: list[str], rows: list[Row], metric: str) -> float:
    """Mean of the metric: accuracy, numeric (last number after the marker) or phrase_f1."""
    if metric == "phrase_f1":
        return mean(phrase_f1(t, r["output"]) for t, r in zip(texts, rows, strict=True))
    if metric == "numeric":
        texts = [text.split(MARKER)[-1].strip() for text in texts]
    return mean(float(t == r["output"]) for t, r in zip(texts, rows, strict=True))


def evaluate(
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    name: str,
    shots: int,
    seed: int,
    rows: list[Row],
    by_steps: bool,
) -> float:
    """Score a model on rows of a case with demonstrations drawn by the seed."""
    system, labels, data = load_case(name)
    prompter = Prompter(tokenizer, system, by_steps)
    demos = random.Random(seed).sample(data["train"], shots)
    if labels:
        return score(choose(model, prompter, labels, rows, demos), rows, "accuracy")
    metric = "phrase_f1" if name == "brand_voice" else "numeric"
    most = 64 if by_steps or metric == "phrase_f1" else 6
    return score(write(model, prompter, rows, demos, most), rows, metric)


# case: (shots, by_steps)
LADDERS: dict[str, list[tuple[int, bool]]] = {
    "hard_routing": [(k, False) for k in (0, 1, 4, 8, 16)],
    "easy_routing": [(k, False) for k in (0, 1, 4, 8, 16)],
    "refund_arithmetic": [(k, steps) for steps in (False, True) for k in (0, 1, 4)],
    "brand_voice": [(0, False), (1, False), (4, False)],
}
TUNED: dict[str, list[tuple[int, bool]]] = {
    "hard_routing": [(32, False), (128, False), (512, False)],
    "easy_routing": [(32, False)],
    "refund_arithmetic": [(256, False), (256, True)],
    "brand_voice": [(256, False)],
}


def main() -> None:
    """Measure one size and merge the figures into `log/figures.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small")
    parser.add_argument("--model", type=Path, help="model folder; default: the shipped one")
    parser.add_argument("--cases", nargs="+", default=list(LADDERS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--no-prompting", action="store_true")
    parser.add_argument("--figures", type=Path, default=HERE / "log" / "figures.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.model or FOLDER.parent / options.size
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    figures = json.loads(options.figures.read_text()) if options.figures.exists() else {}
    mine = figures.setdefault(options.size, {})

    def note(case: str, rung: str, values: list[float], began: float) -> None:
        spread = {"mean": round(mean(values), 4), "runs": [round(v, 4) for v in values]}
        mine.setdefault(case, {})[rung] = spread | {"seconds": round(time.time() - began, 1)}
        print(case, rung, mine[case][rung], flush=True)
        options.figures.write_text(json.dumps(figures, indent=1) + "\n")

    for name in options.cases:
        system, _, data = load_case(name)
        rows = data["test"][: options.rows]
        for shots, by_steps in [] if options.no_prompting else LADDERS[name]:
            began = time.time()
            seeds = range(options.seeds if shots else 1)
            values = [evaluate(model, tokenizer, name, shots, s, rows, by_steps) for s in seeds]
            note(name, f"{shots} shots" + (", steps" if by_steps else ""), values, began)
        for method in TUNERS if options.tune else []:
            for n, by_steps in TUNED[name]:
                began = time.time()
                prompter = Prompter(tokenizer, system, by_steps)
                train = [
                    (prompter.ids(r, []), prompter.ids(r, [], prompter.target(r)))
                    for r in data["train"][:n]
                ]
                tuned = tune(folder, method, train, seed=0)
                value = evaluate(tuned, tokenizer, name, 0, 0, rows, by_steps)
                note(name, f"{method}, n={n}" + (", steps" if by_steps else ""), [value], began)


if __name__ == "__main__":
    main()
