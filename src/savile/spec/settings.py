"""The settings of a part (prompt, delta, objective, metric) as a model, without importing it.

The registry gives each field's annotation as text; a small interpreter of the syntax tree turns
`Annotated[int, Ge(1), Le(1024)]`, `Literal["a", "b"]`, `tuple[str, ...] | None` into types. Nothing
is evaluated, so a spec is checked in milliseconds and torch is not imported.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import annotated_types
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from savile.registry import MISSING, PartInfo
from savile.spec.faults import Fault, Loc, from_pydantic, unknown_key

PLAIN: Mapping[str, Any] = {"float": float, "str": str, "bool": bool, "None": None, "Any": Any}
BOUNDS = ("Ge", "Gt", "Le", "Lt", "MinLen", "MaxLen", "MultipleOf", "Len", "Interval")


def whole(value: Any) -> Any:
    """Return texts such as `1e5` and `8.0` as whole numbers; refuse true and false as numbers."""
    if isinstance(value, bool):
        raise ValueError("should be a whole number, not true or false")
    if isinstance(value, str) and len(value) < 40:
        try:
            number = float(value)
        except ValueError:
            return value
        if number.is_integer() and not value.strip().lstrip("+-").isdigit():
            return int(number)
    return value


def real(value: Any) -> Any:
    """Return YAML's `.nan` and `.inf` as numbers, so that they are refused as not finite."""
    if isinstance(value, str) and value.lower().lstrip("+-") in (".nan", ".inf"):
        return float(value.replace(".", ""))
    return value


def closed_set(value: Any) -> Any:
    """Return a closed set of answers as a tuple; refuse what is no list of different texts."""
    if isinstance(value, str):
        if value == "auto":
            return value
        raise ValueError(f"'labels' should be a list, or auto, not the text '{value}'")
    if not isinstance(value, (list, tuple)):
        return value
    for label in value:
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"'labels' holds {label!r}, which is not a text; quote it")
    repeated = sorted({label for label in value if list(value).count(label) > 1})
    if repeated:
        raise ValueError(f"'labels' holds {repeated[0]!r} twice")
    if len(value) < 2:
        raise ValueError("'labels' should have at least two labels")
    return tuple(value)


def stop_strings(value: Any) -> Any:
    """Return stop strings as a tuple; refuse what is no list of texts that can end an answer."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"'stop' should be a list of texts, such as [{value!r}]")
    for one in value:
        if not isinstance(one, str):
            raise ValueError(f"'stop' holds {one!r}, which is not a text; quote it")
        if not one:
            raise ValueError("'stop' holds an empty text, which would end every answer at once")
    return tuple(dict.fromkeys(value))


def as_delimiter(value: Any) -> Any:
    """Return the letter that a delimiter's name stands for."""
    return {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(value, value)


WHOLE = BeforeValidator(whole)
REAL = BeforeValidator(real)
NUMBERS: Mapping[str, tuple[type, BeforeValidator]] = {"int": (int, WHOLE), "float": (float, REAL)}


def model_of(info: PartInfo) -> type[BaseModel]:
    """Return the pydantic model of a part's settings, with its docs as descriptions."""
    fields: dict[str, Any] = {}
    for setting in info.settings:
        default = ... if setting.default is MISSING else setting.default
        kind = resolve(ast.parse(setting.annotation, mode="eval").body)
        fields[setting.name] = (kind, Field(default=default, description=setting.doc or None))
    config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    return create_model(info.class_name, __config__=config, __doc__=info.summary, **fields)


def resolve(node: ast.expr) -> Any:
    """Return the type that an annotation's syntax tree stands for; `Any` when it is not known."""
    if isinstance(node, ast.Constant):
        return None if node.value is None else Any
    if isinstance(node, ast.Name):
        return Annotated[NUMBERS[node.id]] if node.id in NUMBERS else PLAIN.get(node.id, Any)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return functools.reduce(
            operator.or_, [_optional(resolve(n)) for n in (node.left, node.right)]
        )
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return Any
    return _subscript(node.value.id, _items(node.slice))


def _optional(kind: Any) -> Any:
    return type(None) if kind is None else kind


def _items(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _subscript(name: str, items: list[ast.expr]) -> Any:
    if name == "Literal":
        values = tuple(ast.literal_eval(item) for item in items)
        by_text = {str(value): value for value in values}
        as_written = BeforeValidator(lambda v: by_text.get(v, v) if isinstance(v, str) else v)
        return Annotated[Literal[values], as_written]
    if name == "Annotated":
        metadata = [bound for item in items[1:] if (bound := _bound(item)) is not None]
        return _bounded(items[0], metadata)
    if name in ("tuple", "list", "Sequence"):
        return tuple[resolve(items[0]), ...]  # type: ignore[misc]
    if name in ("dict", "Mapping") and len(items) == 2:
        return dict[str, resolve(items[1])]  # type: ignore[misc]
    return Any


def _bounded(node: ast.expr, metadata: list[Any]) -> Any:
    """Put bounds inside the reading of texts as numbers, so that the schema shows them."""
    if isinstance(node, ast.Name) and node.id in NUMBERS:
        kind, reading = NUMBERS[node.id]
        return Annotated[(kind, *metadata, reading)]
    return Annotated[(resolve(node), *metadata)] if metadata else resolve(node)


def _bound(node: ast.expr) -> Any:
    if not isinstance(node, ast.Call):
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    keywords = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg is not None}
    if name == "Field":
        known = ("gt", "ge", "lt", "le", "min_length", "max_length", "multiple_of", "pattern")
        return Field(**{key: value for key, value in keywords.items() if key in known})
    if name not in BOUNDS:
        return None
    return getattr(annotated_types, name)(*map(ast.literal_eval, node.args), **keywords)


def explained(fault: Fault, info: PartInfo) -> Fault:
    """Return the fault of a part's setting with what the setting is, which tells its limits."""
    docs = {setting.name: setting.doc for setting in info.settings}
    return fault._replace(fix=fault.fix or docs.get(str(fault.loc[-1]), ""))


def check(info: PartInfo, given: Mapping[str, Any], loc: Loc) -> tuple[dict[str, Any], list[Fault]]:
    """Validate the settings given for one part.

    Returns:
        the given settings with their types (defaults are not added), and the faults found.
    """
    model = model_of(info)
    try:
        checked = model.model_validate(dict(given))
    except ValidationError as error:
        names = list(model.model_fields)
        entries = error.errors(include_url=False)
        return {}, [
            unknown_key((*loc, *entry["loc"]), names)
            if entry["type"] == "extra_forbidden"
            else explained(from_pydantic(entry, loc), info)
            for entry in entries
        ]
    return checked.model_dump(include=set(given)), []
