"""The folder that ``simscale eval --failures`` writes: what became of a policy where it failed.

It holds how every episode began and how it ended (``conditions.json``), the episodes that failed as
a trajectory file with the policy's own actions (``failures.h5``), and films of some of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from simscaleai_core.cli.output import print_warning, progress, waiting
from simscaleai_core.errors import ConfigError, SimScaleError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.evaluate.commonalities import commonalities, conditions_of
from simscaleai_plugin_gym.evaluate.selection import (
    REPORTING_SEED,
    SELECTION_SEED,
    check_selection_seeds,
)
from simscaleai_plugin_gym.evaluate.workers import Evaluation
from simscaleai_plugin_gym.executors.choice import LOCAL
from simscaleai_plugin_gym.options import check_output
from simscaleai_plugin_gym.record.failures import CONDITIONS, FORMAT

EPISODES = "failures.h5"
"""File name of the episodes that failed."""


class FailureFolder:
    """The folder about the failures of one policy, which is asked for before it is evaluated.

    Args:
        evaluation: How the policy is to be evaluated.
        checkpoints: Those that are evaluated.
        path: Where the folder is to be.
        films: Episodes on film, at most.
        workers: Processes that record, or tasks at a time.
        on: Where the episodes are recorded.
        on_options: Options of executors.

    Raises:
        ConfigError: If the folder cannot be written or has content, there are several policies or
            seeds of the policy, or a report has used the seeds.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        checkpoints: Sequence[Path],
        path: Path,
        films: int,
        workers: int | None = None,
        on: str = LOCAL,
        on_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if len(checkpoints) > 1:
            raise ConfigError(
                f"failures: expected one checkpoint, got {len(checkpoints)}. Evaluate each alone, "
                "with a folder of its own."
            )
        check_output("failures", path, is_folder=True)
        if path.exists() and any(path.iterdir()):
            raise ConfigError(
                f"failures {str(path)!r}: expected a new folder, got one with content. Choose "
                "another name, or remove it."
            )
        if not isinstance(seeds := evaluation.config.policy_seed, int):
            raise ConfigError(
                f"failures: expected one --policy-seed, got {len(seeds)}: an episode may fail with "
                "one and succeed with another. Choose one."
            )
        check_selection_seeds(evaluation.config.episode_seeds, checkpoint=checkpoints[0])
        self._evaluation = evaluation
        self._path = path
        self._films = films
        self._where: dict[str, Any] = {"workers": workers, "on": on, "on_options": on_options}

    def write(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Write the folder; it is there when all of it is.

        Args:
            results: What came of the evaluation.

        Returns:
            ``failures``, the folder; ``n_failed`` and ``n_recorded`` [episodes]; ``films``, the
            files; and ``common``, see `commonalities`.
        """
        successes = results["successes"]
        common = commonalities(conditions_of(results), successes)
        failed = [s for s, done in zip(results["seeds"], successes, strict=True) if not done]
        with _complete(self._path) as building:
            _write_conditions(building / CONDITIONS, results, common)
            recorded = self._record(building / EPISODES, results, failed)
            films = self._film(building, results, recorded)
        return {
            "failures": str(self._path),
            "n_failed": len(failed),
            "n_recorded": len(recorded),
            "films": [str(self._path / name) for name in films],
            "common": common,
        }

    def _record(self, path: Path, results: Mapping[str, Any], failed: Sequence[int]) -> list[int]:
        """Record the episodes that failed.

        They are run again, one at a time. A few, in which the rounding of the policy's arithmetic
        decides, may succeed then; those are left out.

        Returns:
            Seeds of the episodes in the file; if there are none, there is no file.
        """
        if failed and not results["seeds_obeyed"]:
            print_warning(
                f"warning: environment {results['env']!r} does not obey seeds: the failed "
                "episodes cannot be run again, and are neither recorded nor filmed."
            )
            return []
        wanted = list(failed)
        while wanted:
            succeeded = self._succeeded(path, results, wanted)
            if not succeeded:
                break
            named = ", ".join(map(str, succeeded))
            print_warning(
                f"warning: {len(succeeded)} of {len(wanted)} episodes that failed succeed when "
                f"they are run one at a time, and are left out: seeds {named}."
            )
            path.unlink()
            wanted = [seed for seed in wanted if seed not in succeeded]
        return wanted

    def _succeeded(self, path: Path, results: Mapping[str, Any], seeds: Sequence[int]) -> list[int]:
        """Record episodes, and return the seeds of those that succeeded."""
        from simscaleai_plugin_gym.record.recording import record_episodes
        from simscaleai_plugin_gym.record.shards import EpisodeMetadata

        config = self._evaluation.config
        succeeded: list[int] = []
        with progress("recording failed episodes", len(seeds)) as advance:

            def count(episode: EpisodeMetadata) -> None:
                advance()
                if episode.success:
                    succeeded.append(episode.seed)

            record_episodes(
                results["env"],
                path,
                episodes=len(seeds),
                seeds=seeds,
                policy=Path(results["checkpoint"]),
                policy_settings=self._evaluation.policy_settings,
                labels="policy",
                success=cast("str | None", config.success),  # as the command line gave it
                env_kwargs=results["env_kwargs"],
                max_steps=config.max_steps,
                env_timeout_s=config.env_timeout_s,
                on_episode=count,
                **self._where,
            )
        return sorted(succeeded)

    @waiting("filming the failures")
    def _film(self, directory: Path, results: Mapping[str, Any], seeds: Sequence[int]) -> list[str]:
        """Film the first of the episodes; return the names of the films."""
        from simscaleai_core.host.registry import load_checkpoint
        from simscaleai_plugin_gym.commands.filming import videos_of

        chosen, evaluation = seeds[: self._films], self._evaluation
        if not chosen:
            return []
        host, path = Host(), Path(results["checkpoint"])
        policy = evaluation.policy_settings.read(load_checkpoint(path, host), path, host)
        where = (results["env"], results["env_kwargs"])
        try:
            videos = videos_of(evaluation, *where, policy.predict, directory, chosen)
        except SimScaleError as error:  # no graphics here, or an environment that draws nothing
            for begun in directory.glob("*.mp4"):
                begun.unlink()
            print_warning(f"warning: there are no films of the failures: {error}")
            return []
        return [video.path.name for video in videos]


def first_seed(seed: int | None, failures: Path | None) -> int:
    """Return the seed of the first episode.

    Args:
        seed: The one that was chosen, if one was.
        failures: A folder about failures, if one is wanted: they are found on seeds of their own.
    """
    if seed is not None:
        return seed
    return REPORTING_SEED if failures is None else SELECTION_SEED


def _write_conditions(
    path: Path, results: Mapping[str, Any], common: Sequence[Mapping[str, Any]]
) -> None:
    names = ("env", "env_kwargs", "checkpoint", "seeds", "successes", "instructions",
             "initial_conditions")  # fmt: skip
    known = {name: results[name] for name in names if name in results}
    content = {"format": FORMAT, **known, "common": common}
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """Give a folder that gets its name at the end, and is removed if there is an error.

    Yields:
        Where it is until then.

    Raises:
        ConfigError: If it cannot be written.
    """
    path = path.absolute()
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Beside it, on the same disk; the inner folder has the usual permissions.
            beside = stack.enter_context(
                TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
            )
            building = Path(beside, path.name)
            building.mkdir()
            yield building
            building.rename(path)
        except OSError as error:
            raise ConfigError(
                f"failures {str(path)!r} cannot be written: {error.strerror or error}"
            ) from error
