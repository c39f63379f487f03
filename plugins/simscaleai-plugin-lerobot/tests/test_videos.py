"""Frames of videos are exactly those of their timesteps, in whatever order they are read."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_folders import (
    CAMERAS,
    FPS,
    H264,
    MPEG4,
    change_features,
    change_table,
    number_in,
    number_of,
    write_v2,
    write_v3,
    write_video,
)
from simscaleai_plugin_lerobot.dataset import LeRobotDataset
from simscaleai_plugin_lerobot.reading.videos import Video
from simscaleai_plugin_lerobot.source import LeRobotSource

LENGTHS = (25, 3, 40, 31)
LONG: tuple[str, dict[str, str]] = ("libx264", {"g": "250", "bf": "3", "preset": "ultrafast"})
ALL_KEYS: tuple[str, dict[str, str]] = ("libx264", {"g": "1", "preset": "ultrafast"})
AV1: tuple[str, dict[str, str]] = ("libsvtav1", {"g": "2", "crf": "30", "preset": "12"})


def numbers(source: LeRobotSource, camera: str, episode: int, timesteps: np.ndarray) -> list[int]:
    return [number_in(frame) for frame in source.take(episode, camera, timesteps)]


@pytest.mark.parametrize(
    "codec", [H264, MPEG4, LONG, ALL_KEYS, AV1],
    ids=["h264", "mpeg4", "one keyframe", "all keyframes", "av1"],
)  # fmt: skip
def test_frames_are_exact_in_any_order(tmp_path: Path, codec: tuple[str, dict[str, str]]) -> None:
    """Several episodes lie in one video: a frame too far would be another episode's."""
    try:
        av.codec.Codec(codec[0], "w")
    except ValueError:
        pytest.skip(f"this FFmpeg has no {codec[0]}")
    source = LeRobotSource(write_v3(tmp_path / "data", LENGTHS, CAMERAS[:1], codec, 4))
    draw = np.random.default_rng(0)
    for _ in range(40):
        episode = int(draw.integers(len(LENGTHS)))
        chosen = np.flatnonzero(draw.random(LENGTHS[episode]) < draw.choice([0.05, 0.3, 1]))
        if len(chosen):
            found = numbers(source, CAMERAS[0], episode, chosen)
            assert found == [number_of(CAMERAS[0], episode, t) for t in chosen.tolist()]


def test_both_versions_and_cameras(folder: Path) -> None:
    source = LeRobotSource(folder)
    for episode, told in enumerate(source.episodes):
        for camera in CAMERAS:
            frames = source.read(episode, camera, 0, told.length)
            wanted = [number_of(camera, episode, t) for t in range(told.length)]
            assert [number_in(frame) for frame in frames] == wanted


def test_windows_hold_their_frames(v3: Path) -> None:
    for budget_gib in (0.0, 1.0):
        data = LeRobotDataset(v3, seq_len=3, obs_keys=[CAMERAS[1]], cache_images_gib=budget_gib)
        order = np.random.default_rng(1).permutation(len(data))
        samples = data.__getitems__(order.tolist())
        for index, sample in zip(order, samples, strict=True):
            shown = [
                number_in(f.permute(1, 2, 0).numpy() * 255)
                for f in sample["observations"][CAMERAS[1]]
            ]
            alone = data[int(index)]["observations"][CAMERAS[1]]
            assert shown == [number_in(f.permute(1, 2, 0).numpy() * 255) for f in alone]
            assert np.diff(shown).tolist() == [1, 1]


def test_recorded_times_decide(v2: Path) -> None:
    """A camera that begins later and pauses: the frames lie at the times that the rows have."""
    times = [3, 4, 5, 9, 10, 11, 12]
    row = v2 / "data" / "chunk-000" / "episode_000000.parquet"
    change_table(row, {"timestamp": pa.array(np.array(times) / FPS, pa.float32())})
    video = v2 / "videos" / "chunk-000" / CAMERAS[0] / "episode_000000.mp4"
    write_video(video, list(range(20)))
    source = LeRobotSource(v2)
    assert numbers(source, CAMERAS[0], 0, np.arange(7)) == times
    assert source.timestamps(0).tolist() == pytest.approx(np.array(times) / FPS)


def test_the_nearest_frame_is_taken(tmp_path: Path) -> None:
    """Times that are a third of a timestep off find their frame; half a one is too far."""
    path = tmp_path / "video.mp4"
    write_video(path, list(range(12)))
    video = Video(path, FPS)
    for offset_s in (-0.03, 0.0, 0.03):
        for step in (5, 6, 2, 11, 3, 0):
            frame = video.frame_at(step / FPS + offset_s)
            assert number_in(frame.to_ndarray(format="rgb24")) == step


def test_consecutive_frames_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading forward never goes back to a keyframe, and one far ahead is sought."""
    path = tmp_path / "video.mp4"
    write_video(path, list(range(200)), ("libx264", {"g": "20", "bf": "0", "preset": "ultrafast"}))
    video, sought = Video(path, FPS), []
    seek = video._seek
    monkeypatch.setattr(video, "_seek", lambda wanted: (sought.append(wanted), seek(wanted)))
    for step in range(60):
        video.frame_at(step / FPS)
    assert len(sought) == 1
    video.frame_at(150 / FPS)  # keyframes at 60, 80, ... 140
    assert len(sought) == 2
    video.frame_at(149 / FPS)  # the one before is still at hand
    assert len(sought) == 2
    video.frame_at(3 / FPS)
    assert len(sought) == 3


def test_without_an_index_of_keyframes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older versions of PyAV do not show the index of a video."""
    path = tmp_path / "video.mp4"
    write_video(path, list(range(60)), LONG)
    video = Video(path, FPS)
    monkeypatch.setattr(video, "_stream", _NoIndex(video._stream))
    monkeypatch.setattr(video, "_container", _Unwrapping(video._container))
    for step in (0, 5, 40, 41, 7, 59):
        assert number_in(video.frame_at(step / FPS).to_ndarray(format="rgb24")) == step


class _NoIndex:
    def __init__(self, stream: object) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> object:
        if name == "index_entries":
            raise AttributeError(name)
        return getattr(self.stream, name)


class _Unwrapping:
    def __init__(self, container: object) -> None:
        self.container = container

    def seek(self, place: int, stream: _NoIndex) -> None:
        self.container.seek(place, stream=stream.stream)

    def decode(self, stream: _NoIndex) -> object:
        return self.container.decode(stream.stream)


def test_depth_videos(tmp_path: Path) -> None:
    """Codes of 12 bits become the distances that they stand for, as lerobot 0.6 has it."""
    root = write_v2(tmp_path / "data", (4,), CAMERAS[:1])
    codes = np.stack([np.full((64, 64), 1000 * t, dtype="<u2") for t in range(4)])
    path = root / "videos" / "chunk-000" / CAMERAS[0] / "episode_000000.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray12le"
        for code in codes:
            frame = av.VideoFrame(64, 64, "gray12le")
            frame.planes[0].update(code.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    quantised = {
        "is_depth_map": True, "video.depth_min": 0.01, "video.depth_max": 10.0, "video.shift": 3.5,
        "video.use_log": True, "depth_unit": "m",
    }  # fmt: skip
    depth = {"dtype": "video", "shape": [64, 64, 1], "names": ["height", "width", "channels"]}
    change_features(root, {CAMERAS[0]: {**depth, "info": quantised}})
    source = LeRobotSource(root)
    key = next(key for key in source.observations if key.name == CAMERAS[0])
    assert (key.kind, key.shape, key.dtype) == ("depth", (1, 64, 64), "float32")
    found = source.read(0, CAMERAS[0], 0, 4)
    fraction = np.arange(4) * 1000 / 4095
    wanted = 3.51 * (13.5 / 3.51) ** fraction - 3.5
    np.testing.assert_allclose(
        found, np.broadcast_to(wanted[:, None, None], (4, 64, 64)), rtol=1e-5
    )
    change_features(root, {CAMERAS[0]: {**depth, "info": {"video.is_depth_map": True}}})
    assert np.array_equal(LeRobotSource(root).read(0, CAMERAS[0], 0, 4), codes)


def test_rows_of_a_video_that_is_not_there_are_read(v3: Path) -> None:
    """Who does not want the frames needs no videos."""
    for path in v3.glob("videos/**/*.mp4"):
        path.unlink()
    data = LeRobotDataset(v3, obs_keys=["observation.state"])
    assert len(data) == sum(pq.read_metadata(p).num_rows for p in v3.glob("data/*/*.parquet"))
