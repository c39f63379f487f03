"""What ``simscale eval`` is asked for beside the results of each checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.evaluate.gate import Gate, gate_from_text
from simscaleai_plugin_gym.evaluate.power import difference_from_text
from simscaleai_plugin_gym.evaluate.sweep import varied_from_texts
from simscaleai_plugin_gym.evaluate.until import Question, question_from_text


@frozen(kw_only=True)
class Request:
    """What is asked for; nothing if a field is None."""

    gate: Gate | None = None
    """The bar that the results are held against."""
    gate_text: str | None = None
    """The same as it was given."""
    question: Question | None = None
    """What is to be found out: the evaluation ends when it is."""
    difference: float | None = None
    """Difference of two success rates: how many episodes show it? [fraction]"""
    varied: Mapping[str, Sequence[float]] | None = None
    """Values by quantity: every combination of them is a condition."""
    with_control: bool = True
    """Whether the scripted expert runs under these conditions too."""
    video: Path | None = None
    """Folder for videos."""
    video_episodes: int = 4
    """Episodes on video."""


def read_request(
    *,
    num_checkpoints: int,
    episodes: int,
    vary: Sequence[str] | None = None,
    no_control: bool = False,
    gate: str | None = None,
    until: str | None = None,
    margin: float | None = None,
    n_for: str | None = None,
    failures: Path | None = None,
    video: Path | None = None,
    video_episodes: int = 4,
) -> Request:
    """Read what is asked for, before anything is loaded.

    Args:
        num_checkpoints: How many checkpoints there are.
        episodes: The most episodes of each.
        vary: Quantities and values, such as ``delay=0,1,2``.
        no_control: Whether the scripted expert is left out.
        gate: A bar, such as ``success_rate>=0.95``.
        until: A question, such as ``decided``.
        margin: Difference that does not matter to the question [fraction].
        n_for: A difference to be seen, such as ``difference>=0.05``.
        failures: Folder for failed episodes.
        video: Folder for videos.
        video_episodes: Episodes on video.

    Returns:
        The request.

    Raises:
        ConfigError: If something has no meaning, or none together with the rest.
    """
    asked: dict[str, object] = {"gate": gate, "until": until, "margin": margin, "n_for": n_for}
    asked |= {"failures": failures, "video": video}
    if vary:
        _refuse(asked, "with --vary")
    elif no_control:
        raise ConfigError("no-control: expected --vary with it. Add that, or leave it out.")
    if num_checkpoints > 2:
        _refuse(asked | {"video": None}, "with more than two checkpoints")
    if until is None and margin is not None:
        raise ConfigError("margin: expected --until decided with it. Add that, or leave it out.")
    compares = num_checkpoints > 1
    return Request(
        question=None
        if until is None
        else question_from_text(until, ceiling=episodes, compares=compares, margin=margin),
        gate=None if gate is None else gate_from_text(gate, compares=compares),
        gate_text=gate,
        difference=None if n_for is None else difference_from_text(n_for),
        varied=varied_from_texts(vary) if vary else None,
        with_control=not no_control,
        video=video,
        video_episodes=video_episodes,
    )


def policy_seeds_from_text(text: str, *, num_checkpoints: int, **asked: object) -> int | list[int]:
    """Return the policy seed that a command line names, or several with commas between them.

    Args:
        text: Such as ``0`` or ``0,1,2``.
        num_checkpoints: How many checkpoints there are.
        asked: Options that count each episode once, by name; None where they are not given.

    Raises:
        ConfigError: If it is no number, or there are several seeds for what takes one.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"policy-seed: expected an integer, or several as in 0,1,2, got {text!r}"
        ) from None
    if len(seeds) == 1:
        return seeds[0]
    _refuse(asked, "with several policy seeds")
    if num_checkpoints > 1:
        raise ConfigError(
            f"policy-seed: expected one for the comparison of {num_checkpoints} checkpoints, got "
            f"{text!r}. Give one, or evaluate each checkpoint alone."
        )
    return seeds


def _refuse(asked: Mapping[str, object], where: str) -> None:
    """Check that nothing is asked for that has no meaning there.

    Raises:
        ConfigError: If something is.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in asked.items() if value is not None]
    if given:
        raise ConfigError(
            f"{', '.join(given)} has no meaning {where}: expected nothing of the kind, got "
            f"{given[0]}. Leave it out."
        )
