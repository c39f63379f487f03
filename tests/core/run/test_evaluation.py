"""Evaluation between steps: what counts as a metric and what as a picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Mean
from simscaleai_core.run.evaluation import evaluate, merge
from simscaleai_core.run.state import Run


class TwoRanks(SingleDevice):
    """Gathers what two ranks would, the second one without data."""

    world_size = 2

    def gather(self, value: Any) -> list[Any]:
        return [value, {}]


def test_numbers_are_metrics_and_other_values_are_left_out() -> None:
    found = {
        "rate": Mean(3, 4), "steps": 7, "loss": torch.tensor(0.5), "scalar": np.float32(2),
        "seeds": [1, 2], "name": "reach", "text": np.str_("2"), "picture": np.zeros((2, 2, 3), np.uint8),
    }  # fmt: skip
    merged = merge(found, SingleDevice(TrainConfig(device="cpu")))
    assert merged == {"rate": 0.75, "steps": 7.0, "loss": 0.5, "scalar": 2.0}


def test_a_rank_without_data_changes_nothing() -> None:
    assert merge({"rate": Mean(3, 4)}, TwoRanks(TrainConfig(device="cpu"))) == {"rate": 0.75}


def test_pictures_are_uint8_arrays_with_three_channels(tmp_path: Path) -> None:
    def look(policy: torch.nn.Module) -> dict[str, Any]:
        assert not policy.training
        return {
            "episode": np.zeros((4, 5, 3), np.uint8), "gray": np.zeros((4, 5), np.uint8),
            "floats": np.zeros((4, 5, 3)), "loss": 1.0, "video": b"GIF89a", "bytes": b"1",
        }  # fmt: skip

    config = TrainConfig(device="cpu", checkpoint_dir=str(tmp_path))
    strategy: Any = SingleDevice(config)
    parts: dict[str, Any] = dict.fromkeys(("precision", "build_optimizer", "build_schedule"))
    run = Run(config=config, policy=torch.nn.Linear(1, 1), strategy=strategy, **parts)
    done = evaluate(run, [("look", look)])
    assert list(done.pictures) == ["eval/episode", "eval/video"]
    assert done.metrics == {"eval/loss": 1.0}
    assert run.policy.training


def test_what_follows_from_the_metrics_of_all_ranks_is_a_metric(tmp_path: Path) -> None:
    class Rate:
        is_broken = False

        def __call__(self, policy: torch.nn.Module) -> dict[str, Any]:
            return {"rate": Mean(3, 4)}

        def derived(self, metrics: dict[str, float]) -> dict[str, float]:
            if self.is_broken:
                raise ZeroDivisionError
            return {"rate_low": metrics["rate"] / 2}

    class BothSame(SingleDevice):
        def gather(self, value: Any) -> list[Any]:
            return [value, {"rate": (1, 4)} if isinstance(value, dict) else value]

    config = TrainConfig(device="cpu", checkpoint_dir=str(tmp_path))
    parts: dict[str, Any] = dict.fromkeys(("precision", "build_optimizer", "build_schedule"))
    strategy: Any = BothSame(config)
    run = Run(config=config, policy=torch.nn.Linear(1, 1), strategy=strategy, **parts)
    function = Rate()
    assert evaluate(run, [("rate", function)]).metrics == {"eval/rate": 0.5, "eval/rate_low": 0.25}
    function.is_broken = True
    assert evaluate(run, [("rate", function)]).metrics == {"eval/rate": 0.5}


def test_fractions_stay_exact_over_ranks() -> None:
    """Floats would lose the small numbers, and how many depends on who has which."""

    class Sharing(SingleDevice):
        def gather(self, value: Any) -> list[Any]:
            return [value, {"sum": (Fraction(1) - Fraction(1e16), 2)}]

    mine = {"sum": Mean(Fraction(1e16) + Fraction(1), 2)}
    assert merge(mine, Sharing(TrainConfig(device="cpu"))) == {"sum": 0.5}
