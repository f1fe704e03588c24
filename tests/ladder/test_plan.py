import pytest

from savile.ladder import plan


def test_the_default_share_is_clamped_and_in_whole_batches() -> None:
    assert plan.default_share(10) == 6_000
    assert plan.default_share(337) == 6_736
    assert plan.default_share(100_000) == 16_000
    assert all(plan.default_share(n) % plan.BATCH_SIZE == 0 for n in range(1, 2_000, 7))


@pytest.mark.parametrize("n_tried", range(1, 9))
@pytest.mark.parametrize("share", [16, 160, 320, 2_000, 2_736, 16_000])
def test_search_and_final_never_exceed_the_share(share: int, n_tried: int) -> None:
    cell = plan.tuned_cell("lora", 1, share, 0.01, n_tried)
    for n_pieces in range(cell.most_tries + 1 if cell.piece else 1):
        final = cell.final_examples(n_pieces)
        assert n_pieces * cell.piece + final == share
        assert final >= 0.5 * share
        assert final % plan.BATCH_SIZE == 0
        assert final > 0


def test_a_share_too_small_for_a_search_keeps_the_default_rate() -> None:
    cell = plan.tuned_cell("lora", 1, 64, 0.01, 3)
    assert (cell.piece, cell.learning_rate, cell.tries) == (0, 0.01, 1)
    assert cell.note == "64 presentations are too few to try 3 learning rates: 1 tried"
    assert plan.tuned_cell("lora", 1, 64, 0.01, 1).note is None


def test_a_share_too_small_for_every_try_has_fewer() -> None:
    cell = plan.tuned_cell("lora", 1, 320, 0.01, 16)
    assert cell.piece == 16
    assert cell.tries == 8
    assert cell.note == "320 presentations are too few to try 16 learning rates: 8 tried"


@pytest.mark.parametrize("share", [160, 320, 1_600, 6_000])
def test_a_search_piece_is_whole_batches_of_every_objective_of_a_chain(share: int) -> None:
    cell = plan.tuned_cell("lora+sft+reward+ppo", 1, share, 0.01, 3, objectives=3)
    assert cell.piece % (3 * plan.BATCH_SIZE) == 0
    assert cell.piece <= plan.PIECE * share
    assert (cell.tries == 1) is (share < 1_600)


@pytest.mark.parametrize(("tries", "most"), [(1, 1), (2, 2), (3, 4), (8, 9)])
def test_one_more_try_where_the_best_is_at_an_edge(tries: int, most: int) -> None:
    assert plan.most_tries(tries) == most


def test_the_plan_is_the_same_after_it_was_written() -> None:
    cells = [
        plan.Cell(technique="zero_shot", kind="prompt", seeds=1),
        plan.tuned_cell("lora", 2, 2_000, 0.01, 3),
        plan.Cell(technique="chain_of_thought", kind="prompt", seeds=0, reason="needs rationales"),
    ]
    assert list(plan.from_json(plan.to_json(cells))) == cells
