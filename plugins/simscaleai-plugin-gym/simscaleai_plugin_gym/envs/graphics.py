"""OpenGL on a machine without a screen: MuJoCo is told what to draw with, if nobody has told it.

Left alone it takes the backend of windows, which can draw nothing there.
"""

from __future__ import annotations

import ctypes
import os
import sys

_LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
_VARIABLE = "MUJOCO_GL"


def choose_graphics(render_mode: object) -> None:
    """Name the backend in the environment variable ``MUJOCO_GL``, before an environment is made.

    What the user has set stays, and nothing is set where no picture is asked for.

    Args:
        render_mode: The environment's render mode; a picture is asked for by one of arrays.
    """
    is_asked = isinstance(render_mode, str) and "array" in render_mode
    has_screen = any(os.environ.get(name) for name in _SCREENS)
    if (
        not is_asked
        or _VARIABLE in os.environ
        or has_screen
        or not sys.platform.startswith("linux")
    ):
        return
    for backend, library in _LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        os.environ[_VARIABLE] = backend
        return
