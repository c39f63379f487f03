"""Commands that this plugin adds to ``simscale``, recording first; light until one of them runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simscaleai_plugin_gym.executors.choice import LOCAL, with_executor_options
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S

if TYPE_CHECKING:
    from simscaleai_plugin_gym.record.recording import Recording
    from simscaleai_plugin_gym.record.shards import EpisodeMetadata


@with_executor_options
def record(
    *,
    env: str,
    output: Path,
    episodes: int = 200,
    seed: int = 0,
    workers: int | None = None,
    on: str = LOCAL,
    expert: str | None = None,
    expert_single: bool = False,
    noise: float = 0.0,
    images: int | None = None,
    cameras: str | None = None,
    env_kwargs: dict[str, str] | None = None,
    max_steps: int | None = None,
    only_successes: bool = False,
    max_attempts: int | None = None,
    relabel: bool = False,
    overwrite: bool = False,
    num_envs: int | None = None,
    env_timeout_s: float = ENV_TIMEOUT_S,
    json: bool = False,
    on_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Record demonstrations of an expert into an HDF5 file.

    A recording that was stopped or killed continues when the command is repeated: what is finished
    is kept in the folder OUTPUT.parts.

    Args:
        env: Environment to record in: a name that `simscale envs` lists, or a Gymnasium id such as
            'module:EnvId-v0'.
        output: HDF5 file to write.
        episodes: Number of episodes.
        seed: Seed of the first episode; the others follow it.
        workers: Processes that record side by side, 1 if not given; with another executor, the
            most tasks at a time. The file does not depend on it.
        on: Executor: local (processes on this machine) or that of a plugin, such as ray; the file
            does not depend on it.
        expert: Function of the observation to the action, 'module:function' or
            './file.py:function'; the environment's own expert without it.
        expert_single: The expert handles one observation at a time, not a batch.
        noise: Standard deviation of the noise on the executed action; the stored action is clean.
        images: Side of the camera images to record [pixels].
        cameras: Cameras to record, such as 'top,side'.
        env_kwargs: Options of the environment, such as --env-kwargs.phrasing all.
        max_steps: Longest episode [steps]; needed where the environment has no limit of its own.
        only_successes: Drop failed episodes and go on until enough succeeded.
        max_attempts: Most episodes to run for that; ten times as many as wanted without it.
        relabel: Write each episode under every other instruction as well, sharing observations.
        overwrite: Replace the file if it exists, or shards that were begun with other settings.
        num_envs: Environments per process; the file does not depend on it.
        env_timeout_s: Time that the environment may take to be made, for one reset and for one step
            [s]; then recording ends with an error.
        json: Print one JSON object instead of a table.
        on_options: Options of the executor.

    Returns:
        Exit status.
    """
    from simscaleai_core.cli.configuration import parse_literal
    from simscaleai_core.cli.output import print_facts, print_json, progress
    from simscaleai_plugin_gym.record.recording import record_episodes

    options = {k.replace("-", "_"): parse_literal(v) for k, v in (env_kwargs or {}).items()}
    with _hint_on_interrupt(output), progress("recording episodes", episodes) as advance:
        recording = record_episodes(
            env,
            output,
            episodes=episodes,
            seed=seed,
            workers=workers,
            expert=expert,
            expert_single=expert_single,
            noise=noise,
            images=images,
            cameras=None if cameras is None else cameras.split(","),
            env_kwargs=options,
            max_steps=max_steps,
            only_successes=only_successes,
            max_attempts=max_attempts,
            relabel=relabel,
            overwrite=overwrite,
            num_envs=num_envs,
            env_timeout_s=env_timeout_s,
            on_episode=_Counter(advance, episodes),
            on=on,
            on_options=on_options,
        )
    summary = {"env": env, **_summary_of(recording)}
    if json:
        print_json(summary)
    else:
        print_facts(_readable(summary), title="recorded")
    return 0


class _Counter:
    """Moves progress forward by each episode that is kept, up to the number wanted."""

    def __init__(self, advance: Callable[[], None], wanted: int) -> None:
        self._advance = advance
        self._left = wanted

    def __call__(self, metadata: EpisodeMetadata) -> None:
        if metadata.names and self._left:
            self._left -= 1
            self._advance()


@contextmanager
def _hint_on_interrupt(output: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        from simscaleai_core.cli.output import print_note

        if output.with_name(f"{output.name}.parts").exists():
            print_note("finished episodes are kept; repeat the command to continue")
        raise


def envs(*, json: bool = False) -> int:
    """List the environments that can be recorded in and evaluated in.

    Args:
        json: Print one JSON object instead of a table.

    Returns:
        Exit status.
    """
    from simscaleai_core.cli.output import print_json, print_note, print_table
    from simscaleai_core.host.facade import Host
    from simscaleai_plugin_gym.envs.catalog import env_rows, missing_tasks

    host = Host()
    rows = env_rows(host)
    if json:
        print_json({"envs": rows})
        return 0
    if rows:
        headers = list(rows[0])
        print_table([list(row.values()) for row in rows], headers=headers, title="environments")
    else:
        print_note("no plugin declares an environment; any Gymnasium id works")
    missing = missing_tasks(host)
    if missing:
        print_note(missing)
    return 0


def _summary_of(recording: Recording) -> dict[str, Any]:
    from simscaleai_plugin_gym.evaluate.intervals import success_rate

    rate: dict[str, Any] = {"success_rate": None, "success_rate_ci95": None}
    if recording.successes is not None:
        rate = success_rate(recording.successes, recording.attempts)
    return {
        "output": str(recording.path),
        "n_episodes": recording.n_episodes,
        "n_relabelled": recording.n_relabelled,
        "attempts": recording.attempts,
        "n_resumed": recording.n_resumed,
        **rate,
        "env_steps": recording.env_steps,
        "bytes": recording.path.stat().st_size,
    }


def _readable(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return values as text, numbers with at most three decimals."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}"
        if isinstance(value, list):
            return f"[{', '.join(text(entry) for entry in value)}]"
        return "not known" if value is None else str(value)

    return {key: text(value) for key, value in summary.items()}
