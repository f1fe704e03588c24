"""The answers KTO measures its reference point with."""

from savile.objectives.base import Compared, TrainingData
from savile.objectives.kto import KTO
from tests import tiny


def others(preferences: list[Compared]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return (prompt, answer) -> the prompt and answer z0 is measured with, by first tokens."""
    data = TrainingData(preferences=preferences, batch_size=2, tokens_per_tree=4096)
    asked = {row.chosen[0]: row.prompt[1] for row in preferences if row.chosen}
    asked |= {row.rejected[0]: row.prompt[1] for row in preferences if row.rejected}
    items = KTO().items(tiny.lm("llama"), data)
    return {(row.prompt[1], row.answer[0]): (asked[row.other[0]], row.other[0]) for row in items}


def test_a_pair_meets_the_next_pair_chosen_with_chosen() -> None:
    pairs = [Compared([1, 20 + n], [40 + n, 4], [60 + n, 4]) for n in range(3)]
    found = others(pairs)
    assert found[20, 40] == (21, 41)
    assert found[20, 60] == (21, 61)
    assert found[22, 62] == (20, 60)


def test_another_answer_to_the_same_prompt_is_no_mismatch() -> None:
    rows = [Compared([1, 20], [40 + n, 4], None) for n in range(4)]
    rows += [Compared([1, 21], None, [50, 4])]
    found = others(rows)
    assert all(prompt != other[0] for (prompt, _), other in found.items())


def test_one_prompt_alone_meets_itself() -> None:
    assert others([Compared([1, 20], [40, 4], None)]) == {(20, 40): (20, 40)}
