"""Which family a technique belongs to: the race lets each of them finish with one at least.

    prompting                nothing is trained
    prompt learning          only virtual tokens, or keys and values before the prompt
    PEFT                     anything else that leaves the base's own maps alone
    fine-tuning              the base's own maps
    preferences              learns from judged answers
    reinforcement learning   learns from a reward of what it writes

The last that applies counts. It follows from what the parts need and occupy, never from a name.
"""

from __future__ import annotations

from typing import Final

from savile import registry
from savile.spec import Candidate

SOFT: Final = frozenset({"virtual tokens", "keys and values"})
JUDGED: Final = frozenset({"preferences", "feedback"})


def family_of(candidate: Candidate) -> str:
    """Return the family of a technique.

    Example: few_shot -> prompting; few_shot+lora -> PEFT; lora+sft+reward+ppo -> reinforcement
    learning.
    """
    deltas = [registry.parts("deltas")[name] for name, _ in candidate.deltas]
    objectives = [registry.parts("objectives")[name] for name, _ in candidate.objectives]
    needs = {need for part in (*deltas, *objectives) for need in part.needs}
    if not deltas:
        return "prompting"
    if "reward" in needs:
        return "reinforcement learning"
    if needs & JUDGED:
        return "preferences"
    if "plain_weights" in needs:
        return "fine-tuning"
    occupied = [set(part.facts.get("occupies", ())) for part in deltas]
    return "prompt learning" if all(own and own <= SOFT for own in occupied) else "PEFT"
