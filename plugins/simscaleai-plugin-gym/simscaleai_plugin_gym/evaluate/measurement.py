"""What was measured in some episodes, and the results of an evaluation made of such parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen

from simscaleai_plugin_gym.envs.conditions import Condition
from simscaleai_plugin_gym.evaluate.intervals import clustered_rate
from simscaleai_plugin_gym.evaluate.modes import Mode, mode_results
from simscaleai_plugin_gym.evaluate.timing import Times, shares


@frozen(kw_only=True)
class Measurement:
    """One task's episodes, each list in order of seeds."""

    seeds: Sequence[int]
    """Seed of each episode."""
    policy_seeds: Sequence[int] = ()
    """Seed of the policy's own randomness in it."""
    successes: Sequence[bool]
    """Whether it was successful at any step."""
    successes_at_end: Sequence[bool]
    """Whether it was successful at its last step."""
    returns: Sequence[float]
    """Sum of its rewards."""
    lengths: Sequence[int]
    """Its steps."""
    initial_conditions: Sequence[Condition]
    """How it began: numbers by name."""
    modes: Sequence[Mode | None] = ()
    """Which of several ways it took, as the environment says; None if it does not."""
    instructions: Sequence[str] | None
    """The instruction at its start; None if there is none in any of them."""
    seeds_obeyed: bool
    """Whether the first episode begins in the same way when it is reset again; True if that was not
    checked, as in all but the first part of an evaluation."""
    times: Times
    """What the time went into."""


def results_of(parts: Sequence[Measurement], wall_s: float | None = None) -> dict[str, Any]:
    """Return the results of an evaluation; see `evaluate_policy` for what they are.

    Args:
        parts: Its tasks, in order of seeds, at least one.
        wall_s: Time that passed from their beginning to their end [s]; None if they ran one after
            the other.
    """
    successes = [each for part in parts for each in part.successes]
    returns = [each for part in parts for each in part.returns]
    lengths = [each for part in parts for each in part.lengths]
    at_end = [each for part in parts for each in part.successes_at_end]
    seeds = [each for part in parts for each in part.seeds]
    return {
        **clustered_rate(successes, seeds),
        "success_at_end_rate": float(np.mean(at_end)),
        "n_episodes": len(successes),
        "mean_return": float(np.mean(returns)),
        "mean_length": float(np.mean(lengths)),
        "seeds": seeds,
        **_policy_seeds(parts),
        "successes": successes,
        "returns": returns,
        "lengths": lengths,
        "initial_conditions": [dict(c) for part in parts for c in part.initial_conditions],
        "env_steps": sum(lengths),
        **mode_results([mode for part in parts for mode in part.modes]),
        **_instructions(parts),
        "seeds_obeyed": parts[0].seeds_obeyed,
        **shares([part.times for part in parts], wall_s),
    }


def _instructions(parts: Sequence[Measurement]) -> dict[str, list[str]]:
    if all(part.instructions is None for part in parts):
        return {}
    texts = [part.instructions or [""] * len(part.seeds) for part in parts]
    return {"instructions": [text for part in texts for text in part]}


def _policy_seeds(parts: Sequence[Measurement]) -> dict[str, list[int]]:
    """Return the policy seeds of the episodes, if any of them is not 0."""
    found = [each for part in parts for each in part.policy_seeds]
    return {"policy_seeds": found} if any(found) else {}
