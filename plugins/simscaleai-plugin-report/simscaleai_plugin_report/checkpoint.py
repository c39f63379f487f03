"""What a run's checkpoint says was in effect, and the command that trains it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli_w
from attrs import fields, frozen

from simscaleai_core.checkpoint.manifest import list_checkpoints, stored_at
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import SimScaleError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.registry import load_checkpoint

_OTHERS = (".json", ".next", ".retired")  # manifests beside a checkpoint
_DATA_SIZES = ("num_episodes", "num_samples", "fingerprint", "env")


@frozen(kw_only=True)
class CheckpointFacts:
    """What a checkpoint says, without its tensors."""

    path: Path
    """The checkpoint."""
    step: int
    """Steps completed."""
    best_eval_loss: float
    """Lowest held-out loss; infinity if there was none."""
    num_parameters: int
    """Numbers in the policy's state."""
    policy: Mapping[str, Any]
    """Component, class and hyperparameters of the policy."""
    data: Mapping[str, Any]
    """What the run trained on."""
    facts: Mapping[str, Any]
    """What was in effect: device, precision, plugins with versions."""
    settings: Mapping[str, Any]
    """Options of the components that were in effect."""
    config: TrainConfig
    """The configuration of the run."""

    @property
    def changed(self) -> dict[str, Any]:
        """Return the fields of the configuration that are not at their default."""
        before, now = attrs.asdict(TrainConfig()), attrs.asdict(self.config)
        return {name: value for name, value in now.items() if value != before[name]}

    @property
    def plugins(self) -> Mapping[str, str]:
        """Return distribution and version of each plugin."""
        found = self.facts.get("plugins")
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def train_command(self, directory: Path) -> str:
        """Return the lines of a shell that train the run again, beside the first.

        Args:
            directory: The directory of the first.
        """
        table = {k: v for k, v in self.changed.items() if v is not None}
        table["checkpoint_dir"] = again(directory)
        before = self.config.resume_from
        if before and not self.config.allow_drift and _is_own(before, directory):
            del table["resume_from"]  # a run that was never interrupted ends in the same weights
        threads = self.facts.get("threads")
        if isinstance(threads, int):
            table["threads"] = threads  # sums depend on it
        ranks = self.facts.get("world_size")
        start = "simscale"
        if isinstance(ranks, int) and ranks > 1:
            start = f"torchrun --nproc-per-node {ranks} -m simscaleai_core"
        name = shlex.quote(f"{directory.resolve().name}.toml")
        known = {f.name for f in fields(TrainConfig)}
        text = tomli_w.dumps({k: v for k, v in table.items() if k in known})
        return f"cat > {name} <<'END'\n{text}END\n{start} train --config {name}"


def _is_own(resumed: str, directory: Path) -> bool:
    return resumed == "auto" or Path(resumed).resolve().parent == directory.resolve()


def again(directory: Path) -> str:
    """Return the directory in which a run is repeated."""
    return f"{directory}-again"


def read_checkpoint(directory: Path, problems: list[str]) -> CheckpointFacts | None:
    """Read the final checkpoint of a run, or its newest if there is none.

    Args:
        directory: The run's checkpoint directory.
        problems: Gets a line if there is no checkpoint, or it cannot be read.

    Returns:
        What it says, or None.
    """
    path = _newest(directory)
    if path is None:
        problems.append(
            f"there is no checkpoint in {directory}: what was in effect is not known. "
            "Name the directory that --checkpoint-dir had."
        )
        return None
    try:
        tree = load_checkpoint(path, Host())
        known = {f.name for f in fields(TrainConfig)}
        config = TrainConfig(**{k: v for k, v in tree["config"].items() if k in known})
    except SimScaleError as error:
        problems.append(" ".join(str(error).split()))
        return None
    return CheckpointFacts(
        path=path,
        step=tree["step"],
        best_eval_loss=tree["best_eval_loss"],
        num_parameters=sum(t.numel() for t in tree["model_state_dict"].values()),
        policy=tree["policy"],
        data=tree["data"],
        facts=tree["facts"],
        settings=tree.get("settings", {}),
        config=config,
    )


def data_sizes(checkpoint: CheckpointFacts) -> dict[str, Any]:
    """Return how much a run trained on, and the fingerprint of the data."""
    return {name: checkpoint.data.get(name) for name in _DATA_SIZES}


def _newest(directory: Path) -> Path | None:
    final = [path for path in sorted(directory.glob("final.*")) if path.suffix not in _OTHERS]
    found = [directory / info.file for info in list_checkpoints(directory)]
    return next(iter([*final, *(path for path in found[::-1] if stored_at(path).exists())]), None)
