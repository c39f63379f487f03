"""The training loss of each part of a mixture: a mean over its samples, not a mean of means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from training_kit import ACT, OBS, TinyPolicy, train

from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.data.mixture import Mixture
from simscaleai_core.errors import PolicyError
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.metrics import losses_by_source

Seen = list[tuple[str, float]]


class Policy(TinyPolicy):
    """Says the loss of each sample, and writes down what it said of which."""

    def __init__(self, shape: tuple[int, ...] = (-1,)) -> None:
        super().__init__()
        self.shape = shape
        self.seen: list[Seen] = []

    def forward(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        error = self.net(batch["observations"]["state"]) - batch["actions"]
        each = error.detach().square().mean(dim=1)
        self.seen.append(list(zip(batch["source"], each.tolist(), strict=True)))
        return {"loss": error.square().mean(), "sample_loss": each.reshape(self.shape)}


class Metrics:
    def __init__(self) -> None:
        self.windows: dict[int, dict[str, float]] = {}

    @hookimpl
    def simscale_on_metrics(self, run: Any, metrics: dict[str, float]) -> None:
        named = {k: v for k, v in metrics.items() if k.startswith("train/loss")}
        self.windows[run.step] = named


def loader(batch_size: int = 4) -> DataLoader[Any]:
    """Eight samples of ``near``, then five of ``far``: the fourth batch is one of ``far``."""
    parts = [DummyTrajectoryDataset(n, obs_dim=OBS, action_dim=ACT, seed=n) for n in (8, 5)]
    return DataLoader(Mixture(parts, names=("some/near", "some/far")), batch_size=batch_size)


def run(folder: Path, policy: TinyPolicy, **fields: Any) -> dict[int, dict[str, float]]:
    heard = Metrics()
    train(folder, policy=policy, loader=loader(), listeners=(heard,), log_every=2, **fields)
    return heard.windows


def mean(seen: list[Seen], name: str) -> float:
    values = [loss for batch in seen for source, loss in batch if source == name]
    return sum(values) / len(values)


def test_each_sample_of_a_source_weighs_the_same(tmp_path: Path) -> None:
    policy = Policy()
    windows = run(tmp_path, policy, max_steps=4, accumulate=3)
    per_step = [3, 3, 3, 1]  # micro-batches: the last batch has one sample
    assert len(policy.seen) == sum(per_step)
    first, second = policy.seen[:6], policy.seen[6:]
    assert set(windows[2]) == {"train/loss", "train/loss/near"}  # none of `far` in this window
    assert windows[2]["train/loss/near"] == pytest.approx(mean(first, "near"), rel=1e-6)
    assert set(windows[4]) == {"train/loss", "train/loss/far"}
    assert windows[4]["train/loss/far"] == pytest.approx(mean(second, "far"), rel=1e-6)


def test_an_open_window_is_resumed_to_the_last_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Policy(), save_every=3, max_steps=9)
    start = str(tmp_path / "whole" / "step_3.pt")
    again = run(tmp_path / "again", Policy(), max_steps=9, resume_from=start)
    assert again == {step: found for step, found in whole.items() if step > 3}
    assert set(again[4]) == {"train/loss", "train/loss/far"}
    assert set(again[6]) == {"train/loss", "train/loss/near"}


def test_a_loss_that_is_not_finite_hides_no_other(tmp_path: Path) -> None:
    class Spoilt(Policy):
        def forward(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
            out = super().forward(batch)
            out["sample_loss"][0] = torch.nan
            return out

    policy = Spoilt()
    windows = run(tmp_path, policy, max_steps=2)
    kept = [batch[1:] for batch in policy.seen]
    assert windows[2]["train/loss/near"] == pytest.approx(mean(kept, "near"), rel=1e-6)


def test_without_losses_of_samples_there_are_no_such_metrics(tmp_path: Path) -> None:
    assert set(run(tmp_path, TinyPolicy(), max_steps=2)[2]) == {"train/loss"}


def test_losses_of_another_shape_are_a_broken_contract(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"expected 'sample_loss' \[4\], .* got \[2, 2\]"):
        run(tmp_path, Policy(shape=(2, -1)))


def test_nothing_is_read_from_the_device() -> None:
    """The meta device has no numbers: what reads one raises."""
    out = {"sample_loss": torch.empty(4, device="meta")}
    found = losses_by_source(out, {"source": ["near", "far", "near", "elsewhere"]}, ("near", "far"))
    assert list(found) == ["loss/near", "loss/far"]
    assert {(pair.device.type, tuple(pair.shape)) for pair in found.values()} == {("meta", (2,))}
