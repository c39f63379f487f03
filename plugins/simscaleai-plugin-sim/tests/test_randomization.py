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
from simscaleai_plugin_sim.physics.randomization import DomainRandomization, as_randomization
from simscaleai_plugin_sim.tasks import TASKS

from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host

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
        (lambda: make_env("push", randomize="wild"), "one of default, none, got 'wild'"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    "given",
    [
        {"friction": "0.5,2", "mass": "none", "camera_m": "none"},
        {"friction": [0.5, 2], "mass": None, "camera_m": None},
        {"friction": (0.5, 2.0), "mass": None, "camera_m": 0.0},
    ],
)
def test_single_factors_are_given_by_name(given):
    wanted = DomainRandomization(friction=(0.5, 2.0), mass=None, camera_m=0.0)
    assert as_randomization(given, {}) == wanted


@pytest.mark.parametrize("nothing", [None, "none", "None"])
def test_nothing_is_randomised_if_none_is_asked_for(nothing):
    assert make_env("push", randomize=nothing).unwrapped._core._randomizer is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"randomize": {"fricton": (1, 2)}}, r"got 'fricton'\. Did you mean 'friction'\?"),
        (
            {"randomize": {"friction": "slow"}},
            "DomainRandomization.friction: expected .* got 'slow'",
        ),
        ({"randomize": {"friction": "2,0.5"}}, r"friction: expected .* got \(2.0, 0.5\)"),
        ({"randomize": {"friction": ["a", "b"]}}, "friction: expected"),
        (
            {"randomize": {"camera_m": "far"}},
            "camera_m: expected a number of at least 0, got 'far'",
        ),
        (
            {"randomize": {"delay": "0,1.5"}},
            r"delay: expected .* whole numbers .* got \(0.0, 1.5\)",
        ),
        ({"randomize": {"delay": 2}}, "delay: expected .* 0 <= low <= high <= 100, or None, got 2"),
        ({"randomize": {"delay": (3, 2)}}, "delay: expected"),
        ({"randomize": 3}, r"expected factors by name \(camera_m, .*\), or one of .* got 3"),
        ({"friction": 0}, "friction: expected a factor above 0, got 0"),
        ({"mass": -1.0}, "mass: expected a factor above 0, got -1.0"),
        ({"gains": float("nan")}, "gains: expected a factor above 0, got nan"),
        ({"light": "dim"}, "light: expected a factor above 0, got 'dim'"),
    ],
)
def test_what_is_no_factor_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        as_randomization(
            options.get("randomize"), {k: v for k, v in options.items() if k != "randomize"}
        )


@pytest.mark.slow
def test_environments_refuse_what_is_no_factor():
    for build in (make_env, lambda name, **given: make_vector_env(name, 2, **given)):
        with pytest.raises(ConfigError, match="got 'fricton'"):
            build("push", randomize={"fricton": (1, 2)})
        for name in ("friction", "mass", "gains", "light"):
            with pytest.raises(ConfigError, match=f"{name}: expected a factor above 0, got 0"):
                build("push", **{name: 0})


def test_a_fixed_factor_is_in_effect_in_every_episode_and_multiplies_what_is_drawn():
    def models(**options):
        envs = ArmVectorEnv(2, "push", **options)
        infos = envs.reset(seed=[3, 4])[1]["initial_condition"]
        arms = envs._core.arms
        cube, models = arms.model.body("cube").id, [arms.model_of(index) for index in range(2)]
        return infos, np.array(
            [
                (m.geom_friction[0, 0], m.body_mass[cube], m.actuator_gainprm[0, 0])
                for m in (arms.model, *models)
            ]
        )

    infos, (nominal, *fixed) = models(friction=0.5, mass=2.0, gains=0.8, light=0.7)
    for each in fixed:
        np.testing.assert_allclose(each, nominal * [0.5, 2.0, 0.8], rtol=1e-12)
    for name, factor in (("friction", 0.5), ("mass", 2.0), ("gains", 0.8), ("light", 0.7)):
        np.testing.assert_array_equal(infos[name], [factor] * 2)
    drawn, (_, *one) = models(randomize="default")
    both, (_, *other) = models(randomize="default", mass=2.0)
    np.testing.assert_allclose(np.array(other), np.array(one) * [1.0, 2.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(both["mass"], 2.0 * drawn["mass"], rtol=1e-12)


@pytest.mark.slow
def test_a_delay_is_drawn_for_each_episode_and_actions_are_late_by_it():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (9, 4))
    late = ArmVectorEnv(6, "push", randomize={**NONE, "camera_rad": 0.0, "delay": "0,2"})
    _, infos = late.reset(seed=list(range(6)))
    delays = infos["initial_condition"]["delay"]
    assert set(delays) == {0.0, 1.0, 2.0}
    for _ in range(2):  # what was on its way before must leave no trace
        seen = [late.step(np.tile(action, (6, 1)))[0] for action in actions]
        for index, delay in enumerate(delays.astype(int)):
            nominal = make_env("push")
            nominal.reset(seed=index)
            given = [np.array([0.0, 0.0, 0.0, 1.0])] * delay + list(actions)
            for step, action in zip(seen, given, strict=False):
                observation, *_ = nominal.step(action)
                for key, value in observation.items():
                    np.testing.assert_allclose(step[key][index], value, atol=1e-9, err_msg=key)
        late.reset(seed=list(range(6)))


@pytest.mark.slow
def test_a_delay_is_the_same_in_one_environment_and_in_many():
    options = {"randomize": {"delay": (0, 3)}, "max_episode_steps": -1}
    together = play(ArmVectorEnv(5, "push", **options), SEEDS, 14)
    alone = ArmVectorEnv(1, "push", **options)
    alone.reset(seed=[99])
    alone = play(alone, SEEDS[3:4], 14)
    for key in alone:
        np.testing.assert_array_equal(alone[key][:, 0], together[key][:, 3], err_msg=key)


def test_a_factor_of_1_is_the_environment_as_it_is():
    assert ArmVectorEnv(2, "push", friction=1, mass=1.0)._core._randomizer is None


@pytest.mark.parametrize(
    "task",
    [name if name == "push" else pytest.param(name, marks=pytest.mark.slow) for name in TASKS],
)
def test_initial_conditions_are_the_same_in_one_environment_and_in_many(task):
    options = {"images": 0, "mass": 2.0, "randomize": {"gains": "none", "light": "none"}}
    env = make_env(task, **options)
    _, info = env.reset(seed=5)
    alone = info["initial_condition"]
    assert {"target_x", "target_y", "friction"} <= set(alone) and "light" not in alone
    assert "initial_condition" not in env.step(env.action_space.sample())[4]
    for kind in ("native", "sync"):
        envs = make_vector_env(task, 3, vectorization=kind, **options)
        envs.reset(seed=[7, 8, 9])
        envs.step(np.zeros((3, 4)))
        mask = np.array([False, True, False])
        _, infos = envs.reset(seed=[1, 5, 2], options={"reset_mask": mask})
        together = infos["initial_condition"]
        np.testing.assert_array_equal(infos["_initial_condition"], mask)
        assert {key for key in together if not key.startswith("_")} == set(alone)
        for key, value in alone.items():
            np.testing.assert_array_equal(together[key][1], value)
        envs.close()


def test_initial_conditions_say_where_things_are():
    for task in ("push", "pick_place"):
        observation, info = make_env(task).reset(seed=5)
        said = info["initial_condition"]
        assert sorted(said) == ["object_x", "object_y", "object_yaw", "target_x", "target_y"]
        assert (said["object_x"], said["object_y"]) == tuple(observation["object_pos"][:2])
        assert (said["target_x"], said["target_y"]) == tuple(observation["target_pos"][:2])
        half = 0.5 * said["object_yaw"]
        np.testing.assert_allclose(
            observation["object_quat"], [np.cos(half), 0.0, 0.0, np.sin(half)], atol=1e-9
        )


@pytest.mark.slow
def test_initial_conditions_name_the_thing_of_the_instruction():
    _, info = make_env("pick_language", images=0).reset(seed=5)
    said, cubes = info["initial_condition"], info["privileged"]["cube_pos"]
    target = info["privileged"]["target_index"]
    assert (said["object_x"], said["object_y"]) == tuple(cubes[target][:2])
    assert (said["green_x"], said["green_y"]) == tuple(cubes[1][:2])
    _, info = make_env("reach_language", images=0).reset(seed=5)
    said, balls = info["initial_condition"], info["privileged"]["ball_pos"]
    named = balls[info["privileged"]["target_index"]]
    assert [said[f"target_{axis}"] for axis in "xyz"] == named.tolist()


@pytest.mark.slow
def test_initial_conditions_reach_the_results():
    config = EvalConfig(n_episodes=3, seed=5, num_envs=2)
    results = evaluate_policy("reach", find_expert("reach"), config)
    _, info = make_env("reach").reset(seed=7)
    assert results["initial_conditions"][2] == {
        k: float(v) for k, v in info["initial_condition"].items()
    }


def test_tasks_without_objects_do_not_vary_what_is_about_them():
    declared = {c.spec.name: set(c.spec.variations) for c in Host().of_kind("env")}
    assert declared["reach"] == declared["reach_language"] == {"gains", "light"}
    assert declared["push"] == declared["pick_language"] == {"friction", "mass", "gains", "light"}
