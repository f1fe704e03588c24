"""Pretrain the embedded base model on CPU: `python pretraining/train.py --size small`.

Documents are drawn on the fly; the draw of a step depends only on the seed and the step, so a run
that is interrupted and resumed sees the same documents. Learning rate: warm-up, constant, linear
decay to zero, all in tokens. Checkpoints are safetensors: weights and AdamW moments.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import torch
from batches import BATCH_TOKENS, PARTS, draw_batch, draw_blur
from model import Model, Shape, seed_heads, to_hugging_face
from probe_documents import build_probes, run_probes
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizer import (
    BOS,
    END,
    PAD,
    VOCABULARY,
    DocumentEncoder,
    as_hugging_face,
    build_tokenizer,
)
from torch import distributed

MILLION = 1_000_000
HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What is trained for how long; all lengths in millions of tokens."""

    shape: Shape
    learning_rate: float
    total: float
    decay_from: float
    length_256_from: float
    length_512_from: float
    curriculum: float = 2.0
    warmup: float = 0.1

    def rate_at(self, tokens: int) -> float:
        """Learning rate after this many tokens."""
        seen = tokens / MILLION
        decay = (self.total - seen) / max(self.total - self.decay_from, 1e-9)
        return self.learning_rate * min(1.0, (seen + 0.002) / self.warmup, max(decay, 0.0))

    def length_at(self, tokens: int) -> int:
        """Context length of a batch after this many tokens."""
        seen = tokens / MILLION
        return 512 if seen >= self.length_512_from else 256 if seen >= self.length_256_from else 128


SCHEDULES = {
    "small": Schedule(
        shape=Shape(vocabulary=VOCABULARY, width=128, layers=4, feed_forward=384),
        learning_rate=3e-3,
        total=21.4,
        decay_from=7.0,
        length_256_from=7.5,
        length_512_from=21.25,
    ),
    "large": Schedule(
        shape=Shape(vocabulary=VOCABULARY, width=256, layers=5, feed_forward=640),
        learning_rate=7e-4,  # the start is the trained small model, see `grow.py`
        total=0.9,
        decay_from=0.1,
        length_256_from=0.0,
        length_512_from=0.85,
        curriculum=0.0,
    ),
}


def make_optimizer(model: Model, rate: float) -> torch.optim.AdamW:
    """AdamW with weight decay on the matrices of the blocks only."""
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def save_checkpoint(
    path: Path, model: Model, optimizer: torch.optim.AdamW, step: int, tokens: int
) -> None:
    """Write weights, moments and counters, replacing the last checkpoint at once."""
    tensors = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        tensors[f"weight/{name}"] = parameter.detach().clone()
        for key in ("exp_avg", "exp_avg_sq"):
            if key in state:
                tensors[f"{key}/{name}"] = state[key].clone()
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"step": str(step), "tokens": str(tokens)})
    part.replace(path)


def load_checkpoint(path: Path, model: Model, optimizer: torch.optim.AdamW) -> tuple[int, int]:
    """Restore weights and moments; return step and tokens."""
    with safe_open(path, "pt") as file:
        meta, names = file.metadata(), set(file.keys())
        step, tokens = int(meta["step"]), int(meta["tokens"])
        for name, parameter in model.named_parameters():
            parameter.data.copy_(file.get_tensor(f"weight/{name}"))
            if f"exp_avg/{name}" in names:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": file.get_tensor(f"exp_avg/{name}"),
                    "exp_avg_sq": file.get_tensor(f"exp_avg_sq/{name}"),
                }
    return step, tokens


def publish(size: str, model: Model, run: Path, folder: Path) -> None:
    """Save model (bfloat16) and tokenizer as ordinary Hugging Face files; log what they are."""
    target = to_hugging_face(model, pad=PAD, bos=BOS, eos=END).to(torch.bfloat16)
    target.save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    as_hugging_face(build_tokenizer()).save_pretrained(folder)
    log = HERE / "log"
    log.mkdir(exist_ok=True)
    shutil.copy(run / "log.jsonl", log / f"{size}.jsonl")
    with safe_open(run / "checkpoint.safetensors", "pt") as file:
        tokens = int(file.metadata()["tokens"])
    path = log / "checkpoints.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[size] = {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "bytes": weights.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": tokens,
    }
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def share_gradients(model: Model) -> None:
    """Sum the gradients of both processes."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def train(
    size: str, schedule: Schedule, seed: int, run: Path, probe_every: float, rank: int | None
) -> Model:
    """Train from the last checkpoint in `run`, or from the seeded start.

    With `rank` None this process draws all parts of a batch, otherwise only its own part.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model = Model(schedule.shape)
    seed_heads(model)
    optimizer = make_optimizer(model, schedule.learning_rate)
    encoder, probes = DocumentEncoder(build_tokenizer()), build_probes()
    run.mkdir(parents=True, exist_ok=True)
    step = tokens = 0
    checkpoint = run / "checkpoint.safetensors"
    if checkpoint.exists():
        step, tokens = load_checkpoint(checkpoint, model, optimizer)
    n_parameters = sum(p.numel() for p in model.parameters())

    def note(record: dict[str, object]) -> None:
        if not rank:
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")

    note({"size": size, "parameters": n_parameters, "tokens": tokens, "schedule": asdict(schedule)})
    began, began_tokens, average = time.time(), tokens, 0.0
    next_probe, next_save = tokens + probe_every * MILLION, tokens + MILLION // 2
    while tokens < schedule.total * MILLION:
        curriculum = 0.7 * max(0.0, 1 - tokens / max(schedule.curriculum * MILLION, 1))
        for part in range(PARTS) if rank is None else [rank]:
            rng = Random(f"{seed} {step} {part}")
            batch = draw_batch(encoder, rng, schedule.length_at(tokens), curriculum)
            blur = draw_blur(batch, model.embedding.weight, PARTS * step + part)
            # float32: 1.35 times as fast here as bfloat16 autocast (no AMX)
            loss = model.loss(batch.ids, batch.targets, batch.weights, blur) / PARTS
            loss.backward()
        if rank is not None:
            share_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(tokens)
        optimizer.step()
        optimizer.zero_grad()
        step, tokens = step + 1, tokens + BATCH_TOKENS
        latest = PARTS * loss.item()
        average = 0.98 * average + 0.02 * latest if average else latest
        if rank:
            continue
        if tokens >= next_probe or tokens >= schedule.total * MILLION:
            seconds = time.time() - began
            record = {"step": step, "tokens": tokens, "loss": round(average, 4)}
            record |= {"seconds": round(seconds), "rate": round((tokens - began_tokens) / seconds)}
            note(record | run_probes(model, encoder, probes))
            next_probe += probe_every * MILLION
        if tokens >= next_save:
            save_checkpoint(checkpoint, model, optimizer, step, tokens)
            next_save += MILLION // 2
    if not rank:
        save_checkpoint(checkpoint, model, optimizer, step, tokens)
    return model


def main() -> None:
    """Train one size and export it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SCHEDULES), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=None, help="folder of checkpoint and log")
    parser.add_argument("--out", type=Path, default=None, help="folder of the exported model")
    parser.add_argument("--total", type=float, help="millions of tokens")
    parser.add_argument("--decay-from", type=float, help="millions of tokens")
    parser.add_argument("--probe-every", type=float, default=1.0, help="millions of tokens")
    parser.add_argument("--rank", type=int, choices=range(PARTS), help="one of two processes")
    parser.add_argument("--export-only", action="store_true", help="export the last checkpoint")
    options = parser.parse_args()
    schedule = SCHEDULES[options.size]
    if options.total:
        schedule = replace(schedule, total=options.total)
    if options.decay_from:
        schedule = replace(schedule, decay_from=options.decay_from)
    run = options.run or HERE.parent / "runs" / f"pretraining-{options.size}"
    out = options.out or HERE.parent / "src" / "savile" / "embedded" / options.size
    if options.export_only:
        model = Model(schedule.shape)
        load_checkpoint(run / "checkpoint.safetensors", model, make_optimizer(model, 0.0))
        publish(options.size, model, run, out)
        return
    if options.rank is not None:
        meeting = (run / "meeting").absolute()
        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=options.rank, world_size=PARTS
        )
    model = train(options.size, schedule, options.seed, run, options.probe_every, options.rank)
    if not options.rank:
        publish(options.size, model, run, out)


if __name__ == "__main__":
    main()
