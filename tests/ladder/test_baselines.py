from savile.ladder.baselines import baselines, majority, nearest_neighbor
from savile.types import Example


def rows(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(id=str(i), input=text, output=label) for i, (text, label) in enumerate(pairs)]


TRAIN = rows(
    ("my parcel is lost", "parcel"), ("the parcel came late", "parcel"), ("refund please", "money")
)
TEST = rows(("where is the lost parcel", "parcel"), ("please refund me", "money"))


def test_majority_answers_the_most_frequent_output_alphabetical_on_a_tie() -> None:
    assert majority(TRAIN, TEST) == ["parcel", "parcel"]
    assert majority(rows(("a", "z"), ("b", "c")), TEST) == ["c", "c"]


def test_nearest_neighbor_answers_as_the_most_similar_row() -> None:
    assert nearest_neighbor(TRAIN, TEST) == ["parcel", "money"]
    assert nearest_neighbor(TRAIN, TRAIN) == [row.output for row in TRAIN]


def test_many_rows_are_answered_in_pieces_of_the_same_result() -> None:
    many = [Example(id=str(i), input=f"refund number {i}", output="") for i in range(600)]
    assert nearest_neighbor(TRAIN, many) == ["money"] * 600


def test_the_majority_is_a_baseline_of_closed_sets_only() -> None:
    assert [b.name for b in baselines(TRAIN, TEST, closed=True)] == ["majority", "nearest_neighbor"]
    (only,) = baselines(TRAIN, TEST, closed=False)
    assert only.name == "nearest_neighbor"
    assert [p.id for p in only.predictions] == [e.id for e in TEST]


def test_without_train_rows_there_is_no_baseline() -> None:
    assert baselines([], TEST, closed=True) == []
