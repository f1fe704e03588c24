"""The prompt that is taken is the best of those tried, on training rows that nothing shows."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from savile.errors import DataError
from savile.lm.fitting import Fitting
from savile.lm.local import Local
from savile.prompts.base import Frame, Proposals
from savile.prompts.base_halving import cost, halve, rounds
from savile.prompts.searched_prompt import SearchedPrompt
from savile.retrieval import Retriever
from savile.types import Example, Message
from tests import tiny

TRAIN = [Example(id=f"{i:02}", input=f"x{i}", output=("a_1", "b_2")[i % 2]) for i in range(40)]
FRAME = Frame(instruction="Sort.", variants=("Order.", "Rank."), labels=("a_1", "b_2"))


class Likes:
    """A base that likes prompts which hold a text, and remembers what it was asked."""

    def __init__(self, text: str, writes: Sequence[str] = ()) -> None:
        self.text, self.writes = text, writes
        self.chats: list[str] = []
        self.read: list[Example] = []
        self.asked: list[tuple[Frame, list[Example]]] = []

    def probabilities(self, frame: Frame, rows: Sequence[Example]) -> list[float]:
        self.asked.append((frame, list(rows)))
        shown = " ".join(message.content for message in frame.messages(rows[0]))
        return [(self.text in shown) * 0.5 + 0.01 * (int(row.id) % 3) for row in rows]

    def proposals(
        self, chat: Sequence[Message], n: int, *, shown: Sequence[Example], **how: int
    ) -> Proposals:
        self.chats.append(chat[-1].content)
        self.read += shown
        return Proposals(list(self.writes[:n]), "likes", 0.25)


def search(model: Likes, frame: Frame = FRAME, seed: int = 0, **settings: int) -> Frame:
    return SearchedPrompt(**settings).fit(frame, TRAIN, random.Random(seed), model)


@pytest.mark.parametrize(
    ("likes", "won"),
    [("Rank.", "variant 2"), ("Input:", "plain"), ("Question:", "questions"), ("Sort", "given")],
)
def test_what_the_base_likes_is_taken(likes: str, won: str) -> None:
    frame = search(Likes(likes))
    assert frame.searched is not None
    assert frame.searched.won == won
    assert likes in " ".join(message.content for message in frame.messages(TRAIN[0]))
    assert frame.searched.gain == pytest.approx(0.5 if won != "given" else 0.0)
    assert frame.variants == ()


def test_a_model_s_instructions_are_candidates_and_what_it_read_judges_nothing() -> None:
    writes = ['"Put each in its box."', "Put each in its box.\n\nThat is all.", "", "Box it."]
    model = Likes("Box it.", writes)
    frame = search(model, proposals=4)
    found = frame.searched
    assert found is not None
    assert frame.instruction == "Box it."
    assert found.won == "proposal 2"
    assert found.proposed == ("Put each in its box.", "Box it.")
    assert (found.proposer, found.usd) == ("likes", 0.25)
    assert found.told().endswith("; 2 instructions were proposed by likes for 0.25 USD")
    one = replace(found, proposed=("Box it.",)).told()
    assert one.endswith("; 1 instruction was proposed by likes for 0.25 USD")
    assert {one.name for one in found.tried} >= {"given", "variant 1", "proposal 1, plain"}
    (asked,) = model.chats
    assert "The instruction now is: Sort." in asked
    assert len(model.read) == 8
    assert all(f"Input: {row.input}\nOutput: {row.output}" in asked for row in model.read)
    judged = {row.input for _, rows in model.asked for row in rows}
    assert judged
    assert not judged & {row.input for row in model.read}


def test_nobody_is_asked_for_proposals_unless_they_are_wanted() -> None:
    model = Likes("Rank.", ["Box it."])
    found = search(model).searched
    assert model.chats == []
    assert found is not None
    assert (found.proposed, found.proposer, found.usd) == ((), "", None)
    assert "proposed" not in found.told()


def test_the_base_itself_proposes_where_no_other_does() -> None:
    model = Fitting(Local(tiny.lm("llama")))
    chat = [Message(role="user", content="Write.")]
    one, again, other = (
        model.proposals(chat, 2, shown=TRAIN[:3], seed=seed, max_new_tokens=6) for seed in (1, 1, 2)
    )
    assert one == again != other
    assert (len(one.texts), one.by, one.usd) == (2, model.base.name, None)
    assert model.asked == 3


def test_each_wording_is_tried_in_each_form_once() -> None:
    """Three wordings in the given form and seven others; what writes the same is one: plain text
    and labelled turns without examples, and the places of no instruction."""
    shown = replace(FRAME, demonstrations=tuple(TRAIN[:2]))
    assert len(SearchedPrompt().candidates(shown, TRAIN)) == 3 * 8
    assert len(SearchedPrompt().candidates(FRAME, TRAIN)) == 3 * 6
    bare = Frame(labels=("a", "b"))
    names = [one.name for one in SearchedPrompt().candidates(bare, TRAIN)]
    assert names == ["given", "plain", "questions"]


def test_joined_labels_are_spaced_unless_two_become_one() -> None:
    spaced = {one.name: one.frame for one in SearchedPrompt().candidates(FRAME, TRAIN)}["spaced"]
    assert spaced.label_words == ("a 1", "b 2")
    both = replace(FRAME, labels=("a_1", "a-1", "b_2"))
    assert "spaced" not in [one.name for one in SearchedPrompt().candidates(both, TRAIN)]


def test_rows_that_are_shown_judge_nothing_and_the_budget_holds() -> None:
    model = Likes("Rank.")
    shown = (TRAIN[0], replace(TRAIN[5], id="other"))
    frame = search(model, replace(FRAME, demonstrations=shown), judged=30, budget=200)
    judged = [row for _, rows in model.asked for row in rows]
    assert not {row.input for row in judged} & {"x0", "x5"}
    assert set(judged) <= set(TRAIN)
    assert frame.searched is not None
    assert frame.searched.scored == len(judged) <= 200
    assert frame.demonstrations == shown


def test_every_round_s_rows_are_those_before_and_more() -> None:
    model = Likes("Rank.")
    search(model, budget=200)
    rows: dict[str, list[str]] = {}
    for frame, some in model.asked:
        rows.setdefault(repr((frame.instruction, frame.format)), []).extend(r.id for r in some)
    longest = max(rows.values(), key=len)
    assert all(longest[: len(own)] == own for own in rows.values())
    assert len({len(own) for own in rows.values()}) > 2


def test_the_seed_decides_which_rows_judge() -> None:
    kept = [search(Likes("Rank."), seed=seed, judged=10) for seed in (1, 1, 2)]
    assert kept[0] == kept[1]
    models = [Likes("Rank.") for _ in range(2)]
    for seed, model in enumerate(models):
        search(model, seed=seed, judged=10)
    assert models[0].asked != models[1].asked


@pytest.mark.parametrize(
    ("rivals", "rows", "budget"),
    [(1, 2, 4), (1, 500, 77), (2, 64, 30), (7, 128, 1024), (30, 128, 1024), (63, 4096, 9999)],
)
def test_the_halving_keeps_its_account(rivals: int, rows: int, budget: int) -> None:
    asked: list[tuple[int, int]] = []

    def score(candidate: int, some: range) -> list[float]:
        asked.extend((candidate, row) for row in some)
        return [candidate / 100 + row % 5 for row in some]

    found = halve(rivals, rows, budget, score)
    plan = rounds(rivals, rows, budget)
    assert len(asked) == len(set(asked)) == cost(plan) <= budget
    assert found.best == found.winner == rivals
    assert found.gains == pytest.approx([rivals / 100] * plan[-1].rows)
    assert len(found.scores[0]) == len(found.scores[rivals]) == plan[-1].rows <= rows
    more = [one._replace(rows=min(rows, (plan[0].rows + 1) << n)) for n, one in enumerate(plan)]
    assert plan[0].rows == rows or cost(more) > budget


def test_without_a_better_rival_the_given_prompt_stays() -> None:
    assert halve(5, 20, 200, lambda one, some: [0.5] * len(some)).winner == 0
    assert halve(5, 20, 200, lambda one, some: [-one] * len(some)).winner == 0


@pytest.mark.parametrize(("rows", "budget"), [(1, 1000), (0, 1000), (100, 23)])
def test_too_few_rows_tell_nothing(rows: int, budget: int) -> None:
    with pytest.raises(DataError, match="too few rows"):
        rounds(23, rows, budget)


def test_nothing_to_search_is_said() -> None:
    with pytest.raises(DataError, match="nothing to search"):
        SearchedPrompt(formats=()).fit(
            Frame(instruction="Sort."), TRAIN, random.Random(0), Likes("")
        )


def test_neighbors_by_vectors_are_refused_with_the_way_out() -> None:
    near = replace(FRAME, retriever=Retriever(pool=tuple(TRAIN), k=2, embedder="base"))
    assert SearchedPrompt().fit(near, TRAIN, random.Random(0), None).retriever == near.retriever
    with pytest.raises(DataError, match="before them"):
        search(Likes(""), near)


def test_an_estimate_asks_nobody_and_takes_the_longest() -> None:
    frame = SearchedPrompt().fit(FRAME, TRAIN, random.Random(0), None)
    sizes = [
        len(str(one.frame.messages(TRAIN[0]))) for one in SearchedPrompt().candidates(FRAME, TRAIN)
    ]
    assert frame.searched is None
    assert len(str(frame.messages(TRAIN[0]))) >= max(sizes) - 40


def test_probabilities_are_those_of_single_sequences() -> None:
    lm = tiny.lm("llama")
    model, rows = Fitting(Local(lm)), TRAIN[:4]
    short = replace(FRAME, labels=("a_1", "b_2"))
    found = model.probabilities(short, rows)
    chats = [short.messages(row) for row in rows]
    both = [model.logprobs(chats, [label] * len(rows)) for label in short.labels]
    shares = torch.tensor(both, dtype=torch.float64).softmax(0).tolist()
    wanted = [shares[short.labels.index(row.output)][n] for n, row in enumerate(rows)]
    assert found == pytest.approx(wanted, rel=1e-4)
    written = model.probabilities(replace(short, labels=()), rows)
    assert all(0.0 < value < 1.0 for value in written)
    assert model.asked == 4
    beyond = replace(rows[0], input="y" * 3000)
    assert model.probabilities(short, [beyond]) == [0.0]
