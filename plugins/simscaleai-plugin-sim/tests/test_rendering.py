import os
import subprocess
import sys

import numpy as np
import pytest
from simscaleai_plugin_sim.catalog import make_env, make_vector_env
from simscaleai_plugin_sim.rendering import RenderingError

STEP_REACH = """
import sys
from simscaleai_plugin_sim.catalog import make_env, make_vector_env
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


def test_single_and_vector_see_the_same():
    envs = make_vector_env("reach", 2, images=32)
    env = make_env("reach", images=32)
    batched, _ = envs.reset(seed=[5, 6])
    np.testing.assert_array_equal(batched["image"][1], env.reset(seed=6)[0]["image"])
    env.close()
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
