"""The pairs of the judge's bench have a better answer, and the rule that knows it finds it."""

from __future__ import annotations

import pytest

from bench import judge_pairs, planted
from savile.judge import asking, obedience

KINDS = {
    "brand_voice": ["cut", "wordy", "another row's", "other voice"],
    "refund_arithmetic": ["cut", "wordy", "another row's", "wrong total"],
}


@pytest.mark.parametrize("case", sorted(judge_pairs.CRITERIA))
def test_every_pair_is_spoiled_and_known(case: str) -> None:
    made = judge_pairs.made(case, 5)
    assert [one.kind for one in made] == KINDS[case] * 5
    assert not [one for one in made if one.pair.known is not None]
    knows = planted.knowing({one.pair.question: one.pair.a or "" for one in made})
    found = asking.judge(
        planted.Planted("knows", knows), judge_pairs.CRITERIA[case], [one.pair for one in made]
    ).judged
    assert {one.verdict for one in found} == {"a"}
    kappa = obedience.kappa(["a"] * len(found), found)
    assert kappa is not None
    assert kappa.score == pytest.approx(1.0)


def test_a_wrong_total_differs_in_nothing_else() -> None:
    made = judge_pairs.made("refund_arithmetic", 3)
    for one in (m.pair for m in made if m.kind == "wrong total"):
        right, wrong = (one.a or "").split(), (one.b or "").split()
        assert right[:-1] == wrong[:-1]
        assert int(wrong[-1]) == int(right[-1]) + judge_pairs.OFF_BY
