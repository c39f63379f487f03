from io import BytesIO

import av
import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from PIL import Image
from simscaleai_plugin_gym import (
    EvalConfig,
    evaluate_policy,
    find_expert,
    make_env,
    make_vector_env,
)
from simscaleai_plugin_gym.video.frames import (
    drawn_episode,
    evenly_spaced,
    gif_of,
    strip_of,
)
from simscaleai_plugin_gym.video.video import (
    FAILURE_RGB,
    SUCCESS_RGB,
    contact_sheet,
    mp4_writer,
    record_videos,
)

from simscaleai_core.errors import ConfigError

pytestmark = pytest.mark.slow


class Walker(gymnasium.Env):
    """A white square walks over an odd-sized black picture, one pixel a step; even seeds succeed."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}
    observation_space = Box(-1.0, 1e6, (1,), dtype=np.float64)
    action_space = Box(-1.0, 1.0, (1,), dtype=np.float64)

    def __init__(self, render_mode="rgb_array"):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.at = seed, 0
        return np.array([float(seed)]), {}

    def step(self, action):
        self.at += 5
        is_over = self.at == 5 * (6 + self.seed)
        return np.zeros(1), 0.0, is_over, False, {"is_success": is_over and self.seed % 2 == 0}

    def render(self):
        picture = np.zeros((61, 99, 3), dtype=np.uint8)
        picture[20:40, self.at : self.at + 20] = 255
        return picture


def still(observation):
    return np.zeros_like(observation)


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, stream.average_rate, stream.codec_context.name, stream.pix_fmt


def test_each_episode_is_an_mp4_with_every_step(tmp_path):
    videos = record_videos(Walker, still, tmp_path / "videos", [2, 5])
    assert [(v.seed, v.success, v.num_frames) for v in videos] == [(2, True, 9), (5, False, 12)]
    for video in videos:
        frames, rate, codec, pix_fmt = decoded(video.path)
        assert len(frames) == video.num_frames and rate == 12
        assert "264" in codec and pix_fmt == "yuv420p"
        assert frames[0].shape == (62, 100, 3)  # H.264 wants even sides
        columns = [np.argmax(frame[30, :, 0] > 128) for frame in frames]
        assert columns == pytest.approx(range(0, 5 * len(frames), 5), abs=1)


def test_the_contact_sheet_has_a_row_per_episode_with_its_border(tmp_path):
    record_videos(Walker, still, tmp_path, [2, 5, 4], moments=4)
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    height = sheet.shape[0] // 3
    assert sheet.shape == (3 * (61 + 8), 4 * 99 + 8, 3)
    colours = [tuple(sheet[row * height, 0].tolist()) for row in range(3)]
    assert colours == [SUCCESS_RGB, FAILURE_RGB, SUCCESS_RGB]
    starts = [np.argmax(sheet[30, 4 + i * 99 : 4 + (i + 1) * 99, 0] > 128) for i in range(4)]
    assert starts[0] == 0 and starts[-1] == 40 and starts == sorted(set(starts))


def test_shorter_rows_are_filled_up():
    picture = np.full((10, 20, 3), 7, dtype=np.uint8)
    sheet = contact_sheet([([picture] * 3, True), ([picture], False)])
    assert sheet.shape == (2 * 18, 3 * 20 + 8, 3)
    assert (sheet[18 + 9, 4 + 20 : -4] == 255).all() and (sheet[9, 4:-4] == 7).all()


def test_evenly_spaced_moments_keep_both_ends():
    assert evenly_spaced(list(range(100)), 4) == [0, 33, 66, 99]
    assert evenly_spaced([0, 1], 8) == [0, 1]


def test_a_video_leaves_the_results_as_they_are(tmp_path):
    class Expert:
        def predict(self, observation):
            is_single = observation["pos"].ndim == 1
            batch = {k: v[None] if is_single else v for k, v in observation.items()}
            actions = find_expert("dot")(batch)
            return actions[0] if is_single else actions

    config = EvalConfig(n_episodes=3, seed=7)
    envs = make_vector_env("dot", 3)
    before = evaluate_policy(envs, Expert().predict, config)
    videos = record_videos(
        lambda: make_env("dot", render_mode="rgb_array"), Expert().predict, tmp_path, [7]
    )
    after = evaluate_policy(envs, Expert().predict, config)
    envs.close()
    assert before["returns"] == after["returns"]
    assert videos[0].success is before["successes"][0] is True
    assert videos[0].num_frames == before["lengths"][0] + 1
    frames, rate, _, _ = decoded(videos[0].path)
    assert rate == 20 and len(frames) == videos[0].num_frames
    assert all(
        np.abs(a.astype(int) - b).max() > 30 for a, b in zip(frames, frames[2:], strict=False)
    )


def test_an_environment_without_pictures_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'MountainCar-v0' draws no frames: expected uint8 \[H"):
        record_videos(
            lambda: make_env("MountainCar-v0"), lambda o: 0, tmp_path, [0], success="success"
        )
    assert not list(tmp_path.iterdir())  # no empty video is left


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(ConfigError, match=r"video .*no\.mp4 cannot be written"),
        mp4_writer(tmp_path / "file" / "no.mp4", 20.0),
    ):
        pass


def test_an_episode_is_shown_as_one_strip():
    class Expert:
        def predict(self, observation):
            batch = {key: value[None] for key, value in observation.items()}
            return find_expert("dot")(batch)[0]

    frames, fps = drawn_episode("dot", Expert(), seed=3)
    strip = strip_of(frames, 4)
    assert fps == 20
    assert strip.shape == (240, 4 * 240, 3) and strip.dtype == np.uint8
    first, last = strip[:, :240], strip[:, -240:]
    assert np.abs(first.astype(int) - last.astype(int)).max() > 50  # the dot has moved
    assert np.array_equal(strip, strip_of(drawn_episode("dot", Expert(), seed=3)[0], 4))


@pytest.mark.slow
def test_a_film_plays_at_the_speed_of_the_episode():
    long = [np.full((300, 400, 3), n, np.uint8) for n in range(150)]
    with Image.open(BytesIO(gif_of(long, 50.0))) as film:
        assert film.format == "GIF" and film.size == (200, 150) and film.n_frames == 100
        assert film.info["duration"] == 30 and film.info["loop"] == 0  # 3 s in all
    with Image.open(BytesIO(gif_of(long[:1], 10.0))) as film:
        assert film.n_frames == 1
