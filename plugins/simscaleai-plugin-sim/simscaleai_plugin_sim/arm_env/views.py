"""Which cameras an observation shows, under which keys and how large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from gymnasium.spaces import Box

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.physics.scene import CAMERAS, MAX_IMAGE_SIZE
from simscaleai_plugin_sim.tasks import LanguageTask, Task

KEYS = {"front": "image", "wrist": "wrist_image"}
"""Observation key of each camera."""


@frozen
class View:
    """One camera's square images in the observation."""

    camera: str
    """Name of the camera."""
    size: int
    """Side of the images [pixels]."""

    @property
    def key(self) -> str:
        """Observation key."""
        return KEYS[self.camera]

    def space(self) -> Box:
        """Return the space of one image `[H, W, 3]`."""
        return Box(0, 255, (self.size, self.size, 3), dtype=np.uint8)


def views_of(
    task: Task, images: int | None, cameras: str | Sequence[str] | None
) -> tuple[View, ...]:
    """Return the views of an environment, in the order of `CAMERAS`.

    Args:
        task: What the arm does; a task done from images has a size and cameras of its own.
        images: Side of the square images [pixels]; 0 for none, None for the task's own.
        cameras: Names of the cameras, also as text with commas; None for the task's own.

    Raises:
        ConfigError: If the size is out of range, there is no such camera, or cameras are given and
            images are not.
    """
    own = task if isinstance(task, LanguageTask) else None
    size = images if images is not None else own.images if own is not None else 0
    if type(size) is not int or not 0 <= size <= MAX_IMAGE_SIZE:
        raise ConfigError(f"images: expected 1 to {MAX_IMAGE_SIZE} pixels, or 0, got {images!r}")
    if isinstance(cameras, str):
        cameras = cameras.split(",")
    if cameras is None:
        cameras = own.cameras if own is not None else CAMERAS[:1]
    elif not cameras or not set(cameras) <= set(CAMERAS):
        raise ConfigError(f"cameras: expected one or more of {', '.join(CAMERAS)}, got {cameras!r}")
    elif size == 0:
        raise ConfigError(
            f"cameras: {cameras!r} show nothing without a size of the images: expected 1 to "
            f"{MAX_IMAGE_SIZE} pixels. Give images=64."
        )
    return tuple(View(camera, size) for camera in CAMERAS if size and camera in cameras)


def image_options(
    keys: Sequence[str], size: tuple[int, int] | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options with which an observation holds the images that a policy needs.

    Args:
        keys: Observation keys of the policy's images; none for a policy without images.
        size: Height and width of its images [pixels], or None if it does not say.
        given: Options of the environment that the user chose.

    Returns:
        ``images`` and, unless it is the front camera alone, ``cameras``; nothing if ``images`` was
        given.

    Raises:
        ConfigError: If the images are not square, or there is no camera for a key.
    """
    if "images" in given:
        return {}
    if not keys:
        return {"images": 0}  # drawing images that nobody uses takes most of the time
    if size is None or size[0] != size[1]:
        raise ConfigError(
            f"the policy's images do not fit the environment: expected square ones, got "
            f"{size} pixels. Train on images that this environment records."
        )
    cameras = {key: camera for camera, key in KEYS.items()}
    unknown = [key for key in keys if key not in cameras]
    if unknown:
        raise ConfigError(
            f"the policy sees {', '.join(unknown)}: expected images of {', '.join(cameras)}. "
            "Evaluate it in the environment that its data came from."
        )
    chosen = tuple(cameras[key] for key in keys)
    return {"images": size[0]} | ({} if chosen == ("front",) else {"cameras": chosen})
