"""The architecture's layer table, held to the code by its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "savile"
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"types", "errors", "registry"}),
    frozenset({"spec", "data", "metrics", "prompts", "retrieval", "store", "stats"}),
    frozenset({"lm"}),
    frozenset({"deltas", "objectives"}),
    frozenset(
        {
            "technique",
            "joined",
            "judge",
            "job",
            "masters",
            "dev",
            "train",
            "copies",
            "chain",
            "predict",
            "meter",
        }
    ),
    frozenset({"ladder"}),
    frozenset({"advise", "report", "export", "serve"}),
    frozenset({"handover", "cli", "api", "__main__", "__init__"}),
)
SHARED_LAYERS = frozenset({1, 4, 7})
"""Layers whose members may import each other, as long as no cycle arises."""
AXES = frozenset({"prompts", "deltas", "objectives", "metrics"})
PARTS = AXES | {"export"}
HEAVY = frozenset({"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub"})
FORBIDDEN = frozenset({"pickle", "dill", "marshal", "shelve", "yaml", "peft", "trl", "datasets"})
LATE_IMPORTS = frozenset({"registry", "cli"})
UNSAFE_CALLS = frozenset({"eval", "exec", "torch.load", "torch.save", "os.system"})
RUNS_THE_USERS_FILE = ("ladder", "function")
"""The one module that runs a file: the reward that the user's own spec names."""
MODULES = sorted(SRC.rglob("*.py"))


def parts_of(path: Path) -> tuple[str, ...]:
    """`src/savile/lm/tree.py` -> ("lm", "tree"); a package is its folder."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts


def layer_of(top: str) -> int:
    found = [number for number, names in enumerate(LAYERS) if top in names]
    assert found, f"{top} has no layer: give it a place in LAYERS"
    return found[0]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported dotted name, `from a import b` as `a.b`, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imports_in_functions(tree: ast.AST) -> list[int]:
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    kinds = (ast.Import, ast.ImportFrom)
    return [n.lineno for f in functions for n in ast.walk(f) if isinstance(n, kinds)]


def wrong_import(own: tuple[str, ...], name: str) -> str | None:
    """Return why module `own` may not import `name`, or None."""
    first, *rest = name.split(".")
    if first in FORBIDDEN:
        return "is not for the runtime"
    layer = layer_of(own[0])
    if first in HEAVY and layer < 2:
        return f"from layer {layer}; heavy libraries start at layer 2"
    if first != "savile" or own == ("__init__",) or rest in ([], ["__version__"]):
        return None
    if rest[0] == own[0]:
        sibling = own[0] in PARTS and len(rest) > 1 and rest[1].split("_")[0] != "base"
        return "is a sibling; a part imports only its base files" if sibling else None
    if own[0] in AXES and rest[0] in AXES:
        return "is another axis"
    other = layer_of(rest[0])
    if other < layer or (other == layer and layer in SHARED_LAYERS):
        return None
    return f"from layer {layer} is not downward"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(parts_of(path)))
def test_module_stays_in_its_layer(path: Path) -> None:
    own, tree = parts_of(path), ast.parse(path.read_text(encoding="utf-8"))
    problems = [
        f"line {line}: {name} {reason}"
        for line, name in imports(tree)
        if (reason := wrong_import(own, name)) is not None
    ]
    if own[0] not in LATE_IMPORTS:
        problems += [f"line {n}: import inside a function" for n in imports_in_functions(tree)]
    assert not problems, "\n".join(problems)


def test_no_import_cycle() -> None:
    trees = {parts_of(p): ast.parse(p.read_text(encoding="utf-8")) for p in MODULES}
    graph = {
        own: {found for _, name in imports(tree) if (found := target(name, set(trees))) != own}
        for own, tree in trees.items()
        if own[0] not in LATE_IMPORTS and own != ("__init__",)
    }
    assert cycle(graph) == []


def test_a_cycle_would_be_named() -> None:
    assert cycle({("a",): {("b",)}, ("b",): {("c",)}, ("c",): {("b",)}}) == [("b",), ("c",), ("b",)]


def cycle(graph: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """The modules of a cycle in the order of their imports, empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[tuple[str, ...]] = error.args[1][::-1]
        return found
    return []


def target(name: str, known: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The module of ours that a dotted name lives in; () for other libraries."""
    parts = tuple(name.split("."))
    if parts[0] != "savile":
        return ()
    return next((parts[1:n] for n in range(len(parts), 1, -1) if parts[1:n] in known), ())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(parts_of(path)))
def test_module_runs_nothing_it_was_given(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    allowed = {"exec"} if parts_of(path) == RUNS_THE_USERS_FILE else set()
    forbidden = UNSAFE_CALLS - allowed
    unsafe = [f"line {c.lineno}" for c in calls if ast.unparse(c.func) in forbidden]
    shell = [f"line {c.lineno}" for c in calls for k in c.keywords if k.arg == "shell"]
    assert not unsafe + shell


@pytest.mark.parametrize(
    ("own", "name", "allowed"),
    [
        (("ladder", "run"), "savile.predict", True),
        (("predict",), "savile.ladder.run", False),
        (("train",), "savile.predict", True),
        (("stats",), "savile.technique", False),
        (("data", "load"), "torch.nn", False),
        (("deltas", "lora"), "savile.deltas.base", True),
        (("deltas", "lora"), "savile.deltas.full", False),
        (("objectives", "dpo"), "savile.objectives.base_pairs.FromPairs", True),
        (("objectives", "base_pairs"), "savile.objectives.dpo.DPO", False),
        (("objectives", "sft"), "savile.deltas.base", False),
        (("report", "html"), "savile.export.peft", False),
        (("export", "merged"), "savile.export.base", True),
        (("export", "merged"), "savile.export.peft", False),
        (("export", "base"), "savile.deltas.base.Attached", True),
        (("lm", "load"), "peft", False),
    ],
)
def test_rule_itself(own: tuple[str, ...], name: str, allowed: bool) -> None:
    assert (wrong_import(own, name) is None) == allowed
