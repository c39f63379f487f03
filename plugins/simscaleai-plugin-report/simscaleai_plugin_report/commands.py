"""The command ``simscale report``; light until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    runs: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    sweep: Annotated[list[Path], Parameter(negative="", consume_multiple=False)] = [],  # noqa: B006
    output: Path | None = None,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show a run on a page: how often its policy succeeds, curves, data, settings, commands.

    Several runs are compared. The page is one file that needs no network.

    Args:
        runs: Checkpoint directories of runs, each with what `simscale eval --output` wrote as
            eval.json in it. Sweeps of conditions (`simscale eval --vary ... --output`) that lie
            there are shown too.
        sweep: A sweep of conditions that lies elsewhere; may be given several times.
        output: The page; report.html in the first directory if not given.
        json: Print what the page shows as one JSON object.
    """
    from simscaleai_core.cli.output import print_facts, print_json, print_note
    from simscaleai_plugin_report.summary import lines_of, summary_of
    from simscaleai_plugin_report.writing import gather_runs, gather_sweeps, write_page

    gathered = gather_runs(runs)
    sweeps = gather_sweeps(sweep)
    target = output or gathered[0].directory / "report.html"
    write_page(gathered, target, sweeps)
    for run in gathered:
        for problem in run.problems:
            print_note(f"{run.name}: {problem}")
    if json:
        print_json({"page": str(target), **summary_of(gathered, sweeps)})
    else:
        print_facts({"page": target, **lines_of(gathered)})
