"""The commands that this plugin adds to ``simscale``; light until one of them runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simscaleai_plugin_sim.recording import Recording


def record(
    *,
    env: str,
    output: Path,
    episodes: int = 200,
    seed: int = 0,
    workers: int = 1,
    noise: float = 0.0,
    images: int | None = None,
    json: bool = False,
) -> int:
    """Record demonstrations of a scripted expert into an HDF5 file.

    Args:
        env: Environment to record in; it must have an expert.
        output: HDF5 file to write.
        episodes: Number of episodes.
        seed: Seed of the first episode; the others follow it.
        workers: Processes; the file does not depend on it.
        noise: Standard deviation of the noise on the executed action; the stored action is clean.
        images: Side of the camera image to record as the key 'image' [pixels].
        json: Print one JSON object instead of a table.

    Returns:
        Exit status.
    """
    from simscaleai_core.cli.output import print_facts, print_json, progress
    from simscaleai_plugin_sim.recording import record_episodes

    with progress("recording episodes", episodes) as advance:
        recording = record_episodes(
            env,
            output,
            episodes=episodes,
            seed=seed,
            noise=noise,
            images=images,
            workers=workers,
            on_episode=lambda episode: advance(),  # noqa: ARG005 - only counted
        )
    facts = {"env": env, **_recording_facts(recording)}
    if json:
        print_json(facts)
    else:
        print_facts(_readable(facts), title="recorded")
    return 0


def evaluate(
    checkpoint: Path,
    /,
    *,
    env: str,
    episodes: int = 200,
    seed: int = 10_000,
    num_envs: int = 32,
    images: int | None = None,
    gate: str | None = None,
    output: Path | None = None,
    json: bool = False,
) -> int:
    """Run a trained policy in closed loop and report how often it succeeds.

    Args:
        checkpoint: Checkpoint file of the policy.
        env: Environment to run it in.
        episodes: Number of episodes.
        seed: Seed of the first episode; the others follow it.
        num_envs: Environments that run side by side; the result of a seed does not depend on it.
        images: Side of the camera image in the observation [pixels], for policies that see.
        gate: Bar to reach, such as 'success_rate>=0.95'; exit status 1 if it is missed.
        output: File to write the results to, as JSON.
        json: Print one JSON object instead of a table.

    Returns:
        Exit status: 0, or 1 if the gate was missed.
    """
    from simscaleai_core.cli.output import print_facts, print_json
    from simscaleai_plugin_sim.gate import gate_from_text

    bar = None if gate is None else gate_from_text(gate)
    results = _measure(
        checkpoint, env, episodes=episodes, seed=seed, num_envs=num_envs, images=images
    )
    results = {"checkpoint": str(checkpoint), "env": env, **results}
    if bar is not None:
        results |= {"gate": gate, "gate_met": bar.is_met(results)}
    if output is not None:
        _write_json(output, results)
    if json:
        print_json(results)
    else:
        hidden = {"seeds", "successes", "returns", "lengths"}
        shown = {key: value for key, value in results.items() if key not in hidden}
        print_facts(_readable(shown), title="evaluated")
    return 0 if results.get("gate_met", True) else 1


def envs(*, json: bool = False) -> int:
    """List the environments that can be recorded in and evaluated in.

    Args:
        json: Print one JSON object instead of a table.

    Returns:
        Exit status.
    """
    from simscaleai_core.cli.output import print_json, print_table
    from simscaleai_plugin_sim.catalog import env_rows

    rows = env_rows()
    if json:
        print_json({"envs": rows})
    else:
        headers = list(rows[0])
        print_table([list(row.values()) for row in rows], headers=headers, title="environments")
    return 0


def _recording_facts(recording: Recording) -> dict[str, Any]:
    from simscaleai_plugin_sim.intervals import wilson

    return {
        "output": str(recording.path),
        "n_episodes": recording.n_episodes,
        "success_rate": recording.successes / recording.n_episodes,
        "success_rate_ci95": list(wilson(recording.successes, recording.n_episodes)),
        "env_steps": recording.env_steps,
        "bytes": recording.path.stat().st_size,
    }


def _measure(
    checkpoint: Path, env: str, *, episodes: int, seed: int, num_envs: int, images: int | None
) -> dict[str, Any]:
    from simscaleai_core import load_policy
    from simscaleai_core.cli.output import progress
    from simscaleai_plugin_sim.catalog import make_vector_env
    from simscaleai_plugin_sim.evaluation import EvalConfig, evaluate_policy

    config = EvalConfig(n_episodes=episodes, seed=seed)
    options: dict[str, Any] = {} if images is None else {"images": images}
    made = make_vector_env(env, min(num_envs, episodes), **options)
    try:
        policy: Any = load_policy(checkpoint)
        with progress("evaluating episodes", episodes) as advance:
            return evaluate_policy(made, policy.predict, config, on_episode=advance)
    finally:
        made.close()


def _write_json(path: Path, results: Mapping[str, Any]) -> None:
    from json import dumps

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(results, indent=2) + "\n", encoding="utf-8")


def _readable(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts as text, numbers with at most three decimals."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}"
        if isinstance(value, list):
            return f"[{', '.join(text(entry) for entry in value)}]"
        return str(value)

    return {key: text(value) for key, value in facts.items()}
