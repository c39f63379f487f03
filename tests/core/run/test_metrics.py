"""Window means without reading the device in between; the loss contract."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import PolicyError
from simscaleai_core.run.metrics import MetricWindow, loss_of, scalars_of

STRATEGY = SingleDevice(TrainConfig(device="cpu"))


def _filled(values: list[float], name: str = "loss") -> MetricWindow:
    window = MetricWindow()
    for step, value in enumerate(values, start=1):
        window.add({name: torch.tensor(value)}, step)
    return window


def test_the_mean_of_a_window_and_then_a_new_one() -> None:
    window = _filled([1.0, 2.0, 6.0])
    assert window.reduce(STRATEGY)[0] == {"loss": 3.0}
    assert window.reduce(STRATEGY)[0] == {}
    window.add({"loss": torch.tensor(5.0)}, 4)
    assert window.reduce(STRATEGY)[0] == {"loss": 5.0}


def test_flags_come_with_the_means() -> None:
    window = _filled([1.0])
    assert window.reduce(STRATEGY, [True, False, True]) == ({"loss": 1.0}, [True, False, True])
    assert MetricWindow().reduce(STRATEGY, [False]) == ({}, [False])


def test_values_that_are_not_finite_hide_nothing() -> None:
    window = _filled([1.0, math.nan, 3.0, math.inf])
    assert window.reduce(STRATEGY)[0] == {"loss": 2.0}
    assert math.isnan(_filled([math.nan, math.inf]).reduce(STRATEGY)[0]["loss"])


def test_a_name_that_comes_only_now_and_then_has_its_own_count() -> None:
    window = MetricWindow()
    window.add({"loss": torch.tensor(1.0), "rare": torch.tensor(8.0)}, 1)
    window.add({"loss": torch.tensor(3.0)}, 2)
    assert window.reduce(STRATEGY)[0] == {"loss": 2.0, "rare": 8.0}


def test_a_long_window_is_exact() -> None:
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0)).tolist()
    assert _filled(values).reduce(STRATEGY)[0]["loss"] == pytest.approx(
        math.fsum(values) / 1000, abs=1e-9
    )


@pytest.mark.parametrize("cut", [1, 100, 255, 256, 257, 511])
def test_a_window_continues_after_save_and_load_bit_for_bit(cut: int) -> None:
    values = torch.rand(600, generator=torch.Generator().manual_seed(1)).tolist()
    whole = _filled(values).reduce(STRATEGY)[0]
    first = _filled(values[:cut])
    for _ in range(2):  # every state must survive two round trips
        second = MetricWindow()
        second.load_state_dict(first.state_dict(), torch.device("cpu"))
        first = second
    for step, value in enumerate(values[cut:], start=cut + 1):
        first.add({"loss": torch.tensor(value)}, step)
    assert first.reduce(STRATEGY)[0] == whole


def test_a_saved_window_is_not_changed_by_what_follows() -> None:
    window = _filled([1.0, 2.0])
    state = window.state_dict()
    window.add({"loss": torch.tensor(9.0)}, 3)
    window.reduce(STRATEGY)
    other = MetricWindow()
    other.load_state_dict(state, torch.device("cpu"))
    assert other.reduce(STRATEGY)[0] == {"loss": 1.5}


def test_different_dtypes_go_into_one_window() -> None:
    window = MetricWindow()
    window.add({"a": torch.tensor(1, dtype=torch.int64), "b": torch.tensor(0.5).bfloat16()}, 1)
    window.add({"a": torch.tensor(2, dtype=torch.int64), "b": torch.tensor(1.5).bfloat16()}, 2)
    assert window.reduce(STRATEGY)[0] == {"a": 1.5, "b": 1.0}


def test_adding_never_reads_a_tensor_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("read on the host")

    window = MetricWindow()
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
            patch.setattr(torch.Tensor, name, refuse)
        for step in range(1, 601):
            window.add({"loss": torch.ones(())}, step)
    assert window.reduce(STRATEGY)[0] == {"loss": 1.0}


def test_scalars_are_detached_and_the_rest_is_no_metric() -> None:
    out = {
        "loss": torch.ones((), requires_grad=True) * 2,
        "actions": torch.zeros(2, 3),
        "note": "x",
        "number": 3.0,
    }
    found = scalars_of(out)
    assert list(found) == ["loss"]
    assert not found["loss"].requires_grad


@pytest.mark.parametrize(
    ("out", "found"),
    [
        ({}, "the keys none"),
        ({"action": 1, "mse": 2}, "the keys 'action', 'mse'"),
        ({"loss": 1.0}, "the keys 'loss'"),
        (torch.ones(()), "Tensor"),
        (None, "NoneType"),
        ({"loss": torch.ones(3, requires_grad=True)}, "a loss of shape [3]"),
        ({"loss": torch.ones(())}, "requires_grad=False"),
    ],
)
def test_a_policy_without_a_loss_is_named(out: Any, found: str) -> None:
    with pytest.raises(PolicyError) as caught:
        loss_of(out, nn.Identity(), step=7)
    assert found in str(caught.value)
    assert "Identity.forward" in str(caught.value)
    assert caught.value.step == 7


def test_a_sound_loss_is_returned() -> None:
    loss = torch.ones((), requires_grad=True) * 1
    assert loss_of({"loss": loss}, nn.Identity(), step=0) is loss


def test_an_open_window_continues_on_the_device_of_the_run() -> None:
    """A checkpoint is read to the CPU; new scalars of the run may be elsewhere."""
    window = MetricWindow()
    window.add({"loss": torch.tensor(1.0)}, 1)
    other = MetricWindow()
    other.load_state_dict(window.state_dict(), torch.device("meta"))
    assert other.state_dict()["pending"]["loss"].device.type == "meta"


def test_a_scalar_that_a_policy_keeps_on_the_host_joins_those_of_the_device() -> None:
    class OnMeta:
        """The meta device stands for any that is not the host."""

        device = torch.device("meta")

        def reduce(self, values: torch.Tensor) -> torch.Tensor:
            assert values.device == self.device
            return torch.tensor([3.0, 2.0, 8.0, 2.0], dtype=values.dtype)

    window = MetricWindow()
    window.add({"loss": torch.ones((), device="meta"), "clip": torch.tensor(0.2)}, 1)
    assert window.reduce(OnMeta())[0] == {"clip": 1.5, "loss": 4.0}  # type: ignore[arg-type]
