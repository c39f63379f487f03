"""Keeping the checkpoints of the best evaluations."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from attrs import asdict, define

from simscaleai_core.checkpoint.manifest import CheckpointInfo, read_manifest
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.hookspecs import (
    simscale_on_checkpoint_saved,
    simscale_on_run_end,
    simscale_on_run_start,
)
from simscaleai_core.run.state import Run
from simscaleai_plugin_extensions.linking import link_checkpoint, remove_checkpoint
from simscaleai_plugin_extensions.monitor import MetricExtension
from simscaleai_plugin_extensions.options import BestKOptions

_NAME = "best-k"

logger = logging.getLogger("simscaleai")


@define(kw_only=True)
class RankedCheckpoint:
    """The checkpoint of one of the best evaluations."""

    value: float
    """The metric."""
    step: int
    """Steps completed when it was measured [steps]."""
    stem: str
    """File name without suffix, in the directory ``best_k``."""


class BestK(MetricExtension):
    """Has a checkpoint written at each of the k best evaluations and keeps a link to it.

    Links stand in ``<checkpoint_dir>/best_k``; they take no room while the checkpoint itself is
    still there, and stay when it is removed. Of equal values the earlier one is kept. Only files
    that this run, or the run that it continues, put there are removed.

    Args:
        config: Gives `checkpoint_dir`.
        options: The extension's options; the defaults if None.
    """

    def __init__(self, config: TrainConfig, options: BestKOptions | None = None) -> None:
        self._options = options or BestKOptions()
        super().__init__(_NAME, self._options.monitor, self._options.mode)
        self._checkpoints = Path(config.checkpoint_dir)
        self._directory = self._checkpoints / "best_k"
        self._kept: list[RankedCheckpoint] = []
        self._displaced: list[str] = []  # by the newest one; saved, so it may not depend on timing
        self._to_remove: list[str] = []
        self._pending: dict[int, RankedCheckpoint] = {}

    @simscale_on_run_start
    def finish_earlier(self, run: Run) -> None:
        """Finish what a killed run could not: link what it saved, remove what was displaced."""
        if run.strategy.rank == 0:
            self._remove_displaced()
            for kept in self._kept:
                if not list(self._directory.glob(f"{kept.stem}.*")):
                    self._link_again(kept, run.step)

    @simscale_on_checkpoint_saved
    def link(self, info: CheckpointInfo) -> None:
        """Link the checkpoint of a good evaluation, then remove what it displaced."""
        if not info.file.startswith(("step_", "final")):
            return  # the next best.pt may already have taken this one's place
        for step in [s for s in self._pending if s < info.step]:
            missed = self._pending.pop(step)
            logger.warning("%s: no checkpoint was written for %s", _NAME, missed.stem)
        kept = self._pending.pop(info.step, None)
        if kept is None or kept not in self._kept:
            return  # saved for another reason, or displaced while it was being written
        link_checkpoint(self._checkpoints, info, self._directory, kept.stem)
        self._remove_displaced()

    @simscale_on_run_end
    def warn_if_idle(self, status: str) -> None:
        """Warn if there was nothing to rank."""
        if status == "done" and not self._kept:
            self._monitor.warn_if_missing()

    def _judge(self, run: Run, value: float) -> None:
        if any(kept.step == run.step for kept in self._kept):
            return  # a resumed run may evaluate once more at the same step
        full = len(self._kept) >= self._options.k
        if not self._monitor.is_better(value, self._kept[-1].value if full else None):
            return
        metric = re.sub(r"[^\w.-]", "-", self._monitor.metric)
        stem = f"{metric}_{value:.6g}_step_{run.step}"
        new = RankedCheckpoint(value=value, step=run.step, stem=stem)
        self._insert(new)
        if run.strategy.rank == 0:
            self._pending[run.step] = new
        run.request_save()

    def _insert(self, new: RankedCheckpoint) -> None:
        """Insert a checkpoint into the ranking, best first; those beyond k are to be removed."""
        better = [k for k in self._kept if not self._monitor.is_better(new.value, k.value)]
        ranked = [*better, new, *self._kept[len(better) :]]
        self._kept = ranked[: self._options.k]
        self._displaced = [kept.stem for kept in ranked[self._options.k :]]
        self._to_remove += self._displaced

    def _remove_displaced(self) -> None:
        for stem in self._to_remove:
            remove_checkpoint(self._directory, stem)
        self._to_remove = []

    def _link_again(self, kept: RankedCheckpoint, step: int) -> None:
        info = read_manifest(self._checkpoints / f"step_{kept.step}.json")
        if info is not None and (self._checkpoints / info.file).exists():
            link_checkpoint(self._checkpoints, info, self._directory, kept.stem)
        elif kept.step == step:
            self._pending[step] = kept  # the save that the kill has cut short is completed
        else:
            logger.warning("%s: %s is missing", _NAME, self._directory / kept.stem)

    def state_dict(self) -> StateDict:
        """Return the ranking, best first."""
        kept = [asdict(k) for k in self._kept]
        return {**self._monitor.settings(), "kept": kept, "displaced": list(self._displaced)}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the ranking, if it is about the same metric."""
        if self._monitor.fits(state):
            ranked = [RankedCheckpoint(**kept) for kept in state["kept"]]
            self._kept = ranked[: self._options.k]
            self._displaced = state["displaced"]
            self._to_remove = [*self._displaced, *(k.stem for k in ranked[self._options.k :])]
