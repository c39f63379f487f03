"""Evaluate a policy under an instruction that names another colour than the one that counts.

A policy that follows instructions fails; one that ignores them succeeds as often as before.

    python benchmarks/policies/swapped.py runs/policies/vla/final.pt --env reach_language
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from simscaleai_plugin_gym import EvalConfig, evaluate_policy, make_vector_env
from simscaleai_plugin_gym.evaluate.image_inputs import env_options

from simscaleai_core import load_policy

COLOURS = ("red", "green", "blue")


def swap(instruction: str, seed: int) -> str:
    """Return the instruction with its colour replaced by one of the other two, by the seed.

    Raises:
        ValueError: If it does not name exactly one colour.
    """
    words = instruction.split()
    named = [colour for colour in COLOURS if colour in words]
    if len(named) != 1:
        raise ValueError(f"expected one of {', '.join(COLOURS)}, got {instruction!r}")
    other = COLOURS[(COLOURS.index(named[0]) + 1 + seed % 2) % len(COLOURS)]
    return " ".join(other if word == named[0] else word for word in words)


def main() -> None:
    """Evaluate and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--env", required=True)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=10_000)
    options = parser.parse_args()
    policy: Any = load_policy(options.checkpoint)
    config = EvalConfig(n_episodes=options.episodes, seed=options.seed, language=swap)
    env = make_vector_env(options.env, 32, **env_options(policy, options.env, {}))
    print(json.dumps(evaluate_policy(env, policy.predict, config)))


if __name__ == "__main__":
    main()
