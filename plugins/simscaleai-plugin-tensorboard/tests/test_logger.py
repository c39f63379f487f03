"""The logger on its own: values and order of calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image
from simscaleai_devkit.loggers.driver import UNUSUAL_VALUES, call_out_of_order
from simscaleai_devkit.support.process import modules_loaded_by
from simscaleai_plugin_tensorboard.logger import TensorBoardLogger
from simscaleai_plugin_tensorboard.options import TensorBoardOptions
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from simscaleai_core import TrainConfig
from simscaleai_core.cli.configuration import field_docs
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.configuration import structure
from simscaleai_core.host.defaults import fill_defaults
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.selection import select_plugins


def test_nothing_is_written_before_the_start(config: Callable[..., Any], tmp_path: Path) -> None:
    TensorBoardLogger(config())
    assert not (tmp_path / "run").exists()


def test_values_never_stop_training(
    config: Callable[..., Any], charts: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    tracker = TensorBoardLogger(config())
    tracker.start({"note": "a|b\nc"}, 0)
    values = {**UNUSUAL_VALUES, "huge": 1e300}
    tracker.log(values, 1)
    tracker.log(values, 2)
    tracker.log({f"m{i}": float(i) for i in range(2000)}, 3)
    tracker.close("done")
    shown = charts(tracker.log_dir)
    assert [math.isnan(v) for _, v in shown.pop("nan")] == [True, True]
    assert shown["inf"] == shown["huge"] == [(1, math.inf), (2, math.inf)]
    assert shown["tensor"] == [(1, 2.5), (2, 2.5)] and shown["numpy"][0] == (1, 0.5)
    assert shown["flag"][0] == (1, 1.0) and len(shown) == 2006
    assert not {"object", "text", "tensors", "none"} & set(shown)
    assert sum("left out" in r.getMessage() for r in caplog.records) == 4
    assert "metric 'text' is left out: expected a number, got str" in caplog.text


def test_calls_before_the_start_and_after_the_end_do_nothing(config: Callable[..., Any]) -> None:
    tracker = TensorBoardLogger(config())
    call_out_of_order(tracker)
    assert len(list(tracker.log_dir.iterdir())) == 1


def test_rows_reach_the_disk_while_the_run_goes_on(
    config: Callable[..., Any], charts: Callable[..., Any]
) -> None:
    tracker = TensorBoardLogger(config(), TensorBoardOptions(flush_s=0.01))
    tracker.start({}, 0)
    for step in range(1, 40):
        tracker.log({"a": 1.0}, step)
    assert charts(tracker.log_dir)["a"]
    tracker.close("done")


def test_the_logger_is_found_by_name_and_added_by_its_plugin() -> None:
    host = Host(select_plugins(("tensorboard",)))
    component = host.component("logger", "tensorboard")
    assert component.id == "tensorboard/tensorboard"
    assert import_target(component) is TensorBoardLogger
    assert import_target(component, component.spec.options) is TensorBoardOptions
    loggers = fill_defaults(TrainConfig(plugins=("tensorboard",)), host).loggers
    assert [n.rpartition("/")[2] for n in loggers] == ["console", "jsonl", "tensorboard"]


def test_the_declaration_imports_nothing_heavy() -> None:
    code = "import simscaleai_plugin_tensorboard.plugin as p; list(p.simscale_register_loggers())"
    assert not {"tensorboard", "torch", "numpy"} & modules_loaded_by(code)


def test_every_option_is_documented_and_checked() -> None:
    documented = set(field_docs(TensorBoardOptions))
    assert documented == {f.name for f in attrs.fields(TensorBoardOptions)}
    with pytest.raises(ConfigError) as caught:
        structure(TensorBoardOptions, {"flush_s": 0.0, "logdir": "x"})
    assert len(caught.value.problems) == 2


def test_pictures_are_read_back(config: Callable[..., Any]) -> None:
    tracker = TensorBoardLogger(config())
    tracker.log_pictures({"eval/episode": np.zeros((8, 8, 3), np.uint8)}, 1)  # not started: nothing
    tracker.start({}, 0)
    tracker.log_pictures({"eval/episode": np.full((8, 24, 3), 200, np.uint8)}, 5)
    tracker.close("done")
    events = EventAccumulator(str(tracker.log_dir))
    events.Reload()
    (shown,) = events.Images("eval/episode")
    assert (shown.step, shown.height, shown.width) == (5, 8, 24)


def video(frames: int = 4) -> bytes:
    """Return a GIF that gets brighter."""
    file = BytesIO()
    first, *others = (Image.new("RGB", (40, 24), (60 * n, 0, 0)) for n in range(frames))
    first.save(file, "GIF", save_all=True, append_images=others, duration=50)
    return file.getvalue()


def test_videos_are_read_back(config: Callable[..., Any]) -> None:
    tracker = TensorBoardLogger(config())
    tracker.log_videos({"eval/video": video()}, 1)  # not started: nothing
    tracker.start({}, 0)
    tracker.log_videos({"eval/video": video()}, 5)
    tracker.close("done")
    (shown,) = EventAccumulator(str(tracker.log_dir)).Reload().Images("eval/video")
    assert (shown.step, shown.width, shown.height) == (5, 40, 24)
    with Image.open(BytesIO(shown.encoded_image_string)) as opened:
        assert opened.format == "GIF" and opened.n_frames == 4


def test_curves_are_drawn_with_their_intervals(config: Callable[..., Any]) -> None:
    tracker = TensorBoardLogger(config())
    tracker.start({}, 0)
    band = {"eval/rate": 0.5, "eval/rate_low": 0.25, "eval/rate_high": 0.75}
    for step in (5, 10):
        tracker.log({**band, "eval/loss": 1.0, "noise_low": 1.0}, step)
    tracker.log({"a": 1.0, "a_low": 0.0, "a_high": 2.0}, 15)
    tracker.close("done")
    events = EventAccumulator(str(tracker.log_dir)).Reload()
    layouts = [
        Layout.FromString(event.tensor_proto.string_val[0])
        for event in events.Tensors("custom_scalars__config__")
    ]
    assert [c.title for c in layouts[-1].category[0].chart] == ["a", "eval/rate"]
    (series,) = layouts[-1].category[0].chart[1].margin.series
    assert (series.value, series.lower, series.upper) == tuple(band)
