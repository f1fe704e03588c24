"""The shipped small model is the logged one and can do what the figures say, with wide margins."""

import hashlib
import json
import random
from pathlib import Path

import lexicon as lex
import pytest
import torch
from cases import FOLDER
from probe_documents import covered, sums
from tokenizer import DocumentEncoder, as_hugging_face, build_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer
from world import draw_document

EMBEDDED = FOLDER.parent
LOG = Path(__file__).parents[2] / "pretraining" / "log"
SIZES = ["small", "large"]


@pytest.fixture(scope="module")
def small():
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "small")
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED / "small", dtype=torch.float32)
    return tokenizer, model.eval()


@pytest.mark.parametrize("size", SIZES)
def test_checkpoint_is_the_logged_one(size):
    logged = json.loads((LOG / "checkpoints.json").read_text())[size]
    weights = (EMBEDDED / size / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == logged["sha256"]


def test_everything_shipped_fits_in_twelve_million_bytes():
    files = [path for path in EMBEDDED.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) <= 12_000_000


@pytest.mark.parametrize("size", SIZES)
def test_template_ids_are_the_ids_of_pretraining(size):
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / size)
    encoder, rng = DocumentEncoder(build_tokenizer()), random.Random(3)
    for _ in range(100):
        document = draw_document(rng, 256)
        messages = [{"role": turn.role, "content": turn.text} for turn in document]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert ids == encoder.encode(document, 10**6)[0]
        answer = tokenizer(document[-1].text, add_special_tokens=False).input_ids
        assert ids[-len(answer) - 1 : -1] == answer


@pytest.mark.parametrize("size", SIZES)
def test_shipped_tokenizer_is_the_built_one(size, tmp_path):
    as_hugging_face(build_tokenizer()).save_pretrained(tmp_path)
    built = (tmp_path / "tokenizer.json").read_bytes()
    assert built == (EMBEDDED / size / "tokenizer.json").read_bytes()


def test_tokenizer_round_trip(small):
    tokenizer, _ = small
    for text in ["my printer broke , thank you", "naïve café? 4217 items!", "日本語 zürich"]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids).strip() == text
    assert tokenizer("A\n\tb").input_ids == tokenizer("a b").input_ids
    for word in lex.all_words():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1


@torch.no_grad()
def right_answers(small, documents, skip=0):
    """Share of whole answers that the model would write, after the first `skip` of each."""
    tokenizer, model = small
    encoder, hits = DocumentEncoder(build_tokenizer()), []
    start, stop = tokenizer.convert_tokens_to_ids(["<|assistant|>", "<|end|>"])
    for document in documents:
        ids = encoder.encode(document, 1024)[0]
        best = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        for begin in [i for i, token in enumerate(ids) if token == start][skip:]:
            end = ids.index(stop, begin)
            hits.append(best[begin:end] == ids[begin + 1 : end + 1])
    return sum(hits) / len(hits)


def test_one_demonstration_per_class_classifies_held_out_items(small):
    rng = random.Random(21)
    documents = [covered(rng, lex.HELD_OUT_ITEMS) for _ in range(25)]
    assert right_answers(small, documents, skip=4) > 0.85


def test_written_steps_beat_direct_answers(small):
    rng = random.Random(22)
    steps = right_answers(small, [sums(rng, 3, True) for _ in range(50)])
    direct = right_answers(small, [sums(rng, 3, False) for _ in range(50)])
    assert steps - direct > 0.4
