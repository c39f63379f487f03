"""The command ``simscale eval``; light until it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from simscaleai_plugin_gym.executors.choice import LOCAL, choose_executor, with_executor_options
from simscaleai_plugin_gym.options import (
    ENV_TIMEOUT_S,
    check_env_kwargs,
    check_output,
    check_ranges,
)

if TYPE_CHECKING:
    from simscaleai_plugin_gym.evaluate.until import Question

_NOT_SHOWN = {"seeds", "successes", "returns", "lengths", "instructions", "looks"}


@with_executor_options
def evaluate(
    checkpoint: Path,
    other: Path | None = None,
    /,
    *,
    env: str | None = None,
    episodes: int = 200,
    seed: int = 10_000,
    workers: int | None = None,
    on: str = LOCAL,
    num_envs: int | None = None,
    vectorization: str | None = None,
    max_steps: int | None = None,
    images: int | None = None,
    env_kwargs: Annotated[dict[str, str] | None, Parameter(show_default=False)] = None,
    success: str | None = None,
    language: str | None = None,
    execute: int | None = None,
    ensemble: float | None = None,
    source: str | None = None,
    weights: str = "evaluated",
    device: str = "cpu",
    threads: int | None = None,
    video: Path | None = None,
    video_episodes: int = 4,
    env_timeout_s: float = ENV_TIMEOUT_S,
    gate: str | None = None,
    until: str | None = None,
    margin: float | None = None,
    output: Path | None = None,
    json: bool = False,
    on_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Run a trained policy in closed loop and report how often it succeeds.

    With a second checkpoint, both run the same episodes and their difference is reported.

    Args:
        checkpoint: Checkpoint file of the policy.
        other: Checkpoint file of a second policy, to compare with the first.
        env: Environment: a name that `simscale envs` lists, or a Gymnasium id such as
            module:Door-v0; that of the checkpoint's data if not given.
        episodes: Number of episodes.
        seed: Seed of the first episode; the others follow it.
        workers: Processes that evaluate side by side, 1 if not given; with another executor, the
            most tasks at a time. The results do not depend on it.
        on: Executor: local (processes on this machine) or that of a plugin, such as ray; the
            results do not depend on it.
        num_envs: Environments that run side by side in each process, at most; the result of a seed
            does not depend on it, but for the rounding of matrix products.
        vectorization: How they run: native (one batch), sync (in turn) or async (in processes);
            native where a plugin declares a batch and sync otherwise if not given.
        max_steps: Longest episode [steps]; needed where the environment has no limit of its own.
        images: Side of the camera images [pixels]; an environment that declares how to show them
            takes it from the policy.
        env_kwargs: Options of the environment, such as --env-kwargs.length 1.5.
        success: What success is: a key of info, or module:function, a function of your own of
            (observation, reward, terminated, truncated, info); the conventions if not given.
        language: Instruction for all episodes, in place of the environment's.
        execute: Steps of a predicted chunk to execute before the next is predicted.
        ensemble: Coefficient of temporal ensembling.
        source: Source of its training data whose units count, for a policy with statistics by
            source.
        weights: evaluated (those that the run's own evaluations used, such as a moving average) or
            trained.
        device: Where the policy computes, such as cuda.
        threads: Threads that compute on the CPU; torch's choice if not given.
        video: Directory for an mp4 of each of the first episodes, and a contact sheet.
        video_episodes: Number of episodes on video.
        env_timeout_s: Time that the environment may take to be made, for one reset and for one step
            [s]; then the evaluation ends with an error.
        gate: Bar to reach, such as 'success_rate>=0.95', or 'difference>=-0.02' with two
            checkpoints; exit status 1 if it is missed.
        until: Question at whose answer to stop, looked at after each task of some 25 episodes:
            'success_rate>=0.95', or 'decided' with two checkpoints; then --episodes is the most.
        margin: Difference of two success rates that does not matter: within it, two checkpoints
            count as equal for --until.
        output: File to write the results to, as JSON.
        json: Print one JSON object instead of a table.
        on_options: Options of the executor.

    Returns:
        Exit status: 0, or 1 if the gate was missed.
    """
    from simscaleai_plugin_gym.commands.checkpoints import Evaluation, evaluate_checkpoints
    from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig
    from simscaleai_plugin_gym.evaluate.gate import gate_from_text
    from simscaleai_plugin_gym.evaluate.workers import EvaluationTasks

    checkpoints = [c for c in (checkpoint, other) if c]
    question = _question(until, margin, episodes, compares=other is not None)
    bar = None if gate is None else gate_from_text(gate, compares=other is not None)
    _check(env, output, video)
    counts = {"num_envs": num_envs, "images": images, "video_episodes": video_episodes}
    check_ranges({**counts, "threads": threads, "workers": workers})
    _compute_with(threads)
    _search_modules_here()
    chosen = choose_executor(on, on_options)
    _success(success)  # what is wrong is said before the policy is loaded
    evaluation = Evaluation(
        tasks=EvaluationTasks(
            config=EvalConfig(
                n_episodes=episodes, seed=seed, max_steps=max_steps, language=language,
                execute=execute, ensemble=ensemble, source=source, env_timeout_s=env_timeout_s,
            ),
            success=success,
            vectorization=vectorization,
            weights=weights,
            device=device,
        ),
        env=env,
        num_envs=num_envs,
        options=_options(env_kwargs, images),
        video=video,
        video_episodes=video_episodes,
    )  # fmt: skip
    results = evaluate_checkpoints(evaluation, checkpoints, chosen, workers, question)
    if bar is not None:
        results |= {"gate": gate, "gate_met": bar.is_met(results)}
    _report(results, output, as_json=json)
    return 0 if results.get("gate_met", True) else 1


def _check(env: str | None, output: Path | None, video: Path | None) -> None:
    """Check names and paths, before the policy is loaded.

    Raises:
        ConfigError: If one cannot be used.
    """
    from simscaleai_core.errors import ConfigError

    if env is not None and not env.strip():
        raise ConfigError(f"env: expected the name of an environment, got {env!r}")
    if output is not None:
        check_output("output", output)
    if video is not None:
        check_output("video", video, is_folder=True)


def _question(
    until: str | None, margin: float | None, episodes: int, *, compares: bool
) -> Question | None:
    """Return what the evaluation is to find out.

    Raises:
        ConfigError: If there is a margin for nothing.
    """
    from simscaleai_core.errors import ConfigError
    from simscaleai_plugin_gym.evaluate.until import question_from_text

    if until is None:
        if margin is not None:
            raise ConfigError(
                "margin: expected --until decided with it. Add that, or leave it out."
            )
        return None
    return question_from_text(until, ceiling=episodes, compares=compares, margin=margin)


def _success(text: str | None) -> Any:
    from simscaleai_plugin_gym.envs.success import rule_from_text

    return None if text is None else rule_from_text(text)


def _options(env_kwargs: Mapping[str, str] | None, images: int | None) -> dict[str, Any]:
    from simscaleai_core.cli.configuration import parse_literal

    given = {k.replace("-", "_"): parse_literal(v) for k, v in (env_kwargs or {}).items()}
    check_env_kwargs(given)
    return given if images is None else {**given, "images": images}


def _compute_with(threads: int | None) -> None:
    """Have torch compute with so many threads, here and in processes that are started."""
    if threads is not None:
        import os

        import torch

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def _search_modules_here() -> None:
    """Let ``module:EnvId`` and ``module:function`` name a file of the present directory."""
    import sys

    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _report(results: Mapping[str, Any], output: Path | None, *, as_json: bool) -> None:
    from json import dumps

    from simscaleai_core.cli.output import print_facts, print_json, print_table

    if output is not None:
        _write(output, dumps(results, indent=2) + "\n")
    if as_json:
        print_json(results)
    elif "difference" not in results:
        print_facts(dict(_lines(results)), title="evaluated")
    else:
        sides = [dict(_lines(results[side])) for side in ("first", "second")]
        rows = [[name, *(side.get(name, "") for side in sides)] for name in sides[0]]
        print_table(rows, headers=["", "first", "second"], title="evaluated")
        alone = {k: v for k, v in results.items() if k not in {"first", "second"}}
        print_facts(dict(_lines(alone)), title="second minus first")


def _write(path: Path, text: str) -> None:
    """Write the results.

    Raises:
        ConfigError: If that fails.
    """
    from simscaleai_core.errors import ConfigError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output {str(path)!r} cannot be written: {error.strerror}") from error


def _lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return names and values as text, without what there is one of per episode."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += _lines(value, f"{prefix}{key}.")
        elif key == "videos":
            lines += [(f"video {video['seed']}", video["file"]) for video in value]
        elif key not in _NOT_SHOWN and value is not None:
            lines.append((f"{prefix}{key}", _text(value)))
    return lines


def _text(value: Any) -> str:
    """Return a value as text, numbers with at most three decimals."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return f"[{', '.join(_text(entry) for entry in value)}]"
    return str(value)
