"""Pictures of the simulation; the only module that touches OpenGL, and only when asked to.

No GL library is needed to import this module, and no environment variable is changed: the
backend is chosen when the first picture is drawn, whenever MuJoCo was imported.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai_core.errors import SimScaleError

Image = NDArray[np.uint8]

_REMEDY = (
    "Install one with `apt-get install libegl1 libgl1-mesa-dri` (or `libosmesa6`), and leave "
    "MUJOCO_GL unset or set it to 'egl' or 'osmesa'."
)


class RenderingError(SimScaleError):
    """Images were asked for and no OpenGL library could draw them."""


class Renderer:
    """Draws the scene from any camera; makes its OpenGL context with the first picture.

    Args:
        model: The model whose states will be drawn.
        size: Width and height of the images [pixels].
    """

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        self._model = model
        self._size = size
        self._option = mujoco.MjvOption()
        self._gl: Any = None
        self._context: Any = None
        self._scene: Any = None

    def draw(self, data: mujoco.MjData, camera: str) -> Image:
        """Return the scene as an image.

        Args:
            data: State with current poses.
            camera: Name of a camera of the model.

        Returns:
            RGB image `[H, W, 3]`, top row first [0 to 255].
        """
        if self._context is None:
            self._open()
        self._gl.make_current()
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = self._model.camera(camera).id
        every = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(self._model, data, self._option, None, view, every, self._scene)
        viewport = mujoco.MjrRect(0, 0, self._size, self._size)
        mujoco.mjr_render(viewport, self._scene, self._context)
        image = np.empty((self._size, self._size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(image, None, viewport, self._context)
        return np.ascontiguousarray(image[::-1])

    def close(self) -> None:
        """Free the OpenGL context; safe to call twice, or before any picture was drawn."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None
        if self._gl is not None:
            self._gl.free()
            self._gl = None

    def _open(self) -> None:
        try:
            self._gl = _gl_context(self._size)
            self._gl.make_current()
            self._scene = mujoco.MjvScene(self._model, maxgeom=200)
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        except Exception as error:  # each backend fails with a type of its own
            self._gl = None
            raise RenderingError(
                f"images were asked for and OpenGL could not be used: expected a working backend, "
                f"got {type(error).__name__}: {error} @ MUJOCO_GL={os.environ.get('MUJOCO_GL')!r}. "
                f"{_REMEDY}"
            ) from error


def _gl_context(size: int) -> Any:
    backend = os.environ.get("MUJOCO_GL", "").strip().lower() or _available_backend()
    if backend == "egl":
        from mujoco.egl import GLContext
    elif backend == "osmesa":
        from mujoco.osmesa import GLContext
    elif backend == "glfw":
        from mujoco.glfw import GLContext
    else:
        from mujoco import GLContext
    return GLContext(size, size)


def _available_backend() -> str:
    """Return the backend whose library is there; importing the wrong one would spoil the other.

    Raises:
        OSError: If there is none.
    """
    if not sys.platform.startswith("linux"):
        return ""
    for backend, library in (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8")):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return backend
    if os.environ.get("DISPLAY"):
        return "glfw"
    raise OSError("none of libEGL.so.1 and libOSMesa.so.8 was found, and there is no DISPLAY")
