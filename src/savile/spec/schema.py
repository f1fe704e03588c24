"""The JSON schema of a spec, for editors: the model's fields, and every part by discovery."""

from __future__ import annotations

from typing import Any

from savile import registry
from savile.registry import Axis
from savile.spec.ladder import ALIASES
from savile.spec.model import Spec
from savile.spec.settings import model_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema of `task.yaml`, every part's settings included."""
    schema = Spec.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    for axis in registry.AXES:
        for name, info in registry.parts(axis).items():
            part = model_of(info).model_json_schema()
            definitions |= part.pop("$defs", {})
            part["title"] = name
            if axis != "metrics":
                part["properties"] = {k: _swept(v) for k, v in part["properties"].items()}
            part["description"] = info.summary
            definitions[f"{axis}.{name}"] = part
    properties = schema["properties"]
    properties["ladder"] = _ladder(properties["ladder"].get("description", ""))
    properties["metric"] = _metric(properties["metric"].get("description", ""))
    also = properties["also_metrics"]
    also["items"] = {"anyOf": _metric("")["anyOf"][:2]}
    return {"$schema": DIALECT, **schema, "title": "A Savile task"}


def _swept(setting: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a setting or of a list of its values, each a technique."""
    if setting.get("type") not in ("integer", "number", "string", "boolean"):
        return setting
    about = {k: v for k, v in setting.items() if k in ("title", "description", "default")}
    one = {k: v for k, v in setting.items() if k not in about}
    return {**about, "anyOf": [one, {"type": "array", "minItems": 1, "items": one}]}


def _ladder(description: str) -> dict[str, Any]:
    names = [name for axis in registry.AXES[:3] for name in registry.parts(axis)] + [*ALIASES]
    joined = "|".join(names)
    pattern = f"^({joined})(\\+({joined}))*$"
    settings = {
        name: {"$ref": f"#/$defs/{axis}.{name}"}
        for axis in registry.AXES[:3]
        for name in registry.parts(axis)
    }
    settings |= {alias: settings[part] for alias, (part, _) in ALIASES.items()}
    with_settings = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": settings,
        "patternProperties": {r"\+": {"type": "object"}},
        "additionalProperties": False,
    }
    item = {"anyOf": [{"enum": names}, {"type": "string", "pattern": pattern}, with_settings]}
    choices = [{"const": "auto"}, {"type": "array", "minItems": 1, "items": item}]
    return {"description": description, "default": "auto", "anyOf": choices}


def _metric(description: str) -> dict[str, Any]:
    axis: Axis = "metrics"
    names = list(registry.parts(axis))
    by_name = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {name: {"$ref": f"#/$defs/{axis}.{name}"} for name in names},
        "additionalProperties": False,
    }
    choices = [{"enum": names}, by_name, {"type": "null"}]
    return {"description": description, "default": None, "anyOf": choices}
