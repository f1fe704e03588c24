"""A token tree gives what separate sequences give: every delta, every model family."""

import pytest

from savile import registry
from tests import tiny
from tests.contracts.tree_gate import LIMIT, measure
from tests.gates import Gate


@pytest.mark.parametrize("name", sorted(registry.parts("deltas")))
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_tree_equals_separate_sequences(family: str, name: str, gate: Gate) -> None:
    lm = tiny.lm(family)
    assert lm.uses_tree
    errors = measure(lm, registry.load("deltas", name)())
    assert errors.loss <= LIMIT
    assert errors.gradient <= LIMIT, errors.worst
    gate(name, "tree", errors.loss, "loss")
    gate(name, "tree", errors.gradient, "gradient")
