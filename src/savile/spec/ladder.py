"""The ladder's grammar: `few_shot+lora` and its settings become candidates.

    item     = name | [part, ...] | {name: settings}          name = part ("+" part)*
    settings = {setting: value} | {part: {setting: value}}        the second when a key is ambiguous
    value    = what the setting takes, or a list of that: a technique for each (`sweep.py`)

A candidate is prompt x delta x objective. Objectives are a chain, trained one after the other in
the order they are written: `lora+sft+dpo`. A delta without an objective is trained with `sft`, an
objective without a delta trains `full`, `one_shot` is `few_shot` with k = 1. `[lora, sft, dpo]` is
another way to write the name. What a candidate needs
follows from its parts (`needs`, changed by a prompt's `replaces`), never from a table of pairs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from savile import registry
from savile.registry import PartInfo
from savile.spec.faults import Fault, Loc, clipped, nearest, one_of
from savile.spec.settings import check
from savile.spec.sweep import size, too_many, variants
from savile.spec.together import crowded, no_policy

Part = tuple[str, dict[str, Any]]
ALIASES: Mapping[str, Part] = {"one_shot": ("few_shot", {"k": 1})}
"""Names of the literature that are another part with a setting."""
MAX_ITEMS = 200
BASE_GIVES: Mapping[str, tuple[str, ...]] = {"deltas": ("parameters",)}
"""What the base class of an axis gives, for the parts that do not say otherwise."""
BASE_NEEDS: Mapping[str, tuple[str, ...]] = {"deltas": ("weights",)}
"""What every part of an axis needs from the base model."""
MISSING_DATA: Mapping[str, str] = {
    "pairs": "train rows with an input and an output (data.train or data.file)",
    "rationales": "worked steps in every train row (data.rationale: the column that holds them)",
    "system": "a system prompt (prompt.system)",
    "labels": "a closed set of answers (prompt.labels)",
    "json_schema": "a schema of the answers (prompt.json_schema)",
    "regex": "an expression that answers match (prompt.regex)",
    "answers_alone": "answers without steps, since all that is written is held to one shape",
    "json_replies": "a base here, or an endpoint with api: chat, which takes a JSON schema",
    "scored_labels": "labels that are scored, and written steps are not (leave the steps out)",
    "preferences": "preference pairs (rows with chosen and rejected, or data.preferences)",
    "feedback": "judged answers (data.preferences: chosen and rejected, or answers with a label)",
    "reasoned_preferences": "preference pairs whose chosen answers all show steps, then "
    "prompt.answer_marker and the answer",
    "reasoned_feedback": "judged answers of which the wanted ones all show steps, then "
    "prompt.answer_marker and the answer",
    "reward": "a reward: rows with wanted answers for the metric, or 'reward' earlier in the chain",
    "teacher": "a model to learn from (teacher)",
    "weights": "a base whose weights are here, not behind an API",
    "plain_weights": "a base that is not quantized (leave compute.quantization out)",
}
"""What to give when a need is not met."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One technique with its settings: a row of the board."""

    name: str
    """Unique label; only settings that the spec gives stand in parentheses."""
    prompts: tuple[Part, ...] = ()
    """(part, settings) in order; an empty chain is zero-shot."""
    deltas: tuple[Part, ...] = ()
    """(part, settings) of what trains, together; empty for a prompt."""
    objectives: tuple[Part, ...] = ()
    """(part, settings) in the order they are trained; empty for a prompt."""
    needs: frozenset[str] = frozenset()
    """What the data must give."""
    reason: str | None = None
    """Why it cannot run with what the data give."""
    base: int = 0
    """Which of the spec's bases it stands on; the teacher's comes after them."""

    @property
    def demonstrations(self) -> int:
        """Train rows that the prompt shows (`k` of few_shot), 0 when it shows none."""
        return max((int(settings.get("k", 0)) for _, settings in self.with_defaults), default=0)

    @property
    def with_defaults(self) -> tuple[Part, ...]:
        """The prompts with every setting, defaults included."""
        return tuple(_filled("prompts", part) for part in self.prompts)

    @property
    def every_setting(self) -> tuple[Part, ...]:
        """All parts, prompts first, with every setting, defaults included."""
        deltas = (_filled("deltas", part) for part in self.deltas)
        objectives = (_filled("objectives", part) for part in self.objectives)
        return (*self.with_defaults, *deltas, *objectives)

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings of every part by its name, as the board shows them."""
        return dict(self.every_setting)


def _filled(axis: registry.Axis, part: Part) -> Part:
    name, settings = part
    return name, {s.name: s.default for s in registry.parts(axis)[name].settings} | settings


def parse(ladder: Any, loc: Loc = ("ladder",)) -> tuple[list[Candidate], list[Fault]]:
    """Return the candidates of a written ladder, and everything that is wrong with it."""
    if not isinstance(ladder, Sequence) or isinstance(ladder, str):
        what = "'ladder' should be 'auto' or a list of techniques"
        return [], [Fault(loc, what, found=clipped(ladder))]
    parts = {name: part for name, (part, _) in ALIASES.items()}
    sizes = [size(item, parts) for item in ladder]
    if not 0 < sum(sizes) <= MAX_ITEMS:
        return [], [too_many(sizes, MAX_ITEMS, loc)]
    items = [(n, one) for n, item in enumerate(ladder) for one in variants(item, parts)]
    candidates: list[Candidate] = []
    faults: list[Fault] = []
    first_at: dict[str, int] = {}
    for index, item in items:
        candidate, wrong = _item(item, (*loc, index))
        faults += wrong
        if candidate is None:
            continue
        content = fingerprint(candidate)
        if content in first_at:
            what = f"'{candidate.name}' is the same technique as item {first_at[content] + 1}"
            faults.append(Fault((*loc, index), what, fix="Remove one of them"))
        first_at.setdefault(content, index)
        candidates.append(candidate)
    return candidates, list(dict.fromkeys(faults))


def fingerprint(candidate: Candidate) -> str:
    """Return a text that is equal for candidates that do the same thing."""
    content = [part for part in candidate.every_setting if part[0] != "zero_shot"]
    return json.dumps(content, sort_keys=True, default=str)


def _item(item: Any, loc: Loc) -> tuple[Candidate | None, list[Fault]]:
    if isinstance(item, Mapping) and len(item) == 1:
        written, settings = next(iter(item.items()))
        loc = (*loc, str(written))
        if settings is None:
            settings = {}
        if not isinstance(settings, Mapping):
            what = f"the settings of '{written}' should be a section"
            return None, [
                Fault(loc, what, found=clipped(settings), fix=f"Write {{{written}: {{…}}}}")
            ]
    elif isinstance(item, str):
        written, settings = item, {}
    elif isinstance(item, list) and item and all(isinstance(name, str) for name in item):
        written, settings = "+".join(item), {}
    else:
        what = "a technique should be a name such as few_shot+lora, or {name: settings}"
        return None, [Fault(loc, what, found=clipped(item))]
    names = [name.strip() for name in str(written).split("+")]
    parts = [(ALIASES.get(name, (name, {}))[0], name) for name in names]
    faults = _wrong_names(parts, loc)
    if faults:
        return None, faults
    infos = [info for name, _ in parts if (info := registry.find(name)) is not None]
    given, faults = _settings(infos, names, settings, loc)
    return (None if faults else _build(infos, names, given)), faults


def _wrong_names(parts: Sequence[tuple[str, str]], loc: Loc) -> list[Fault]:
    known = [name for axis in registry.AXES[:3] for name in registry.parts(axis)]
    faults = []
    for name, written in parts:
        if registry.find(name) is None:
            choices = [*known, *ALIASES]
            hint = nearest(written, choices)
            what = f"unknown technique '{written}'{hint}"
            faults.append(Fault(loc, what, expected="" if hint else one_of(choices), at_key=True))
    names = [name for name, _ in parts]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            faults.append(Fault(loc, f"'{name}' occurs twice in one technique", at_key=True))
    return faults


def _settings(
    infos: Sequence[PartInfo], written: Sequence[str], settings: Mapping[str, Any], loc: Loc
) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
    """Give every setting to the part that owns it, then validate each part's."""
    raw: dict[str, dict[str, Any]] = {info.name: {} for info in infos}
    inside: dict[str, Loc] = {info.name: loc for info in infos}
    faults: list[Fault] = []
    for key, value in settings.items():
        owners = [info.name for info in infos if key in {s.name for s in info.settings}]
        if key in raw and isinstance(value, Mapping):
            raw[key] |= value
            inside[key] = (*loc, key)
        elif len(owners) == 1:
            raw[owners[0]][key] = value
        elif owners:
            fix = "Write " + " or ".join(f"{{{owner}: {{{key}: …}}}}" for owner in owners)
            what = f"'{key}' could belong to {' or '.join(owners)}"
            faults.append(Fault((*loc, key), what, fix=fix, at_key=True))
        else:
            choices = [s.name for info in infos for s in info.settings]
            hint = nearest(str(key), choices)
            expected = "" if hint else (one_of(choices) or "no settings")
            what = f"unknown key '{key}'{hint}"
            faults.append(Fault((*loc, str(key)), what, expected=expected, at_key=True))
    given: dict[str, dict[str, Any]] = {}
    for info, name in zip(infos, written, strict=True):
        given[info.name], wrong = check(info, raw[info.name], inside[info.name])
        faults += wrong
        if name in ALIASES:
            given[info.name] = ALIASES[name][1] | given[info.name]
    return given, faults


def _build(
    infos: Sequence[PartInfo], written: Sequence[str], given: Mapping[str, dict[str, Any]]
) -> Candidate:
    chosen = {axis: [i for i in infos if i.axis == axis] for axis in registry.AXES}
    deltas = tuple((i.name, given[i.name]) for i in chosen["deltas"])
    objectives = tuple((i.name, given[i.name]) for i in chosen["objectives"])
    if deltas and not objectives:
        objectives = (("sft", {}),)
    if objectives and not deltas:
        deltas = (("full", {}),)
    return Candidate(
        name=_label(infos, written, given),
        prompts=tuple((i.name, given[i.name]) for i in chosen["prompts"]),
        deltas=deltas,
        objectives=objectives,
        needs=_needs(chosen["prompts"], (*deltas, *objectives)),
        reason=crowded(chosen["deltas"], "base")
        or crowded(chosen["prompts"], "prompt")
        or no_policy(objectives),
    )


def _label(
    infos: Sequence[PartInfo], written: Sequence[str], given: Mapping[str, dict[str, Any]]
) -> str:
    labels = []
    for info, name in zip(infos, written, strict=True):
        implied = ALIASES[name][1] if name in ALIASES else {}
        order = [s.name for s in info.settings]
        shown = {k: v for k, v in given[info.name].items() if k not in implied or v != implied[k]}
        inner = ", ".join(f"{k}={_shown(shown[k])}" for k in sorted(shown, key=order.index))
        labels.append(f"{name}({inner})" if inner else name)
    return "+".join(labels)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value)


def _needs(prompts: Sequence[PartInfo], trained: Sequence[Part]) -> frozenset[str]:
    """Return what the data must give: what a part needs and none before it gives."""
    found = [registry.find(name) for name, _ in trained]
    infos = [*prompts, *(info for info in found if info is not None)]
    needs: set[str] = set()
    given: set[str] = set()
    for info in infos:
        for need in (*info.needs, *BASE_NEEDS.get(info.axis, ())):
            for other in prompts:
                if other is not info and need not in info.facts.get("replaces", {}):
                    need = other.facts.get("replaces", {}).get(need, need)
            if need not in given:
                needs.add(need)
        given.update(info.facts.get("gives", BASE_GIVES.get(info.axis, ())))
    return frozenset(needs)


def reason(needs: frozenset[str], gives: frozenset[str]) -> str | None:
    """Return why a candidate with these needs cannot run, None when it can."""
    missing = sorted(needs - gives)
    if not missing:
        return None
    return "needs " + " and ".join(MISSING_DATA.get(need, need) for need in missing)


def auto(gives: frozenset[str], n_train: int | None) -> list[Any]:
    """Return the ladder written by `auto`: from a bare prompt to the deltas.

    Args:
        gives: what the data give (`pairs`, `rationales`, `system`, `labels`).
        n_train: train rows, None when not known yet.
    """
    known = registry.parts("deltas")
    deltas = [name for name, part in known.items() if part.facts.get("in_auto", True)]
    items: list[Any] = ["zero_shot", "one_shot"]
    items += [{"few_shot": {"k": k}} for k in (8, 16) if _enough(k, n_train)]
    if "system" in gives:
        items += ["system", {"system+few_shot": {"k": _largest(8, n_train)}}]
    if "rationales" in gives:
        items += ["chain_of_thought", {"few_shot+chain_of_thought": {"k": _largest(8, n_train)}}]
    items += deltas
    if "lora" in deltas:
        if n_train is None or n_train > 1:  # what is shown is not trained on
            k = _largest(4, None if n_train is None else n_train - 1)
            items += [{"few_shot+lora": {"few_shot": {"k": k}}}]
        items += ["chain_of_thought+lora"] if "rationales" in gives else []
    return items


def _enough(k: int, n_train: int | None) -> bool:
    """k = 16 only from 64 train rows on (fewer rows would all be shown); k = 8 needs 8."""
    return n_train is None or n_train >= (64 if k == 16 else k)


def _largest(k: int, n_train: int | None) -> int:
    return k if n_train is None else max(1, min(k, n_train))
