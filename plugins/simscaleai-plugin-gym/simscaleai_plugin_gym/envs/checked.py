"""One environment whose failures are one error each, with its name, the seed and the step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium

from simscaleai_plugin_gym.envs.failures import RESET, STEP, Place, call_env, close_env
from simscaleai_plugin_gym.envs.results import check_reset, check_step


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment of which every call has a time limit and every result is checked.

    Args:
        env: The environment.
        name: Its name, for messages.
        limit_s: Time that one call may take [s].
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str, limit_s: float) -> None:
        super().__init__(env)
        self.env_name = name
        self._limit_s = limit_s
        self._seed: int | None = None
        self._step = 0
        self._space = env.observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; see ``gymnasium.Env.reset``."""
        self._seed, self._step = seed, 0
        began: tuple[Any, dict[str, Any]] = self._call(RESET, self._reset, seed, options)
        return began

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step; see ``gymnasium.Env.step``."""
        self._step += 1
        given: tuple[Any, float, bool, bool, dict[str, Any]] = self._call(
            STEP, self._take_step, action
        )
        return given

    def has_wrapper_attr(self, name: str) -> bool:
        """Return whether the environment has an attribute; asking for it may compute it."""
        return bool(self._call(name, super().has_wrapper_attr, name))

    def get_wrapper_attr(self, name: str) -> Any:
        """Return an attribute of the environment; a function of it has the time limit as well."""
        found = self._call(name, super().get_wrapper_attr, name)
        return partial(self._call, f"{name}()", found) if callable(found) else found

    def close(self) -> None:
        """Close the environment; a failure is a warning."""
        close_env(self.env, self.env_name, self._limit_s)

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> Any:
        return check_reset(self.env.reset(seed=seed, options=options), self._space, ())

    def _take_step(self, action: Any) -> Any:
        return check_step(self.env.step(action), self._space, ())

    def _call(self, what: str, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return call_env(partial(self._place, what), self._limit_s, call, *arguments, **keywords)

    def _place(self, what: str, index: int | None) -> Place:  # noqa: ARG002 - there is but one
        return Place(self.env_name, what, [(self._seed, self._step)])
