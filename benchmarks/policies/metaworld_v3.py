"""Meta-World's manipulation tasks with episodes that depend on their seed, and its own experts.

Meta-World ignores ``reset(seed=...)``; its MT1 draws one of 50 frozen layouts from a generator of
its own. Here a seed draws the layout of object and goal from the same distribution, so that
demonstrations and evaluation have layouts in common only by chance. An episode ends at success, as
in Meta-World's own evaluation, or after 500 steps. The observation is Meta-World's vector of 39
numbers under names: `hand` (position [m], opening), `objects`, `previous` (hand and objects one
step before) and `goal` [m].

For ``simscale record --env metaworld_v3:MetaWorld/push-v3 --expert metaworld_v3:push``, with this
folder on ``PYTHONPATH``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from metaworld import policies
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
from numpy.typing import NDArray

Array = NDArray[Any]

PARTS = {
    "hand": slice(0, 4),
    "objects": slice(4, 18),
    "previous": slice(18, 36),
    "goal": slice(36, 39),
}
MAX_STEPS = 500


class SeededTask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One Meta-World task: layout by seed, observation by name, end at success.

    Args:
        task: Name such as ``"push-v3"``, for which `policies.ENV_POLICY_MAP` has an expert.
        render_mode: As for Gymnasium.
    """

    def __init__(self, task: str, render_mode: str | None = None) -> None:
        made = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-goal-observable"]
        env = made(seed=0, render_mode=render_mode)
        env.seeded_rand_vec, env._freeze_rand_vec = True, False  # a new layout at every reset
        super().__init__(env)
        self._seed = env.seed
        whole = env.sawyer_observation_space  # the other still hides the goal
        self.observation_space = Dict(
            {k: Box(whole.low[v], whole.high[v], dtype=np.float64) for k, v in PARTS.items()}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Draw a layout and return the first observation."""
        if seed is not None:
            self._seed(seed)
        observation, info = self.env.reset(options=options)
        return _named(observation), info

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Step, and end the episode at success."""
        observation, reward, _, truncated, info = self.env.step(action)
        return _named(observation), float(reward), bool(info["success"]), truncated, info


def _named(observation: Array) -> dict[str, Array]:
    return {name: observation[part] for name, part in PARTS.items()}


def _expert(task: str) -> Callable[[Mapping[str, Array]], Array]:
    policy = policies.ENV_POLICY_MAP[task]()

    def act(observation: Mapping[str, Array]) -> Array:
        rows = np.concatenate([observation[name] for name in PARTS], axis=-1)
        # Meta-World clips what its experts ask for; the label is what was done.
        return np.stack([policy.get_action(row) for row in rows]).clip(-1.0, 1.0)

    return act


push = _expert("push-v3")
pick_place = _expert("pick-place-v3")
door_open = _expert("door-open-v3")
drawer_close = _expert("drawer-close-v3")
button_press_topdown = _expert("button-press-topdown-v3")
window_open = _expert("window-open-v3")

for _task in policies.ENV_POLICY_MAP:
    gymnasium.register(
        f"MetaWorld/{_task}",
        entry_point="metaworld_v3:SeededTask",
        max_episode_steps=MAX_STEPS,
        kwargs={"task": _task},
    )
