"""PNG images by FFmpeg are those of Pillow, bit for bit, and frames by planes those by pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from lerobot_folders import H264
from PIL import Image
from simscaleai_plugin_lerobot.reading.pictures import decoded_pictures
from simscaleai_plugin_lerobot.reading.videos import _is_alike_in_planes

from simscaleai_core.data.frames import decoded
from simscaleai_core.data.source import Key

DRAW = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return DRAW.integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "blobs",
    [
        [encoded(noise(40, 37, 3)) for _ in range(3)],
        [encoded(noise(8, 200, 3), compress_level=level) for level in (0, 1, 9)],
        [encoded(noise(20, 21))],
        [encoded(noise(20, 21, 4))],
        [encoded(noise(20, 21, 3)), encoded(noise(20, 21, 3), transparency=(1, 2, 3))],
        [encoded(noise(20, 21, 3)), encoded(noise(20, 21, 3), "JPEG")],
        [encoded(np.asarray(noise(20, 21) > 90))],
    ],
    ids=["rgb", "levels", "grey", "rgba", "transparent", "with jpeg", "bits"],
)
def test_pictures_are_those_of_pillow(blobs: list[bytes]) -> None:
    np.testing.assert_array_equal(decoded_pictures(blobs), decoded(blobs))


def test_a_damaged_picture_is_never_made_the_best_of() -> None:
    """Every cut and bit flip is what Pillow says of it: an error, or the same pixels."""
    pixels = noise(12, 10, 3) // 16
    blob = encoded(pixels)
    damaged = [blob[:size] for size in range(8, len(blob), 7)]
    for place in range(8, len(blob), 3):
        torn = bytearray(blob)
        torn[place] ^= 1 << place % 8
        damaged.append(bytes(torn))
    refused = 0
    for torn in damaged:
        try:
            expected = decoded([blob, torn])
        except ValueError:
            refused += 1
            with pytest.raises(ValueError, match="frame 1"):
                decoded_pictures([blob, torn])
        else:
            np.testing.assert_array_equal(decoded_pictures([blob, torn]), expected)
    assert refused > len(damaged) / 2


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="the first has"):
        decoded_pictures([encoded(noise(20, 21, 3)), encoded(noise(21, 20, 3))])


@pytest.mark.parametrize(("width", "height"), [(64, 48), (84, 84), (50, 30), (96, 96), (66, 64)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le", "nv12", "gray"])
def test_frames_are_those_of_pyav(
    tmp_path: Path, width: int, height: int, pixel_format: str
) -> None:
    """Conversion to planes is used where it gives the same, and only there."""
    source = av.VideoFrame.from_ndarray(noise(height, width, 3), format="rgb24")
    frame = VideoReformatter().reformat(source, format=pixel_format)
    expected = frame.to_ndarray(format="rgb24")
    video = _video_of(tmp_path / "video.mp4", width, height)
    planes = video.planes(frame, Key(name="x", shape=(3, height, width), kind="image"))
    np.testing.assert_array_equal(np.stack(planes, axis=-1), expected)
    if (width, pixel_format) == (64, "yuv420p"):
        assert _is_alike_in_planes(pixel_format, width, height, frame.colorspace, frame.color_range)


def _video_of(path: Path, width: int, height: int) -> Any:
    from simscaleai_plugin_lerobot.reading.videos import Video

    with av.open(str(path), "w") as container:
        stream = container.add_stream(H264[0], rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(height, width, 3))))
        container.mux(stream.encode())
    return Video(path, 10)
