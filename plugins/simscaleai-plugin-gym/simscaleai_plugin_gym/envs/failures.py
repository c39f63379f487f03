"""The failure of an environment as one error: its name, what it did, and the seed and the step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from simscaleai_core.errors import SimScaleError
from simscaleai_plugin_gym.envs.limits import TimeLimitReached, limited

logger = logging.getLogger("simscaleai")

STEP = "step"
RESET = "reset"
GRACE_S = 5.0
"""How much longer to wait for environments with limits of their own, which say more [s]."""

_MAX_TEXT = 300  # characters of somebody else's message
_MAX_LISTED = 4


class EnvError(SimScaleError):
    """An environment that raised, hung, died, or gave what is no result.

    Attributes:
        env: Name of the environment.
        seed: Seed of the episode; None if it may be one of several, or there is none yet.
        step: Step of the episode, from 1 [steps]; 0 at its reset, None if it may be one of several.
    """

    def __init__(
        self, message: object, *, env: str = "", seed: int | None = None, step: int | None = None
    ) -> None:
        """Keep the place beside the message."""
        super().__init__(message)
        self.env = env
        self.seed = seed
        self.step = step

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword data, so that a process can hand it over."""
        return (_rebuild_error, (str(self), self.env, self.seed, self.step))


def _rebuild_error(message: str, env: str, seed: int | None, step: int | None) -> EnvError:
    return EnvError(message, env=env, seed=seed, step=step)


class FaultError(Exception):
    """What went wrong in a call into an environment, before it is said where.

    Attributes:
        index: Which environment of a batch; None if it is not known.
    """

    def __init__(self, text: str, index: int | None = None) -> None:
        """Keep the environment beside the text, in which ``{place}`` is where."""
        super().__init__(text)
        self.index = index


@frozen
class Place:
    """Where an environment is: what it was asked for, and in which episode."""

    env: str
    """Name of the environment."""
    call: str
    """`STEP`, `RESET`, or another call such as ``is_success()``."""
    episodes: Sequence[tuple[int | None, int]] = ()
    """Seed and step of the episodes that may be meant."""

    def __str__(self) -> str:
        """Return it as a part of a sentence."""
        if not self.episodes:
            return self.call
        if len(self.episodes) == 1:
            seed, step = self.episodes[0]
            if self.call == RESET:
                return f"the reset with seed {seed}"
            return f"{'' if self.call == STEP else f'{self.call} after '}step {step} of seed {seed}"
        seeds = [seed for seed, _ in self.episodes]
        steps = sorted({step for _, step in self.episodes})
        span = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
        listed = ", ".join(map(str, seeds)) if len(seeds) <= _MAX_LISTED else _span(seeds)
        return f"a {self.call} (number {span}) of one of the seeds {listed}"

    def fault(self, text: str) -> EnvError:
        """Return the error that says what happened here.

        Args:
            text: Such as ``"failed in {place}: ValueError"``; ``{place}`` is where.
        """
        seed, step = self.episodes[0] if len(self.episodes) == 1 else (None, None)
        message = f"environment {self.env!r} {text.replace('{place}', str(self), 1)}"
        return EnvError(message, env=self.env, seed=seed, step=step)


def call_env(
    place: Callable[[int | None], Place],
    limit_s: float,
    call: Callable[..., Any],
    *arguments: Any,
    **keywords: Any,
) -> Any:
    """Return what a call into an environment gives; whatever goes wrong becomes one error.

    Args:
        place: Where it is, given which environment of a batch is meant, if that is known.
        limit_s: Time that the call may take [s].
        call: What to call.
        arguments: Its arguments.
        keywords: Its keyword arguments.

    Raises:
        EnvError: If it raises anything but Ctrl-C, or its time is up.
    """  # noqa: DOC501 - built by Place.fault
    try:
        return limited(limit_s, call, *arguments, **keywords)
    except (KeyboardInterrupt, EnvError):
        raise
    except TimeLimitReached:
        raise timed_out(place(None), limit_s) from None
    except FaultError as error:
        raise place(error.index).fault(str(error)) from None
    except BaseException as error:
        raise failed(place(None), error) from error


def timed_out(place: Place, limit_s: float) -> EnvError:
    """Return the error for a call that did not come back in its time [s]."""
    return place.fault(
        f"did not return from {{place}}: expected it within {limit_s:g} s, got no answer. Raise "
        "env_timeout_s (--env-timeout-s) if it is only slow."
    )


def failed(place: Place, error: BaseException) -> EnvError:
    """Return the error for a call that raised."""
    return place.fault(
        f"failed in {{place}}: {one_line(error)}. Fix the environment; with vectorization 'sync', "
        "--traceback shows where it failed."
    )


def close_env(env: Any, name: str, limit_s: float) -> None:
    """Close an environment; a failure is a warning of one line.

    What was computed before is not lost because the environment cannot be closed.

    Args:
        env: The environment.
        name: Its name.
        limit_s: Time that it may take [s]; that one of them may take in a vector environment.
    """
    try:
        limited(batch_limit(env, limit_s), env.close)
    except TimeLimitReached:
        logger.warning("environment %r did not close within %g s and is left", name, limit_s)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        logger.warning("environment %r failed to close: %s", name, one_line(error))


def batch_limit(env: Any, limit_s: float) -> float:
    """Return the time that a call of all environments may take [s].

    Args:
        env: A vector environment, or a single one.
        limit_s: Time that a call of one may take [s], or of a batch of its own.
    """
    inner = env.unwrapped
    if hasattr(inner, "processes"):
        return limit_s + GRACE_S
    return limit_s * len(inner.envs) + GRACE_S if hasattr(inner, "envs") else limit_s


def one_line(error: BaseException) -> str:
    """Return kind and message of an error in one line."""
    if isinstance(error, SimScaleError):
        return _shortened(str(error)).rstrip(".")
    text = _shortened(str(error)).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]}..."


def _span(seeds: Sequence[int | None]) -> str:
    known = [seed for seed in seeds if seed is not None]
    return f"{min(known)} to {max(known)}" if known else "(none)"
