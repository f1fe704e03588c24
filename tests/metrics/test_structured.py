"""JSON fields and regular expressions."""

import pytest

from savile.errors import UsageError
from savile.metrics.json_fields import JsonFields
from savile.metrics.regex import Regex


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"name": "Ann", "age": 3}', 1.0),
        ('Sure:\n```json\n{"age": 3.0, "name": "Ann"}\n```', 1.0),
        ('{"name": "Ann"}', 0.5),
        ('{"name": "Ann", "age": 3, "extra": 1}', 2 / 3),
        ('{"name": "Ann", "age": true}', 0.5),
        ("{broken", 0.0),
        ('{ not this, {"name": "Ann", "age": 3}', 1.0),
        ("no object", 0.0),
        (None, 0.0),
    ],
)
def test_share_of_right_fields(answer: str | None, expected: float) -> None:
    reference = '{"name": "Ann", "age": 3}'
    assert JsonFields().score([answer], [[reference]], ()) == pytest.approx(expected)


def test_only_the_named_fields_count() -> None:
    metric = JsonFields(fields=("age",))
    assert metric.score(['{"age": 3, "name": 1}'], [['{"age": 3, "name": "Ann"}']], ()) == 1.0


def test_nested_values_are_compared_as_json() -> None:
    reference = '{"a": {"x": [1, {"y": null}]}}'
    assert JsonFields().score(['{"a": {"x": [1.0, {"y": null}]}}'], [[reference]], ()) == 1.0
    assert JsonFields().score(['{"a": {"x": [true, {"y": null}]}}'], [[reference]], ()) == 0.0


def test_deep_nesting_is_wrong_and_no_crash() -> None:
    assert JsonFields().score(['{"a":' * 100_000], [['{"a": 1}']], ()) == 0.0


def test_regex_compares_the_last_match() -> None:
    metric = Regex(pattern=r"Answer: (\w+)")
    answers = ["Answer: no. Answer: Yes", "Yes", "Answer: yes", None]
    assert metric.statistics(answers, [["Answer: Yes"]] * 4, ())[:, 0].tolist() == [1, 0, 0, 0]
    assert metric.score(["Answer: Yes"], [["Yes"]], ()) == 1.0
    folded = Regex(pattern=r"Answer: (\w+)", ignore_case=True)
    assert folded.score(["answer: yes"], [["Yes"]], ()) == 1.0


def test_a_pattern_that_does_not_compile_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"metric\.regex\.pattern"):
        Regex(pattern="(")
