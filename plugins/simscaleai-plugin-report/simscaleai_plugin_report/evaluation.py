"""What ``simscale eval --output`` wrote about a run's policy.

N: episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from simscaleai_plugin_data.view.overview import NUM_BINS, Dimension

from simscaleai_plugin_report.files import is_number, read_object

_CI = "success_rate_ci95"
_SEQUENCE = "success_rate_sequence95"
_CONDITIONS = "initial_conditions"
_STOPPED = ("until", "decision", "ceiling")
_LISTS = ("seeds", "successes", "returns", "lengths")


@frozen(kw_only=True)
class Evaluation:
    """A closed-loop evaluation."""

    results: Mapping[str, Any]
    """All that is in the file, or the part of it that is about this run."""

    @property
    def rate(self) -> float:
        """Success rate [fraction]."""
        return float(self.results["success_rate"])

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval [fraction]: the one that holds at every look, if it was looked at."""
        low, high = self.results.get(_SEQUENCE, self.results[_CI])
        return float(low), float(high)

    @property
    def looks(self) -> Sequence[tuple[float, float, float]]:
        """Episodes, lower and upper bound of each look at an evaluation that stops by itself."""
        found: Sequence[tuple[float, float, float]] = self.results.get("looks", ())
        return found if _SEQUENCE in self.results else ()

    @property
    def ended(self) -> str:
        """What an evaluation that stops by itself ended with, in words, or nothing."""
        until, decision = self.results.get("until"), self.results.get("decision")
        if until is None:
            return ""
        most = self.results.get("ceiling")
        return f"{until}: {decision} after {self.num_episodes:,} of at most {most} episodes"

    @property
    def num_episodes(self) -> int:
        """Episodes."""
        return int(self.results["n_episodes"])

    @property
    def num_succeeded(self) -> int:
        """Episodes that succeeded."""
        return round(self.rate * self.num_episodes)

    @property
    def env(self) -> str:
        """Name of the environment, or nothing."""
        return str(self.results.get("env") or "")

    @property
    def seeds(self) -> Sequence[int]:
        """Seed of each episode `[N]`."""
        found: Sequence[int] = self.results["seeds"]
        return found

    @property
    def initial_conditions(self) -> Sequence[Mapping[str, float]]:
        """How each episode began `[N]`: numbers by name; nothing if that is not known."""
        found: Sequence[Mapping[str, float]] = self.results.get(_CONDITIONS) or ()
        return found if any(found) else ()

    @property
    def is_contiguous(self) -> bool:
        """Return whether the seeds follow each other."""
        seeds = self.distinct_seeds
        return seeds == list(range(seeds[0], seeds[0] + len(seeds)))

    @property
    def distinct_seeds(self) -> list[int]:
        """The seeds, each once: an episode is run with each of several policy seeds."""
        return list(dict.fromkeys(self.seeds))

    @property
    def policy_seeds(self) -> list[int]:
        """Seeds of the policy's own randomness, each once; none if it is the usual one."""
        found = self.results.get("policy_seeds")
        return list(dict.fromkeys(found)) if isinstance(found, list) else []

    def histograms(self) -> list[Dimension]:
        """Return how returns and lengths of the episodes are spread."""
        return [_spread(name, self.results[f"{name}s"]) for name in ("return", "length")]


def read_evaluation(directory: Path, problems: list[str]) -> Evaluation | None:
    """Read the evaluation of a run.

    Of one that compares several checkpoints it is the side whose checkpoint lies in the directory.

    Args:
        directory: The run's checkpoint directory.
        problems: Gets a line if ``eval.json`` is missing or broken.

    Returns:
        The evaluation, or None.
    """
    path = directory / "eval.json"
    if not path.is_file():
        problems.append(f"there is no {path}: how often the policy succeeds is not known.")
        return None
    found = read_object(path, problems)
    if found is None:
        return None
    if found.get("kind") == "sweep":
        problems.append(f"{path} is a sweep of conditions: there is no evaluation beside it.")
        return None
    sides = _sides(found)
    if sides and "success_rate" not in found:
        side = next((side for side in sides if _is_of(side, directory)), sides[0])
        found = {**side, **{name: found[name] for name in _STOPPED if name in found}}
    fault = next(_faults(found), None)
    if fault is not None:
        problems.append(f"{path} is broken: expected {fault}. Evaluate again.")
        return None
    return Evaluation(results=found)


def _sides(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the results of each checkpoint of a comparison."""
    several = found.get("results")
    parts = several if isinstance(several, list) else [found.get("first"), found.get("second")]
    return [part for part in parts if isinstance(part, dict)]


def _is_of(results: Mapping[str, Any], directory: Path) -> bool:
    return Path(str(results.get("checkpoint"))).resolve().parent == directory.resolve()


def _faults(found: Mapping[str, Any]) -> Iterator[str]:
    number, rate, interval = (found.get(k) for k in ("n_episodes", "success_rate", _CI))
    if type(number) is not int or number < 1:
        yield f"a number of episodes @ n_episodes, got {number!r:.80}"
        return
    if not is_number(rate) or not 0 <= float(rate or 0) <= 1:
        yield f"a fraction @ success_rate, got {rate!r:.80}"
    if not isinstance(interval, list) or len(interval) != 2 or not all(map(is_number, interval)):
        yield f"two numbers @ {_CI}, got {interval!r:.80}"
    bounds, looks = found.get(_SEQUENCE, [0, 1]), found.get("looks", [])
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(map(is_number, bounds)):
        yield f"two numbers @ {_SEQUENCE}, got {bounds!r:.80}"
    if not isinstance(looks, list) or not all(_is_look(look) for look in looks):
        yield f"lists of three numbers @ looks, got {looks!r:.80}"
    yield from _faults_of_lists(found, number)


def _faults_of_lists(found: Mapping[str, Any], number: int) -> Iterator[str]:
    begun = found.get(_CONDITIONS)
    if begun is not None and not _are_conditions(begun, number):
        yield f"a list of {number} objects of numbers @ {_CONDITIONS}, got {begun!r:.80}"
    for name in _LISTS:
        values = found.get(name)
        if not isinstance(values, list) or len(values) != number:
            yield f"a list of {number} @ {name}, got {values!r:.80}"
        elif not all(isinstance(value, (int, float)) for value in values):
            yield f"only numbers @ {name}, got others"
        elif name == "seeds" and not all(type(value) is int for value in values):
            yield f"integers @ seeds, got {values!r:.80}"


def _are_conditions(begun: Any, number: int) -> bool:
    return (
        isinstance(begun, list)
        and len(begun) == number
        and all(isinstance(each, dict) for each in begun)
        and all(is_number(value) for each in begun for value in each.values())
    )


def _is_look(look: Any) -> bool:
    return isinstance(look, list) and len(look) == 3 and all(map(is_number, look))


def _spread(name: str, values: Sequence[float]) -> Dimension:
    found = np.asarray(values, dtype=np.float64)
    finite = found[np.isfinite(found)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    counts = np.histogram(finite, NUM_BINS, (low, high))[0] if low < high else np.zeros(NUM_BINS)
    return Dimension(
        name=name,
        low=low,
        mean=float(finite.mean()) if finite.size else np.nan,
        high=high,
        counts=tuple(int(count) for count in counts),
        num_not_finite=int(found.size - finite.size),
    )
