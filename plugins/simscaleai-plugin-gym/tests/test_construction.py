import os
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError

import gymnasium
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_gym.envs import construction
from simscaleai_plugin_gym.envs.construction import default_num_envs, make_env, make_vector_env
from toy_dot import DotEnv, DotVectorEnv

from simscaleai_core.errors import ConfigError, PluginError


@pytest.mark.parametrize("name", ["dot", "toy_plugin/dot", "Toys/Dot-v0"])
def test_a_declared_environment_by_each_of_its_names(name):
    assert isinstance(make_env(name).unwrapped, DotEnv)
    assert isinstance(make_vector_env(name, 2), DotVectorEnv)


def test_an_environment_that_declares_no_gymnasium_id():
    assert make_env("cart").spec.id == "CartPole-v1"
    envs = make_vector_env("toy_plugin/cart", 2)
    assert isinstance(envs, SyncVectorEnv) and envs.num_envs == 2


def test_an_id_that_its_module_does_not_register():
    with pytest.raises(PluginError) as caught:
        make_vector_env("lost", 2)
    assert "expected 'Toys/Lost-v0' after importing toy_dot. Register it there." in str(
        caught.value
    )


def test_any_gymnasium_id():
    assert make_env("CartPole-v1").spec.id == "CartPole-v1"
    assert make_env("gymnasium.envs.classic_control:CartPole-v1").spec.id == "CartPole-v1"
    envs = make_vector_env("CartPole-v1", 2)
    assert isinstance(envs, SyncVectorEnv) and envs.num_envs == 2
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dott", " Did you mean 'dot'?"),
        ("CartPole-v9", " Did you mean 'CartPole-v1'?"),
        ("zzzzzz", ""),
    ],
)
@pytest.mark.parametrize("make", [make_env, partial(make_vector_env, num_envs=2)])
def test_an_unknown_name_lists_the_known_ones(name, hint, make):
    with pytest.raises(ConfigError) as caught:
        make(name)
    assert str(caught.value) == (
        f"unknown environment {name!r}. Installed: cart, dot, lost; any "
        f"Gymnasium id such as 'CartPole-v1' or 'module:EnvId-v0' works too.{hint}"
    )


@pytest.mark.parametrize("name", ["no_such_module:Env-v0", "gymnasium:NoSuchEnv-v0"])
def test_a_module_or_id_that_is_not_there(name):
    with pytest.raises(ConfigError, match="cannot be made"):
        make_env(name)


def test_options_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"'dot' with \{'colour': 1\} cannot be made"):
        make_env("dot", colour=1)
    with pytest.raises(ConfigError, match=r"'dot' with \{'colour': 1\} cannot be made"):
        make_vector_env("dot", 2, colour=1)
    with pytest.raises(ConfigError, match=r"'cart' with \{'colour': 1\} cannot be made"):
        make_env("cart", colour=1)
    with pytest.raises(ConfigError, match="num_envs: expected at least 1, got 0"):
        make_vector_env("CartPole-v1", 0)


def test_options_reach_the_target():
    assert make_env("dot", max_episode_steps=3).spec.max_episode_steps == 3


@pytest.mark.parametrize(
    ("name", "vectorization", "kind"),
    [
        ("dot", None, DotVectorEnv),
        ("dot", "native", DotVectorEnv),
        ("dot", "sync", SyncVectorEnv),
        ("Pendulum-v1", "sync", SyncVectorEnv),
    ],
)
def test_ways_of_running_several(name, vectorization, kind):
    envs = make_vector_env(name, 2, vectorization=vectorization)
    assert isinstance(envs, kind) and envs.num_envs == 2
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    envs.close()


def test_ways_that_there_are_none_of():
    with pytest.raises(ConfigError, match="expected one of native, sync, async, got 'threads'"):
        make_vector_env("dot", 2, vectorization="threads")
    with pytest.raises(ConfigError, match="'Pendulum-v1' cannot be made"):
        make_vector_env("Pendulum-v1", 2, vectorization="native")


def test_how_many_run_side_by_side_if_nobody_says():
    assert default_num_envs("dot") == default_num_envs("dot", "native") == 32
    assert default_num_envs("dot", "sync") == default_num_envs("CartPole-v1") == 8
    assert default_num_envs("dot", "async") == os.cpu_count()


MODULE = """
import gymnasium


def build(**options):
    %s


gymnasium.register("Clash-v0", entry_point=build)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    def write(name, body):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(MODULE % body)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return f"{name}:Clash-v0"

    yield write
    gymnasium.registry.pop("Clash-v0", None)


@pytest.fixture(params=["4.0.0", None])
def mujoco(request, monkeypatch):
    """The installed version of MuJoCo; None where there is none."""

    def installed(name):
        if request.param is None:
            raise PackageNotFoundError(name)
        return request.param

    monkeypatch.setattr(construction, "version", installed)
    return request.param or "(none)"


@pytest.mark.parametrize("name", ["gymnasium_robotics", "robosuite"])
def test_a_package_that_needs_an_older_mujoco_is_named_with_the_remedy(
    package, mujoco, name, tmp_path
):
    env_id = package(name, "assert 3 in (2, 4)")
    installed = tmp_path / f"{name}-1.4.2.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.4.2\n")
    with pytest.raises(ConfigError) as caught:
        make_env(env_id)
    assert str(caught.value) == (
        f"environment {env_id!r} cannot be made: {name} fails with the installed mujoco "
        f"{mujoco} (AssertionError in __init__.py). Install 'mujoco<3.12' in a virtual "
        "environment for it."
    )
    sys.modules.pop(name)


def test_a_folder_of_that_name_is_not_that_package(package):
    env_id = package("metaworld", "assert 3 in (2, 4)")
    with pytest.raises(ConfigError) as caught:
        make_env(env_id)
    wanted = f"environment {env_id!r} cannot be made: AssertionError in __init__.py"
    assert str(caught.value) == wanted
    sys.modules.pop("metaworld")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('no licence')", "no licence"),
        ("assert False", "AssertionError in __init__.py"),
        ("import no_such_part", "No module named 'no_such_part'"),
    ],
)
@pytest.mark.parametrize("make", [make_env, partial(make_vector_env, num_envs=2)])
def test_what_an_environment_dies_of_is_one_line(package, body, reason, make):
    env_id = package("clashing_package", body)
    with pytest.raises(ConfigError) as caught:
        make(env_id)
    assert str(caught.value) == f"environment {env_id!r} cannot be made: {reason}"
    sys.modules.pop("clashing_package")
