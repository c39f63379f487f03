"""What 25 more demonstrations are worth, by how they were chosen: three ways beside none.

For each task and training seed, a policy is trained on 50 demonstrations and evaluated on selection
seeds. 25 more episodes are then recorded in each of three ways, and a policy is trained from the
start on the 50 and the 25 together:

- failures: the expert, from where the policy failed (`simscale record --like`)
- random: the expert, from seeds that follow each other
- DAgger: the policy, labelled by the expert (`simscale record --policy CKPT --labels expert`)

All are evaluated on the same episodes, whose seeds nothing was chosen by. Everything is done by the
commands that a user would give, in this one process and on one thread; what is there from an
earlier call is not done again.

    python benchmarks/targeted_data.py
    python benchmarks/targeted_data.py --quick    # whether it runs: a minute, and no result
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import rounds
import torch
from attrs import evolve, frozen
from numpy.typing import NDArray
from simscaleai_plugin_gym.evaluate.intervals import paired_mean, wilson

from simscaleai_core.cli import app

Array = NDArray[np.float64]

TASKS = ("pick_place", "push")
BASE, FAILURES, RANDOM, DAGGER = "base", "failures", "random", "DAgger"
ARMS = (BASE, RANDOM, FAILURES, DAGGER)
REPORT_SEED, SELECTION_SEED = 10_000, 50_000
RANDOM_SEED, DAGGER_SEED = 1_000, 2_000
"""First seeds of recordings; each training seed has its own."""
BC = (
    "--model bc --lr 1e-3 --batch-size 256 --warmup-steps 100 --num-workers 0 --eval-every 0 "
    "--eval-fraction 0 --save-every 0 --log-every 1000 --device cpu"
)
"""The settings of `benchmarks/policies`, but for the number of steps."""


@frozen(kw_only=True)
class Scale:
    """How much is done."""

    demos: int = 50
    more: int = 25
    training_seeds: int = 3
    selection: int = 200
    episodes: int = 200
    steps: int = 5000


FULL = Scale()
QUICK = Scale(demos=6, more=4, training_seeds=2, selection=20, episodes=20, steps=200)


@frozen(kw_only=True)
class Recorded:
    """A file of episodes."""

    path: Path
    steps: int


class Bench:
    """Runs commands in a folder and remembers what they said.

    Args:
        work: Data, checkpoints and results.
        scale: How much is done.
    """

    def __init__(self, work: Path, scale: Scale) -> None:
        self.work = work
        self.scale = scale
        self.commands: list[str] = []

    def run(self, name: str, *arguments: str | Path) -> dict[str, Any]:
        """Run a command of ``simscale``, or read what it said in an earlier call.

        Raises:
            RuntimeError: If it fails.
        """
        words = [word for each in arguments for word in _words(each)]
        self.commands.append(f"simscale {shlex.join(words)}")
        log = self.work / f"{name}.said.json"
        if log.exists():
            before = json.loads(log.read_text("utf-8"))
            if before["command"] == self.commands[-1]:
                said: dict[str, Any] = before["said"]
                return said
        print(f"$ {self.commands[-1]}", file=sys.stderr, flush=True)
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            status = app.run([*words, "--json"])
        if status:
            raise RuntimeError(f"{self.commands[-1]}: {err.getvalue().strip().splitlines()[-1]}")
        said = json.loads(out.getvalue())
        log.write_text(json.dumps({"command": self.commands[-1], "said": said}), "utf-8")
        return said

    def record(self, name: str, *arguments: str | Path) -> Recorded:
        """Record episodes."""
        path = self.work / f"{name}.h5"
        said = self.run(name, "record --overwrite --output", path, *arguments)
        return Recorded(path=path, steps=said["env_steps"])

    def policy(self, name: str, datasets: list[Recorded], seed: int) -> Path:
        """Train and return the checkpoint."""
        folder = self.work / name
        data = [word for each in datasets for word in ("--dataset", str(each.path))]
        steps = f"--max-steps {self.scale.steps} --seed {seed}"
        self.run(name, "train", shlex.join(data), BC, steps, "--checkpoint-dir", folder)
        return folder / "final.pt"


def main() -> None:
    """Measure the tasks and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--steps", type=int, default=FULL.steps, help="of each training")
    parser.add_argument("--quick", action="store_true", help="little of everything")
    parser.add_argument("--work", type=Path, default=Path("runs/targeted"))
    parser.add_argument("--markdown", type=Path, help="where the page goes, beside the terminal")
    options = parser.parse_args()
    scale = QUICK if options.quick else evolve(FULL, steps=options.steps)
    work = options.work / ("quick" if options.quick else f"{scale.steps}-steps")
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    bench = Bench(work, scale)
    page = [_head(scale)]
    for task in options.tasks:
        page += _section(task, *_measured(bench, task))
    page += [_shown(bench), _facts()]
    text = "\n\n".join(page) + "\n"
    print(text)
    if options.markdown:
        options.markdown.write_text(text, "utf-8")


def _measured(bench: Bench, task: str) -> tuple[dict[str, Array], dict[str, float]]:
    """Return the successes `[training seeds, episodes]` and the steps of further data by arm."""
    scale = bench.scale
    data = bench.record(f"{task}-demos", f"--env {task} --episodes {scale.demos} --seed 0")
    outcomes: dict[str, list[list[bool]]] = {arm: [] for arm in ARMS}
    steps: dict[str, list[int]] = {arm: [] for arm in ARMS}
    report = f"--env {task} --episodes {scale.episodes} --seed {REPORT_SEED}"
    for seed in range(scale.training_seeds):
        name = f"{task}-seed{seed}"
        base = bench.policy(f"{name}-{BASE}", [data], seed)
        policies = {BASE: base}
        for arm, more in _recorded(bench, task, name, base, seed):
            policies[arm] = bench.policy(f"{name}-{arm}", [data, more], seed)
            steps[arm].append(more.steps)
        for arm, policy in policies.items():
            said = bench.run(f"{name}-{arm}-report", "eval", policy, report)
            outcomes[arm].append(said["successes"])
    arrays = {arm: np.array(found, dtype=np.float64) for arm, found in outcomes.items()}
    return arrays, {arm: float(np.mean(found)) if found else 0.0 for arm, found in steps.items()}


def _recorded(
    bench: Bench, task: str, name: str, base: Path, seed: int
) -> Iterator[tuple[str, Recorded]]:
    """Yield the further data of each arm."""
    scale, more = bench.scale, f"--episodes {bench.scale.more}"
    failures = bench.work / f"{name}-fails"
    where = f"--env {task} --episodes {scale.selection} --seed {SELECTION_SEED} --video-episodes 1"
    bench.run(f"{name}-select", "eval", base, where, "--failures", failures)
    first = RANDOM_SEED + seed * scale.more
    yield RANDOM, bench.record(f"{name}-more-{RANDOM}", f"--env {task} --seed {first}", more)
    yield FAILURES, bench.record(f"{name}-more-{FAILURES}", "--like", failures, more)
    words = f"--labels expert --seed {DAGGER_SEED + seed * scale.more}"
    yield DAGGER, bench.record(f"{name}-more-{DAGGER}", "--policy", base, words, more)


def _head(scale: Scale) -> str:
    return (
        "# What 25 more demonstrations are worth\n\n"
        f"`python benchmarks/targeted_data.py --steps {scale.steps}`: bc as `benchmarks/policies` "
        f"trains it, but for {scale.steps} steps; {scale.demos} demonstrations and {scale.more} "
        f"more; {scale.training_seeds} training seeds; failures found in {scale.selection} "
        f"episodes from seed {SELECTION_SEED}; {scale.episodes} reporting episodes from seed "
        f"{REPORT_SEED}, the same for all.\n\n"
        "Intervals are of 95%. A difference is paired: the same training seed, the same episode. "
        "Its interval is a bootstrap over episodes, each with its mean over the training seeds; it "
        "does not say what other training seeds would give, which the last column hints at."
    )


def _section(task: str, outcomes: Mapping[str, Array], steps: Mapping[str, float]) -> list[str]:
    rates = [
        "| data | success | of each training seed | steps of further data |",
        "|---|---|---|---|",
    ]
    for arm in ARMS:
        found = outcomes[arm]
        low, high = wilson(int(found.sum()), found.size)
        cells = (f"{found.mean():.1%} ({low:.1%} to {high:.1%})", _each(found), f"{steps[arm]:.0f}")
        rates.append(f"| {arm} | {' | '.join(cells)} |")
    table = ["| difference | points | of each training seed |", "|---|---|---|"]
    for first, second in combinations(ARMS, 2):
        difference = outcomes[second] - outcomes[first]
        low, high = paired_mean(difference.mean(axis=0).tolist())
        points = f"{difference.mean() * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f})"
        each = " ".join(f"{value * 100:+.1f}" for value in difference.mean(axis=1))
        table.append(f"| {second} - {first} | {points} | {each} |")
    return [f"## {task}", "\n".join(rates), "\n".join(table)]


def _each(found: Array) -> str:
    return " ".join(f"{value:.1%}" for value in found.mean(axis=1))


def _shown(bench: Bench) -> str:
    """Return the commands of the first task and training seed."""
    commands = [each.replace(f"{bench.work}/", "") for each in bench.commands]
    task = commands[0].split("--env ")[1].split()[0]
    chosen = [each for each in commands if task in each and not re.search("seed[1-9]", each)]
    return "\n".join(
        ["The commands of the first task and training seed:", "", "```", *chosen, "```"]
    )


def _facts() -> str:
    facts = rounds.machine("torch", "mujoco-core", "simscaleai-core", "simscaleai-plugin-gym")
    facts |= facts.pop("versions")
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts["processor time of this call [min]"] = round((used.ru_utime + used.ru_stime) / 60, 1)
    return "; ".join(f"{name}: {value}" for name, value in facts.items())


def _words(argument: str | Path) -> list[str]:
    return shlex.split(argument) if isinstance(argument, str) else [str(argument)]


if __name__ == "__main__":
    main()
