"""Where a training's time goes by part: ranges around what torch.profiler cannot tell apart, and
the sum of its events by the nearest range.

An operation of the forward pass belongs to the range it runs in. One of the backward pass belongs
where the forward operation with the same sequence number ran, which is how autograd numbers a node
and the operation that made it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar
from unittest import mock

from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

MAPS = "linear maps and LoRA"
ATTENTION = "attention"
NORMS = "norms, rotation, gate"
HEAD = "output head and loss"
OPTIMIZER = "optimizer and clipping"
REST = "autograd and the rest"
PARTS = (MAPS, ATTENTION, NORMS, HEAD, OPTIMIZER, REST)

MARK: Final = "part: "
NODE: Final = "autograd::engine::evaluate_function: "
"""What torch.profiler calls the run of one node of the backward pass."""
BACKWARD: Final = 1
"""Its scope of a node's own function."""
STEP: Final = "Optimizer."
"""What begins the names that torch gives its optimizers' ranges."""
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BLOCKS = {"LlamaModel": REST, "LlamaAttention": ATTENTION, "LlamaMLP": NORMS, "LlamaRMSNorm": NORMS}
"""Classes of transformers; what runs in an attention outside its maps is attention, what runs in a
feed-forward outside its maps is the gate."""
NAMES = {**dict.fromkeys(LINEAR, MAPS), "lm_head": HEAD}
"""Last names of modules, on which PEFT's adapters stand as well."""
OWN = {
    "savile.train:_Loop._apply": OPTIMIZER,
    "savile.objectives.base_rows:FromRows.loss": HEAD,
    "savile.lm.model:LM.plan": REST,
    "savile.lm.attention:whole": ATTENTION,
    "savile.lm.model:chosen_logprobs": HEAD,
    "savile.lm.llama:Llama.over": REST,
    "savile.lm.llama:mapped": MAPS,
    "savile.lm.llama:norm": NORMS,
    "savile.lm.llama:rotate": NORMS,
    "savile.lm.llama:gated": NORMS,
    "transformers.models.llama.modeling_llama:apply_rotary_pos_emb": NORMS,
}
"""Functions of our side, each `module:Class.function` as it is looked up when it is called."""
PEER = {
    "trl:SFTTrainer.compute_loss": HEAD,
    "torch.nn.utils:clip_grad_norm_": OPTIMIZER,
    "transformers.models.llama.modeling_llama:apply_rotary_pos_emb": NORMS,
}


T = TypeVar("T")


class Timed(NamedTuple):
    """One event of the profiler."""

    part: str
    name: str
    seconds: float
    """Its own, on the wall."""


@contextlib.contextmanager
def functions(named: Mapping[str, str]) -> Iterator[None]:
    """Give functions a range of their part, inside the context."""
    with contextlib.ExitStack() as stack:
        for name, part in named.items():
            module, _, path = name.partition(":")
            *classes, function = path.split(".")
            owner: Any = importlib.import_module(module)
            for one in classes:
                owner = getattr(owner, one)
            original = getattr(owner, function)
            stack.enter_context(mock.patch.object(owner, function, ranged(part, original)))
        yield


def ranged(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs in a range of its part."""

    @functools.wraps(function)
    def run(*given: Any, **named: Any) -> Any:
        with record_function(MARK + part):
            return function(*given, **named)

    return run


@contextlib.contextmanager
def modules(model: nn.Module) -> Iterator[None]:
    """Give the modules of a Llama a range of their part, inside the context; what is hooked to a
    module counts as the module."""
    opened: list[record_function] = []
    handles = []

    def enter(part: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            opened.append(record_function(MARK + part))
            opened[-1].__enter__()  # type: ignore[no-untyped-call]

        return hook

    def leave(*_: Any) -> None:
        opened.pop().__exit__(None, None, None)

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if part := BLOCKS.get(type(module).__name__) or NAMES.get(last):
            handles.append(module.register_forward_pre_hook(enter(part), prepend=True))
            # A recomputation (gradient checkpointing) stops in the midst by an exception.
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def profiled(run: Callable[[], T]) -> tuple[T, list[Timed]]:
    """Run something under torch.profiler; return what it returns and the events inside ranges."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        result = run()
    return result, grouped(found.events())


def grouped(events: Iterable[Any]) -> list[Timed]:
    """Return the events inside ranges with their parts, in the order of their starts.

    Args:
        events: of torch.profiler, each with name, start, parent, own time, scope and sequence
            number.
    """
    ordered = sorted(events, key=lambda event: event.time_range.start)
    made = {  # the last operation before a node is made has the node's number
        event.sequence_nr: event
        for event in ordered
        if event.sequence_nr >= 0 and event.scope != BACKWARD and not event.name.startswith(NODE)
    }
    parts: dict[int, str | None] = {}
    return [
        Timed(part, event.name, 1e-6 * event.self_cpu_time_total)
        for event in ordered
        if (part := _part(event, made, parts))
    ]


def by_part(events: Iterable[Timed]) -> dict[str, float]:
    """Return the seconds of every part."""
    seconds = dict.fromkeys(PARTS, 0.0)
    for event in events:
        seconds[event.part] += event.seconds
    return seconds


def _part(event: Any, made: Mapping[int, Any], parts: dict[int, str | None]) -> str | None:
    """Return the part of an event: its own range, else that of the operation that made its node,
    else that of the event around it; None outside all ranges."""
    if id(event) not in parts:
        part = None
        if event.name.startswith(MARK):
            part = event.name.removeprefix(MARK)
        elif event.name.startswith(STEP):
            part = OPTIMIZER
        elif event.name.startswith(NODE) and event.sequence_nr in made:
            part = _part(made[event.sequence_nr], made, parts)
        if part is None and event.cpu_parent is not None:
            part = _part(event.cpu_parent, made, parts)
        parts[id(event)] = part
    return parts[id(event)]
