"""prompt.yaml: read back to the same frame, whatever stands in it, and strict about what it is."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from savile import registry
from savile.errors import UsageError
from savile.export.base import Customization
from savile.export.prompt import NAME, Prompt, read
from savile.prompts.base import Frame
from savile.prompts.base_calibration import Calibration
from savile.prompts.base_check import MOST_SAMPLES
from savile.prompts.base_constraint import Constraint
from savile.retrieval import Retriever
from savile.spec import Candidate
from savile.spec.settings import model_of
from savile.types import Example

AWKWARD = (
    *("yes", "null", "~", "010", "1e3", "2020-01-01", "- a", "a: b", "#", "|", "...", "---\na"),
    *("a\r\nb", "  a\nb", "a\n", "\na", "a\n\n", "a\n b \nc", "a\n#b", "\t"),
    *("\x85", "\ufeff", "\u2028"),
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(AWKWARD)
EXAMPLES = st.builds(
    Example,
    id=TEXT,
    input=TEXT,
    output=TEXT,
    rationale=st.none() | TEXT,
    references=st.lists(TEXT, max_size=2).map(tuple),
)
FRAME = Frame(
    instruction="Route the ticket.\nOne word.",
    demonstrations=(Example(id="1", input="lost card", output="yes", references=("yes", "no")),),
    labels=("yes", "no", "010"),
)


def written(frame: Frame, folder: Path) -> Path:
    made = Customization(
        candidate=Candidate(name="few_shot(k=1)", prompts=(("few_shot", {"k": 1}),)),
        frame=frame,
        max_new_tokens=4,
        example=Example(id="q", input="where?", output="no"),
        lm=None,
    )
    Prompt().write(made, folder)
    return folder / NAME


@settings(deadline=None)
@given(
    instruction=st.none() | TEXT,
    system=st.none() | TEXT,
    shown=st.lists(EXAMPLES, max_size=2).map(tuple),
    labels=st.lists(TEXT.filter(str.strip), max_size=3).map(dict.fromkeys).map(tuple),
    marker=TEXT.filter(bool),
    asked=EXAMPLES,
)
def test_every_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    instruction: str | None,
    system: str | None,
    shown: tuple[Example, ...],
    labels: tuple[str, ...],
    marker: str,
    asked: Example,
) -> None:
    frame = Frame(
        instruction=instruction,
        system=system,
        use_system=True,
        demonstrations=shown,
        reasoning=bool(labels),
        answer_marker=marker,
        labels=labels,
    )
    folder = tmp_path_factory.mktemp("prompt")
    written(frame, folder)
    again = read(folder)
    assert again == frame
    assert again.messages(asked) == frame.messages(asked)


def test_a_pool_of_examples_comes_back_without_what_was_looked_up(tmp_path: Path) -> None:
    pool = tuple(Example(id=str(n), input=f"word{n} card", output="yes") for n in range(5))
    retriever = Retriever(pool=pool, k=2)
    looked = replace(FRAME, retriever=replace(retriever, near={"word1 card?": (1, 2)}))
    written(looked, tmp_path)
    assert read(tmp_path) == replace(FRAME, retriever=retriever)


def test_people_can_read_it(tmp_path: Path) -> None:
    text = written(FRAME, tmp_path).read_text(encoding="utf-8")
    assert "  instruction: |-\n    Route the ticket.\n    One word.\n" in text
    assert '    input: "lost card"\n    output: "yes"\n    references:\n' in text
    assert "rationale" not in text
    assert 'format: "savile-prompt/1"\ntechnique: "few_shot(k=1)"\n' in text
    assert "    k: 1\n" in text
    assert 'answer: "the likeliest of the labels"\n' in text
    rendered = YAML(typ="safe", pure=True).load(text)["rendered"]
    assert [turn["role"] for turn in rendered] == ["system", "user", "assistant", "user"]
    assert rendered[-1]["content"] == "where?"


def test_an_edited_prompt_is_read(tmp_path: Path) -> None:
    path = written(FRAME, tmp_path)
    text = path.read_text(encoding="utf-8").replace("Route the ticket.", "Say where it goes.")
    path.write_text(text.replace('- "no"', "- no"), encoding="utf-8")
    again = read(tmp_path)
    assert again == replace(FRAME, instruction="Say where it goes.\nOne word.")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("savile-prompt/1", "savile-prompt/9", "is no savile-prompt/1; found 'savile-prompt/9'"),
        ("  use_system: false", "  use_system: perhaps", "`frame.use_system`: "),
        ("  use_system: false", "  use_sistem: false", "unknown key `frame.use_sistem`"),
        ('    output: "yes"', "    outptu: x", "`frame.demonstrations.0.output`: Field required"),
        ('    output: "yes"', "    output: x\n    gold: 1", "key `frame.demonstrations.0.gold`"),
        ('  - "010"', "  - 010", "`frame.labels.2`: Input should be a valid string"),
        ("frame:\n", "frame: [\n", "is not YAML"),
        ("frame:\n", "framed:\n", "`frame`: "),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = written(FRAME, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('  - "010"', '  - "no"', "frame.labels: holds 'no' twice"),
        ('  - "010"', '  - ""', "frame.labels.2: is '', an answer that nobody can see"),
        ('  - "010"', '  - " "', "frame.labels.2: is ' ', an answer that nobody can see"),
        ("  samples: 1\n", "  samples: 0\n", "frame.samples: is 0; expected at least 1, at most"),
        (
            "  samples: 1\n  temperature: 0.0\n",
            "  samples: 1000000\n  temperature: 0.7\n",
            "frame.samples: is 1000000; expected at least 1, at most 128",
        ),
        ("  samples: 1\n", "  samples: 3\n", "frame.temperature: is 0, and all 3 samples"),
        ("  temperature: 0.0\n", "  temperature: -1\n", "frame.temperature: is -1; expected"),
        ("  temperature: 0.0\n", "  temperature: .inf\n", "frame.temperature: is inf; expected"),
        ("  top_p: 1.0\n", "  top_p: 0\n", "frame.top_p: is 0; expected above 0, at most 1"),
        ("  stop: []\n", '  stop: [""]\n', "frame.stop.0: is an empty text"),
        (
            "  format: {}\n",
            "  format: {words: {maybe: x}}\n",
            "frame.format.words: 'maybe' is no label",
        ),
        (
            "  format: {}\n",
            '  format: {words: {"no": "yes"}}\n',
            "frame.format.words: 'yes' stands for two labels",
        ),
        (
            "  calibration: null\n",
            "  calibration: {inputs: [], examples: false}\n",
            "frame.calibration.inputs: is empty",
        ),
        (
            "  retriever: null\n",
            "  retriever: {pool: [], k: 0}\n",
            "frame.retriever.k: is 0; expected at least 1",
        ),
        (
            "  retriever: null\n",
            "  retriever: {pool: [], k: 1, near: {lost?: [4]}}\n",
            "frame.retriever.near.lost?: names a row that is not among the 0",
        ),
        (
            "  constraint: null\n",
            "  constraint: {kind: regex, text: '[0-'}\n",
            "frame.constraint.text: cannot be used",
        ),
        (
            "  reasoning: false\n",
            "  reasoning: true\n  answer_marker: ''\n",
            "frame.answer_marker: is empty",
        ),
    ],
)
def test_an_edit_that_cannot_be_asked_is_said(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    path = written(FRAME, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    if "answer_marker" in new:
        text = text.replace('  answer_marker: "Answer:"\n', "")
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert said in str(caught.value)


def test_as_many_samples_may_be_edited_in_as_a_spec_may_ask_for() -> None:
    settings = model_of(registry.parts("prompts")["self_consistency"])
    settings.model_validate({"n": MOST_SAMPLES})
    with pytest.raises(ValidationError, match="less than or equal to 128"):
        settings.model_validate({"n": MOST_SAMPLES + 1})


def test_a_file_that_is_no_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is missing"):
        read(tmp_path)
    (tmp_path / NAME).write_text("- 1\n")
    with pytest.raises(UsageError, match="is no savile-prompt/1"):
        read(tmp_path)
    (tmp_path / NAME).write_text("!!python/object/apply:os.system [echo]\n")
    with pytest.raises(UsageError, match="is not YAML"):
        read(tmp_path)


def test_how_labels_are_scored_is_said_and_read_back(tmp_path: Path) -> None:
    calibration = Calibration(inputs=("N/A", ""), examples=True)
    frame = replace(FRAME, calibration=calibration, length_normalized=True)
    path = written(frame, tmp_path)
    said = "the likeliest of the labels, per token, against what each scores without a question"
    assert said in path.read_text(encoding="utf-8")
    assert read(tmp_path) == frame


def test_the_shape_of_answers_is_said_and_read_back(tmp_path: Path) -> None:
    shape = Constraint(kind="regex", text="[0-9]+\\.")
    frame = replace(FRAME, labels=(), constraint=shape, regex=shape.text)
    path = written(frame, tmp_path)
    assert "held to the regex" in path.read_text(encoding="utf-8")
    assert read(tmp_path) == frame
