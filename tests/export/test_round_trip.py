"""Every delta, in every form that holds it, gives its users the numbers that were measured.

The users are plain PEFT and plain transformers where the form is theirs, and our loader else.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from savile import registry
from savile.deltas.base import Delta
from savile.deltas.dora import DoRA
from savile.deltas.lora import LoRA
from savile.deltas.p_tuning import PTuning
from savile.deltas.prefix_tuning import PrefixTuning
from savile.deltas.prompt_tuning import PromptTuning
from savile.export.base import Customization, Form, Where
from savile.joined import Joined
from savile.lm.load import load
from savile.lm.model import LM
from savile.lm.tree import build
from savile.prompts.base import Frame
from savile.spec import Candidate
from savile.types import Example
from tests import tiny
from tests.contracts.tree_gate import shake
from tests.gates import Gate

LIMIT = 1e-4
OLD = tiny.tokenizer().backend_tokenizer.get_vocab_size()
FAMILIES = ("llama", "qwen2", "gpt_neox")
NAMES = sorted(registry.parts("deltas"))
FORMS = sorted(registry.parts("export"))
VARIANTS: dict[str, Delta] = {
    "rslora": LoRA(r=4, use_rslora=True),
    "rsdora": DoRA(r=4, use_rslora=True),
    "p_tuning_mlp": PTuning(encoder_reparameterization_type="MLP"),
    "projected_prefix": PrefixTuning(num_virtual_tokens=4, prefix_projection=True),
}
JOINED: dict[str, Delta] = {
    "prompt_tuning+lora": Joined(members=(PromptTuning(num_virtual_tokens=3), LoRA(r=2))),
    "prefix_tuning+lora": Joined(members=(PrefixTuning(num_virtual_tokens=3), LoRA(r=2))),
}
pytestmark = [
    # PEFT 0.21 reads a name that transformers 5 renamed.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),  # of PEFT, for norms
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one saved base a family."""
    folder = tmp_path_factory.mktemp("bases")
    for family in FAMILIES:
        tiny.model(family).save_pretrained(folder / family)
        tiny.tokenizer().save_pretrained(folder / family)
    return folder


def form_of(name: str) -> Form:
    made: Form = registry.load("export", name)()
    return made


def made_on(lm: LM, name: str) -> Customization:
    deltas = ((name, {}),) if name in NAMES else ()
    return Customization(
        candidate=Candidate(name=name, deltas=deltas),
        frame=Frame(),
        max_new_tokens=4,
        example=Example(id="1", input="a", output="b"),
        lm=lm,
    )


@torch.no_grad()
def ours(lm: LM) -> Tensor:
    """Return the logits of every completion token, sequence by sequence, of the old vocabulary."""
    tree = build(tiny.groups())
    return lm.logits(tree, tree.targets.source)[:, :OLD]


@torch.no_grad()
def theirs(model: torch.nn.Module, before: list[int]) -> Tensor:
    """Return the same of a plain model, `before` standing before every sequence."""
    found = []
    for prompt, completion in tiny.paths(tiny.groups()):
        ids = torch.tensor([[*before, *prompt, *completion]])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        found.append(logits[-len(completion) - 1 : -1, :OLD])
    return torch.cat(found)


def in_peft(folder: Path, base: Path) -> Tensor:
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    return theirs(PeftModel.from_pretrained(plain, folder).eval(), [])


def in_transformers(folder: Path, base: Path) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    known = AutoTokenizer.from_pretrained(folder).get_vocab()
    return theirs(model, [known[t] for t in sorted(known, key=known.__getitem__) if "soft" in t])


def in_savile(folder: Path, base: Path) -> Tensor:
    lm = load(str(base), folder=base, device="cpu")
    with form_of("savile").opened(folder, made_on(lm, folder.name), Where("cpu", "float32")) as own:
        return ours(own.lm)


USERS: dict[str, Callable[[Path, Path], Tensor]] = {
    "peft": in_peft,
    "merged": in_transformers,
    "vocabulary": in_transformers,
    "savile": in_savile,
}


def errors(delta: Delta, name: str, base: Path, folder: Path) -> dict[str, float]:
    """Return the largest difference of a logit by form, for every form that holds the delta."""
    found = {}
    for form in FORMS:
        lm = load(str(base), folder=base, device="cpu")
        with delta.attach(lm, 0) as attached:
            shake(attached)
            wanted = ours(lm)
            made = Customization(**{**vars(made_on(lm, name)), "attached": attached})
            if form_of(form).refusal(made) is None:
                (folder / form / name).mkdir(parents=True)
                form_of(form).write(made, folder / form / name)
                found[form] = wanted
    return {
        form: float((USERS[form](folder / form / name, base) - wanted).abs().max())
        for form, wanted in found.items()
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_a_delta_comes_back_from_every_form(
    name: str, family: str, bases: Path, tmp_path: Path, gate: Gate
) -> None:
    made: Delta = registry.load("deltas", name)()
    found = errors(made, name, bases / family, tmp_path)
    for form, error in found.items():
        gate(name, "export", error, form)
    assert "savile" in found
    assert "prompt" not in found
    assert max(found.values()) <= LIMIT, found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_comes_back_from_peft(
    name: str, family: str, bases: Path, tmp_path: Path, gate: Gate
) -> None:
    lm = load(str(bases / family), folder=bases, device="cpu")
    with VARIANTS[name].attach(lm, 0) as attached:
        shake(attached)
        wanted = ours(lm)
        made = Customization(**{**vars(made_on(lm, name)), "attached": attached})
        form_of("peft").write(made, tmp_path)
    error = float((in_peft(tmp_path, bases / family) - wanted).abs().max())
    gate(VARIANTS[name], "export", error, "peft")
    assert error <= LIMIT


@pytest.mark.parametrize("name", sorted(JOINED))
def test_deltas_that_train_together_have_no_adapter_and_no_merged_model(
    name: str, bases: Path
) -> None:
    lm = load(str(bases / "llama"), folder=bases, device="cpu")
    with JOINED[name].attach(lm, 0) as attached:
        shake(attached)
        made = Customization(**{**vars(made_on(lm, name)), "attached": attached})
        held = {form for form in FORMS if form_of(form).refusal(made) is None}
    assert held == ({"savile", "vocabulary"} if "prompt_tuning" in name else {"savile"})


def test_a_soft_prompt_beside_lora_becomes_an_ordinary_model(bases: Path, tmp_path: Path) -> None:
    delta, base = JOINED["prompt_tuning+lora"], bases / "llama"
    lm = load(str(base), folder=base, device="cpu")
    with delta.attach(lm, 0) as attached:
        shake(attached)
        wanted = ours(lm)
        made = Customization(**{**vars(made_on(lm, "both")), "attached": attached})
        assert form_of("vocabulary").refusal(made) is None
        form_of("vocabulary").write(made, tmp_path)
    assert float((in_transformers(tmp_path, base) - wanted).abs().max()) <= LIMIT


def test_which_forms_hold_what(bases: Path) -> None:
    """The table of the documentation, on a base that has no biases."""
    lm = load(str(bases / "llama"), folder=bases, device="cpu")
    held: dict[frozenset[str], set[str]] = {}
    for name in NAMES:
        made = made_on(lm, name)
        with registry.load("deltas", name)().attach(lm, 0) as attached:
            whole = Customization(**{**vars(made), "attached": attached})
            can = frozenset(f for f in FORMS if form_of(f).refusal(whole) is None)
        held.setdefault(can, set()).add(name)
    assert held[frozenset({"peft", "merged", "savile"})] >= {"lora", "dora", "pissa", "ia3"}
    assert held[frozenset({"peft", "vocabulary", "savile"})] == {"p_tuning", "prompt_tuning"}
    assert held[frozenset({"merged", "savile"})] >= {"full", "last_layers"}
    assert held[frozenset({"savile"})] >= {"bitfit", "bottleneck"}


def test_the_encoder_of_a_soft_prompt_is_dropped_for_peft(bases: Path, tmp_path: Path) -> None:
    lm = load(str(bases / "llama"), folder=bases, device="cpu")
    with PTuning().attach(lm, 0) as attached:
        made = Customization(**{**vars(made_on(lm, "p_tuning")), "attached": attached})
        form_of("peft").write(made, tmp_path)
        vectors = 20 * tiny.WIDTH * 4
        size = (tmp_path / "adapter_model.safetensors").stat().st_size
        assert vectors < size < vectors + 200
        assert sum(p.numel() for p in attached.parameters().values()) * 4 > 10 * size
