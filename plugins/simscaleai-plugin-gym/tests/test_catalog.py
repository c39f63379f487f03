from pathlib import Path

import pytest
from simscaleai_plugin_gym.envs.catalog import (
    env_rows,
    find_declared,
    find_expert,
    has_native_batch,
    image_options,
    missing_tasks,
    unknown_env,
)
from toy_dot import expert

from simscaleai_core.errors import ConfigError, UnknownComponentError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.selection import select_plugins


@pytest.fixture
def two_dots():
    """A host that knows two environments of one short name."""
    return Host(select_plugins([str(Path(__file__).with_name("second_toy_plugin.py"))]))


@pytest.mark.parametrize("name", ["dot", "toy_plugin/dot", "Toys/Dot-v0"])
def test_a_declared_environment_is_found_by_each_of_its_names(name):
    found = find_declared(name)
    assert found is not None and found.id == "toy_plugin/dot"


@pytest.mark.parametrize("name", ["CartPole-v1", "gymnasium:CartPole-v1", "nothing"])
def test_what_no_plugin_declares(name):
    assert find_declared(name) is None
    assert not has_native_batch(find_declared(name))


def test_a_short_name_of_two_environments_needs_the_plugin(two_dots):
    with pytest.raises(UnknownComponentError, match="is provided by 2 plugins; choose one"):
        find_declared("dot", two_dots)
    assert find_declared("second_toy_plugin/dot", two_dots).id == "second_toy_plugin/dot"
    assert find_declared("Toys/Dot-v0", two_dots).id == "toy_plugin/dot"


def test_only_an_environment_with_a_vector_entry_point_has_a_batch():
    assert has_native_batch(find_declared("dot"))
    assert not has_native_batch(find_declared("cart"))


def test_experts():
    assert find_expert("dot") is find_expert("Toys/Dot-v0") is expert
    for name in ("CartPole-v1", "cart"):
        message = rf"'{name}' has no scripted expert\. Environments with one: dot\."
        with pytest.raises(ConfigError, match=message):
            find_expert(name)
    with pytest.raises(ConfigError, match=r"unknown environment 'dott'.* Did you mean 'dot'"):
        find_expert("dott")


def test_a_plugin_says_with_which_options_images_are_shown():
    dot, cart = find_declared("dot"), find_declared("cart")
    assert image_options(dot, ["image"], (32, 32), {"x": 1}) == {"images": 32, "x": 1}
    assert image_options(dot, ["image"], (32, 32), {"images": 64}) == {"images": 64}
    assert image_options(cart, ["image"], (32, 32), {"x": 1}) == {"x": 1}
    assert image_options(None, ["image"], (32, 32), {}) == {}
    with pytest.raises(ConfigError, match="the policy sees top: expected image"):
        image_options(dot, ["top"], (32, 32), {})


def test_the_listing_has_every_environment_once_by_its_shortest_name(two_dots):
    rows = env_rows()
    assert [row["name"] for row in rows] == ["cart", "dot", "lost"]
    assert rows[1] == {
        "name": "dot", "gymnasium_id": "Toys/Dot-v0", "expert": "yes",
        "summary": "bring a dot to its goal",
    }  # fmt: skip
    assert rows[0]["gymnasium_id"] == rows[0]["expert"] == ""
    names = [row["name"] for row in env_rows(two_dots)]
    assert names == ["second_toy_plugin/dot", "cart", "toy_plugin/dot", "lost"]


def test_without_our_own_tasks_a_message_says_what_to_install():
    host = Host()
    assert missing_tasks(host) == ""
    host.records[:] = [r for r in host.records if r.distribution != "simscaleai-plugin-sim"]
    assert missing_tasks(host).endswith("pip install simscaleai-plugin-sim.")
    (line,) = str(unknown_env("reach", [], host)).splitlines()
    assert line.startswith("unknown environment 'reach'. Installed: cart, dot, lost;")
    assert line.endswith(missing_tasks(host))
