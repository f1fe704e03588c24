"""Written answers are held to a JSON schema or an expression, whatever the model prefers."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import savile
from savile.errors import EnvironmentProblem, UsageError
from savile.lm import constrained
from savile.lm.constrained import Grammar
from savile.lm.endpoint.question import Question
from savile.lm.generate import greedy
from savile.lm.local import Local
from savile.lm.tree import Paths, build
from savile.predict import predict
from savile.prompts.base import Frame
from savile.prompts.base_constraint import Constraint
from savile.spec import ladder as grammar
from savile.spec import load
from savile.spec.endpoint import EndpointSection, given_by
from savile.types import Example, Message
from tests import small_case, tiny

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "queue": {"enum": ["billing", "cards"]},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        "urgent": {"type": "boolean"},
    },
    "required": ["queue", "words", "urgent"],
    "additionalProperties": False,
}
JSON = Constraint(kind="json_schema", text=json.dumps(SCHEMA))
CODE = Constraint(kind="regex", text="[A-Z]{2}-[0-9]{3}(, ?yes|, ?no)?")
ROWS = [Example(id=str(i), input=f"ticket {i} " * (i + 1), output="{}") for i in range(5)]
LENGTH = 150


def assert_of_schema(text: str) -> None:
    found = json.loads(text)
    assert list(found) == ["queue", "words", "urgent"]
    assert found["queue"] in ("billing", "cards")
    assert isinstance(found["urgent"], bool)
    assert len(found["words"]) <= 2
    assert all(isinstance(word, str) and len(word) <= 3 for word in found["words"])


def answers(family: str, frame: Frame, rows: Sequence[Example] = ROWS) -> list[str]:
    found = predict(Local(tiny.lm(family)), frame, rows, max_new_tokens=LENGTH)
    return [prediction.text for prediction in found]


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_random_model_writes_json_of_the_schema(family: str) -> None:
    rows = ROWS if family == "llama" else ROWS[:1]
    for text in answers(family, Frame(constraint=JSON), rows):
        assert_of_schema(text)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(answers(family, Frame(), rows[:1])[0])


def test_samples_are_of_the_schema_and_differ() -> None:
    drawn = []
    for seed in range(3):
        frame = Frame(constraint=JSON, samples=3, temperature=1.5, seed=seed)
        drawn += answers("llama", frame)
    for text in drawn:
        assert_of_schema(text)
    assert len(set(drawn)) > 5


def test_the_whole_answer_matches_the_expression() -> None:
    texts = answers("qwen3", Frame(constraint=CODE))
    assert all(re.fullmatch(CODE.text, text) for text in texts)


def test_rows_do_not_share_a_state() -> None:
    frame = Frame(constraint=JSON)
    together = answers("llama", frame)
    assert together == [answers("llama", frame, [row])[0] for row in ROWS]


def test_the_likeliest_of_what_is_allowed_is_written() -> None:
    lm = tiny.lm("llama")
    digits = Grammar(lm, Constraint(kind="regex", text="[0-9]{3}"))
    prompts = [lm.encode_prompt(Frame().messages(row)) for row in ROWS]
    allowed = [lm.encode_completion(str(digit))[0] for digit in range(10)]
    found = greedy(lm, prompts, 8, masks=digits.masks(len(prompts)))
    for prompt, ids in zip(prompts, found, strict=True):
        assert len(ids) == 3
        for at, token in enumerate(ids):
            tree = build([Paths([*prompt, *ids[:at]], [])])
            with torch.no_grad():
                logits = lm.logits(tree, tree.ends)[0]
            assert token == max(allowed, key=lambda one: float(logits[one]))


def test_labels_are_chosen_without_a_constraint() -> None:
    frame = Frame(labels=("yes", "no"), constraint=JSON)
    assert set(answers("llama", frame)) <= {"yes", "no"}


def test_a_missing_library_says_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constrained, "LIBRARY", "no_such_library")
    with pytest.raises(EnvironmentProblem, match=r"pip install 'savile\[constrained\]'"):
        answers("llama", Frame(constraint=JSON))


def case(folder: Path, shape: str, ladder: str, labels: str = "") -> Path:
    base = small_case.write_base(folder / "base")
    path = small_case.write_case(folder / "case", base, ladder=ladder)
    text = path.read_text("utf-8").replace(
        "labels: [yes, no]", ", ".join(filter(None, (labels, shape)))
    )
    path.write_text(text, encoding="utf-8")
    (path.parent / "shape.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    (path.parent / "list.json").write_text("[1]", encoding="utf-8")
    (path.parent / "broken.json").write_text("{", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("shape", "labels", "said"),
    [
        ("json_schema: absent.json", "", "cannot be read"),
        ("json_schema: broken.json", "", "is not JSON"),
        ("json_schema: list.json", "", "holds no JSON schema"),
        ("json_schema: {type: strin}", "", "cannot be used: Invalid type: strin"),
        ("regex: '(a|b'", "", "unclosed group"),
        ("regex: 'a(?=b)'", "", "look-around"),
        ("regex: a, json_schema: shape.json", "", "both given"),
        ("regex: a", "labels: [yes, no]", "labels are chosen, not written"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    shape: str, labels: str, said: str, tmp_path: Path
) -> None:
    path = case(tmp_path, shape, "[zero_shot]", labels)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert said in str(caught.value)
    assert re.search(r"task\.yaml:\d+:\d+", str(caught.value))


def test_a_schema_file_is_part_of_the_spec(tmp_path: Path) -> None:
    path = case(tmp_path, "json_schema: shape.json", "[zero_shot+constrained_json]")
    assert load(path).decisive()["prompt"]["json_schema"] == SCHEMA


def test_a_board_with_constrained_answers(tmp_path: Path) -> None:
    ladder = (
        "[zero_shot, zero_shot+constrained_regex, {lora+constrained_regex: {learning_rate: 0.02}}, "
        "constrained_json, chain_of_thought+constrained_regex]"
    )
    path = case(tmp_path, "regex: yes|no", ladder)
    run = savile.run(path, tmp_path / "run")
    rows = {row["technique"]: row for row in run.board}
    assert rows["zero_shot"]["score"] == 0.0
    assert rows["zero_shot+constrained_regex"]["score"] > 0.2
    assert rows["lora(learning_rate=0.02)+constrained_regex"]["status"] == "ok"
    assert "prompt.json_schema" in rows["constrained_json"]["reason"]
    assert "without steps" in rows["chain_of_thought+constrained_regex"]["reason"]
    assert run.technique("zero_shot+constrained_regex").predict(["lost cup"])[0] in ("yes", "no")


def test_an_endpoint_is_asked_for_a_schema_and_for_no_expression() -> None:
    chat = [Message(role="user", content="a ticket")]
    base = EndpointSection(endpoint="http://127.0.0.1:1/v1", model="m")
    fields = Question(chat=chat, max_tokens=8, json_schema=JSON.text).fields(base)
    assert fields["response_format"]["json_schema"]["schema"] == SCHEMA
    assert "response_format" not in Question(chat=chat, max_tokens=8).fields(base)
    needs = {name: grammar.parse([f"constrained_{name}"])[0][0].needs for name in ("json", "regex")}
    given = given_by(base) | {"json_schema", "regex"}
    assert grammar.reason(needs["json"], given) is None
    assert "not behind an API" in str(grammar.reason(needs["regex"], given))
    plain = given_by(replace_api(base)) | {"json_schema"}
    assert "api: chat" in str(grammar.reason(needs["json"], plain))


def replace_api(base: EndpointSection) -> EndpointSection:
    return base.model_copy(update={"api": "completions"})
