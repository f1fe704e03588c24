"""A tree holds every path of its sequences, each shared token once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from savile.lm.layout import plan
from savile.lm.tree import Paths, Tree, build

tokens = st.integers(0, 3)  # few different tokens, so that paths share and nest
prompts = st.lists(tokens, min_size=1, max_size=6)
completions = st.lists(st.lists(tokens, min_size=1, max_size=4), max_size=4)
some_groups = st.lists(st.builds(Paths, prompts, completions, st.none()), min_size=1, max_size=6)


def ids(tree: Tree, node: int) -> list[int]:
    return [int(tree.tokens[n]) for n in tree.path(node)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(some_groups)
def test_every_path_is_in_the_tree(groups: list[Paths]) -> None:
    tree = build(groups)
    targets, sequence = tree.targets, 0
    for group, end in zip(groups, tree.ends, strict=True):
        assert ids(tree, int(end)) == list(group.prompt)
        for completion in group.completions:
            rows = np.flatnonzero(targets.sequence == sequence)
            assert targets.token[rows].tolist() == list(completion)
            for at, row in enumerate(rows):
                wanted = [*group.prompt, *completion[:at]]
                assert ids(tree, int(targets.source[row])) == wanted
            sequence += 1
    assert tree.sequences == sequence
    assert tree.separate_tokens == sum(
        len(g.prompt) + len(c) for g in groups for c in g.completions
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(some_groups)
def test_the_packing_keeps_its_promises(groups: list[Paths]) -> None:
    tree = build(groups)
    n = len(tree)
    nodes = {tuple(ids(tree, node)) for node in range(n)}
    assert len(nodes) == n  # no sibling twice
    paths = [[*g.prompt, *c[:-1]] for g in groups for c in (g.completions or [[0]])]
    assert nodes == {tuple(path[: i + 1]) for path in paths for i in range(len(path))}
    assert (tree.parent < np.arange(n)).all()
    assert all(tree.depth[i] == len(tree.path(i)) - 1 for i in range(n))
    assert tree.parent[: tree.stem].tolist() == list(range(-1, tree.stem - 1))
    children = [int((tree.parent == node).sum()) for node in range(n)]
    assert all(children[node] == 1 for node in range(tree.stem - 1))
    if tree.stem < n:  # the stem is as long as it can be
        tops = int((tree.parent == tree.stem - 1).sum())
        assert tops == len(tree.branches) > 1
    at = tree.stem
    for start, end in tree.branches:
        assert start == at < end
        assert tree.parent[start] == tree.stem - 1
        assert (tree.parent[start + 1 : end] >= start).all()
        at = end
    assert at == n


@settings(max_examples=40, deadline=None, derandomize=True)
@given(some_groups, st.integers(0, 3))
def test_the_plan_lets_a_token_see_its_ancestors_alone(groups: list[Paths], root: int) -> None:
    tree = build(groups)
    layout = plan(tree, torch.device("cpu"), root)
    assert layout.stem == root + tree.stem
    assert layout.depth.tolist() == [*range(root), *(tree.depth + root)]
    packed = [i for block in layout.blocks for i in block.rows.flatten()[block.real].tolist()]
    assert packed == list(range(root + tree.stem, root + len(tree)))
    branches = iter(tree.branches)
    for block in layout.blocks:
        for allowed in block.mask == 0:
            start, end = next(branches)
            for t in range(end - start):
                seen = torch.nonzero(allowed[t]).flatten() + start
                assert seen.tolist() == [n for n in tree.path(start + t) if n >= start]
        assert bool((block.mask == 0).any(-1).all())  # padding sees something: no softmax is empty
    assert next(branches, None) is None


def test_weights_follow_their_completions() -> None:
    tree = build([Paths([1], [[2, 3], [4]], [0.5, 2.0]), Paths([5], [[6]])])
    assert tree.targets.weight.tolist() == [0.5, 0.5, 2.0, 1.0]


def test_identical_rows_share_nodes_and_keep_their_targets() -> None:
    tree = build([Paths([1, 2], [[3, 4]])] * 3)
    assert len(tree) == 3
    assert tree.stem == 3
    assert tree.branches == ()
    assert tree.targets.sequence.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("group", [Paths([], [[1]]), Paths([1], [[]])])
def test_nothing_is_no_sequence(group: Paths) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        build([group])
