"""Videos of episodes: one mp4 each, and all of them on one contact sheet.

The episodes are run again, one at a time, in an environment of their own: drawing cannot change the
results, and vector environments need not be able to draw. The same seed gives the same episode, up
to the rounding of the policy's arithmetic in another batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from attrs import frozen
from PIL import Image as Picture

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.film import Frame, frames_of, run_filmed
from simscaleai_plugin_sim.sheet import contact_sheet, thumbnail

DEFAULT_FPS = 30
"""Frames per second where the environment's metadata has no ``render_fps``."""
CONTACT_SHEET = "contact_sheet.png"
"""File name of the contact sheet."""


@frozen
class Video:
    """One filmed episode."""

    path: Path
    """The mp4 file."""
    seed: int
    """Seed of the episode."""
    success: bool
    """Whether it was successful at any step, in this run of it."""
    num_frames: int
    """Frames: the first observation's and one per step."""


def film_episodes(
    build: Callable[[], Any],
    predict: Callable[..., Any],
    directory: Path,
    seeds: Sequence[int],
    *,
    moments: int = 8,
    **rules: Any,
) -> list[Video]:
    """Write an mp4 of each episode, and a contact sheet with one row per episode.

    Args:
        build: Makes the environment, with render mode ``rgb_array``.
        predict: Function of an observation to actions, as for `evaluate_policy`.
        directory: Where to write ``seed_10000.mp4``, ... and ``contact_sheet.png``.
        seeds: Seeds of the episodes.
        moments: Pictures per row of the contact sheet.
        rules: ``success``, ``language`` and ``max_steps``, as in `EvalConfig`.

    Returns:
        What was filmed, in order of seeds.

    Raises:
        ConfigError: If the environment draws nothing, or cannot be made.
    """
    env = build()
    videos: list[Video] = []
    rows: list[tuple[list[Frame], bool]] = []
    try:
        fps = float(env.metadata.get("render_fps") or DEFAULT_FPS)
        for seed in seeds:
            path = directory / f"seed_{seed}.mp4"
            small: list[Frame] = []
            success = False
            with mp4_writer(path, fps) as write:
                for frame, so_far in run_filmed(env, predict, seed, **rules):
                    write(frame)
                    small.append(thumbnail(frame))
                    success = so_far
            videos.append(Video(path, seed, success, len(small)))
            rows.append((frames_of(small, moments), success))
    finally:
        env.close()
    Picture.fromarray(contact_sheet(rows)).save(directory / CONTACT_SHEET)
    return videos


@contextmanager
def mp4_writer(path: Path, fps: float) -> Iterator[Callable[[Frame], None]]:
    """Write frames into an mp4 file (H.264, yuv420p) while the body runs.

    Args:
        path: File to write.
        fps: Frames per second [Hz].

    Yields:
        A function that appends one frame `[H, W, 3]`; all of one size. An odd side gets one more
        row or column, which the format needs.

    Raises:
        ConfigError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # the library itself says so at the first frame only
    except OSError as error:
        raise ConfigError(f"video {path} cannot be written: {error}") from error
    with _removed_on_error(path), av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"

        def write(frame: Frame) -> None:
            height, width = frame.shape[:2]
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if not stream.codec_context.is_open:
                stream.height, stream.width = even.shape[:2]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(picture))

        yield write
        container.mux(stream.encode())


@contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
