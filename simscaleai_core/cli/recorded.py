"""A run as a checkpoint tells it: its configuration, its plugins, its data and its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from attrs import frozen
from torch import nn

from simscaleai_core.checkpoint.manifest import list_checkpoints
from simscaleai_core.cli.configuration import build_config
from simscaleai_core.cli.from_config import (
    LoadedData,
    build_policy,
    first_options,
    load_data,
    named_data,
)
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError, DataError, UnknownComponentError
from simscaleai_core.host.components import adapt, keywords_of
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.records import Component, naming_origin
from simscaleai_core.host.registry import load_checkpoint, needed_error, take_weights
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.seeding import seed_everything, stream_seed

Place = tuple[int, Path]
"""The step and the file of a checkpoint."""


@frozen(kw_only=True)
class RecordedRun:
    """What a checkpoint says of the run that wrote it."""

    path: Path
    """The checkpoint."""
    tree: StateDict
    """All that it holds."""
    config: TrainConfig
    """The run's configuration, complete."""
    given: frozenset[str]
    """Fields that it says; no plugin's selection takes their place."""
    host: Host
    """Host with the plugins that the run required."""

    @property
    def world_size(self) -> int:
        """Ranks of the run."""
        return int(self.tree["facts"].get("world_size", 1))

    @contextmanager
    def naming_needs(self) -> Iterator[None]:
        """Say of a component that is not found in the body that the checkpoint needs it.

        Raises:
            CheckpointError: If one is not found; it says what the component came with.
        """  # noqa: DOC501 - built by needed_error
        try:
            with naming_origin(self.host.components):
                yield
        except UnknownComponentError as error:
            sources = self.tree["facts"].get("plugins", {})
            source = sources.get(error.name.partition("/")[0])
            raise needed_error(self.path, error, source) from error


def recorded_run(path: Path) -> RecordedRun:
    """Read a checkpoint, and find the plugins that its run required.

    Args:
        path: The checkpoint.

    Returns:
        What it says.
    """
    tree = load_checkpoint(path)
    known = attrs.fields_dict(TrainConfig)
    table = {k: v for k, v in tree["config"].items() if k in known and v is not None}
    config = build_config(table, place=str(path))
    host = Host(select_plugins(config.plugins))
    return RecordedRun(path=path, tree=tree, config=config, given=frozenset(table), host=host)


def checkpoints_of(reference: Path) -> list[Place]:
    """Return step and file of each checkpoint of one run, by step.

    Args:
        reference: A checkpoint directory, of whose runs the newest is meant, or a checkpoint.

    Returns:
        The run's checkpoints; a file without a manifest stands alone.

    Raises:
        CheckpointError: If there is none.
    """
    is_folder = reference.is_dir() and bool(list_checkpoints(reference))
    folder = reference if is_folder else reference.parent
    infos = list_checkpoints(folder)
    runs = [info.run for info in infos if is_folder or info.file == reference.name]
    if not runs and reference.is_dir() and not reference.suffix:
        raise CheckpointError(
            f"no checkpoint in {reference}: expected the directory of a run. Name the directory "
            "that the run's --checkpoint-dir named.",
            path=reference,
        )
    if not runs:
        return [(int(load_checkpoint(reference)["step"]), reference)]
    return [(info.step, folder / info.file) for info in infos if info.run == runs[-1]]


def open_data(run: RecordedRun) -> LoadedData:
    """Open the data that a run trained on.

    Args:
        run: What a checkpoint says of the run.

    Returns:
        The data, split as it was, without workers.

    Raises:
        DataError: If the run was given its data in Python.
    """
    config = attrs.evolve(run.config, num_workers=0)
    if not config.dataset_path and config.dataset_name is None:
        raise DataError(
            f"{run.path} does not say what data its run trained on: expected a run of "
            "'simscale train', this one was given its data in Python."
        )
    first = {}
    if config.init_from and not config.init_partial:  # its policy was built as that one was
        first = dict(run.tree["policy"]["hparams"] or {})
    with run.naming_needs():
        found = named_data(run.host, config)
        if all("cache_images_gib" in _keywords(part.reader) for part in found):
            unread = {**config.dataset_kwargs, "cache_images_gib": 0}  # a few images are wanted
            config = attrs.evolve(config, dataset_kwargs=unread)
        return load_data(run.host, config, first, found)


def _keywords(reader: Component) -> set[str]:
    options = reader.spec.options
    options_class = import_target(reader, options) if options else None
    return keywords_of(import_target(reader), options_class) or set()


def first_policy(run: RecordedRun, data: LoadedData) -> nn.Module:
    """Return the policy as it was before the run's first step, in eval mode on the CPU."""
    config, host = run.config, run.host
    with run.naming_needs():
        policy = build_policy(host, config, data.spec, first_options(host, config))
        if data.spec is not None and hasattr(policy, "adapt_to"):
            policy.adapt_to(data.spec)  # type: ignore[operator]
        if config.init_from:
            take_weights(host, policy, config)
        seed_everything(stream_seed(config.seed, "adapters"))
        return adapt(host, policy, config)[0].eval()
