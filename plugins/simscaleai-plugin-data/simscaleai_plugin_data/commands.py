"""The command ``simscale data``; light until one of its parts runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter, validators

from simscaleai_core.cli.output import waiting
from simscaleai_core.cli.quiet import with_quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from simscaleai_core.data.source import EpisodeSource

app = App(name="data", help="Look at demonstrations, check them, convert them.")

Data = Annotated[list[str], Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Flag = Annotated[bool, Parameter(negative="")]

_MANY_EPISODES = 200


@app.command
def show(
    data: Data,
    /,
    *,
    dataset_name: str | None = None,
    dataset_kwargs: dict[str, str] | None = None,
    json: Json = False,
) -> None:
    """Show what demonstrations hold: episodes, keys, instructions.

    Args:
        data: Files, folders or patterns.
        dataset_name: Dataset component that reads the data; found out if not given.
        dataset_kwargs: Options of the reader, such as --dataset-kwargs.action-key.
        json: Print one JSON object instead.
    """
    from simscaleai_core.cli.output import print_facts, print_json, print_table
    from simscaleai_plugin_data.contents import contents_of, facts_of

    shown = [contents_of(source) for source in _opened(data, dataset_name, dataset_kwargs)]
    if json:
        print_json(shown[0] if len(shown) == 1 else {"sources": shown})
        return
    for contents in shown:
        print_facts(facts_of(contents))
        rows = [
            (key["key"], key["shape"], key["kind"], key["dtype"], ", ".join(key["dimensions"]))
            for key in contents["keys"]
        ]
        headers = ("key", "shape per timestep", "kind", "dtype in the data", "dimensions")
        print_table(rows, headers=headers)


@app.command
@with_quiet
def check(
    data: Data,
    /,
    *,
    strict: Flag = False,
    exclude: Path | None = None,
    ignore: str = "",
    frames: int = 32,
    dataset_name: str | None = None,
    dataset_kwargs: dict[str, str] | None = None,
    json: Json = False,
) -> int:
    """Read demonstrations once and say everything that is wrong with them.

    Exit status 0: sound; 1: warnings, with --strict; 2: broken.

    Args:
        data: Files, folders or patterns.
        strict: Exit with status 1 if there are warnings.
        exclude: JSON file to write, of episodes to leave out; `train` takes it with
            --dataset-kwargs.exclude-from.
        ignore: Codes of findings that are not wanted, such as failed-episode,idle.
        frames: Frames of an episode and camera to look at; 0 looks at none.
        dataset_name: Dataset component that reads the data; found out if not given.
        dataset_kwargs: Options of the reader, such as --dataset-kwargs.action-key.
        json: Print one JSON object instead.

    Returns:
        Exit status, 0 or 1.

    Raises:
        DataError: If it cannot be opened. If it is broken, after what was found is printed.
    """
    from simscaleai_core.cli.output import print_json, print_note, print_text
    from simscaleai_core.errors import DataError
    from simscaleai_plugin_data import report
    from simscaleai_plugin_data.checking import check_sources, codes_of, unopened
    from simscaleai_plugin_data.exclusion import write_excluded

    name, ignored = data[0] if len(data) == 1 else data, codes_of(ignore)
    try:
        sources = _opened(data, dataset_name, dataset_kwargs)
    except DataError as error:
        if json:
            print_json(report.as_dict(name, unopened(error, Path(data[0]))))
        raise
    with _episodes(sources) as advance:
        checked = check_sources(sources, frames=frames, ignored=ignored, advance=advance)
    if exclude is not None:
        number = write_excluded(checked.findings, exclude)
        print_note(f"{number} episodes to leave out are written to {exclude}")
    if json:
        print_json(report.as_dict(name, checked))
    else:
        print_text("\n".join(report.lines_of(", ".join(data), checked)))
    report.refuse_broken(checked)
    return 1 if strict and checked.findings else 0


@app.command
def stats(
    data: Data,
    /,
    *,
    dataset_name: str | None = None,
    dataset_kwargs: dict[str, str] | None = None,
    json: Json = False,
) -> None:
    """Show mean, standard deviation, range and quantiles of every dimension.

    Args:
        data: Files, folders or patterns; those with the same keys are taken together.
        dataset_name: Dataset component that reads the data; found out if not given.
        dataset_kwargs: Options of the reader, such as --dataset-kwargs.action-key.
        json: Print one JSON object instead.
    """
    import attrs

    from simscaleai_core.cli.output import print_json, print_table
    from simscaleai_plugin_data.joined import joined
    from simscaleai_plugin_data.statistics import statistics_of

    sources = joined(_opened(data, dataset_name, dataset_kwargs))
    found = [statistics_of(source) for source in sources]
    if json:
        tables = [{key: attrs.asdict(s) for key, s in each.items()} for each in found]
        print_json(tables[0] if len(tables) == 1 else {"sources": tables})
        return
    headers = ("key", "dim", "mean", "std", "min", "max", "1%", "99%")
    for source, each in zip(sources, found, strict=True):
        rows = [
            (key, dimension, *(f"{number:.6g}" for number in numbers))
            for key, s in each.items()
            for dimension, numbers in enumerate(
                zip(s.mean, s.std, s.low, s.high, s.q01, s.q99, strict=True)
            )
        ]
        print_table(rows, headers=headers, title=str(source.path))


@app.command
@with_quiet
def view(
    data: Data,
    /,
    *,
    output: Path = Path("view.html"),
    episodes: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 6,
    png: Path | None = None,
    rerun: Path | None = None,
    dataset_name: str | None = None,
    dataset_kwargs: dict[str, str] | None = None,
) -> None:
    """Show on a page what is in demonstrations: lengths, ranges, instructions, some episodes.

    These have strips of their frames above the curves of state and actions, and marks where
    `simscale data check` finds something. The page is one file that needs no network.

    Args:
        data: Files, folders or patterns; those with the same keys are shown as one.
        output: The page.
        episodes: Episodes to show, spread over the data; at most as many again with findings.
        png: Picture of the overview to draw as well.
        rerun: Recording of the episodes to write as well, all frames, for the Rerun viewer (.rrd).
        dataset_name: Dataset component that reads the data; found out if not given.
        dataset_kwargs: Options of the reader, such as --dataset-kwargs.action-key.
    """
    from simscaleai_core.cli.output import print_facts
    from simscaleai_plugin_data.view.outputs import Outputs

    outputs = Outputs(page=output, picture=png, recording=rerun)
    outputs.check()
    shown = outputs.write(_opened(data, dataset_name, dataset_kwargs), episodes)
    facts = {"page": output, "picture": png, "recording": rerun}
    facts = {name: path for name, path in facts.items() if path is not None}
    print_facts({**facts, "episodes": ", ".join(shown) or "none"})


@app.command
@with_quiet
def convert(
    data: Data,
    /,
    *,
    to: str,
    output: Path,
    overwrite: Flag = False,
    dataset_name: str | None = None,
    dataset_kwargs: dict[str, str] | None = None,
    json: Json = False,
) -> None:
    """Write demonstrations in another layout, and say what it does not hold.

    Data of the same layout is written anew, with every frame where training reads it fast.

    Args:
        data: Files, folders or patterns; several become one.
        to: Dataset component to write, such as hdf5, robomimic or lerobot.
        output: File or folder to write.
        overwrite: Replace an output that is there already, once the new one is complete.
        dataset_name: Dataset component that reads the data; found out if not given.
        dataset_kwargs: Options of the reader, such as --dataset-kwargs.action-key.
        json: Print one JSON object instead.
    """
    from simscaleai_core.cli.output import print_facts, print_json
    from simscaleai_plugin_data.convert import conversion

    opened = _opened(data, dataset_name, dataset_kwargs)
    facts = conversion.convert(opened, to, output, overwrite=overwrite)
    if json:
        print_json(facts)
        return
    lost = facts["not_held"]
    words = f"unknown: {facts['dataset']} reads no episodes" if lost is None else ", ".join(lost)
    print_facts({**facts, "not_held": words or "nothing"})


@waiting("opening the data")
def _opened(
    data: list[str], dataset_name: str | None, dataset_kwargs: dict[str, str] | None
) -> list[EpisodeSource]:
    from simscaleai_core.cli.configuration import parse_literal
    from simscaleai_core.cli.datasets import open_sources
    from simscaleai_core.host.facade import Host

    options: dict[str, Any] = {
        name.replace("-", "_"): parse_literal(value)
        for name, value in (dataset_kwargs or {}).items()
    }
    return open_sources(Host(), data, dataset_name, **options)


def _episodes(sources: Sequence[EpisodeSource]) -> AbstractContextManager[Callable[..., object]]:
    """Show progress where it takes more than a moment; on a terminal that is seen by itself."""
    import sys
    from contextlib import nullcontext

    from simscaleai_core.cli.output import progress

    count = sum(len(source.episodes) for source in sources)
    if count < _MANY_EPISODES and not sys.stderr.isatty():
        return nullcontext(_unseen)
    return progress("checking episodes", count)


def _unseen(count: int = 1) -> None:
    """Show no progress."""
