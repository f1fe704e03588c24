"""Settings, schema and catalog follow from the parts' files, for every part that exists."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from savile import registry
from savile.spec.catalog import techniques
from savile.spec.schema import json_schema
from savile.spec.settings import check, model_of, resolve

PARTS = [(axis, name) for axis in registry.AXES for name in registry.parts(axis)]


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("Annotated[int, Ge(1), Le(8)]", ["1", 8, "8.0", "1e0"], [0, 9, "x", True, 1.5, None]),
        ("Annotated[float, Gt(0.0)]", ["1e-3", 1], [0, "-1", ".nan", "inf"]),
        ("Literal['a', 'b']", ["a"], ["c", None]),
        ("Literal[1, 2]", ["1", 2], ["3"]),
        ("int | None", ["3", None], ["x"]),
        ("tuple[str, ...]", [["a", "b"], []], ["ab", [1, None]]),
        ("bool", ["true", False], ["maybe"]),
        ("str", ["x", ""], [1, None]),
        ("dict[str, float]", [{"a": "1"}], [{"a": "x"}]),
        ("Annotated[str, MinLen(1)]", ["x"], [""]),
    ],
)
def test_annotations_become_types(annotation: str, good: list[Any], bad: list[Any]) -> None:
    kind = resolve(ast.parse(annotation, mode="eval").body)
    adapter = TypeAdapter(kind, config={"allow_inf_nan": False})
    for value in good:
        adapter.validate_python(value)
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


@pytest.mark.parametrize(("axis", "name"), PARTS)
def test_defaults_of_every_part_are_valid(axis: registry.Axis, name: str) -> None:
    info = registry.parts(axis)[name]
    defaults = {s.name: s.default for s in info.settings if s.default is not registry.MISSING}
    checked, faults = check(info, defaults, ("ladder", 0))
    required = [s.name for s in info.settings if s.default is registry.MISSING]
    assert [fault.loc[-1] for fault in faults] == required
    assert required or checked == defaults


@pytest.mark.parametrize(("axis", "name"), PARTS)
def test_every_setting_has_a_type_that_is_known(axis: registry.Axis, name: str) -> None:
    for field in model_of(registry.parts(axis)[name]).model_fields.values():
        assert field.annotation is not Any


def test_unknown_settings_are_refused_with_the_nearest() -> None:
    _, faults = check(registry.parts("prompts")["few_shot"], {"selektion": "random"}, ("ladder", 0))
    assert "did you mean 'selection'?" in faults[0].what


def test_the_catalog_lists_every_part() -> None:
    found = json.loads(json.dumps(techniques(), allow_nan=False))
    assert {(entry["axis"], entry["name"]) for entry in found} == set(PARTS)
    few_shot = next(entry for entry in found if entry["name"] == "few_shot")
    assert few_shot["settings"][0]["default"] == 8
    assert few_shot["source"].startswith("Brown et al. 2020")


def test_the_schema_knows_every_section_and_part() -> None:
    schema = json.loads(json.dumps(json_schema(), allow_nan=False))
    assert {"task", "data", "prompt", "ladder", "metric"} <= set(schema["properties"])
    for axis, name in PARTS:
        assert f"{axis}.{name}" in schema["$defs"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["prompts.few_shot"]["properties"]["k"]["anyOf"][0]["maximum"] == 1024
    assert schema["$defs"]["DataSection"]["properties"]["leak"]["description"]
    references = json.dumps(schema).count("#/$defs/")
    assert references >= len(PARTS)
