import gymnasium
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_sim.catalog import (
    env_rows,
    find_expert,
    make_env,
    make_reach,
    make_vector_env,
)
from simscaleai_plugin_sim.env import ArmEnv
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
        f"unknown environment {name!r}. Installed: acme/lift, reach; any "
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
    with pytest.raises(ConfigError, match=r"'CartPole-v1' has no scripted expert.*: reach\."):
        find_expert("CartPole-v1")


def test_the_declared_target_makes_the_environment():
    assert make_reach(max_episode_steps=3).spec.max_episode_steps == 3


def test_the_listing_has_every_environment_once_by_its_own_name():
    rows = env_rows(Others())
    assert [row["name"] for row in rows] == ["reach", "acme/lift"]
    assert rows[0]["gymnasium_id"] == "SimScale/Reach-v0" and rows[0]["expert"] == "yes"
