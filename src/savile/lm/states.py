"""A text as a vector: the mean of the base's last hidden states over the text's tokens.

    v(x) = 1/|x| * sum over tokens t of x of h_L(t),   x as a user's turn of the base's template

What every turn opens with (the start token, the role) is left out of the mean: its states are the
same for all texts and the start token's is far larger than any other. What closes the turn stays,
since it has read the whole text.

Source: mean pooling as in Reimers and Gurevych 2019, arXiv 1908.10084, section 3.

Cost: one forward pass without the output head; texts share the opening. A delta that is attached
takes part: ask before one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from savile.lm.model import LM
from savile.lm.tree import Paths, Tree, build
from savile.types import Message

TOKENS_PER_PASS: Final = 4096

Vectors = npt.NDArray[np.float32]


@torch.no_grad()
def mean_states(lm: LM, texts: Sequence[str]) -> Vectors:
    """Return the vector of each text, float32 [N, D]; of a text over the context, of its start."""
    prompts = [_turn(lm, text)[: lm.context] for text in texts]
    opening = build([Paths(_turn(lm, text), []) for text in ("a", "1")]).stem
    found = np.zeros((len(texts), lm.model.config.get_text_config().hidden_size), dtype=np.float32)
    by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    pack: list[int] = []
    for row, following in zip(by_length, [*by_length[1:], None], strict=True):
        pack.append(row)
        if following is None or len(prompts[following]) * (len(pack) + 1) > TOKENS_PER_PASS:
            found[pack] = _means(lm, [prompts[r] for r in pack], opening)
            pack = []
    return found


def _turn(lm: LM, text: str) -> list[int]:
    return lm.encode_prompt([Message(role="user", content=text)])


def _means(lm: LM, prompts: Sequence[list[int]], opening: int) -> Vectors:
    own = [slice(min(opening, len(prompt) - 1), len(prompt)) for prompt in prompts]
    if lm.uses_tree:
        tree = build([Paths(prompt, []) for prompt in prompts])
        states = _tree_states(lm, tree)
        paths = [tree.path(int(end)) for end in tree.ends]
        means = [states[path[part]].mean(0) for path, part in zip(paths, own, strict=True)]
    else:
        states = _padded_states(lm, prompts)
        means = [states[row, part].mean(0) for row, part in enumerate(own)]
    return torch.stack(means).float().cpu().numpy()


def _tree_states(lm: LM, tree: Tree) -> Tensor:
    """Return the last states of every node [N, D]."""
    layout = lm.plan(tree)
    ids = torch.from_numpy(tree.tokens).to(lm.device)[None]
    return _states(lm, ids, position_ids=layout.depth[None], tree=layout)[0]


def _padded_states(lm: LM, prompts: Sequence[list[int]]) -> Tensor:
    """Return the last states of right-padded prompts [B, T, D]."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
    mask = torch.tensor([[column < len(p) for column in range(longest)] for p in prompts]).long()
    return _states(lm, ids.to(lm.device), attention_mask=mask.to(lm.device))


def _states(lm: LM, ids: Tensor, **places: object) -> Tensor:
    lm.work.tokens += ids.numel()
    trunk = lm.model.base_model
    out = trunk(inputs_embeds=lm.sites.embedding(ids), use_cache=False, **places)
    states: Tensor = out.last_hidden_state
    return states
