"""MuJoCo is told what to draw with where there is no screen and nobody has told it."""

import os
import subprocess
import sys

import pytest
from simscaleai_plugin_gym.envs import graphics
from simscaleai_plugin_gym.envs.construction import make_env


@pytest.fixture(autouse=True)
def headless(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MUJOCO_GL", "")  # put back afterwards
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def libraries(monkeypatch):
    """Say which libraries of OpenGL there are."""

    def there(*names):
        def load(name):
            if name not in names:
                raise OSError(name)

        monkeypatch.setattr(graphics.ctypes, "CDLL", load)

    return there


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        (["libEGL.so.1", "libOSMesa.so.8"], "egl"),
        (["libOSMesa.so.8"], "osmesa"),
        ([], None),
    ],
)
def test_the_library_that_is_there_is_chosen(libraries, found, chosen):
    libraries(*found)
    graphics.choose_graphics("rgb_array")
    assert os.environ.get("MUJOCO_GL") == chosen


@pytest.mark.parametrize("render_mode", [None, "human"])
def test_nothing_is_set_where_no_picture_is_asked_for(libraries, render_mode):
    libraries("libEGL.so.1")
    graphics.choose_graphics(render_mode)
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize(
    ("name", "value"), [("MUJOCO_GL", "glfw"), ("DISPLAY", ":0"), ("WAYLAND_DISPLAY", "w")]
)
def test_what_the_user_has_stays(libraries, monkeypatch, name, value):
    libraries("libEGL.so.1")
    monkeypatch.setenv(name, value)
    graphics.choose_graphics("rgb_array")
    assert os.environ.get("MUJOCO_GL") == (value if name == "MUJOCO_GL" else None)


def test_it_is_chosen_before_the_environment_is_made(libraries, tmp_path, monkeypatch):
    libraries("libEGL.so.1")
    (tmp_path / "looks_at_it.py").write_text(
        "import os\nimport gymnasium\nSEEN = os.environ.get('MUJOCO_GL')\n"
        "gymnasium.register('Looks-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    make_env("looks_at_it:Looks-v0", render_mode="rgb_array").close()
    assert sys.modules.pop("looks_at_it").SEEN == "egl"


@pytest.mark.slow
def test_mujoco_itself_draws_without_a_screen():
    pytest.importorskip("mujoco")
    code = (
        "from simscaleai_plugin_gym.envs.graphics import choose_graphics\n"
        "choose_graphics('rgb_array')\n"
        "import mujoco\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody/></mujoco>')\n"
        "renderer = mujoco.Renderer(model, 32, 32)\n"
        "renderer.update_scene(mujoco.MjData(model))\n"
        "print(renderer.render().shape)\n"
    )
    environ = {k: v for k, v in os.environ.items() if k not in {"MUJOCO_GL", "DISPLAY"}}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(32, 32, 3)"
