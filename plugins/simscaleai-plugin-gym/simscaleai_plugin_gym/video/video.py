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
from simscaleai_plugin_gym.envs.adapter import name_of
from simscaleai_plugin_gym.envs.failures import close_env
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S
from simscaleai_plugin_gym.video.frames import DEFAULT_FPS, Frame, episode_frames, evenly_spaced

CONTACT_SHEET = "contact_sheet.png"
"""File name of the contact sheet."""
SUCCESS_RGB = (0, 158, 115)
FAILURE_RGB = (213, 94, 0)
"""Green and vermilion of Okabe and Ito's palette, which colour-blind people can tell apart."""

_SIDE = 160
"""Longer side of a picture on the sheet [pixels]."""
_BORDER = 4
"""Width of the coloured border around a row [pixels]."""


@frozen
class Video:
    """One episode on video."""

    path: Path
    """The mp4 file."""
    seed: int
    """Seed of the episode."""
    success: bool
    """Whether it was successful at any step, in this run of it."""
    num_frames: int
    """Frames: the first observation's and one per step."""


def record_videos(
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
        build: Builds the environment, with render mode ``rgb_array``.
        predict: Function of an observation to actions, as for `evaluate_policy`.
        directory: Where to write ``seed_10000.mp4``, ... and ``contact_sheet.png``.
        seeds: Seeds of the episodes.
        moments: Pictures per row of the contact sheet.
        rules: ``success``, ``language``, ``policy_seed``, ``max_steps``, ``disturbances`` and
            ``env_timeout_s``, as in `EvalConfig`.

    Returns:
        The videos, in order of seeds.

    Raises:
        ConfigError: If the environment draws nothing, or cannot be built.
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
                for frame, so_far in episode_frames(env, predict, seed, **rules):
                    write(frame)
                    small.append(thumbnail(frame))
                    success = so_far
            videos.append(Video(path, seed, success, len(small)))
            rows.append((evenly_spaced(small, moments), success))
    finally:
        close_env(env, name_of(env), rules.get("env_timeout_s", ENV_TIMEOUT_S))
    Picture.fromarray(contact_sheet(rows)).save(directory / CONTACT_SHEET)
    return videos


def thumbnail(frame: Frame) -> Frame:
    """Return a frame `[H, W, 3]` made small enough for the sheet."""
    picture = Picture.fromarray(frame)
    picture.thumbnail((_SIDE, _SIDE))
    return np.asarray(picture)


def contact_sheet(rows: Sequence[tuple[Sequence[Frame], bool]]) -> Frame:
    """Return one picture of episodes.

    Args:
        rows: For each episode its pictures `[h, w, 3]`, all of one size, and whether it succeeded.

    Returns:
        Picture `[H, W, 3]`: rows of pictures side by side, shorter ones filled up with white, each
        in a border that is green for success and vermilion for failure.
    """
    wide = max(len(pictures) for pictures, _ in rows)
    strips = []
    for pictures, success in rows:
        strip = np.concatenate(list(pictures), axis=1)
        missing = (wide - len(pictures)) * pictures[0].shape[1]
        strip = np.pad(strip, ((0, 0), (0, missing), (0, 0)), constant_values=255)
        colour = SUCCESS_RGB if success else FAILURE_RGB
        height, width = strip.shape[:2]
        framed = np.full((height + 2 * _BORDER, width + 2 * _BORDER, 3), colour, dtype=np.uint8)
        framed[_BORDER:-_BORDER, _BORDER:-_BORDER] = strip
        strips.append(framed)
    sheet: Frame = np.concatenate(strips)
    return sheet


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
        path.touch()  # the library itself fails at the first frame only
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
