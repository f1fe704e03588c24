"""What does not fit is trained in smaller trees, then with layers computed twice, or not run; what
runs out of memory all the same starts again with smaller trees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from savile import spec as specs
from savile.ladder import needs, room, trial
from savile.ladder import run as ladder
from savile.ladder.needs import Growing, Needs
from savile.lm import generate, load, memory
from savile.lm.layout import Layout
from savile.lm.model import LM
from savile.lm.store import Store, after_prompts
from savile.lm.tree import Tree
from tests import small_case, tiny

LADDER = "[zero_shot, {lora: {learning_rate: 0.02}}]"
PLENTY = 1 << 50


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], dict[str, Any]]:
    """Return what runs a small case with some bytes free and gives LoRA's row."""
    base = tmp_path / "base"
    deep = LlamaConfig(**{**tiny.LLAMA_LIKE, "num_hidden_layers": 6})  # so that layers are the most
    torch.manual_seed(3)
    LlamaForCausalLM(deep).float().save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    monkeypatch.setattr(room, "LEAST_TOKENS", 32)

    def run(free: int) -> dict[str, Any]:
        case = small_case.write_case(
            tmp_path / str(free), base, ladder=LADDER, more=["budget: {train_examples: 64}"]
        )
        text = case.read_text(encoding="utf-8").replace("budget: {train_examples: 320}\n", "")
        case.write_text(text, encoding="utf-8")
        monkeypatch.setattr(memory, "free_bytes", lambda device: free)
        monkeypatch.setattr(load, "_check_room", lambda *given: None)  # of techniques, not bases
        document = ladder.run(specs.load(case), tmp_path / str(free) / "run")
        return next(row for row in document["board"] if row["kind"] == "tuned")

    return run


def test_smaller_trees_then_layers_computed_twice_then_no_run(
    board: Callable[[int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "of_answering", lambda *given: 0.0)  # only training is short
    counted: dict[bool, Needs] = {}
    count = room.of_training

    def keep(*given: Any, twice: bool) -> Needs:
        counted[twice] = count(*given, twice=twice)
        return counted[twice]

    monkeypatch.setattr(room, "of_training", keep)
    monkeypatch.setattr(room, "of_answering", lambda *given: 0.0)
    plenty = board(PLENTY)
    assert plenty["status"] == "ok"
    assert "memory" not in (plenty["reason"] or "")
    whole, least = counted[False].at(4096), counted[False].at(32)
    assert least < whole
    smaller = board((whole + least) // 2)
    assert "free: trees of" in smaller["reason"]
    assert smaller["score"] == plenty["score"]
    assert smaller["dev_score"] == plenty["dev_score"]
    twice = board(least - 1)
    assert counted[True].at(32) < least
    assert "layers computed twice" in twice["reason"]
    assert twice["score"] == plenty["score"]


def test_what_fits_in_no_way_is_not_run(board: Callable[[int], dict[str, Any]]) -> None:
    with pytest.raises(Exception, match=r"needs about \d.\d MB of memory, 0.2 MB free") as found:
        board(200_000)
    assert type(found.value).__name__ == "NothingWorkedError"


def test_a_training_that_runs_out_starts_again_with_smaller_trees(
    board: Callable[[int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, budgets = trial.train_chain, []

    def runs_out(job: Any, *given: Any, **named: Any) -> Any:
        budgets.append(job.plan.tokens_per_tree)
        done = train(job, *given, **named)
        if len(budgets) < 3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return done

    wanted = board(PLENTY)
    monkeypatch.setattr(trial, "train_chain", runs_out)
    row = board(PLENTY + 1)
    assert budgets == [4096, 2048, 1024]
    assert "trained again from its start in trees of 1,024" in row["reason"]
    assert (row["score"], row["dev_score"]) == (wanted["score"], wanted["dev_score"])


def test_a_training_that_always_runs_out_is_a_failed_row(
    board: Callable[[int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs_out(*given: Any, **named: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(trial, "train_chain", runs_out)
    row = board(PLENTY)
    assert row["status"] == "failed"
    assert row["reason"].startswith("out of memory")


def test_answers_in_smaller_trees_are_said_on_the_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, plan = small_case.write_base(tmp_path / "base"), LM.plan
    case = specs.load(
        small_case.write_case(tmp_path, base, ladder="[zero_shot, {few_shot: {k: 2}}]")
    )
    wanted = ladder.run(case, tmp_path / "plenty")

    def short(lm: LM, tree: Tree) -> Layout:
        if len(tree) > 200:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        return plan(lm, tree)

    monkeypatch.setattr(LM, "plan", short)
    monkeypatch.setattr(room, "answering", lambda *given: None)  # counted on whole trees
    found = ladder.run(case, tmp_path / "short")
    rows, before = (
        [row for row in document["board"] if row["kind"] != "baseline"]
        for document in (found, wanted)
    )
    assert [(r["technique"], r["score"]) for r in rows] == [
        (r["technique"], r["score"]) for r in before
    ]
    said = "memory ran out while answering: the rows at once were cut to "
    assert all(said in row["reason"] for row in rows)
    assert not any(said in (row["reason"] or "") for row in before)


def test_needs_grow_with_the_tokens_of_trees_up_to_a_step() -> None:
    some = Needs(step=Growing(0.0, 10.0), sizes=[5] * 40, batch_size=8, gradients=7)
    assert some.at(20) == int(room.SCATTER * (20 * 10 + 7))
    assert some.at(40) == some.at(4096) == int(room.SCATTER * 40 * 10)


class Stores(list[Store]):
    """Keeps what generation lays beside the stem."""

    def __call__(self, *given: Any) -> Store:
        self.append(after_prompts(*given))
        return self[-1]


WIDE = {**tiny.LLAMA_LIKE, "head_dim": 16}
"""Heads that are together twice as wide as the hidden state, as those of Qwen3 0.6B."""


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "wide"])
def test_a_written_token_takes_what_is_held_of_it(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "wide":
        lm = LM(Qwen3ForCausalLM(Qwen3Config(**WIDE)), tiny.tokenizer(), name=family)
    else:
        lm = tiny.lm(family)
    stores = Stores()
    monkeypatch.setattr(generate, "after_prompts", stores)
    generate.greedy(lm, [[1, 20, 21], [1, 20, 22]], 5)
    (store,) = stores
    rows, slots = store.slot_depth.shape
    held = [*store.keys.values(), *store.values.values()]
    assert needs.slot_bytes(lm) * rows * slots == sum(t.numel() * t.element_size() for t in held)


def test_a_base_without_trees_holds_nothing_of_what_it_writes() -> None:
    assert needs.slot_bytes(tiny.lm("gptj")) == 0
