"""Prompts without content, by which the likelihoods of labels are calibrated; plain data.

    bias(y) = - log of the mean over content-free prompts c of p(y | c)

A label that is likely before the question is read is likely for no reason: that much is taken off.

Source: Zhao et al. 2021, arXiv 2102.09690, section 5 (the mean of probabilities, then W is the
inverse of its diagonal and b = 0); Holtzman et al. 2021, arXiv 2104.08315, equation 4 (one prompt:
the domain's premise).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What is asked instead of a question to learn what the model prefers without one."""

    inputs: tuple[str, ...]
    """Inputs without content, each in the place of the question's; one at least."""
    examples: bool
    """Whether the worked examples of the question's own prompt stand before them."""
