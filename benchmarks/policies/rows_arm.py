"""Rows of the arm's tasks that need no camera: experts, behaviour cloning, its family, speed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from bench import REPORT_SEED, SELECTION_SEED, Bench, MissingError, Ran
from results import Measure, rate, shown

TRAINING_SEEDS = (0, 1, 2)
BC = (
    "--model bc --lr 1e-3 --batch-size 256 --warmup-steps 100 --max-steps 5000 --num-workers 0 "
    "--eval-every 0 --eval-fraction 0 --save-every 0 --log-every 1000 --device cpu"
)
"""The model's own defaults, and the tutorial's settings of the training."""


@frozen
class Candidate:
    """A way to train and to execute that `best_of` may choose."""

    name: str
    train: str = ""
    """Options of ``simscale train``; later ones win."""
    evaluate: str = ""
    """Options of ``simscale eval``."""
    record: str = ""
    """Options of ``simscale record``."""


NOISE = "--noise 0.3"
FAMILY = (
    Candidate("bc"),
    Candidate("bc, noisy demos", record=NOISE),
    Candidate("bc-chunk, execute 4", "--model bc-chunk", "--execute 4"),
    Candidate("diffusion, execute 4", "--model diffusion", "--execute 4"),
    Candidate("flow, execute 4", "--model flow", "--execute 4"),
)


def expert(bench: Bench, env: str, at_least: float) -> Iterator[Measure]:
    """Run the scripted expert for 500 episodes."""
    path = bench.work / f"expert-{env}.h5"
    words = f"record --env {env} --episodes 500 --seed {REPORT_SEED} --overwrite --output"
    recording = bench.simscale(words, path).said
    yield rate(f"{env}, scripted expert", [recording], at_least=at_least)


def cloning(bench: Bench, env: str, at_least: float, record: str = "") -> Iterator[Measure]:
    """Train behaviour cloning as it comes on 200 demonstrations, with three seeds."""
    data = demonstrations(bench, env, 200, record)
    evaluations, runs = [], []
    for seed in TRAINING_SEEDS:
        checkpoint, ran = bench.train(f"bc-{env}", data, BC, seed=seed)
        runs.append(ran)
        evaluations.append(bench.evaluate(checkpoint, env, episodes=200))
    demos = " ".join(["200 demos", record.replace("--", "with ")]).strip()
    yield rate(f"{env}, BC defaults, {demos}", evaluations, at_least=at_least)
    yield training_time(f"{env}, BC defaults, training on one core", runs, at_most=60.0)


def best_of(bench: Bench, env: str, demos: int, at_least: float) -> Iterator[Measure]:
    """Choose a policy of the family on selection seeds; report it with three training seeds."""
    scores: dict[Candidate, float] = {}
    notes = []
    for candidate in FAMILY:
        try:
            said = _try(bench, candidate, env, demos, 0, 100, SELECTION_SEED)[0]
        except MissingError as error:
            notes.append(f"{candidate.name}: {error}")
            continue
        scores[candidate] = said["success_rate"]
        notes.append(f"{candidate.name} {shown(said['success_rate'], '%')}")
    if not scores:
        raise MissingError("; ".join(notes))
    best = max(scores, key=lambda candidate: scores[candidate])
    tried = [_try(bench, best, env, demos, s, 200, REPORT_SEED) for s in TRAINING_SEEDS]
    what = f"{env}, best of family ({best.name}), {demos} demos"
    note = f"selection on 100 episodes: {', '.join(notes)}"
    yield rate(what, [evaluation for evaluation, _ in tried], at_least=at_least, detail=note)
    yield training_time(f"{env}, {best.name}, training on one core", [ran for _, ran in tried])


def throughput(bench: Bench) -> Iterator[Measure]:
    """Measure which part of an evaluation's time is physics."""
    data = demonstrations(bench, "pick_place", 200)
    checkpoint, _ = bench.train("bc-pick_place", data, BC)
    said = bench.evaluate(checkpoint, "pick_place", "--num-envs 32", episodes=640)
    steps = f"{said['env_steps'] / said['wall_s']:.0f} control steps/s"
    what = "pick_place, BC, 32 environments: wall time inside physics"
    yield Measure(what=what, value=said["physics_share"], unit="%", at_least=0.75, detail=steps)


def demonstrations(bench: Bench, env: str, episodes: int, options: str = "") -> Path:
    """Record the expert from seed 0."""
    name = "-".join([env, str(episodes), *options.replace("--", "").split()])
    return bench.record(name, f"--env {env} --episodes {episodes}", options)


def training_time(what: str, runs: list[Ran], at_most: float | None = None) -> Measure:
    """Return the processor time of the longest of some trainings."""
    longest = max(ran.cpu_s for ran in runs)
    each = ", ".join(f"{ran.cpu_s:.0f}" for ran in runs) if len(runs) > 1 else ""
    return Measure(what=what, value=longest, unit="CPU s", at_most=at_most, detail=each)


def _try(
    bench: Bench, candidate: Candidate, env: str, demos: int, seed: int, episodes: int, first: int
) -> tuple[dict[str, float], Ran]:
    data = demonstrations(bench, env, demos, candidate.record)
    name = "-".join([data.stem, *candidate.train.replace("--", "").split()])
    checkpoint, ran = bench.train(name, data, BC, candidate.train, seed=seed)
    said = bench.evaluate(checkpoint, env, candidate.evaluate, episodes=episodes, seed=first)
    return said, ran
