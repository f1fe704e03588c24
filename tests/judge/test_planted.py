"""What is planted in a judge is what its figures say: order, length, obedience, knowledge."""

from __future__ import annotations

import pytest

from bench import planted
from savile import stats
from savile.judge import asking, bias, made, obedience, words
from savile.judge.asking import Judged
from savile.judge.question import Pair, Side
from savile.stats import Interval

ROWS = 120
RIGHT = {f"question {i}?": f"right {'word ' * (i % 7)}{i}" for i in range(ROWS)}
WRONG = {f"question {i}?": f"wrong {'word ' * ((i * 5 + 3) % 7)}{i}" for i in range(ROWS)}
PAIRS = [Pair(row=q, question=q, a=RIGHT[q], b=WRONG[q]) for q in RIGHT]
KNOWS = planted.knowing({**RIGHT, **planted.KNOWN})


def judged(rule: planted.Rule, pairs: list[Pair] = PAIRS) -> tuple[Judged, ...]:
    return asking.judge(planted.Planted("planted", rule), "Which is right?", pairs).judged


def obeys(rule: planted.Rule) -> obedience.Obedience:
    return obedience.of(judged(rule, made.pairs()))


def score(found: Interval | None) -> float:
    assert found is not None
    return found.score


def test_who_always_takes_the_first_decides_nothing() -> None:
    found = judged(planted.first)
    seen = bias.of(found)
    assert score(seen.first) == 1.0
    assert score(seen.consistent) == 0.0
    assert {one.verdict for one in found} == {"tie"}
    assert seen.longer is None
    assert score(stats.mean_of_seeds([[one.value for one in found]])) == 0.5
    told = obeys(planted.first)
    assert (score(told.right), score(told.kappa), score(told.turned)) == (0.5, 0.0, 0.0)
    assert "treat with care" in words.of_bias(seen)[0]
    assert "cannot tell" in words.of_obedience(told)[0]


def test_who_always_takes_the_second_is_seen_as_well() -> None:
    seen = bias.of(judged(planted.second))
    assert score(seen.first) == 0.0
    assert "treat with care" in words.of_bias(seen)[0]


def test_who_takes_the_longer_is_not_taken_for_obedient() -> None:
    seen = bias.of(judged(planted.longer))
    assert score(seen.first) == 0.5
    assert score(seen.consistent) == score(seen.longer) == 1.0
    assert seen.with_length is not None
    assert seen.with_length.low > 0.7
    assert score(seen.alike) == pytest.approx(0.5, abs=0.06)
    assert "treat with care" in next(s for s in words.of_bias(seen) if "longer" in s)
    told = obeys(planted.longer)
    assert told.turned is None  # nothing is left to turn
    assert score(told.turned_by_length) == 1.0
    assert score(told.shift) == 0.0
    assert score(told.shift_by_length) > 0.5
    assert "Empty text behind the worse answer turns 100 %" in words.of_obedience(told)[1]
    assert len(words.of_obedience(told)) == 2


def test_who_obeys_is_caught_by_every_instruction() -> None:
    told = obeys(planted.obeying(KNOWS))
    assert (score(told.right), score(told.turned), score(told.turned_by_length)) == (1.0, 1.0, 0.0)
    assert all(score(value) == 1.0 for value in told.by_instruction.values())
    assert "treat with care" in words.of_obedience(told)[2]


def test_who_knows_is_believed() -> None:
    found, told = judged(KNOWS), obeys(KNOWS)
    seen = bias.of(found)
    assert {one.verdict for one in found} == {"a"}
    assert (score(seen.first), score(seen.consistent)) == (0.5, 1.0)
    assert score(told.kappa) == pytest.approx(1.0)
    assert score(told.turned) == score(told.turned_by_length) == 0.0
    said = [*words.of_bias(seen), *words.of_obedience(told)]
    assert not [sentence for sentence in said if "care" in sentence or "cannot tell" in sentence]


def test_who_knows_nothing_cannot_tell() -> None:
    found = judged(planted.COIN)
    seen = bias.of(found)
    assert seen.first is not None
    assert seen.first.low < 0.5 < seen.first.high
    kappa = obedience.kappa(["a"] * ROWS, found)
    assert kappa is not None
    assert kappa.low < 0 < kappa.high
    assert "cannot tell" in words.of_people(ROWS, kappa, kappa)
    told = obeys(planted.COIN)
    assert score(told.turned) > 0.3
    assert told.shift is not None
    assert told.shift.low < 0 < told.shift.high
    assert "care" not in words.of_obedience(told)[2]


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_a_bias_of_some_size_is_found_in_its_size(rate: float) -> None:
    seen = bias.of(judged(planted.sometimes(rate, planted.first, KNOWS)))
    assert seen.first is not None
    assert seen.first.low < 0.5 + rate / 2 < seen.first.high
    assert seen.first.low > 0.5
    assert seen.consistent is not None
    assert seen.consistent.low < 1 - rate < seen.consistent.high


def test_half_obedience_is_found_in_its_size() -> None:
    told = obeys(planted.sometimes(0.5, planted.obeying(KNOWS), KNOWS))
    assert told.turned is not None
    assert told.turned.low < 0.5 < told.turned.high
    assert told.turned.high - told.turned.low < 0.4
    assert score(told.shift) == pytest.approx(told.turned.score)  # it never moves away from it


def test_kappa_does_not_depend_on_which_answer_is_called_a() -> None:
    rule = planted.sometimes(0.3, planted.COIN, KNOWS)
    turned = [
        Pair(row=p.row, question=p.question, a=p.b, b=p.a) if i % 3 else p
        for i, p in enumerate(PAIRS)
    ]
    straight = obedience.kappa(["a"] * ROWS, judged(rule))
    mixed = obedience.kappa(["b" if i % 3 else "a" for i in range(ROWS)], judged(rule, turned))
    assert straight is not None
    assert straight == mixed
    assert 0 < straight.low < straight.high < 1


def test_what_cannot_be_read_is_a_tie_and_counted() -> None:
    found = judged(lambda prompt: "both are fine")
    seen = bias.of(found)
    assert score(seen.unread) == 1.0
    assert (seen.first, score(seen.consistent)) == (None, 0.0)
    assert {one.verdict for one in found} == {"tie"}
    assert any("could be read" in sentence for sentence in words.of_bias(seen))


def test_what_cannot_be_read_agrees_with_nobody_not_even_with_who_saw_a_tie() -> None:
    """A judge that is read where one answer is better, and silent where people saw a tie, would
    have a kappa of 1 if silence were a tie."""
    wanted: list[Side] = ["tie" if i % 2 else "a" for i in range(ROWS)]
    found = [
        Judged(
            row=str(i), ab=None if i % 4 == 3 else one, ba=None if i % 2 else one, lengths=(1, 1)
        )
        for i, one in enumerate(wanted)
    ]
    assert [one.verdict for one in found] == wanted
    assert [one.heard for one in found] == ["unread" if i % 2 else "a" for i in range(ROWS)]
    told = obedience.kappa(wanted, found)
    assert score(told) == pytest.approx(3 / 7)  # agreed in 1/2; by chance in 1/16 + 1/16
    assert "(60 unread count as no agreement)" in words.of_people(ROWS, told, told, 60)


def test_equal_answers_are_not_asked_and_say_nothing_about_the_judge() -> None:
    same = [Pair(row=str(i), question="q", a="x", b="x ") for i in range(5)]

    def refuse(prompt: str) -> str:
        raise AssertionError("asked")

    found = judged(refuse, same)
    assert [one.verdict for one in found] == ["tie"] * 5
    assert bias.of(found) == (None,) * 6


def test_a_session_is_read_back_as_it_was_written() -> None:
    base = planted.Planted("planted", planted.sometimes(0.5, planted.first, KNOWS))
    session = asking.judge(base, "Which?", [*PAIRS[:20], Pair(row="x", question="q", a=None, b="")])
    assert asking.from_json(session.to_json()) == session


def test_progress_is_told_in_pairs() -> None:
    told: list[float] = []
    asking.judge(planted.Planted("planted", planted.first), "Which?", PAIRS[:3], told.append)
    assert told[-1] == 3.0
    assert told == sorted(told)


def test_what_is_too_long_for_the_judge_is_unread() -> None:
    base = planted.Planted("planted", planted.first)
    base.context = 120
    long = Pair(row="long", question="q", a="word " * 100, b="no")
    found = asking.judge(base, "Which?", [PAIRS[0], long]).judged
    assert (found[0].ab, found[0].ba) == ("a", "b")
    assert (found[1].ab, found[1].ba, found[1].verdict) == (None, None, "tie")
