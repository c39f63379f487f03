"""Measure what policies that sample make of their noise, and print a page.

    OMP_NUM_THREADS=1 python benchmarks/policy_noise.py            # some 15 minutes of one core
    python benchmarks/policy_noise.py --only cost

Each policy is trained once, through the command line, with the settings of the documentation; what
is in the working folder already is taken as it is.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # `benchmarks.policies.two_ways`

WAYS = "benchmarks.policies.two_ways:TwoWays/{}-v0"
TASKS = {"pick_place": "pick_place", "Round": WAYS.format("Round"), "Kept": WAYS.format("Kept")}
MODELS = ("flow", "diffusion")
STEPS = {"pick_place": 5000, "Round": 3000, "Kept": 3000}
NOISES = ("warm", "held", "fresh")
TRAIN = (
    "--lr 1e-3 --batch-size 256 --warmup-steps 100 --num-workers 0 --eval-every 0 "
    "--eval-fraction 0 --save-every 0 --log-every 1000 --device cpu --seed 0"
)
EPISODES = 200
SEED = 10_000


def main() -> None:
    """Print the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/policy-noise"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    for name in options.only:
        for line in PARTS[name](options.work):
            print(line, flush=True)


def settings(work: Path) -> Iterator[str]:
    """Success by noise and executed steps; of two-way tasks also the ways."""
    yield "| task | policy | noise | 1 step | 4 steps | 8 steps | ensembling 0.01 |"
    yield "|---|---|---|---:|---:|---:|---:|"
    for task in TASKS:
        for model in MODELS:
            for noise in NOISES:
                cells = [evaluated(work, task, model, execute=k, noise=noise) for k in (1, 4, 8)]
                if noise != "fresh":
                    cells.append(evaluated(work, task, model, ensemble=0.01, noise=noise))
                shown = [*(_cell(cell) for cell in cells), "refused"][:4]
                yield f"| {' | '.join([task, model, noise, *shown])} |"


def batches(work: Path) -> Iterator[str]:
    """Equality of the same evaluation with 1, 7 and 64 environments; other policy seeds."""
    yield "| task | policy | 1, 7 and 64 environments | policy seed 0 | 1 | 2 | 0, 1 and 2 |"
    yield "|---|---|---|---|---|---|---|"
    for task in TASKS:
        for model in MODELS:
            runs = [evaluated(work, task, model, num_envs=n) for n in (64, 7, 1)]
            same = all(_episodes(run) == _episodes(runs[0]) for run in runs)
            others = [evaluated(work, task, model, policy_seed=seed) for seed in (1, 2)]
            differ = [
                sum(a != b for a, b in zip(_episodes(o), _episodes(runs[0]), strict=True))
                for o in others
            ]
            pooled = evaluated(work, task, model, policy_seed=[0, 1, 2])
            cells = [_cell(runs[0])] + [
                f"{_cell(o)}, {d} differ" for o, d in zip(others, differ, strict=True)
            ]
            word = "equal in every episode" if same else "NOT EQUAL"
            low, high = pooled["success_rate_ci95"]
            cells.append(f"{pooled['success_rate']:.1%} ({low:.1%} to {high:.1%})")
            yield f"| {task} | {model} | {word} | {' | '.join(cells)} |"


def cost(_: Path) -> Iterator[str]:
    """Processor time of the noise of one chunk of every environment, of 8 steps of 4 actions."""
    from simscaleai_plugin_bc.blocks.noise import EpisodeNoise

    yield "| environments | noise of a chunk each [ms] |"
    yield "|---:|---:|"
    for num_envs in (1, 64, 1024):
        noise, envs = EpisodeNoise(), np.arange(num_envs)
        noise.reset(np.ones(num_envs, dtype=bool), envs)
        times = []
        for chunk in range(30):
            begun = process_time()
            noise.draw((8, 4), envs, np.full(num_envs, chunk))
            times.append(process_time() - begun)
        yield f"| {num_envs} | {1e3 * float(np.median(times)):.2f} |"


PARTS = {"cost": cost, "batches": batches, "settings": settings}


def evaluated(
    work: Path,
    task: str,
    model: str,
    *,
    num_envs: int = 25,
    policy_seed: int | list[int] = 0,
    **execution: Any,
) -> dict[str, Any]:
    """Return the results of 200 episodes."""
    from simscaleai_plugin_gym.envs.construction import make_vector_env
    from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig, evaluate_policy

    from simscaleai_core.host.registry import load_policy

    policy: Any = load_policy(_trained(work, task, model)).eval()
    if execution:
        policy.set_execution(**execution)
    env = make_vector_env(TASKS[task], num_envs)
    config = EvalConfig(n_episodes=EPISODES, seed=SEED, policy_seed=policy_seed)
    try:
        return evaluate_policy(env, policy.predict, config)
    finally:
        env.close()


def _trained(work: Path, task: str, model: str) -> Path:
    """Return a checkpoint, which is trained if it is not there."""
    data, folder = work / f"{task}.h5", work / f"{task}-{model}"
    if not data.exists():
        words = ["--env", TASKS[task], "--episodes", "200", "--output", str(data)]
        if task != "pick_place":
            words += ["--expert", f"benchmarks.policies.two_ways:{task.lower()}_expert"]
        _simscale("record", *words)
    if not (folder / "final.pt").exists():
        where = ["--dataset", str(data), "--checkpoint-dir", str(folder)]
        steps = ["--max-steps", str(STEPS[task])]
        _simscale("train", "--model", model, *where, *steps, *shlex.split(TRAIN))
    return folder / "final.pt"


def _simscale(*words: str) -> None:
    command = [sys.executable, "-m", "simscaleai_core", *words]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=Path.cwd())


def _episodes(results: dict[str, Any]) -> list[tuple[Any, ...]]:
    modes = results.get("modes", [None] * len(results["seeds"]))
    return list(zip(results["successes"], results["lengths"], modes, strict=True))


def _cell(results: dict[str, Any]) -> str:
    shares = results.get("mode_shares", {})
    above = f", above {shares.get('above', 0.0):.0%}" if shares else ""
    return f"{results['success_rate']:.1%}{above}"


if __name__ == "__main__":
    main()
