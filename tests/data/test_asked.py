"""Stop strings that end right answers, before a run is paid for."""

from pathlib import Path

import pytest

from savile import data
from savile import spec as specs
from savile.errors import UsageError
from tests import small_case


def written(tmp_path: Path, prompt: str, ladder: str) -> specs.Spec:
    task = small_case.write_case(tmp_path, tmp_path / "base", ladder=ladder)
    text = task.read_text(encoding="utf-8").replace("prompt: {labels: [yes, no]}", prompt)
    task.write_text(text, encoding="utf-8")
    return specs.load(task)


@pytest.mark.parametrize(
    "prompt", ['stop: [":"]', 'stop: ["x", "Answer:"]', "labels: [yes, no], stop: [n]"]
)
def test_a_stop_string_inside_the_marker_is_refused_with_steps_alone(
    prompt: str, tmp_path: Path
) -> None:
    steps = written(
        tmp_path, f"prompt: {{{prompt}, answer_marker: 'Answer:'}}", "[chain_of_thought]"
    )
    with pytest.raises(
        UsageError, match=r"prompt\.stop: .* ends every answer of 'chain_of_thou"
    ) as e:
        data.load(steps)
    assert len(e.value.problems) == 1
    data.load(written(tmp_path, f"prompt: {{{prompt}}}", "[zero_shot]"))


def test_a_stop_string_inside_wanted_answers_is_told(tmp_path: Path) -> None:
    told = "hold 'e', before which prompt.stop ends"
    found = data.load(written(tmp_path, 'prompt: {stop: ["zz", "e"]}', "[zero_shot]"))
    (said,) = [warning for warning in found.warnings if told in warning]
    n_yes = sum(row.output == "yes" for row in found.train)
    assert said.startswith(f"{n_yes} of {len(found.train)} wanted answers")
    for prompt in ('prompt: {stop: ["zz"]}', "prompt: {labels: [yes, no], stop: [e]}"):
        warnings = data.load(written(tmp_path, prompt, "[zero_shot]")).warnings
        assert not [warning for warning in warnings if "prompt.stop" in warning]
