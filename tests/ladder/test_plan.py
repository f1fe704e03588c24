import pytest

from savile.ladder import plan


def test_the_default_share_is_clamped_and_in_whole_batches() -> None:
    assert plan.default_share(10) == 6_000
    assert plan.default_share(337) == 6_736
    assert plan.default_share(100_000) == 16_000
    assert all(plan.default_share(n) % plan.BATCH_SIZE == 0 for n in range(1, 2_000, 7))


def test_the_grid_goes_out_from_the_default_by_factors_of_four() -> None:
    assert plan.grid(0.01, 1) == (0.01,)
    assert plan.grid(0.01, 3) == (0.01, 0.04, 0.0025)
    assert plan.grid(0.01, 5) == (0.01, 0.04, 0.0025, 0.16, 0.000625)


@pytest.mark.parametrize("n_tried", range(1, 9))
@pytest.mark.parametrize("share", [16, 160, 320, 2_000, 2_736, 16_000])
def test_search_and_final_never_exceed_the_share(share: int, n_tried: int) -> None:
    cell = plan.tuned_cell("lora", 1, share, plan.grid(0.01, n_tried))
    extended = len(cell.learning_rates) + 1 if cell.piece else 0
    for n_pieces in range(extended + 1):
        final = cell.final_examples(n_pieces)
        assert n_pieces * cell.piece + final == share
        assert final >= 0.5 * share
        assert final % plan.BATCH_SIZE == 0
        assert final > 0


def test_a_share_too_small_for_a_search_keeps_the_default_rate() -> None:
    cell = plan.tuned_cell("lora", 1, 64, plan.grid(0.01, 3))
    assert (cell.piece, cell.learning_rates) == (0, (0.01,))
    assert cell.note == "64 presentations are too few to try 3 learning rates: 1 tried"
    assert plan.tuned_cell("lora", 1, 64, (0.01,)).note is None


def test_a_share_too_small_for_the_whole_grid_tries_its_middle() -> None:
    cell = plan.tuned_cell("lora", 1, 320, plan.grid(0.01, 16))
    assert cell.piece == 16
    assert cell.learning_rates == plan.grid(0.01, 8)
    assert cell.note == "320 presentations are too few to try 16 learning rates: 8 tried"


def test_one_step_beyond_an_edge_that_wins() -> None:
    rates = (0.01, 0.04, 0.0025)
    for best, wanted in ((0.04, 0.16), (0.0025, 0.000625), (0.01, None)):
        assert plan.beyond_edge(rates, best) == wanted
    assert plan.beyond_edge((0.01, 0.04), 0.04) is None


def test_the_plan_is_the_same_after_it_was_written() -> None:
    cells = [
        plan.Cell(technique="zero_shot", kind="prompt", seeds=1),
        plan.tuned_cell("lora", 2, 2_000, plan.grid(0.01, 3)),
        plan.Cell(technique="chain_of_thought", kind="prompt", seeds=0, reason="needs rationales"),
    ]
    assert list(plan.from_json(plan.to_json(cells))) == cells
