"""What the check of an export lets pass: rounding, and nothing that changes the technique."""

import pytest
import torch
from torch import Tensor

from savile.errors import IntegrityError
from savile.handover.check import Seen, difference, limit_of

PROMPTS = [[1, 2, 3], [1, 2, 4]]


def model(logits: Tensor, *, virtual: int = 0, prompts: list[list[int]] | None = None) -> Seen:
    return Seen(PROMPTS if prompts is None else prompts, logits, virtual)


def plain() -> Seen:
    return model(torch.randn(3, 11, generator=torch.Generator().manual_seed(0)))


def tuned() -> Seen:
    return model(plain().logits + 2.0)


def test_in_float32_the_limit_is_that_of_the_probe() -> None:
    assert limit_of(torch.float32, tuned(), plain()) == 1e-4


def test_where_weights_are_rounded_it_is_a_tenth_of_the_change() -> None:
    wanted = tuned().logits
    change = float((2.0 / wanted.abs().clamp(min=1.0)).max())
    assert limit_of(torch.bfloat16, tuned(), plain()) == pytest.approx(0.1 * change)
    assert limit_of(torch.bfloat16, plain(), plain()) == 5e-2


def test_half_of_a_change_is_found_in_every_type() -> None:
    half = model((plain().logits + tuned().logits) / 2)
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(IntegrityError, match="does not compute what was measured"):
            difference(tuned(), half, limit_of(dtype, tuned(), plain()), "x")


def test_new_tokens_and_their_logits_are_left_out() -> None:
    measured = tuned()._replace(virtual=2)
    more = torch.cat([tuned().logits + 1e-6, torch.full((3, 2), 99.0)], 1)
    found = model(more, prompts=[[90, 91, *prompt] for prompt in PROMPTS])
    assert 0 < difference(measured, found, 1e-4, "x") < 1e-5


@pytest.mark.parametrize(
    "prompts", [[[1, 2, 3], [1, 2, 5]], [[1, 2, 3]], [[0, 1, 2, 3], [1, 2, 4]]]
)
def test_other_tokens_are_found(prompts: list[list[int]]) -> None:
    with pytest.raises(IntegrityError, match="reads a chat differently"):
        difference(tuned(), model(tuned().logits, prompts=prompts), 1e-4, "x")


def test_no_number_is_no_pass() -> None:
    broken = tuned().logits.clone()
    broken[0, 0] = torch.nan
    with pytest.raises(IntegrityError, match="differs by nan"):
        difference(tuned(), model(broken), 1e-4, "x")
