"""A quantized base: the weights of the trunk's linear maps in 8 or 4 bits, for deltas on top.

    int8    w = s_out * q            q in -128..127, one scale an output
    nf4     w = s_block * NF4[q]     q in 0..15, 64 weights a block, the scales quantized again

Source: nf4 and its double quantization are QLoRA's: Dettmers, Pagnoni, Holtzman, Zettlemoyer 2023,
arXiv 2305.14314, section 3. Both are computed by torchao, on a CPU as on a GPU: activations,
embeddings, norms and the output head keep their type, and the weights are frozen.

Cost: 1 byte a weight, or about 0.52; every forward and backward pass computes the weights again.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from savile.errors import EnvironmentProblem, Problem
from savile.lm.sites import LinearSite, Sites

Quantization = Literal["int8", "nf4"]
BLOCK: Final = 64
"""Weights that share a scale (QLoRA, section 3)."""
SCALES: Final = 256
"""Scales that share a scale, at most (QLoRA, section 3)."""


def quantize(model: PreTrainedModel, kind: Quantization, device: torch.device) -> None:
    """Quantize the trunk's linear maps, each on its device, so that a large base fits one by one.

    Args:
        model: the loaded model, in the type it shall compute in.
        kind: `int8` or `nf4`.
        device: where the model will be; the other parameters stay where they are.

    Raises:
        EnvironmentProblem: torchao is not installed, or the base has maps it cannot quantize.
    """
    library = _library()
    sites = Sites(model).linear_maps()
    _check(sites, kind, type(model).__name__)
    for site in sites:
        weight = site.weight.detach().to(device)
        stored = KINDS[kind](library, weight)
        site.module.register_parameter("weight", nn.Parameter(stored, requires_grad=False))


def _int8(library: Any, weight: Tensor) -> Tensor:
    n_out, n_in = weight.shape
    one = nn.Linear(n_in, n_out, bias=False, device="meta")
    one.weight = nn.Parameter(weight, requires_grad=False)
    library.quantize_(one, library.Int8WeightOnlyConfig())
    return one.weight.detach()


def _nf4(library: Any, weight: Tensor) -> Tensor:
    blocks = weight.numel() // BLOCK
    stored: Tensor = library.to_nf4(weight.contiguous(), BLOCK, math.gcd(blocks, SCALES))
    return stored


KINDS: Final[Mapping[str, Callable[[Any, Tensor], Tensor]]] = {"int8": _int8, "nf4": _nf4}


def _check(sites: list[LinearSite], kind: Quantization, architecture: str) -> None:
    wrong = [site for site in sites if site.transposed]
    what = "this architecture keeps its linear maps in a form that cannot be quantized"
    if not wrong and kind == "nf4":
        wrong = [site for site in sites if site.in_features * site.out_features % BLOCK]
        what = f"nf4 takes maps whose number of weights is a multiple of {BLOCK}"
    if wrong:
        raise EnvironmentProblem(
            Problem(
                what=what,
                where="compute.quantization",
                found=f"{wrong[0].name} in {architecture}",
                fix="Leave compute.quantization out, or take another base.",
            )
        )


def _library() -> Any:
    """Return torchao's quantization module."""
    try:
        return importlib.import_module("torchao.quantization")
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            Problem(
                what="a quantized base needs torchao, which is not installed",
                where="compute.quantization",
                found=str(error),
                fix="Install it: pip install 'savile[quantized]'",
            )
        ) from error
