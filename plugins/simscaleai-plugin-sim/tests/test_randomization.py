import numpy as np
import pytest
from simscaleai_plugin_gym import (
    EvalConfig,
    evaluate_policy,
    find_expert,
    make_env,
    make_vector_env,
)
from simscaleai_plugin_sim.arm_env.vector import ArmVectorEnv
from simscaleai_plugin_sim.physics.randomization import DomainRandomization

from simscaleai_core.errors import ConfigError

SEEDS = [3, 4, 5, 6, 7]
NONE = {"friction": None, "mass": None, "gains": None, "light": None, "camera_m": 0.0}


def only(**aspects):
    return DomainRandomization(**{**NONE, "camera_rad": 0.0, **aspects})


def play(envs, seeds, steps):
    expert = find_expert("push")
    observation, _ = envs.reset(seed=seeds)
    trajectory = [observation]
    for _ in range(steps):
        observation, *_ = envs.step(expert(observation))
        trajectory.append(observation)
    return {key: np.stack([o[key] for o in trajectory]) for key in trajectory[0]}


def test_each_seed_has_physics_of_its_own_within_the_ranges():
    envs = ArmVectorEnv(len(SEEDS), "push", randomize="default")
    envs.reset(seed=SEEDS)
    arms = envs._core.arms
    nominal, models = arms.model, [arms.model_of(index) for index in range(len(SEEDS))]
    cube = nominal.body("cube").id
    mass = np.array([m.body_mass[cube] for m in models]) / nominal.body_mass[cube]
    inertia = np.array([m.body_inertia[cube] for m in models]) / nominal.body_inertia[cube]
    np.testing.assert_allclose(inertia, mass[:, None] * np.ones(3))
    friction = np.array([m.geom_friction[:, 0] for m in models]) / nominal.geom_friction[:, 0]
    np.testing.assert_allclose(friction, friction[:, :1] * np.ones(nominal.ngeom))
    gains = np.array([m.actuator_gainprm[:7, 0] for m in models]) / nominal.actuator_gainprm[:7, 0]
    default = DomainRandomization()
    for drawn, (low, high) in (
        (mass, default.mass),
        (friction[:, 0], default.friction),
        (gains.ravel(), default.gains),
    ):
        assert len(np.unique(drawn)) == len(drawn) and low <= drawn.min() < drawn.max() <= high
    stiffness, spring, damping = (
        np.array([values[:7] for values in fields])
        for fields in zip(
            *(
                (m.actuator_gainprm[:, 0], -m.actuator_biasprm[:, 1], -m.actuator_biasprm[:, 2])
                for m in models
            ),
            strict=True,
        )
    )
    np.testing.assert_allclose(stiffness, spring)
    np.testing.assert_allclose(damping / stiffness, 0.02)


def test_the_same_seed_is_the_same_episode_in_1_environment_and_in_5():
    together = play(ArmVectorEnv(5, "push", randomize="default", max_episode_steps=-1), SEEDS, 14)
    for index in (0, 3):
        alone = ArmVectorEnv(1, "push", randomize="default", max_episode_steps=-1)
        alone.reset(seed=[99])  # what was drawn before must leave no trace
        alone = play(alone, SEEDS[index : index + 1], 14)
        for key in alone:
            np.testing.assert_array_equal(alone[key][:, 0], together[key][:, index], err_msg=key)


def test_single_and_vector_environment_agree():
    env = make_env("push", randomize="default")
    vector, _ = make_vector_env("push", 2, randomize="default").reset(seed=[8, 9])
    single, _ = env.reset(seed=9)
    for key in single:
        np.testing.assert_array_equal(single[key], vector[key][1])
    mass = env.unwrapped._core.arms.model_of(0).body("cube").mass
    assert mass != env.unwrapped._core.arms.model.body("cube").mass


@pytest.mark.parametrize(
    "aspect",
    [{"friction": (0.3, 0.5)}, {"mass": (3.0, 4.0)}, {"gains": (0.5, 0.7)}],
    ids=lambda aspect: next(iter(aspect)),
)
def test_every_aspect_changes_what_happens_and_not_where_it_begins(aspect):
    nominal = play(ArmVectorEnv(1, "push", max_episode_steps=-1), [0], 18)
    changed = ArmVectorEnv(1, "push", randomize=only(**aspect), max_episode_steps=-1)
    changed = play(changed, [0], 18)
    for key in nominal:
        np.testing.assert_allclose(changed[key][0], nominal[key][0], atol=1e-12, err_msg=key)
    assert np.abs(changed["object_pos"] - nominal["object_pos"]).max() > 1e-4


def test_a_slippery_cube_slides_farther():
    def slide(friction):
        envs = ArmVectorEnv(1, "push", randomize=only(friction=friction), max_episode_steps=-1)
        envs.reset(seed=[0])
        arms = envs._core.arms
        arms._qvel[0, arms._object_qvel[0]] = 0.5
        start = arms.object_pos()[0, 0]
        for _ in range(20):
            observation, *_ = envs.step(np.array([[0.0, 0.0, 1.0, 0.0]]))
        return observation["object_pos"][0, 0] - start

    # Coulomb: v^2 / (2 mu g); friction 0.6 times the factor.
    assert slide((0.5, 0.5)) == pytest.approx(0.25 / (2 * 0.3 * 9.81), rel=0.15)
    assert slide((1.0, 1.0)) == pytest.approx(0.25 / (2 * 0.6 * 9.81), rel=0.15)


def test_nothing_randomised_is_the_nominal_environment():
    left = play(ArmVectorEnv(1, "push", max_episode_steps=-1), [0], 15)
    right = play(ArmVectorEnv(1, "push", randomize=only(), max_episode_steps=-1), [0], 15)
    for key in left:
        np.testing.assert_allclose(right[key], left[key], atol=1e-9, err_msg=key)


def test_light_and_camera_are_seen_and_the_environments_do_not_mix():
    def images(seeds, **aspects):
        envs = make_vector_env("push", len(seeds), images=48, randomize=only(**aspects))
        found = envs.reset(seed=seeds)[0]["image"].astype(float)
        envs.close()
        return found

    nominal = images([0])[0]
    dark, bright = images([0], light=(0.5, 0.5))[0], images([0], light=(1.2, 1.2))[0]
    assert dark.mean() < 0.7 * nominal.mean() and bright.mean() > 1.1 * nominal.mean()
    assert np.abs(images([0], camera_m=0.05)[0] - nominal).mean() > 1.0
    assert np.abs(images([0], camera_rad=0.1)[0] - nominal).mean() > 1.0
    together = images([0, 1, 2], light=(0.5, 1.2), camera_m=0.05)
    alone = images([2], light=(0.5, 1.2), camera_m=0.05)
    np.testing.assert_array_equal(together[2], alone[0])
    assert np.abs(together[0] - together[1]).mean() > 1.0


def test_the_expert_still_works_in_most_randomised_episodes():
    for task in ("pick_place", "push"):
        envs = make_vector_env(task, 20, randomize="default")
        results = evaluate_policy(envs, find_expert(task), EvalConfig(n_episodes=20, seed=0))
        assert results["success_rate"] >= 0.9, task


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DomainRandomization(mass=(2.0, 1.0)), r"DomainRandomization.mass: expected \(low"),
        (lambda: DomainRandomization(gains=(0.0, 1.0)), r"with 0 < low <= high, or None, got \(0"),
        (lambda: DomainRandomization(friction=3), "friction: expected"),
        (lambda: DomainRandomization(camera_m=-1.0), "camera_m: expected a number of at least 0"),
        (lambda: make_env("push", randomize="wild"), "one of default, got 'wild'"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
