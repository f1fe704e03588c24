"""Read a spec from a file: every problem at once, with `file:line:column` and the nearest key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from savile import registry
from savile.errors import Problem, UsageError
from savile.spec import constraint, requests, reward
from savile.spec import document as yaml
from savile.spec import ladder as grammar
from savile.spec.document import Document
from savile.spec.endpoint import NAMED, REACHED, short_name
from savile.spec.faults import Fault, Loc, clipped, from_pydantic, nearest, one_of, unknown_key
from savile.spec.model import Spec
from savile.spec.settings import check


def load(path: Path | str, overrides: Sequence[str] = ()) -> Spec:
    """Read and check a spec.

    Args:
        path: the YAML file; relative paths inside it resolve against its folder.
        overrides: `key.sub=value` texts of `--set`, checked like the file.

    Raises:
        UsageError: with all problems found, in the order of the file.
    """
    path = Path(path)
    document = yaml.read(path)
    if not isinstance(document.value, dict):
        what = "the spec is empty" if document.value is None else "the spec should be a mapping"
        fix = "Write at least `task: NAME` and `data: {file: FILE}`"
        raise UsageError([*document.problems, Problem(where=str(path), what=what, fix=fix)])
    for override in overrides:
        _apply(document, override)
    unread = constraint.read(document.value, path.parent)
    spec, faults = validate(document.value)
    faults = [*unread, *faults]
    if spec is not None:
        faults = [*faults, *reward.faults(spec.reward, path.parent)]
    problems = [*document.problems, *(document.problem(fault) for fault in faults)]
    if problems or spec is None:
        raise UsageError(sorted(problems, key=lambda p: _order(p.where)))
    spec._path = path
    return spec


def _order(where: str) -> tuple[Any, ...]:
    return tuple(int(piece) if piece.isdigit() else -1 for piece in where.split(":")[-2:])


def validate(tree: Mapping[str, Any]) -> tuple[Spec | None, list[Fault]]:
    """Return the spec that a plain tree stands for, or the faults."""
    tree = _without_nulls(tree, Spec)
    faults: list[Fault] = []
    ladder = tree.get("ladder", "auto")
    if ladder != "auto":
        candidates, wrong = grammar.parse(ladder)
        faults += wrong
        tree["ladder"] = [written(c) for c in candidates]
    tree["metric"], wrong = _metric(tree.get("metric"), ("metric",), _closed_set(tree))
    faults += [*wrong, *_also(tree)]
    try:
        spec = Spec.model_validate(tree)
    except ValidationError as error:
        return None, [*faults, *_section_faults(error)]
    faults += [*_ceiling(spec), *_twice(spec), *_judge(spec), *requests.faults(spec)]
    shape = spec.prompt
    faults += constraint.faults(shape.json_schema, shape.regex, bool(shape.labels))
    return (None, faults) if faults else (spec, [])


def _ceiling(spec: Spec) -> list[Fault]:
    """Check that a ceiling in USD has prices to be estimated from."""
    if spec.budget.usd is None:
        return []
    loc: Loc = ("budget", "usd")
    if not spec.endpoints:
        what = "'budget.usd' limits what is paid to endpoints, and every base is on this machine"
        return [Fault(loc, what, fix="Remove it")]
    unpriced = [endpoint.model for endpoint in spec.endpoints if endpoint.price is None]
    what = f"'budget.usd' needs the prices of every endpoint; {one_of(unpriced)} has none"
    fix = "Write price: {input: USD, output: USD}, per million tokens, into its section"
    return [Fault(loc, what, fix=fix)] if unpriced else []


def _judge(spec: Spec) -> list[Fault]:
    """Check that a judge stands beside a metric, and that its opponent is on the ladder."""
    faults: list[Fault] = []
    if spec.judge is None:
        return faults
    if spec.metric is None:
        what = "a judge never stands in the place of a metric, and 'metric' is not given"
        expected = f"metric: one of {one_of(registry.parts('metrics'))}"
        faults.append(Fault(("judge",), what, expected=expected))
    unknown = spec.ladder in ("auto", [])
    fault = None if unknown else spec.opponent_fault(spec.candidates(frozenset()))
    return [*faults, *filter(None, [fault])]


def _twice(spec: Spec) -> list[Fault]:
    """Check that the bases of a board can be told apart."""
    names = [short_name(base) for base in spec.bases or ()]
    return [
        Fault(("bases", index), f"the base '{name}' is named twice")
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def _without_nulls(tree: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return the tree without the keys that are known and empty: they have their defaults."""
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        field = model.model_fields.get(key)
        if field is None:
            kept[key] = value
        elif isinstance(value, Mapping) and (section := _section(field.annotation)):
            kept[key] = _without_nulls(value, section)
        elif value is not None:
            kept[key] = value
    return kept


def written(candidate: grammar.Candidate) -> Any:
    """Return a candidate as a ladder item with typed settings: parsing it gives the candidate."""
    parts = [*candidate.prompts, *candidate.deltas, *candidate.objectives]
    given = {name: _plain(settings) for name, settings in parts if settings}
    name = "+".join(piece.split("(")[0] for piece in _pieces(candidate.name))
    for alias, (part, implied) in grammar.ALIASES.items():
        if alias in name.split("+") and part in given:
            given[part] = {k: v for k, v in given[part].items() if implied.get(k) != v}
    given = {part: settings for part, settings in given.items() if settings}
    return {name: given} if given else name


def _pieces(label: str) -> list[str]:
    """Split a label at the `+` that are not inside parentheses."""
    pieces, depth = [""], 0
    for letter in label:
        depth += (letter == "(") - (letter == ")")
        if letter == "+" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}


def _closed_set(tree: Mapping[str, Any]) -> bool:
    prompt = tree.get("prompt")
    return isinstance(prompt, Mapping) and bool(prompt.get("labels"))


def _also(tree: dict[str, Any]) -> list[Fault]:
    """Check the metrics that stand beside the score, and write each as `metric` is written."""
    given = tree.get("also_metrics", [])
    if not isinstance(given, list | tuple):
        what = "'also_metrics' should be a list of metrics"
        return [Fault(("also_metrics",), what, clipped(given))]
    found, faults = [], []
    seen = {str(name) for name in [_name_of(tree.get("metric"))] if name is not None}
    for index, value in enumerate(given):
        loc: Loc = ("also_metrics", index)
        metric, wrong = _metric(value, loc, _closed_set(tree))
        faults += wrong
        if not wrong and (name := str(_name_of(metric))) in seen:
            faults.append(Fault(loc, f"metric '{name}' is there already", fix="Remove one of them"))
        seen.add(str(_name_of(metric)))
        found.append(metric)
    tree["also_metrics"] = found
    return faults


def _name_of(metric: Any) -> Any:
    return next(iter(metric), None) if isinstance(metric, Mapping) else metric


def _metric(value: Any, loc: Loc, closed_set: bool) -> tuple[Any, list[Fault]]:
    """Check a metric's name, its settings, and whether it fits a label set or free text."""
    if value is None:
        return None, []
    known = registry.parts("metrics")
    settings: Any = {}
    name = value
    if isinstance(value, Mapping) and len(value) == 1:
        name, settings = next(iter(value.items()))
        loc = (*loc, str(name))
    if not isinstance(name, str) or not isinstance(settings or {}, Mapping):
        return None, [Fault(loc, "a metric should be a name, or {name: settings}", clipped(value))]
    if name not in known:
        hint = nearest(name, known)
        expected = "" if hint else one_of(known)
        return None, [Fault(loc, f"unknown metric '{name}'{hint}", expected=expected)]
    unwanted = "text" if closed_set else "labels"
    if unwanted in known[name].needs:
        allowed = one_of(n for n, info in known.items() if unwanted not in info.needs)
        task = "a closed set of labels" if closed_set else "free text (prompt.labels is not given)"
        what = f"metric '{name}' does not fit {task}"
        return None, [Fault(loc, what, expected=f"one of {allowed}")]
    given, faults = check(known[name], settings or {}, loc)
    return ({name: _plain(given)} if given else name), faults


def _section_faults(error: ValidationError) -> list[Fault]:
    faults = []
    for entry in error.errors(include_url=False):
        loc = tuple(key for key in entry["loc"] if key not in (NAMED, REACHED))
        if entry["type"] == "extra_forbidden":
            faults.append(_elsewhere(unknown_key(loc, _fields_at(loc[:-1]))))
        else:
            faults.append(from_pydantic({**entry, "loc": loc}))
    return faults


def _elsewhere(fault: Fault) -> Fault:
    """Point an unknown key at the section or the technique that has it."""
    if not fault.expected:
        return fault
    key = str(fault.loc[-1])
    homes = {
        sub: f"{name}.{sub}"
        for name, field in Spec.model_fields.items()
        if (section := _section(field.annotation)) is not None
        for sub in section.model_fields
    }
    for axis in registry.AXES[:3]:
        for part, info in registry.parts(axis).items():
            home = f"ladder: [{{{part}: {{%s: …}}}}]"
            homes |= {s.name: home % s.name for s in info.settings if s.name not in homes}
    close = get_close_matches(key, homes, n=1, cutoff=0.8)
    if not close:
        return fault
    what = f"unknown key '{key}'; did you mean '{homes[close[0]]}'?"
    return fault._replace(what=what, expected="")


def _fields_at(loc: Loc) -> list[str]:
    """Return the keys of the section at `loc`."""
    model: type[BaseModel] = Spec
    for key in (key for key in loc if isinstance(key, str)):
        model = _section(model.model_fields[key].annotation) or model
    return list(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field holds, None when it holds a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)


def _apply(document: Document, override: str) -> None:
    """Set one `key.sub=value` in the tree, with `--set key.sub` as its place."""
    key, equals, text = override.partition("=")
    keys = tuple(piece.strip() for piece in key.split("."))
    name = f"--set {key.strip()}"
    if not equals or not all(keys):
        what = "should be key=value"
        document.problems.append(Problem(where="--set", what=what, found=clipped(override)))
        return
    value = yaml.parse(text, name, prefix=keys, fixed_place=True)
    target = document.value
    for piece in keys[:-1]:
        if not isinstance(target.get(piece), dict):
            target[piece] = {}
        target = target[piece]
    target[keys[-1]] = value.value
    for table in (document.keys, document.places):
        for loc in [loc for loc in table if loc[: len(keys)] == keys]:
            del table[loc]
    for length in range(1, len(keys) + 1):
        document.keys.setdefault(keys[:length], name)
        document.places.setdefault(keys[:length], name)
    document.keys |= value.keys
    document.places |= value.places
    document.problems += value.problems
