import pytest

from savile.ladder.asking import notes, summary
from savile.ladder.costs import TOKENS, Prices, cost_of, costs_of, of_remote
from savile.types import BoardRow, Prediction

TALLY = {
    "requests": 5,
    "answers": 4,
    "cached": 1,
    "retries": 2,
    "waited_seconds": 1.5,
    "cut": 1,
    "doubts": {"no usage is given": 2},
    "answered_as": ["m-1"],
}


def answer(usd: float | None) -> Prediction:
    return Prediction(id="1", text="a", answer="a", usd=usd)


def row(name: str, tokens: float, **more: float | bool | None) -> BoardRow:
    return BoardRow(
        technique=name, kind="prompt", status="ok", score=0.5, prompt_tokens=tokens, **more
    )  # type: ignore[arg-type]


def test_doubts_and_cut_answers_are_told_over_all_seeds() -> None:
    said = notes([{"endpoint": TALLY}, {"status": "ok"}, {"endpoint": TALLY}])
    assert said[0].startswith("4 of 8 answers came with a usage that cannot be true (no usage is")
    assert said[1] == "2 answers were cut (base.max_tokens gives them more room)"
    assert len(said) == 2
    assert notes([{"status": "ok"}]) == []


def test_a_run_adds_up_its_requests() -> None:
    other = {**TALLY, "answered_as": ["m-2"]}
    found = summary([[{"endpoint": TALLY}], [{"endpoint": other}, {}]], usd=0.5)
    assert found == {
        "requests": 10,
        "answers": 8,
        "cached": 2,
        "retries": 4,
        "waited_seconds": 3.0,
        "answered_as": ["m-1", "m-2"],
        "usd_paid": 0.5,
    }
    assert summary([[{"status": "ok"}]], usd=0.0) is None


@pytest.mark.parametrize(
    ("paid", "label", "once", "per_1000"),
    [
        ([0.001, 0.003], 0.5, 4.0, 2.0),
        ([0.001, 0.003], None, 0.0, 2.0),
        ([0.001, None], 0.5, 4.0, None),
        ([None, None], None, None, None),
    ],
)
def test_an_endpoint_costs_what_its_requests_do_and_no_hours(
    paid: list[float | None], label: float | None, once: float | None, per_1000: float | None
) -> None:
    found = of_remote(Prices(label=label, hour=100.0), 8, [answer(usd) for usd in paid])
    assert found == {"usd_once": once, "usd_per_1000": per_1000}


def test_where_nothing_has_a_price_and_a_base_no_size_tokens_rank_the_tied() -> None:
    known, unknown = row("a", 50, base_parameters=1_000), row("b", 20, remote=True)
    counted, costs = costs_of([known, unknown], Prices())
    assert counted == TOKENS
    assert costs == {"a": 50_000, "b": 20_000}
    assert cost_of(known) == 1000 * 2 * 1_000 * 50
    counted, costs = costs_of([row("b", 20, remote=True, usd_once=0.0, usd_per_1000=0.2)], Prices())
    assert counted == "USD for training and the first 1,000 requests"
    assert costs == {"b": 0.2}
