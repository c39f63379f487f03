"""Which images a policy needs, and how an environment comes to give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen
from gymnasium.spaces import Dict, Space

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.catalog import find_declared, image_options

if TYPE_CHECKING:
    from simscaleai_core.host.facade import Host


@frozen
class ImageInputs:
    """The images that a policy needs."""

    keys: tuple[str, ...]
    """Observation keys of its images; none for a policy without images."""
    size: tuple[int, int] | None
    """Height and width of the images [pixels], if the policy says so."""


def image_inputs_of(policy: Any) -> ImageInputs | None:
    """Return the images that a policy needs, or None if it does not say.

    Args:
        policy: A policy; its ``hparams`` are looked at: ``image_keys`` or ``image_key``,
            ``image_size``, and ``use_image`` if it may be switched off.
    """
    hparams: Mapping[str, Any] = getattr(policy, "hparams", None) or {}
    if hparams.get("use_image") is False:
        return ImageInputs((), None)
    keys = hparams.get("image_keys")
    if keys is None and hparams.get("image_key") is not None:
        keys = (hparams["image_key"],)
    if keys is None:
        return None
    size = hparams.get("image_size")
    if isinstance(size, int):
        size = (size, size)
    return ImageInputs(tuple(keys), None if size is None else (int(size[0]), int(size[1])))


def env_options(
    policy: Any, env: str, given: Mapping[str, Any], *, host: Host | None = None
) -> dict[str, Any]:
    """Return the options with which an environment shows the images that a policy needs.

    Args:
        policy: A policy.
        env: Name of the environment. One whose declaration has no ``image_options`` gets the given
            options alone.
        given: Options that the user chose; they win.
        host: Knows the plugins; those that are installed if None.

    Returns:
        All options of the environment.
    """
    needed = image_inputs_of(policy)
    if needed is None:
        return dict(given)
    return image_options(find_declared(env, host), needed.keys, needed.size, given)


def check_images(policy: Any, space: Space[Any], env: str) -> None:
    """Check that an environment shows the images that a policy needs, before the first episode.

    Args:
        policy: A policy.
        space: Space of one observation.
        env: Name of the environment, for the message.

    Raises:
        ConfigError: If an image is missing.
    """
    needed = image_inputs_of(policy)
    if needed is None or not isinstance(space, Dict):
        return
    missing = [key for key in needed.keys if key not in space.spaces]
    if missing:
        raise ConfigError(
            f"the policy sees {', '.join(missing)}, but environment {env!r} does not show it: "
            f"its observation has {', '.join(space.spaces)}. Ask for images with --env-kwargs, or "
            "evaluate the policy where its data was recorded."
        )
