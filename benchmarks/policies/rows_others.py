"""Rows of other projects' environments: Meta-World, Gymnasium-Robotics."""

from __future__ import annotations

from collections.abc import Iterator

from bench import Bench
from results import Measure, rate, shown
from rows_arm import BC, TRAINING_SEEDS, training_time
from venvs import PROJECTS

FETCH = "gymnasium_robotics:FetchReach-v4"
META_WORLD = (
    "push",
    "pick_place",
    "door_open",
    "drawer_close",
    "button_press_topdown",
    "window_open",
)


def meta_world(bench: Bench, task: str) -> Iterator[Measure]:
    """Clone Meta-World's own expert from 50 successful demonstrations."""
    env = meta_world_env(task)
    words = f"--env {env} --expert metaworld_v3:{task} --episodes 50 --only-successes"
    data = bench.record(f"metaworld-{task}", words, venv="metaworld")
    evaluations, runs = [], []
    for seed in TRAINING_SEEDS:
        name = f"metaworld-{task}"
        checkpoint, ran = bench.train(name, data, BC, seed=seed, venv="metaworld")
        runs.append(ran)
        said = bench.evaluate(checkpoint, env, "--num-envs 10", episodes=50, venv="metaworld")
        evaluations.append(said)
    what = env.rpartition("/")[2]
    yield rate(
        f"Meta-World {what}, BC, 50 demos",
        evaluations,
        at_least=0.95,
        detail=", ".join(PROJECTS["metaworld"]),
    )
    yield training_time(f"Meta-World {what}, training on one core", runs)


def meta_world_env(task: str) -> str:
    """Return the environment of one of the tasks, by its expert's name."""
    return f"metaworld_v3:MetaWorld/{task.replace('_', '-')}-v3"


def fetch(bench: Bench) -> Iterator[Measure]:
    """Clone a scripted controller on Gymnasium-Robotics' FetchReach."""
    words = f"--env {FETCH} --expert fetch_expert:expert --episodes 50"
    data = bench.record("fetch-reach", words, venv="robotics")
    checkpoint, ran = bench.train("fetch-reach", data, BC, venv="robotics")
    said = bench.evaluate(checkpoint, FETCH, "--num-envs 10", episodes=200, venv="robotics")
    at_end = f"{shown(said['success_at_end_rate'], '%')} at the end"
    detail = ", ".join([at_end, *PROJECTS["robotics"]])
    yield rate("FetchReach-v4, BC, 50 demos", [said], detail=detail)
    yield training_time("FetchReach-v4, training on one core", [ran])
