"""Metrics of a run as TensorBoard event files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from struct import unpack_from
from typing import Any

from simscaleai_core.config import TrainConfig
from simscaleai_core.run.loggers import Scalar, hyperparameters
from simscaleai_plugin_tensorboard.options import TensorBoardOptions

logger = logging.getLogger("simscaleai")

_COMPARED = ("train/loss", "eval/loss", "eval/success_rate")
"""Metrics that TensorBoard's table of hyperparameters shows beside each run."""


class TensorBoardLogger:
    """Writes one scalar per metric and step. See `simscaleai_core.contracts.Logger`.

    Names and steps are those of ``metrics.jsonl``; values are kept as float32, and those that are
    not finite are kept as they are. Nothing is written before `start`.

    Args:
        config: Gives `checkpoint_dir` and the hyperparameters.
        options: The defaults if None.
    """

    def __init__(self, config: TrainConfig, options: TensorBoardOptions | None = None) -> None:
        self._config = config
        self._options = options or TensorBoardOptions()
        self._writer: Any = None
        self._dropped: set[str] = set()
        self._intervals: set[str] = set()

    @property
    def log_dir(self) -> Path:
        """Directory of the event files."""
        chosen = self._options.log_dir
        return Path(chosen) if chosen else Path(self._config.checkpoint_dir) / "tensorboard"

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Begin, or continue at `step`: later values of a killed run disappear from the charts.

        Args:
            facts: Effective settings of the run, serialisable.
            step: Steps already completed.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.close("stopped")
        self._writer = SummaryWriter(
            str(self.log_dir),
            purge_step=step + 1 if step else 0,
            flush_secs=self._options.flush_s,
        )
        found = hyperparameters(self._config)
        self._writer.add_text("run/facts", _table(_flat_facts(facts)), step)
        self._writer.add_text("run/config", _table(found), step)
        self._write_hyperparameters(found)
        self._writer.flush()
        self._intervals.clear()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record host floats for a step; what is no number is left out and named once."""
        if self._writer is None:
            return
        for name, value in metrics.items():
            try:
                number = float(value)
            except (TypeError, ValueError):
                self._drop(name, value)
            else:
                self._writer.add_scalar(name, number, step)
        self._draw_intervals(metrics)

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Record pictures, uint8 arrays `[H, W, 3]`, for a step."""
        if self._writer is not None:
            for name, picture in pictures.items():
                self._writer.add_image(name, picture, step, dataformats="HWC")

    def log_videos(self, videos: Mapping[str, bytes], step: int) -> None:
        """Record videos, GIF files, for a step: TensorBoard plays them among the images."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        for name, video in videos.items():
            width, height = unpack_from("<HH", video, 6)  # after the six bytes that name the format
            image = Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=video
            )
            summary = Summary(value=[Summary.Value(tag=name, image=image)])
            self._writer.file_writer.add_summary(summary, step)

    def close(self, status: str) -> None:
        """Flush and close the file; safe to call twice."""
        del status
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _draw_intervals(self, metrics: Mapping[str, float]) -> None:
        """Have curves drawn with their intervals, on the tab Custom Scalars."""
        found = {name for name in metrics if {f"{name}_low", f"{name}_high"} <= metrics.keys()}
        if found <= self._intervals:
            return
        self._intervals |= found  # a layout replaces the one before it
        charts = {n: ["Margin", [n, f"{n}_low", f"{n}_high"]] for n in sorted(self._intervals)}
        self._writer.add_custom_scalars({"with the 95% interval": charts})

    def _write_hyperparameters(self, found: dict[str, Scalar]) -> None:
        # SummaryWriter.add_hparams would put them into a run of their own, apart from the charts
        from torch.utils.tensorboard.summary import hparams

        records = hparams(found, dict.fromkeys(_COMPARED, 0.0))  # type: ignore[no-untyped-call]
        for record in records:
            self._writer.file_writer.add_summary(record, 0)

    def _drop(self, name: str, value: object) -> None:
        if name not in self._dropped:
            self._dropped.add(name)
            logger.warning(
                "tensorboard: metric %r is left out: expected a number, got %s",
                name, type(value).__name__,
            )  # fmt: skip


def _flat_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found.update({f"{name}.{key}": str(inner) for key, inner in value.items()})
        else:
            found[name] = str(value)
    return found


def _table(values: Mapping[str, Scalar]) -> str:
    """Return a Markdown table, which is what TensorBoard renders."""
    rows = [f"| {name} | {_cell(str(value))} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
