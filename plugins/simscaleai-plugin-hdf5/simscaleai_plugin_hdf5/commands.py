"""The command ``simscale data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="data", help="Look at and check trajectory files.")

Json = Annotated[bool, Parameter(name="--json", negative="")]


@app.command
def show(file: Path, /, *, json: Json = False) -> None:
    """Show what a file holds: episodes, keys, instructions.

    Args:
        file: The file.
        json: Print one JSON object instead.
    """
    from simscaleai_core.cli.output import print_facts, print_json, print_table
    from simscaleai_plugin_hdf5.report import report

    found = report(file)
    layout = found.layout
    lengths = [episode.length for episode in layout.episodes]
    keys = [
        {"key": key.name, "shape": list(key.shape), "dtype": key.dtype, "image": key.is_image}
        for key in (*layout.observations, layout.actions)
    ]
    facts = {
        "file": str(file),
        "env": layout.env,
        "num_episodes": len(lengths),
        "num_timesteps": sum(lengths),
        "num_success": found.num_success,
        "languages": list(found.languages),
    }
    if json:
        episodes = [{"name": e.name, "length": e.length} for e in layout.episodes]
        print_json({**facts, "episodes": episodes, "keys": keys})
        return
    shown = {name: _shown(value) for name, value in facts.items()}
    shown["episode lengths"] = f"{min(lengths)} to {max(lengths)}"
    print_facts(shown)
    rows = [(key["key"], key["shape"], key["dtype"]) for key in keys]
    print_table(rows, headers=("key", "shape per timestep", "dtype in the file"))


@app.command
def check(file: Path, /, *, json: Json = False) -> None:
    """Read all of a file and say whether it can be trained on.

    Args:
        file: The file.
        json: Print one JSON object instead.
    """
    from simscaleai_core.cli.output import print_json, print_text
    from simscaleai_plugin_hdf5 import report

    num_episodes = report.check(file)
    if json:
        print_json({"file": str(file), "ok": True, "num_episodes": num_episodes})
    else:
        print_text(f"{file}: ok, {num_episodes} episodes")


@app.command
def stats(file: Path, /, *, json: Json = False) -> None:
    """Show mean, standard deviation and range of every dimension.

    Args:
        file: The file.
        json: Print one JSON object instead.
    """
    import attrs

    from simscaleai_core.cli.output import print_json, print_table
    from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

    statistics = TrajectoryDataset(file, cache_images_gib=0).describe().statistics
    if json:
        print_json({key: attrs.asdict(values) for key, values in statistics.items()})
        return
    rows = [
        (key, dimension, *(f"{number:.6g}" for number in numbers))
        for key, s in statistics.items()
        for dimension, numbers in enumerate(zip(s.mean, s.std, s.low, s.high, strict=True))
    ]
    print_table(rows, headers=("key", "dim", "mean", "std", "min", "max"), title=str(file))


def _shown(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not given" if value is None else value
