"""What ``simscale eval`` shows of its results, and the file that it writes them to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from simscaleai_core.cli.output import print_facts, print_json, print_table
from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.commands.failure_table import print_commonalities
from simscaleai_plugin_gym.commands.failures import FailureFolder
from simscaleai_plugin_gym.commands.sweep_table import print_pairs, print_sweep

_NOT_SHOWN = {
    "seeds", "successes", "returns", "lengths", "initial_conditions", "instructions", "looks",
    "films", "common", "modes", "policy_seeds",
}  # fmt: skip
_FIRST = ("success_rate", "success_rate_ci95", "difference", "difference_ci95", "p_value")


def report_results(
    run: Callable[[Callable[[dict[str, Any]], None]], dict[str, Any]],
    output: Path | None,
    kept: FailureFolder | None,
    *,
    as_json: bool,
) -> int:
    """Evaluate, and show results as soon as they are known.

    Args:
        run: Evaluates; it is given what shows results before all of them are known.
        output: File to write results to; None writes none.
        kept: Folder about failures, if one is wanted.
        as_json: Whether to print one JSON object instead of tables.

    Returns:
        Exit status: 0, or 1 if the gate was missed.
    """
    with _Report(output, as_json=as_json) as report:
        report.show(run(report.show))
        if kept is not None:
            report.show(report.results | kept.write(report.results))
    return 0 if report.results.get("gate_met", True) else 1


class _Report:
    """Prints results and writes them to a file as soon as they are known.

    What is added later, such as videos, may fail: what was known before is then there. As JSON they
    are one object, which is printed in the end, however it ends.

    Args:
        output: The file; None writes none.
        as_json: Whether to print one JSON object instead of tables.
    """

    def __init__(self, output: Path | None, *, as_json: bool) -> None:
        self.results: dict[str, Any] = {}
        """What is known."""
        self._output = output
        self._as_json = as_json

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Print the results as JSON, if that is wanted and there are any."""
        if self._as_json and self.results:
            print_json(self.results)

    def show(self, results: dict[str, Any]) -> None:
        """Write results, and print what of them was not known before.

        Args:
            results: Of one checkpoint or of several.
        """
        from json import dumps

        before, self.results = self.results, results
        if self._output is not None:
            _write(self._output, dumps(results, indent=2) + "\n")
        if self._as_json:
            return
        if not before:
            _print(results)
        elif added := [line for line in _lines(results) if line not in _lines(before)]:
            print_table(added)
        if "common" in results and "common" not in before:
            print_commonalities(results)


def _print(results: Mapping[str, Any]) -> None:
    if results.get("kind") == "sweep":
        print_sweep(results)
    elif results.get("kind") == "comparison":
        print_pairs(results)
    elif "difference" in results:
        _print_comparison(results)
    else:
        print_facts(dict(_lines(results)), title="evaluated")


def _print_comparison(results: Mapping[str, Any]) -> None:
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output {str(path)!r} cannot be written: {error.strerror}") from error


def _lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return names and values as text, without what there is one of per episode."""
    lines: list[tuple[str, str]] = []
    first = {key: values[key] for key in _FIRST if key in values}
    for key, value in {**first, **values}.items():
        if isinstance(value, Mapping):
            lines += _lines(value, f"{prefix}{key}.")
        elif key == "videos":
            lines += [(f"video {video['seed']}", video["file"]) for video in value]
        elif key not in _NOT_SHOWN and value is not None:
            lines.append((f"{prefix}{key}", text_of(value)))
    return lines


def text_of(value: Any) -> str:
    """Return a value as text, numbers with at most three decimals."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return f"[{', '.join(text_of(entry) for entry in value)}]"
    return str(value)
