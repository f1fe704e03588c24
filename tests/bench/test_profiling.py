"""The profiles: every event belongs to one part, backward passes to what they are the backward pass
of; tables and pictures say the figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import LlamaConfig, LlamaForCausalLM

import profile_table
import profiles
import profiling
from machine import Clock
from profiling import ATTENTION, HEAD, MAPS, MARK, NODE, NORMS, OPTIMIZER, REST, Timed


def event(name: str, start: float, own: float, **more: Any) -> Any:
    told = {"sequence_nr": -1, "scope": 0, "cpu_parent": None, **more}
    range_ = SimpleNamespace(start=start)
    return SimpleNamespace(name=name, time_range=range_, self_cpu_time_total=own, **told)


def microseconds(events: list[Timed]) -> dict[str, int]:
    return {name: round(1e6 * s) for name, s in profiling.by_part(events).items() if s}


def test_time_belongs_to_the_nearest_range_and_nothing_is_counted_outside() -> None:
    whole = event(MARK + REST, 1, 10)
    maps = event(MARK + MAPS, 2, 20, cpu_parent=whole)
    product = event("aten::mm", 3, 300, cpu_parent=maps)
    step = event("Optimizer.step#AdamW.step", 4, 4000, cpu_parent=whole)
    spent = profiling.grouped([step, product, event("before", 0, 5), maps, whole])
    assert microseconds(spent) == {REST: 10, MAPS: 320, OPTIMIZER: 4000}
    assert [one.name for one in spent] == [MARK + REST, MARK + MAPS, "aten::mm", step.name]


def test_a_node_belongs_where_the_last_operation_with_its_number_ran() -> None:
    whole = event(MARK + REST, 1, 0)
    maps = event(MARK + MAPS, 2, 0, cpu_parent=whole)
    norms = event(MARK + NORMS, 4, 0, cpu_parent=whole)
    looked = event("aten::view", 3, 0, cpu_parent=maps, sequence_nr=7)  # it made no node
    made = event("aten::mul", 5, 0, cpu_parent=norms, sequence_nr=7)
    run = event(NODE + "MulBackward0", 6, 10, cpu_parent=whole, sequence_nr=7)
    node = event("MulBackward0", 7, 20, cpu_parent=run, sequence_nr=7, scope=profiling.BACKWARD)
    inside = event("aten::mul", 8, 300, cpu_parent=node)
    kept = event(NODE + "AccumulateGrad", 9, 4000, cpu_parent=whole)
    spent = profiling.grouped([whole, maps, norms, looked, made, run, node, inside, kept])
    assert microseconds(spent) == {NORMS: 330, REST: 4000}


def test_the_profiler_numbers_operations_and_nodes_alike() -> None:
    weight, x = torch.randn(64, 64, requires_grad=True), torch.randn(64, 64)
    with profile(activities=[ProfilerActivity.CPU]) as found, record_function(MARK + REST):
        with record_function(MARK + MAPS):
            y = functional.linear(x, weight)
        with record_function(MARK + HEAD):
            loss = y.exp().sum()
        with record_function(MARK + ATTENTION):
            loss.backward()
    events = found.events()
    made = {name: profiling.grouped(_below(events, f"{NODE}{name}")) for name in (
        "ExpBackward0", "MmBackward0", "torch::autograd::AccumulateGrad",
    )}  # fmt: skip
    parts = {name: list({one.part for one in spent if one.seconds}) for name, spent in made.items()}
    assert parts == {
        "ExpBackward0": [HEAD],
        "MmBackward0": [MAPS],
        "torch::autograd::AccumulateGrad": [ATTENTION],
    }


def _below(events: Any, name: str) -> list[Any]:
    """Return all forward events, without their time, and the nodes of one name with it."""

    def inside(one: Any) -> bool:
        return one is not None and (one.name == name or inside(one.cpu_parent))

    copies: dict[int, Any] = {}

    def copied(one: Any) -> Any:
        if one is not None and id(one) not in copies:
            copies[id(one)] = event(
                one.name, one.time_range.start, one.self_cpu_time_total * inside(one),
                sequence_nr=one.sequence_nr, scope=one.scope, cpu_parent=copied(one.cpu_parent),
            )  # fmt: skip
        return copies.get(id(one))

    return [copied(one) for one in events]


@pytest.fixture
def llama() -> nn.Module:
    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=50, max_position_embeddings=32,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_modules_of_a_llama_have_ranges_that_close(llama: nn.Module) -> None:
    with profiling.modules(llama):
        run = profiling.ranged(
            REST, lambda: llama(torch.tensor([[1, 2, 3]])).logits.sum().backward()
        )
        _, spent = profiling.profiled(run)
    assert not any(module._forward_hooks for module in llama.modules())
    assert {one.part for one in spent} == {MAPS, ATTENTION, NORMS, HEAD, REST}


def test_a_range_closes_where_a_module_fails(llama: nn.Module) -> None:
    with profiling.modules(llama), profile(activities=[ProfilerActivity.CPU]) as found:
        with pytest.raises(IndexError), record_function(MARK + REST):
            llama(torch.tensor([[99]]))
        torch.ones(3)
    last = max(found.events(), key=lambda one: one.time_range.start)
    assert last.cpu_parent is None or last.cpu_parent.cpu_parent is None
    assert profiling.grouped([last]) == []


def test_every_function_that_gets_a_range_exists_and_comes_back() -> None:
    from savile.lm import llama as own

    before = own.mapped
    with profiling.functions(profiling.OWN):
        assert own.mapped is not before
    assert own.mapped is before


def test_the_quietest_passes_count_and_no_more_are_made_than_it_takes() -> None:
    def passes(*walls: float) -> list[str]:
        left = iter([(Clock(1.0, wall), f"{wall:g}") for wall in walls])
        return [name for _, name in profiles.quiet(lambda: next(left))]

    assert passes(1.01, 3.0, 1.0, 1.04, 1.0) == ["1", "1.01", "1.04"]
    assert passes(9.0, 2.0, 3.0, 1.2, 1.01, 1.0) == ["1.01", "1.2", "2"]


def records() -> list[dict[str, Any]]:
    setup = {"kind": "setup", "title": "LoRA SFT", "shape": "5M", "batch_size": 16}

    def side(name: str, maps: float, norms: float) -> dict[str, Any]:
        return {
            "kind": "profile", "side": name, "parts": {MAPS: maps, NORMS: norms},
            "step_seconds": maps + norms, "profiled_step_cpu_seconds": 1.1 * (maps + norms),
            "wall_to_cpu": 1.02,
            "events_a_step": 1234, "share_of_peak": 0.25,
        }  # fmt: skip

    return [setup, side("after", 0.3, 0.1), side("before", 0.4, 0.4)]


def test_the_table_has_a_column_a_side_and_says_what_the_profiler_adds() -> None:
    shown = profile_table.profiles({"profile-lora-long-5M": records(), "startup": []})
    rows = shown.splitlines()
    assert rows[0] == "LoRA SFT, 5M: CPU milliseconds of a step of 16 rows."
    assert rows[2] == "| part | before: over transformers' modules | after: the own pass |"
    assert rows[4:11] == [
        f"| {MAPS} | 400 (50%) | 300 (75%) |",
        f"| {NORMS} | 400 (50%) | 100 (25%) |",
        "| **a step without the profiler** | **800** | **400** |",
        "| with it | 1.10 times | 1.10 times |",
        "| waited | 1.02 times | 1.02 times |",
        "| operations and ranges | 1,234 | 1,234 |",
        "| useful FLOP of the matmul peak | 25% | 25% |",
    ]
    assert "docs/profile-lora-long-5M.svg" in shown
    assert profile_table.profiles({}) == ""


def test_the_picture_has_bars_in_proportion_and_says_its_figures() -> None:
    drawn = profile_table.picture(records())
    root = ElementTree.fromstring(drawn)  # noqa: S314 - drawn a line above
    space = "{http://www.w3.org/2000/svg}"
    bars = [r for r in root.findall(f"{space}rect") if r.get("height") == str(profile_table.BAR)]
    wide = [float(bar.get("width", "")) for bar in bars]
    assert wide == pytest.approx([wide[0] * part for part in (1, 1, 0.75, 0.25)], abs=0.1)
    assert sum(wide[:2]) == pytest.approx(profile_table.WIDTH - 2 * profile_table.LEFT, abs=0.2)
    description = root.find(f"{space}desc")
    assert description is not None
    assert "after: the own pass: linear maps and LoRA 300 ms" in (description.text or "")
