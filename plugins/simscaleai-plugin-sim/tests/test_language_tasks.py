import re

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from simscaleai_plugin_gym import find_expert, make_env, make_vector_env
from simscaleai_plugin_sim.tasks.phrasing import PICK, REACH
from simscaleai_plugin_sim.tasks.pick_language import APART_M, CLEAR_M, TOLERANCE_M
from simscaleai_plugin_sim.tasks.reach_language import BALL_RADIUS_M

from simscaleai_core.errors import ConfigError

pytestmark = pytest.mark.slow

NAMES = ("reach_language", "pick_language")
SEEN = {
    "reach_language": {"joint_pos", "joint_vel", "ee_pos", "image"},
    "pick_language": {
        "joint_pos",
        "joint_vel",
        "ee_pos",
        "gripper_width",
        "image",
        "wrist_image",
    },
}
PRIVILEGED = {
    "reach_language": {"ball_pos": (3, 3), "target_index": (), "template_index": ()},
    "pick_language": {
        "cube_pos": (3, 3),
        "cube_quat": (3, 4),
        "cube_vel": (3, 3),
        "plate_pos": (3,),
        "target_index": (),
        "template_index": (),
    },
}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, dict):
            assert_same(value, right[key])
        else:
            np.testing.assert_array_equal(value, right[key], err_msg=key)


def env_of(batch, index):
    return {k: env_of(v, index) if isinstance(v, dict) else v[index] for k, v in batch.items()}


def play(name, act, *, episodes, seed=0, **options):
    """Return whether each episode was a success `[N]` and how long it took `[N]`."""
    envs = make_vector_env(name, episodes, images=0, **options)
    observation, infos = envs.reset(seed=seed)
    success = np.zeros(episodes, dtype=bool)
    length = np.zeros(episodes, dtype=int)
    over = np.zeros(episodes, dtype=bool)
    while not over.all():
        actions = act({**observation, **infos["privileged"]})
        observation, _, terminated, truncated, infos = envs.step(actions)
        success |= terminated & ~over
        length[~over] += 1
        over |= terminated | truncated
        if (terminated | truncated).any():
            envs.reset(seed=10_000, options={"reset_mask": terminated | truncated})
    return success, length


@pytest.mark.parametrize("name", NAMES)
def test_where_things_are_is_told_to_the_expert_and_not_observed(name):
    env = make_env(name)
    observation, info = env.reset(seed=0)
    assert set(observation) == SEEN[name]
    assert observation in env.observation_space
    assert observation["image"].shape == (64, 64, 3)
    assert {k: v.shape for k, v in info["privileged"].items()} == PRIVILEGED[name]
    assert isinstance(info["language"], str) and info["is_success"] is False
    _, _, _, _, later = env.step(np.zeros(4))
    assert later.keys() == info.keys() - {"initial_condition"}
    assert later["language"] == info["language"]
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_finds_nothing_to_object_to(name):
    check_env(make_env(name, images=32).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", NAMES)
def test_one_environment_and_many_give_the_same_bits(name):
    seeds = [4, 9, 2]
    envs, expert = make_vector_env(name, 3), find_expert(name)
    observations, infos = envs.reset(seed=seeds)
    assert infos["language"].dtype == object and infos["language"].shape == (3,)
    alone = [make_env(name) for _ in seeds]
    singles = [env.reset(seed=seed) for env, seed in zip(alone, seeds, strict=True)]
    for _ in range(6):
        reported = {k: infos[k] for k in ("language", "privileged")}
        for index, (observation, info) in enumerate(singles):
            assert_same(observation, env_of(observations, index))
            assert info["language"] == reported["language"][index]
            assert_same(info["privileged"], env_of(reported["privileged"], index))
        actions = expert({**observations, **infos["privileged"]})
        observations, rewards, _, _, infos = envs.step(actions)
        stepped = [env.step(action) for env, action in zip(alone, actions, strict=True)]
        singles = [(step[0], step[4]) for step in stepped]
        np.testing.assert_array_equal([step[1] for step in stepped], rewards)
    for env in (*alone, envs):
        env.close()


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_own_vector_environment_passes_the_infos_on(name):
    mode = gymnasium.vector.AutoresetMode.DISABLED
    build = [lambda: make_env(name, images=0)] * 2
    theirs = gymnasium.vector.SyncVectorEnv(build, autoreset_mode=mode)
    _, infos = theirs.reset(seed=[3, 4])
    _, ours = make_vector_env(name, 2, images=0).reset(seed=[3, 4])
    assert list(infos["language"]) == list(ours["language"])
    for key, value in ours["privileged"].items():
        np.testing.assert_array_equal(infos["privileged"][key], value)
    theirs.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_scene_and_instruction(name):
    env = make_env(name)
    first = env.reset(seed=5)
    other = env.reset(seed=6)
    again = env.reset(seed=5)
    assert_same(first[0], again[0])
    assert_same(first[1], again[1])
    assert not np.array_equal(first[0]["image"], other[0]["image"])
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_wording_changes_neither_the_scene_nor_what_is_named(name):
    book = REACH if name == "reach_language" else PICK
    told = {}
    for phrasing, indices in (("seen", range(16)), ("unseen", range(16, 21)), ("all", range(21))):
        envs = make_vector_env(name, 40, images=0, phrasing=phrasing)
        observation, infos = envs.reset(seed=0)
        words = infos["privileged"].pop("template_index")
        assert set(words) <= set(indices) and len(set(words)) >= 5
        named = infos["privileged"]["target_index"]
        for text, template, index in zip(infos["language"], words, named, strict=True):
            assert text == book.text(template, index)
        told[phrasing] = {**observation, **infos["privileged"]}
    assert_same(told["seen"], told["unseen"])
    assert_same(told["seen"], told["all"])


def test_every_colour_is_named_about_as_often():
    _, infos = make_vector_env("reach_language", 300, images=0).reset(seed=0)
    assert np.bincount(infos["privileged"]["target_index"]).min() > 75


@pytest.mark.parametrize("book", [REACH, PICK], ids=NAMES)
def test_the_phrasebook_is_sound(book):
    assert len(set(book.templates)) == len(book.templates)
    assert len(book.seen) >= 12 and len(book.unseen) >= 4
    for template in book.templates:
        assert template.count("{name}") == 1 and template == template.lower()
    known = {word for text in book.seen for word in re.findall(r"\w+", text)}
    words = [word for text in book.unseen for word in re.findall(r"\w+", text)]
    assert sum(word in known for word in words) / len(words) > 0.8


def test_phrasings_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match="expected one of seen, unseen, all, got 'new'"):
        make_env("reach_language", phrasing="new")
    with pytest.raises(ConfigError, match=r"task 'reach' has no instructions.*Leave it out"):
        make_env("reach", phrasing="seen")


def test_tasks_without_instructions_add_nothing_to_info():
    _, info = make_env("reach").reset(seed=0)
    _, infos = make_vector_env("reach", 2).reset(seed=0)
    assert set(info) == {"is_success", "initial_condition"}
    assert set(infos) == {*info, "_is_success", "_initial_condition"}


@pytest.mark.parametrize(("name", "longest"), [("reach_language", 15), ("pick_language", 36)])
def test_the_expert_does_what_it_was_told_in_every_one_of_100_seeds(name, longest):
    success, length = play(name, find_expert(name), episodes=100)
    assert success.all() and length.max() <= longest


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("reach_language", 0.99), ("pick_language", 0.98)])
def test_the_expert_under_noise_over_500_seeds(name, least):
    expert, rng = find_expert(name), np.random.default_rng(0)

    def shaken(state):
        return np.clip(expert(state) + 0.2 * rng.standard_normal((500, 4)), -1, 1)

    assert play(name, shaken, episodes=500, seed=1000)[0].mean() >= least


@pytest.mark.parametrize("name", NAMES)
def test_doing_it_with_another_one_is_no_success(name):
    expert = find_expert(name)

    def other(state):
        return expert({**state, "target_index": (state["target_index"] + 1) % 3})

    success, _ = play(name, other, episodes=60)
    assert success.mean() <= 0.05


@pytest.mark.parametrize("name", NAMES)
def test_random_actions_hardly_ever_succeed(name):
    rng = np.random.default_rng(0)
    success, _ = play(name, lambda state: rng.uniform(-1, 1, (60, 4)), episodes=60)
    assert success.mean() <= 0.05


@pytest.mark.parametrize("name", NAMES)
def test_relabelled_is_the_expert_under_each_other_instruction(name):
    envs, expert = make_vector_env(name, 12, images=0), find_expert(name)
    observation, infos = envs.reset(seed=0)
    for _ in range(20 if name == "pick_language" else 4):
        state = {**observation, **infos["privileged"]}
        relabelled = expert.relabelled(state)
        texts = np.array([infos["language"], *(t for t, _ in relabelled)])
        for index in range(12):
            colours = [set(text.split()) & set(REACH.names) or text for text in texts[:, index]]
            assert len({str(c) for c in colours}) == 3
        for shift, (_, actions) in enumerate(relabelled, start=1):
            other = {**state, "target_index": (state["target_index"] + shift) % 3}
            known = ~np.isnan(actions).any(axis=1)
            np.testing.assert_array_equal(expert(other)[known], actions[known])
            closes = expert(state)[:, 3] < 0 if name == "pick_language" else np.zeros(12, bool)
            np.testing.assert_array_equal(known, ~closes)
        observation, *_, infos = envs.step(expert(state))


def test_a_gripper_that_holds_the_wrong_cube_opens_under_the_right_instruction():
    envs, expert = make_vector_env("pick_language", 1, images=0), find_expert("pick_language")
    observation, infos = envs.reset(seed=[4])
    for _ in range(21):
        state = {**observation, **infos["privileged"]}
        observation, *_, infos = envs.step(expert(state))
    assert observation["gripper_width"][0, 0] < 0.045
    held = {**observation, **infos["privileged"]}
    assert expert(held)[0, 3] == -1.0
    for shift in (1, 2):
        other = {**held, "target_index": (held["target_index"] + shift) % 3}
        assert expert(other)[0, 3] == 1.0
    assert all(np.isnan(actions).all() for _, actions in expert.relabelled(held))


def test_balls_and_cubes_are_apart():
    _, infos = make_vector_env("reach_language", 200, images=0).reset(seed=0)
    balls = infos["privileged"]["ball_pos"]
    _, infos = make_vector_env("pick_language", 200, images=0).reset(seed=0)
    cubes, plates = infos["privileged"]["cube_pos"], infos["privileged"]["plate_pos"]
    for things, least in ((balls, 4 * BALL_RADIUS_M), (cubes, APART_M)):
        gaps = np.linalg.norm(things[:, :, None] - things[:, None], axis=-1) + np.eye(3)
        assert gaps.min() >= least - 1e-9
    assert np.abs(cubes - plates[:, None])[..., :2].max(axis=-1).min() >= CLEAR_M > TOLERANCE_M


@pytest.mark.parametrize(
    ("name", "key", "pixels"),
    [("reach_language", "image", 12), ("pick_language", "image", 20)],
)
def test_each_of_the_three_is_in_view_at_the_start(name, key, pixels):
    envs = make_vector_env(name, 60)
    images = envs.reset(seed=0)[0][key].astype(int)
    for colour in range(3):
        rest = [channel for channel in range(3) if channel != colour]
        strong = images[..., colour]
        pure = (strong > 70) & (images[..., rest].max(axis=-1) < 0.55 * strong)
        assert pure.sum(axis=(1, 2)).min() >= pixels
    envs.close()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_told_does_not_change_later(name):
    envs = make_vector_env(name, 4, images=0)
    _, infos = envs.reset(seed=0)
    kept = {key: value.copy() for key, value in infos["privileged"].items()}
    envs.reset(seed=50)
    assert_same(infos["privileged"], kept)
    assert not np.array_equal(kept["target_index"], np.zeros(4))
