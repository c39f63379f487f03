"""Pictures of the simulation through EGL, on a machine without a display."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from checks import Context, Found, Skipped

_PICTURES = 50


def rendering(context: Context, found: Found) -> None:
    """Draw an episode and compare its pictures.

    Raises:
        Skipped: If MuJoCo or EGL is not here.
    """
    try:
        from simscaleai_plugin_sim.envs import make_reach
    except ImportError as error:
        raise Skipped(f"the environments cannot be imported: {error}") from error
    from simscaleai_plugin_sim.physics.rendering import RenderingError

    env: Any = make_reach(images=context.sizes.pixels)
    try:
        observation, _ = env.reset(seed=0)
    except RenderingError as error:
        raise Skipped(str(error).splitlines()[0]) from error
    first, begun = observation["image"], time.perf_counter()
    for _ in range(_PICTURES):
        observation = env.step(env.action_space.sample())[0]
    seconds = time.perf_counter() - begun
    found.facts |= {
        "renderer": _renderer(),
        "pictures_per_s": round(_PICTURES / seconds),
        "pixels": context.sizes.pixels,
    }
    env.close()
    found.expect(np.std(first) > 1, "the picture is of one colour")
    found.expect((first != observation["image"]).any(), "nothing moves in the pictures")


def _renderer() -> str:
    """Return what draws, as OpenGL names it; the context of the pictures is still current."""
    from OpenGL import GL

    name = GL.glGetString(GL.GL_RENDERER)
    return name.decode() if name else "unknown"
