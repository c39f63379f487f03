import os
import subprocess
import sys

import numpy as np
import pytest
from simscaleai_plugin_gym import make_env, make_vector_env
from simscaleai_plugin_sim.physics.rendering import RenderingError

from simscaleai_core.errors import ConfigError

STEP_REACH = """
import sys
from simscaleai_plugin_gym import make_env, make_vector_env
for env in (make_env("reach"), make_vector_env("reach", 2)):
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"OpenGL", "glfw", "torch"}))
"""


def run(code, **environment):
    cleared = {k: v for k, v in os.environ.items() if k not in {"MUJOCO_GL", "DISPLAY"}}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**cleared, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_state_only_use_needs_no_gl():
    # MUJOCO_GL=disable keeps MuJoCo itself from importing glfw.
    assert run(STEP_REACH, MUJOCO_GL="disable") == "[]"


def test_state_only_use_loads_no_opengl_by_default():
    assert "OpenGL" not in run(STEP_REACH) and "torch" not in run(STEP_REACH)


def test_the_camera_sees_the_arm_and_the_target_move():
    env = make_env("reach", images=64)
    observation, _ = env.reset(seed=0)
    image = observation["image"]
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert image.std() > 10
    after, *_ = env.step(np.array([1.0, 0.0, -1.0, 1.0]))
    assert not np.array_equal(image, after["image"])
    elsewhere, _ = env.reset(seed=1)
    assert not np.array_equal(image, elsewhere["image"])
    assert observation in env.observation_space
    env.close()


def test_the_target_is_in_view_wherever_it_is():
    envs = make_vector_env("reach", 24, images=64)
    images = envs.reset(seed=0)[0]["image"].astype(int)
    red = (images[..., 0] > 90) & (images[..., 1] < 60) & (images[..., 2] < 60)
    assert red.sum(axis=(1, 2)).min() >= 6
    envs.close()


@pytest.mark.parametrize("size", [32, 64, 128])
def test_single_and_vector_see_the_same_with_both_cameras(size):
    options = {"images": size, "cameras": ("front", "wrist")}
    envs = make_vector_env("reach", 2, **options)
    env = make_env("reach", **options)
    batched, _ = envs.reset(seed=[5, 6])
    alone, _ = env.reset(seed=6)
    for key in ("image", "wrist_image"):
        assert batched[key].shape == (2, size, size, 3) and batched[key].dtype == np.uint8
        np.testing.assert_array_equal(batched[key][1], alone[key])
    assert batched in envs.observation_space and alone in env.observation_space
    assert not np.array_equal(alone["image"], alone["wrist_image"])
    env.close()
    envs.close()


def test_the_wrist_camera_moves_with_the_hand():
    env = make_env("reach", images=64, cameras=("wrist",))
    before, _ = env.reset(seed=0)
    assert "image" not in before
    for _ in range(5):
        after, *_ = env.step(np.array([1.0, 0.0, -1.0, 1.0]))
    # The hand and its fingers, above, stay where they are in the image; the base of the arm, seen
    # between them, is left behind.
    change = np.abs(before["wrist_image"].astype(int) - after["wrist_image"]).max(axis=-1)
    assert change[:2].max() < 20 and change[2:10, 10:14].max() < 20
    assert change[:16, 28:36].max() > 60
    env.close()


def test_cameras_can_be_given_as_text_and_come_in_one_order():
    env = make_env("reach", images=16, cameras="wrist,front")
    assert list(env.observation_space)[-2:] == ["image", "wrist_image"]
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": -1}, "images: expected 1 to 1024 pixels, or 0, got -1"),
        ({"images": 64, "cameras": ("top",)}, "cameras: expected one or more of front, wrist, got"),
        ({"images": 64, "cameras": ()}, "cameras: expected one or more of front, wrist, got"),
        ({"cameras": ("wrist",)}, r"show nothing without a size of the images.*Give images=64"),
    ],
)
def test_cameras_and_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_env("reach", **options)
    with pytest.raises(ConfigError, match=message):
        make_vector_env("reach", 2, **options)


def test_an_environment_that_begins_anew_is_drawn_anew_and_the_others_are_not_stale():
    envs = make_vector_env("reach", 3, images=32)
    envs.reset(seed=[0, 1, 2])
    stepped, *_ = envs.step(np.ones((3, 4)))
    after, _ = envs.reset(seed=9, options={"reset_mask": np.array([False, True, False])})
    fresh, _ = make_vector_env("reach", 1, images=32).reset(seed=[10])
    np.testing.assert_array_equal(after["image"][1], fresh["image"][0])
    for index in (0, 2):
        np.testing.assert_array_equal(after["image"][index], stepped["image"][index])
    assert not np.array_equal(after["image"][0], after["image"][2])
    assert not np.array_equal(stepped["image"][1], after["image"][1])
    envs.close()


def test_render_gives_frames_in_render_mode_only():
    env = make_env("reach", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (480, 480, 3)
    env.close()
    envs = make_vector_env("reach", 2, render_mode="rgb_array")
    envs.reset(seed=0)
    assert len(envs.render()) == 2
    envs.close()
    assert make_vector_env("reach", 2).render() is None


def test_a_missing_gl_library_is_one_clear_error(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("ctypes.CDLL", missing)
    env = make_env("reach", images=64)
    with pytest.raises(RenderingError) as caught:
        env.reset(seed=0)
    message = str(caught.value)
    for part in ("libEGL.so.1", "MUJOCO_GL=None", "apt-get install libegl1", "libosmesa6"):
        assert part in message
    env.close()
