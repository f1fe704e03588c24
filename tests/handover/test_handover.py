"""`savile export` and `savile.load_customized`: what is handed over is what was measured."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import savile
from savile import cli, store
from savile.errors import EnvironmentProblem, IntegrityError, SavileError, UsageError
from savile.export import base as forms
from savile.export import prompt
from savile.handover import Export, facts
from savile.lm.load import load
from tests import small_case

LORA = "lora(learning_rate=0.02)"
BOTH = "prompt_tuning+lora(learning_rate=0.02)"
FORM_OF = {
    "zero_shot": "prompt",
    "few_shot(k=2)": "prompt",
    "nearest_states(k=2)": "prompt",
    LORA: "peft",
    "p_tuning(learning_rate=0.02)": "peft",
    "bottleneck(learning_rate=0.02)": "savile",
    "last_layers(learning_rate=0.02)": "merged",
    BOTH: "savile",
}
LADDER = (
    "[zero_shot, {few_shot: {k: 2}}, {nearest_states: {k: 2}}, {few_shot: {k: 30}}, "
    "{lora: {learning_rate: 0.02}}, {p_tuning: {learning_rate: 0.02}}, "
    "{bottleneck: {learning_rate: 0.02}}, {last_layers: {learning_rate: 0.02}}, "
    "{prompt_tuning+lora: {lora: {learning_rate: 0.02}}}]"
)
INPUTS = ["lost cup", "sold rug", "kept pen", "took net"]
pytestmark = [
    # PEFT 0.21 reads a name that transformers 5 renamed.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> savile.Run:
    """Return a finished run in a folder with its data and its base."""
    folder = tmp_path_factory.mktemp("case")
    task = small_case.write_case(folder, small_case.write_base(folder / "base"), ladder=LADDER)
    return savile.run(task, folder / "run")


@pytest.fixture
def base(run: savile.Run) -> Path:
    return run.folder.parent / "base"


@pytest.mark.parametrize("technique", FORM_OF)
def test_the_first_form_that_holds_it_answers_as_the_run(
    technique: str, run: savile.Run, tmp_path: Path
) -> None:
    made = run.export(tmp_path / "out", technique=technique)
    names = {file.name for file in made.folder.iterdir()}
    assert {"README.md", "prompt.yaml", "savile.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".tmp"))]
    assert made.facts.form == FORM_OF[technique]
    checked = made.facts.checked
    assert (checked.rows, checked.of) == (8, "dev rows")
    if FORM_OF[technique] != "prompt":
        assert checked.difference is not None
        assert checked.difference <= 1e-4
        assert checked.same_answers == 8
    handed = savile.load_customized(made.folder, device="cpu")
    measured = run.technique(technique)
    assert handed.technique == technique
    assert handed.predictions(INPUTS) == measured.predictions(INPUTS)
    assert handed.messages("kept rug")[-1] == {"role": "user", "content": "kept rug"}
    assert list(tmp_path.iterdir()) == [made.folder]


@pytest.mark.parametrize("form", ["peft", "merged", "savile"])
def test_every_form_of_one_technique_answers_the_same(
    form: str, run: savile.Run, tmp_path: Path
) -> None:
    made = run.export(tmp_path / "out", technique=LORA, form=form)
    handed = savile.load_customized(made.folder, device="cpu")
    assert handed.predict(INPUTS) == run.technique(LORA).predict(INPUTS)
    assert handed.predict(INPUTS[:1]) == run.technique(LORA).predict(INPUTS[:1])


def test_the_adapter_and_the_merged_model_agree_in_the_tools_they_are_for(
    run: savile.Run, base: Path, tmp_path: Path
) -> None:
    for form in ("peft", "merged"):
        run.export(tmp_path / form, technique=LORA, form=form)
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    chat = [{"role": "user", "content": "lost cup"}]
    both = [AutoTokenizer.from_pretrained(tmp_path / form) for form in ("peft", "merged")]
    ids = [
        one.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) for one in both
    ]
    assert ids[0] == ids[1]
    with torch.no_grad():
        without = plain(torch.tensor(ids[:1])).logits
        tuned = PeftModel.from_pretrained(plain, tmp_path / "peft").eval()
        torch.testing.assert_close(
            tuned(torch.tensor(ids[:1])).logits,
            merged(torch.tensor(ids[:1])).logits,
            atol=1e-4,
            rtol=1e-4,
        )
        assert not torch.allclose(without, merged(torch.tensor(ids[:1])).logits, atol=1e-2)


def test_a_merged_model_ends_where_it_learned_to_end(
    run: savile.Run, base: Path, tmp_path: Path
) -> None:
    run.export(tmp_path / "out", technique=LORA, form="merged")
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert load(str(base), folder=base, device="cpu").template.end in settings["eos_token_id"]


def test_a_merged_model_is_a_base(run: savile.Run, tmp_path: Path) -> None:
    made = run.export(tmp_path / "out", technique=LORA, form="merged")
    lm = load(str(made.folder), folder=tmp_path, device="cpu")
    assert lm.model.dtype == torch.float32
    assert lm.uses_tree


def test_what_is_exported_is_the_artifact_of_the_row(run: savile.Run, tmp_path: Path) -> None:
    row = next(r for r in run.board if r["technique"].startswith("p_tuning"))
    run.export(tmp_path / "out", technique=row["technique"])
    file = tmp_path / "out" / "adapter_model.safetensors"
    assert row["artifact_bytes"] == file.stat().st_size
    assert row["trainable_parameters"] * 4 > row["artifact_bytes"]


def test_the_command_line_writes_the_best_one_and_a_card(
    run: savile.Run, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    command = ["export", str(run.folder), "-o", str(tmp_path / "out"), "--seed", "0"]
    assert cli.main([*command, "--technique", LORA]) == 0
    said = capsys.readouterr().out
    assert f"wrote {LORA} as peft to {tmp_path / 'out'}" in said
    assert "read back: logits of 8 dev rows differ by at most" in said
    text = (tmp_path / "out" / "README.md").read_text()
    row = next(r for r in run.board if r["technique"] == LORA)
    assert f"**{row['score']:.3f}**, 95 % interval {row['low']:.3f} to {row['high']:.3f}" in text
    assert f'base = AutoModelForCausalLM.from_pretrained("{base}")' in text
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "README.md", "exec")
    assert cli.main(["export", str(run.folder), "-o", str(tmp_path / "best"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["technique"] == run.best.technique
    assert document["checked"]["rows"] == 8


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--technique", "lorra(learning_rate=0.02)"], f"Did you mean {LORA}?"),
        (["--technique", "majority"], "majority: is a baseline"),
        (["--technique", "few_shot(k=30)"], "has no score (not_run: prompt and answer need"),
        (["--technique", LORA, "--seed", "1"], "no such seed; found 1; expected 0 to 0"),
        (["--technique", LORA, "--seed", "-1"], "no such seed; found -1"),
        (["--form", "pfet"], "no form is called 'pfet'"),
        (["--technique", LORA, "--form", "vocabulary"], "expected peft or merged or savile"),
        (["--technique", LORA, "--form", "prompt"], "its trained weights would be left out"),
        (["--technique", BOTH, "--form", "peft"], "PEFT has no method for it; expected savile or"),
        (["--technique", "zero_shot", "--form", "peft"], "nothing of it is trained; expected pro"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(
    more: list[str],
    said: str,
    run: savile.Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["export", str(run.folder), "-o", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_is_left_alone(run: savile.Run, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place, said in (("full", "is not empty"), ("file", "is a file")):
        with pytest.raises(UsageError, match=said):
            run.export(tmp_path / place, technique="zero_shot")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert run.export(tmp_path / "empty", technique="zero_shot").bytes > 0


def test_a_folder_without_a_finished_run_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "holds no finished run" in capsys.readouterr().err


def test_without_the_data_other_rows_check_it(
    run: savile.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = run.folder.parent / "dev.jsonl"
    dev.rename(tmp_path / "dev.jsonl")
    try:
        made = run.export(tmp_path / "out", technique=LORA)
    finally:
        (tmp_path / "dev.jsonl").rename(dev)
    assert "not at hand" in made.facts.checked.of
    assert made.facts.checked.same_answers is None
    assert made.facts.checked.difference is not None


def half_merged(folder: Path, base: Path) -> None:
    """The update at half its scale."""
    before = safetensors.torch.load((base / "model.safetensors").read_bytes())
    file = folder / "model.safetensors"
    after = safetensors.torch.load(file.read_bytes())
    half = {name: (tensor + before[name]) / 2 for name, tensor in after.items()}
    file.write_bytes(safetensors.torch.save(half, metadata={"format": "pt"}))


def other_template(folder: Path, base: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|im_start|>", "<|im_start|> ", 1))


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (half_merged, "does not compute what was measured; found a logit differs by"),
        (other_template, "tokenizer or template reads a chat differently"),
    ],
)
def test_a_planted_error_is_found_and_nothing_is_left(
    plant: Callable[[Path, Path], None],
    said: str,
    run: savile.Run,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """M49: a wrong merge and a wrong template are both caught before anything is handed over."""
    true = forms.write_model

    def wrong(model: Any, tokenizer: Any, folder: Path) -> None:
        true(model, tokenizer, folder)
        plant(folder, base)

    monkeypatch.setattr("savile.export.merged.write_model", wrong)
    with pytest.raises(IntegrityError) as caught:
        run.export(tmp_path / "out", technique=LORA, form="merged")
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_that_reads_otherwise_is_found(
    run: savile.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = prompt._yaml
    monkeypatch.setattr(prompt, "_yaml", lambda d: true(d).replace(b'- "yes"', b'- "yep"'))
    with pytest.raises(IntegrityError, match="prompt that was written is not the one"):
        run.export(tmp_path / "out", technique="few_shot(k=2)", form="prompt")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def adapter(run: savile.Run, tmp_path: Path) -> Export:
    return run.export(tmp_path / "out", technique="bottleneck(learning_rate=0.02)")


@pytest.mark.parametrize("form", ["savile", "peft"])
def test_another_base_is_refused(form: str, run: savile.Run, base: Path, tmp_path: Path) -> None:
    made = run.export(tmp_path / "out", technique=LORA, form=form)
    other = small_case.write_base(tmp_path / "other", seed=4)
    with pytest.raises(IntegrityError, match="belong on another base") as caught:
        savile.load_customized(made.folder, other, device="cpu")
    assert caught.value.exit_code == 5
    shutil.copytree(base, tmp_path / "moved")
    moved = savile.load_customized(made.folder, tmp_path / "moved", device="cpu")
    assert moved.predict(INPUTS) == run.technique(LORA).predict(INPUTS)


def test_a_prompt_needs_no_base_until_it_is_asked(run: savile.Run, tmp_path: Path) -> None:
    made = run.export(tmp_path / "out", technique="few_shot(k=2)")
    handed = savile.load_customized(made.folder, tmp_path / "nowhere")
    assert len(handed.messages("lost cup")) == 5
    with pytest.raises(EnvironmentProblem, match="was not found"):
        handed.predict(["lost cup"])


def test_a_prompt_asks_its_base_in_the_precision_of_the_run(
    run: savile.Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "run")
    manifest = store.read_json(folder / "manifest.json")
    manifest["identity"]["spec"]["compute"] |= {"dtype": "bfloat16", "quantization": "nf4"}
    store.write_json(folder / "manifest.json", manifest)
    made = savile.Run(folder).export(tmp_path / "out", technique="few_shot(k=2)")
    assert (made.facts.base.dtype, made.facts.base.quantization) == ("bfloat16", "nf4")
    said = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "(weights in bfloat16, quantized to nf4)" in said
    own = run.export(tmp_path / "own", technique="few_shot(k=2)").facts.base
    assert (own.dtype, own.quantization) == ("float32", None)


def cut(folder: Path) -> None:
    file = folder / "delta.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def without_a_tensor(folder: Path) -> None:
    file = folder / "delta.safetensors"
    tensors = safetensors.torch.load(file.read_bytes())
    tensors.pop(next(iter(tensors)))
    file.write_bytes(safetensors.torch.save(tensors))


def changed(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = store.read_json(folder / facts.NAME)
        store.write_json(folder / facts.NAME, {**document, **values})

    return change


@pytest.mark.parametrize(
    ("damage", "kind", "said"),
    [
        (cut, IntegrityError, "truncated"),
        (without_a_tensor, IntegrityError, "does not fit"),
        (changed(format=9), IntegrityError, "a format this version cannot read; found 9"),
        (changed(form="pickle"), IntegrityError, "a form this version does not know: 'pickle'"),
        (changed(max_new_tokens="all"), IntegrityError, "`max_new_tokens`: Input should be"),
        (lambda f: (f / facts.NAME).write_text("{"), IntegrityError, "is not the JSON"),
        (lambda f: (f / facts.NAME).unlink(), UsageError, "holds no exported technique"),
        (lambda f: (f / prompt.NAME).unlink(), UsageError, "prompt.yaml: is missing"),
    ],
)
def test_a_damaged_folder_is_refused(
    damage: Callable[[Path], None], kind: type[SavileError], said: str, adapter: Export
) -> None:
    damage(adapter.folder)
    with pytest.raises(kind) as caught:
        savile.load_customized(adapter.folder, device="cpu").predict(["lost cup"])
    assert said in str(caught.value)
