import os
import sys
from functools import partial
from importlib.metadata import version

import gymnasium
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_sim.catalog import (
    default_num_envs,
    env_rows,
    find_expert,
    make_env,
    make_reach,
    make_vector_env,
)
from simscaleai_plugin_sim.env import ArmEnv
from simscaleai_plugin_sim.tasks import TASKS
from simscaleai_plugin_sim.vector import ArmVectorEnv

from simscaleai_core.errors import ConfigError


class Others:
    """Stands in for the core's registry: what other plugins offer."""

    def component_names(self, kind):
        assert kind == "env"
        return ["acme/lift", "sim/reach"]

    def create_env(self, name, **options):
        return gymnasium.make("CartPole-v1", **options)


@pytest.mark.parametrize("name", ["reach", "sim/reach", "SimScale/Reach-v0"])
def test_ours_by_each_of_its_names(name):
    assert isinstance(make_env(name).unwrapped, ArmEnv)
    assert isinstance(make_vector_env(name, 2), ArmVectorEnv)


def test_any_gymnasium_id():
    assert make_env("CartPole-v1").spec.id == "CartPole-v1"
    assert make_env("gymnasium.envs.classic_control:CartPole-v1").spec.id == "CartPole-v1"
    envs = make_vector_env("CartPole-v1", 2)
    assert isinstance(envs, SyncVectorEnv) and envs.num_envs == 2
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED


def test_an_environment_of_another_plugin():
    assert make_env("lift", components=Others()).spec.id == "CartPole-v1"
    assert make_vector_env("acme/lift", 2, components=Others()).num_envs == 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("reech", " Did you mean 'reach'?"),
        ("lifd", " Did you mean 'lift'?"),
        ("CartPole-v9", " Did you mean 'CartPole-v1'?"),
        ("zzzzzz", ""),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name, hint):
    with pytest.raises(ConfigError) as caught:
        make_env(name, components=Others())
    assert str(caught.value) == (
        f"unknown environment {name!r}. Installed: {', '.join(sorted(['acme/lift', *TASKS]))}; any "
        f"Gymnasium id such as 'CartPole-v1' or 'module:EnvId-v0' works too.{hint}"
    )


@pytest.mark.parametrize("name", ["no_such_module:Env-v0", "gymnasium:NoSuchEnv-v0"])
def test_a_module_or_id_that_is_not_there(name):
    with pytest.raises(ConfigError, match="cannot be made"):
        make_env(name)


def test_without_a_stand_in_the_installed_plugins_are_asked():
    with pytest.raises(ConfigError, match=r"unknown environment 'reech'\. Installed: .*reach"):
        make_env("reech")


def test_options_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"'reach' with \{'colour': 1\} cannot be made"):
        make_env("reach", colour=1)
    with pytest.raises(ConfigError, match=r"'reach' with \{'colour': 1\} cannot be made"):
        make_vector_env("reach", 2, colour=1)
    with pytest.raises(ConfigError, match="num_envs: expected at least 1, got 0"):
        make_vector_env("CartPole-v1", 0)


def test_only_ours_have_an_expert():
    assert find_expert("reach") is not None
    with pytest.raises(ConfigError, match=r"'CartPole-v1' has no scripted expert.*reach"):
        find_expert("CartPole-v1")


def test_the_declared_target_makes_the_environment():
    assert make_reach(max_episode_steps=3).spec.max_episode_steps == 3


def test_the_listing_has_every_environment_once_by_its_own_name():
    rows = env_rows(Others())
    assert [row["name"] for row in rows] == [*TASKS, "acme/lift"]
    assert rows[0]["gymnasium_id"] == "SimScale/Reach-v0" and rows[0]["expert"] == "yes"


@pytest.mark.parametrize(
    ("name", "vectorization", "kind"),
    [
        ("reach", None, ArmVectorEnv),
        ("reach", "native", ArmVectorEnv),
        ("reach", "sync", SyncVectorEnv),
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
        make_vector_env("reach", 2, vectorization="threads")
    with pytest.raises(ConfigError, match="'Pendulum-v1' cannot be made"):
        make_vector_env("Pendulum-v1", 2, vectorization="native")


def test_how_many_run_side_by_side_if_nobody_says():
    assert default_num_envs("reach") == default_num_envs("reach", "native") == 32
    assert default_num_envs("reach", "sync") == default_num_envs("CartPole-v1") == 8
    assert default_num_envs("reach", "async") == os.cpu_count()


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


@pytest.mark.parametrize("name", ["gymnasium_robotics", "robosuite"])
def test_a_package_that_needs_an_older_mujoco_is_named_with_the_remedy(package, name):
    env_id = package(name, "assert 3 in (2, 4)")
    with pytest.raises(ConfigError) as caught:
        make_env(env_id)
    assert str(caught.value) == (
        f"environment {env_id!r} cannot be made: {name} fails with the installed mujoco "
        f"{version('mujoco')} (AssertionError in __init__.py). Install 'mujoco<3.12' in a virtual "
        "environment for it."
    )
    sys.modules.pop(name)


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
