"""Written by the component's own writer; what was there before stays until all is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from simscaleai_core.checkpoint.files import replace
from simscaleai_core.cli.datasets import open_sources
from simscaleai_core.cli.output import progress, waiting
from simscaleai_core.data.location import Location, listed, quoted
from simscaleai_core.data.source import EpisodeSource
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.records import Component
from simscaleai_core.plugin import DatasetSpec
from simscaleai_plugin_data.convert.loss import not_held
from simscaleai_plugin_data.convert.watched import Watched
from simscaleai_plugin_data.joined import joined

Writer = Callable[[EpisodeSource, Path], object]


def convert(
    opened: Sequence[EpisodeSource], name: str, output: Path, *, overwrite: bool
) -> dict[str, Any]:
    """Write demonstrations in the layout of a dataset component, and read what was written.

    Args:
        opened: The demonstrations; several become one.
        name: The component.
        output: File or folder to write.
        overwrite: Whether an output that is there already is replaced.

    Returns:
        ``output``, ``dataset`` (the component's id), ``num_episodes``, ``num_timesteps`` and
        ``not_held``: what cannot be read from the output, None if nothing reads it as episodes.
    """
    host = Host()
    component = writing_component(host, name)
    check_output(output, [source.path for source in opened], component, overwrite=overwrite)
    source = one_source(opened)
    with progress("converting episodes", len(source.episodes)) as advance:
        write(Watched(source, advance), output, component)
    lost = None
    if spec_of(component).source is not None:
        with waiting("reading what was written"):
            (written,) = open_sources(host, [str(output)], component.id)
            lost = not_held(source, written)
    return {
        "output": str(output),
        "dataset": component.id,
        "num_episodes": len(source.episodes),
        "num_timesteps": sum(episode.length for episode in source.episodes),
        "not_held": lost,
    }


def writing_component(host: Host, name: str) -> Component:
    """Return the dataset component of a name, which has a writer.

    Raises:
        ConfigError: If it has none.
    """
    component = host.component("dataset", name)
    if spec_of(component).writer is None:
        able = [c.id for c in host.of_kind("dataset") if spec_of(c).writer is not None]
        raise ConfigError(
            f"dataset {name!r} cannot be written: expected one with a writer, got none @ --to. "
            f"Choose from {listed(able)}."
        )
    return component


def one_source(sources: Sequence[EpisodeSource]) -> EpisodeSource:
    """Return sources as one.

    Raises:
        DataError: If they have different keys.
    """
    first, *others = joined(sources)
    for other in others:
        wanted, found = _shapes(first), _shapes(other)
        differ = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        raise Location(path=other.path).error(
            f"the keys of {first.path} ({_listed(wanted, differ)})",
            _listed(found, differ),
            "Convert them one by one",
            fact="the sources have different keys",
        )
    return first


def _shapes(source: EpisodeSource) -> dict[str, str]:
    keys = (*source.observations, source.actions)
    return {key.name: f"{key.kind} {list(key.shape)}" for key in keys}


def _listed(shapes: Mapping[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{quoted(name)} {shapes.get(name, 'nowhere')}" for name in names)


def check_output(
    output: Path, inputs: Sequence[Path], component: Component, *, overwrite: bool
) -> None:
    """Check that something may be written under this name.

    Raises:
        ConfigError: If something is there already and may not be replaced, or it is, or lies in,
            what is read.
    """
    place = output.resolve()
    for path in (each.resolve() for each in inputs):
        if place == path or place in path.parents or path in place.parents:
            raise ConfigError(
                f"the output overlaps the data: expected a path outside of {str(path)!r}, "
                f"got {str(output)!r} @ --output. Choose another path."
            )
    if not output.exists():
        return
    if not overwrite:
        raise ConfigError(
            f"{str(output)!r} exists: expected a new path @ --output. "
            "Choose another path, or add --overwrite."
        )
    reads = spec_of(component).reads
    if output.is_dir() and not (reads and import_target(component, reads)(output)):
        raise ConfigError(
            f"{str(output)!r} is not replaced: expected a data set of {component.id!r}, "
            "got another folder @ --output. Remove it yourself, or choose another path."
        )


def write(source: EpisodeSource, output: Path, component: Component) -> None:
    """Write a source in a component's layout; what has that name already is replaced at the end.

    Args:
        source: The demonstrations.
        output: The file or folder.
        component: A dataset component with a writer.

    Raises:
        ConfigError: If a file would replace a folder, or a folder a file.
    """
    writer: Writer = import_target(component, spec_of(component).writer)
    if not output.exists():
        writer(source, output)
        return
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        fresh = Path(folder, output.name)
        writer(source, fresh)
        if output.is_dir() != fresh.is_dir():
            kinds = ("a folder", "a file") if fresh.is_dir() else ("a file", "a folder")
            raise ConfigError(
                f"{str(output)!r} is not replaced: expected {kinds[0]}, as {component.id!r} "
                f"writes, got {kinds[1]} @ --output. Choose another path."
            )
        if output.is_dir():
            output.rename(Path(folder, "before"))  # a folder cannot be replaced in one step
        replace(fresh, output)


def spec_of(component: Component) -> DatasetSpec:
    """Return the declaration of a dataset component.

    Raises:
        TypeError: If it is of another kind.
    """
    if not isinstance(component.spec, DatasetSpec):
        raise TypeError(f"{component.id}: expected a dataset, got {component.kind}")
    return component.spec
