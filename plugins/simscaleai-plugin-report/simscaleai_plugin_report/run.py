"""All that a report shows of one run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from simscaleai_core.errors import DataError
from simscaleai_plugin_report.checkpoint import CheckpointFacts, again, read_checkpoint
from simscaleai_plugin_report.conditions import Conditions, read_conditions
from simscaleai_plugin_report.data import DataCard, read_cards
from simscaleai_plugin_report.evaluation import Evaluation, read_evaluation
from simscaleai_plugin_report.failures import Failures, read_failures
from simscaleai_plugin_report.files import Curve, read_curves
from simscaleai_plugin_report.pictures import Pictures, Room, read_pictures
from simscaleai_plugin_report.sweep import Sweep, read_sweeps

_DEFAULT_SEED, _DEFAULT_EPISODES = 10_000, 200
_NOT_KEPT = ("max-steps", "success", "language", "execute", "ensemble", "source", "weights")
_KEPT = ("max_steps", "language", "execute", "ensemble", "source", "weights")


@frozen(kw_only=True)
class Run:
    """A run, as far as its files tell."""

    name: str
    """What it is called in the page."""
    directory: Path
    """Its checkpoint directory, as it was named."""
    problems: Sequence[str]
    """What is missing or broken, a line each."""
    checkpoint: CheckpointFacts | None
    """What was in effect, if there is a checkpoint."""
    evaluation: Evaluation | None
    """Its closed-loop evaluation, if there is one."""
    curves: Mapping[str, Curve]
    """What it logged."""
    cards: Sequence[DataCard]
    """What it trained on, if that is still there."""
    conditions: Conditions | None
    """Where its policy succeeds, if there is an evaluation."""
    failures: Failures | None
    """Failed episodes that were kept, if any were."""
    pictures: Pictures
    """What an evaluation with ``--video`` left."""
    sweeps: Sequence[Sweep]
    """How its policy does under other conditions."""

    @property
    def train_command(self) -> str:
        """Return the lines of a shell that train it again, or nothing."""
        return "" if self.checkpoint is None else self.checkpoint.train_command(self.directory)

    def eval_command(self, *, repeats: bool = True) -> str:
        """Return the command that evaluates it, or nothing if there is no checkpoint.

        Args:
            repeats: Whether it is to evaluate the repeated run as the first was; otherwise it
                writes the evaluation that the report looks for.
        """
        folder = Path(again(self.directory)) if repeats else self.directory
        results = {} if self.evaluation is None else self.evaluation.results
        evaluated = results.get("checkpoint")
        file = None if self.checkpoint is None else self.checkpoint.path.name
        file = Path(evaluated).name if isinstance(evaluated, str) else file
        if file is None:
            return ""
        words = ["simscale", "eval", str(folder / file), *_options(self.evaluation)]
        if self.pictures.films:
            words += ["--video", str(folder / "video"), "--video-episodes"]
            words += [str(len(self.pictures.films))]
        if results.get("failures"):
            words += ["--failures", str(folder / "failures")]
        return shlex.join([*words, "--output", str(folder / "eval.json")])


def read_run(directory: Path, name: str, room: Room) -> Run:
    """Read the files of a run.

    Args:
        directory: Its checkpoint directory, or a checkpoint in it.
        name: What it is called in the page.
        room: What its pictures may take of the page.

    Returns:
        What they tell; a file that is missing or broken is a line of its `problems`.

    Raises:
        DataError: If there is no such directory, or nothing of a run in it.
    """
    if not directory.is_dir():
        raise DataError(
            f"no run at {directory}: expected the checkpoint directory of a run, got "
            f"{'a file' if directory.exists() else 'nothing'} there. "
            "Name the directory that --checkpoint-dir had.",
            path=directory,
        )
    problems: list[str] = []
    evaluation = read_evaluation(directory, problems)
    curves = read_curves(directory / "metrics.jsonl", problems)
    checkpoint = read_checkpoint(directory, problems)
    if evaluation is None and checkpoint is None and not curves:
        raise DataError(f"no run in {directory}: {' '.join(problems)}", path=directory)
    results = {} if evaluation is None else evaluation.results
    return Run(
        name=name,
        directory=directory,
        checkpoint=checkpoint,
        evaluation=evaluation,
        curves=curves,
        cards=[] if checkpoint is None else read_cards(checkpoint.config, directory, problems),
        conditions=None if evaluation is None else read_conditions(evaluation),
        failures=read_failures(results, directory, room, problems),
        pictures=read_pictures(results, directory, room, problems),
        sweeps=read_sweeps(directory, problems),
        problems=problems,
    )


def unsaid_options(evaluation: Evaluation) -> list[str]:
    """Return the options of an evaluation that its results do not keep."""
    return [f"--{name}" for name in _NOT_KEPT if name.replace("-", "_") not in evaluation.results]


def _options(evaluation: Evaluation | None) -> list[str]:
    if evaluation is None:
        return ["--episodes", str(_DEFAULT_EPISODES), "--seed", str(_DEFAULT_SEED)]
    results, seed = evaluation.results, str(evaluation.seeds[0])
    words = ["--env", evaluation.env] if evaluation.env else []
    if evaluation.looks:  # of one checkpoint; the question about two is about both
        words += ["--until", str(results["until"]), "--episodes", str(results["ceiling"])]
    else:
        words += ["--episodes", str(len(evaluation.distinct_seeds))]
    words += ["--seed", seed]
    if evaluation.policy_seeds:
        words += ["--policy-seed", ",".join(map(str, evaluation.policy_seeds))]
    given = results.get("env_kwargs")
    for name, value in given.items() if isinstance(given, dict) else ():
        words += [f"--env-kwargs.{name.replace('_', '-')}", _word(value)]
    for name in _KEPT:
        if results.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", _word(results[name])]
    return words


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
