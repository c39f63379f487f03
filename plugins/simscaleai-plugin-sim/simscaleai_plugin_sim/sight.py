"""Which images a policy needs, and how an environment comes to give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from gymnasium.spaces import Dict, Space

from simscaleai_core.errors import ConfigError

_CAMERAS = {"image": "front", "wrist_image": "wrist"}
"""Camera of our environments that gives each key."""


@frozen
class Sight:
    """What a policy sees."""

    keys: tuple[str, ...]
    """Observation keys of its images; none if it sees nothing."""
    size: tuple[int, int] | None
    """Height and width of the images [pixels], if the policy says so."""


def sight_of(policy: Any) -> Sight | None:
    """Return what a policy sees, or None if it does not say.

    Args:
        policy: A policy; its ``hparams`` are looked at: ``image_keys`` or ``image_key``,
            ``image_size``, and ``use_image`` if it may be switched off.
    """
    hparams: Mapping[str, Any] = getattr(policy, "hparams", None) or {}
    if hparams.get("use_image") is False:
        return Sight((), None)
    keys = hparams.get("image_keys")
    if keys is None and hparams.get("image_key") is not None:
        keys = (hparams["image_key"],)
    if keys is None:
        return None
    size = hparams.get("image_size")
    if isinstance(size, int):
        size = (size, size)
    return Sight(tuple(keys), None if size is None else (int(size[0]), int(size[1])))


def options_to_see(policy: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that let one of our environments show what a policy needs.

    Args:
        policy: A policy.
        options: Options of the environment that were given; they win.

    Returns:
        The options, with ``images`` and ``cameras`` if the policy says what it sees.

    Raises:
        ConfigError: If the policy's images are not square, or of a camera that there is none of.
    """
    sight = sight_of(policy)
    if sight is None or "images" in options:
        return dict(options)
    if not sight.keys:
        return {"images": 0, **options}  # drawing what nobody sees takes most of the time
    if sight.size is None or sight.size[0] != sight.size[1]:
        raise ConfigError(
            f"the policy's images do not fit the environment: expected square ones, got "
            f"{sight.size} pixels. Train on images that this environment records."
        )
    unknown = [key for key in sight.keys if key not in _CAMERAS]
    if unknown:
        raise ConfigError(
            f"the policy sees {', '.join(unknown)}: expected images of {', '.join(_CAMERAS)}. "
            "Evaluate it in the environment that its data came from."
        )
    cameras = tuple(_CAMERAS[key] for key in sight.keys)
    shown = {} if cameras == ("front",) else {"cameras": cameras}
    return {"images": sight.size[0], **shown, **options}


def check_sight(policy: Any, space: Space[Any], env_name: str) -> None:
    """Check that an environment shows what a policy needs, before the first episode.

    Args:
        policy: A policy.
        space: Space of one observation.
        env_name: Name of the environment, for the message.

    Raises:
        ConfigError: If an image is missing.
    """
    sight = sight_of(policy)
    if sight is None or not isinstance(space, Dict):
        return
    missing = [key for key in sight.keys if key not in space.spaces]
    if missing:
        raise ConfigError(
            f"the policy sees {', '.join(missing)}, but environment {env_name!r} does not show it: "
            f"its observation has {', '.join(space.spaces)}. Ask for images with --env-kwargs, or "
            "evaluate the policy where its data was recorded."
        )
