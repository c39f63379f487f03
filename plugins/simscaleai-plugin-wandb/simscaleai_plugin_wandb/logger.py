"""Metrics of a run in Weights & Biases."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import wandb

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import PluginError
from simscaleai_core.run.loggers import hyperparameters
from simscaleai_plugin_wandb.connection import client_settings, obstacle
from simscaleai_plugin_wandb.identity import new_id, read_id, write_id
from simscaleai_plugin_wandb.options import WandbOptions

logger = logging.getLogger("simscaleai")

_ONLINE = ("online", "run")
_FLUSH = "x_transaction_log_flush_interval"
_FLUSH_S = 1.0
"""Longest time that a row waits in the client's memory before it is on disk [s]."""


class WandbLogger:
    """Sends each row to Weights & Biases. See `simscaleai_core.contracts.Logger`.

    Names and steps are those of ``metrics.jsonl``; rows of one step become one row. A resumed run
    continues under the id that stands in ``wandb_run.json`` beside the checkpoints. Where the
    server cannot be used, the run is recorded offline and a warning says so once.

    Args:
        config: Gives `wandb_project`, `wandb_run_name`, `checkpoint_dir` and the hyperparameters.
        options: The defaults if None.
    """

    def __init__(self, config: TrainConfig, options: WandbOptions | None = None) -> None:
        self._config = config
        self._options = options or WandbOptions()
        self._run: Any = None
        self._first_step = 0
        self._dropped: set[str] = set()

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Begin a run, or continue at `step` the one that the checkpoints belong to.

        Args:
            facts: Effective settings of the run, serialisable.
            step: Steps already completed.
        """
        self.close("stopped")
        directory, project = Path(self._config.checkpoint_dir), self._config.wandb_project
        run_id = (read_id(directory, project) if step else None) or new_id()
        self._run = self._open(run_id)
        write_id(directory, project, self._run.id)
        self._run.config.update(
            {**hyperparameters(self._config), "facts": dict(facts)}, allow_val_change=True
        )
        self._first_step = self._run.starting_step if self._run.resumed else 0
        if self._first_step > step + 1:
            logger.warning(
                "wandb: run %s already has rows up to step %d; they are kept, and rows from step "
                "%d on are added", self._run.id, self._first_step - 1, self._first_step,
            )  # fmt: skip

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record host floats for a step; what is no number is left out and named once."""
        if self._run is None or step < self._first_step:
            return
        numbers = {}
        for name, value in metrics.items():
            try:
                numbers[name] = float(value)
            except (TypeError, ValueError):
                self._drop(name, value)
        self._run.log(numbers, step=step)

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Record pictures, uint8 arrays `[H, W, 3]`, for a step."""
        if self._run is not None and step >= self._first_step:
            self._run.log({name: wandb.Image(p) for name, p in pictures.items()}, step=step)

    def log_videos(self, videos: Mapping[str, bytes], step: int) -> None:
        """Record videos, GIF files, for a step."""
        if self._run is not None and step >= self._first_step:
            shown = {name: wandb.Video(BytesIO(f), format="gif") for name, f in videos.items()}
            self._run.log(shown, step=step)

    def close(self, status: str) -> None:
        """Finish the run and wait for its uploads; safe to call twice."""
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=1 if status == "failed" else 0)

    def _open(self, run_id: str) -> Any:
        mode = self._mode()
        if mode in _ONLINE:
            reason = obstacle(self._options.init_timeout_s)
            if reason is None:
                try:
                    return self._init("online", run_id)
                except Exception as error:  # noqa: BLE001 - whatever the reason, training goes on
                    reason = f"{type(error).__name__}: {error}"
                    run_id = _released(run_id)
            logger.warning(
                "wandb: %s. The run is recorded offline; `wandb sync` uploads it later.", reason
            )
            mode = "offline"
        try:
            return self._init(mode, run_id)
        except Exception as error:
            raise PluginError(
                f"wandb could not start, even {mode}: {error}. "
                "Train without it, or see the logs in its folder.",
                plugin="wandb",
            ) from error

    def _mode(self) -> str:
        given = self._options.mode or os.environ.get("WANDB_MODE")
        return given or str(client_settings().mode)

    def _init(self, mode: Any, run_id: str) -> Any:
        client_settings()
        config, options = self._config, self._options
        directory = options.dir or os.environ.get("WANDB_DIR") or config.checkpoint_dir
        Path(directory).mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=config.wandb_project,
            name=config.wandb_run_name,
            entity=options.entity,
            tags=options.tags or None,
            dir=directory,
            id=run_id,
            resume="allow",
            mode=mode,
            # a run that the caller has open is neither ended nor written to
            reinit="default" if wandb.run is None else "create_new",
            settings=_settings(options),
        )

    def _drop(self, name: str, value: object) -> None:
        if name not in self._dropped:
            self._dropped.add(name)
            logger.warning(
                "wandb: metric %r is left out: expected a number, got %s",
                name, type(value).__name__,
            )  # fmt: skip


def _settings(options: WandbOptions) -> wandb.Settings:
    settings = wandb.Settings(
        init_timeout=options.init_timeout_s, finish_timeout=options.finish_timeout_s
    )
    if _FLUSH in wandb.Settings.model_fields:
        # newer clients keep rows in memory for 15 s, which a killed run would lose
        setattr(settings, _FLUSH, _FLUSH_S)
    return settings


def _released(run_id: str) -> str:
    """Return an id that can be used again: the client holds on to that of a failed start."""
    if wandb.run is not None:
        return new_id()  # ending the client would end the caller's run
    wandb.teardown()
    return run_id
