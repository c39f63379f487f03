"""The precision by itself: formats, the scaler, and what it says of itself."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from simscaleai_plugin_amp.options import AmpOptions
from simscaleai_plugin_amp.precision import MixedPrecision

from simscaleai_core import TrainConfig
from simscaleai_core.errors import CheckpointError, ConfigError

CPU = torch.device("cpu")


def build(dtype: str = "bfloat16", device: torch.device = CPU, **options: Any) -> MixedPrecision:
    given = AmpOptions(**{"on_cpu": True, **options})
    precision = MixedPrecision(TrainConfig(amp_dtype=dtype), given)
    precision.setup(device)
    return precision


@pytest.mark.parametrize(
    ("dtype", "on_cpu", "effective"),
    [
        ("bfloat16", True, "bfloat16 autocast"),
        ("float16", True, "float16 autocast, loss scaling"),
        ("bfloat16", False,
         "float32 (amp on a CPU costs more than it gives; --amp.on-cpu to insist)"),
    ],
)  # fmt: skip
def test_it_says_what_is_in_effect(dtype: str, on_cpu: bool, effective: str) -> None:
    precision = build(dtype, on_cpu=on_cpu)
    assert precision.effective == effective
    with precision.autocast():
        assert torch.is_autocast_enabled("cpu") is on_cpu
    assert precision.autocast() is precision.autocast()
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_a_device_that_cannot_is_refused(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with warnings.catch_warnings(), pytest.raises(ConfigError, match=f"{device}.*bfloat16"):
        build(device=torch.device(device))


def test_bfloat16_that_is_emulated_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simscaleai_plugin_amp.precision._build_context", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert "emulated" in build(device=torch.device("cuda")).effective


@pytest.mark.parametrize(("name", "value"), [("init_scale", 0.0), ("init_scale", float("inf")),
                                             ("init_scale", -1.0), ("growth_interval", 0)])  # fmt: skip
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        AmpOptions(**{name: value})


def optimizer_of(weight: torch.nn.Parameter, *, fused: bool) -> torch.optim.AdamW:
    return torch.optim.AdamW([weight], lr=0.1, fused=fused, foreach=not fused)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("grad", "norm", "veto", "applied"),
    [(1.0, 1.0, False, True), (1.0, 1.0, True, False), (1.0, float("inf"), False, False),
     (float("inf"), float("inf"), False, False), (float("nan"), float("nan"), True, False)],
)  # fmt: skip
def test_a_step_says_whether_it_was_applied(
    dtype: str, fused: bool, grad: float, norm: float, veto: bool, applied: bool
) -> None:
    precision, weight = build(dtype), torch.nn.Parameter(torch.ones(3))
    optimizer = optimizer_of(weight, fused=fused)
    for _ in range(2):  # a skipped step leaves nothing behind that would break the next one
        before = weight.detach().clone()
        precision.backward((weight * grad).sum())
        precision.unscale(optimizer)
        assert precision.step(optimizer, torch.tensor(norm), veto) is applied
        assert torch.equal(before, weight) is not applied
        weight.grad = None
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("fused", [True, False])
def test_an_infinite_gradient_is_seen_although_the_norm_leaves_it_out(fused: bool) -> None:
    precision, weight = build("float16"), torch.nn.Parameter(torch.ones(3))
    optimizer = optimizer_of(weight, fused=fused)
    precision.backward((weight * float("inf")).sum())
    precision.unscale(optimizer)
    assert precision.step(optimizer, torch.tensor(1.0), veto=False) is False
    assert torch.equal(weight, torch.ones(3))
    assert precision.state_dict()["scale"] == 32768.0


def test_the_factor_grows_and_shrinks() -> None:
    precision, weight = (
        build("float16", init_scale=8.0, growth_interval=2),
        torch.nn.Parameter(torch.ones(1)),
    )
    optimizer, scales = optimizer_of(weight, fused=True), []
    for grad in (1.0, 1.0, float("inf"), 1.0, 1.0):
        precision.backward((weight * grad).sum())
        precision.unscale(optimizer)
        precision.step(optimizer, torch.tensor(grad), veto=False)
        scales.append(precision.state_dict()["scale"])
        weight.grad = None
    assert scales == [8.0, 16.0, 8.0, 8.0, 16.0]


def test_gradients_are_unscaled_exactly_once() -> None:
    precision, weight = build("float16"), torch.nn.Parameter(torch.ones(1))
    optimizer = optimizer_of(weight, fused=True)
    precision.backward((weight * 3.0).sum())
    assert weight.grad == 3.0 * 65536.0
    precision.unscale(optimizer)
    assert weight.grad == 3.0
    with pytest.raises(RuntimeError, match="already been called"):
        precision.unscale(optimizer)


def test_several_optimisers_share_one_factor() -> None:
    """It moves once a step, after the last of them; one that has no gradient takes no step."""
    precision = build("float16", init_scale=8.0, growth_interval=2)
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(3)]
    optimizers = [torch.optim.SGD([weight], lr=1.0) for weight in weights]
    scales = []
    for _ in range(4):
        precision.backward((weights[0] + 2 * weights[1]).sum())
        for optimizer in optimizers:
            precision.unscale(optimizer)
        assert [weight.grad for weight in weights] == [1.0, 2.0, None]
        steps = [
            precision.step(optimizer, torch.tensor(1.0), veto=False) for optimizer in optimizers
        ]
        assert steps == [True, True, False]
        scales.append(precision.state_dict()["scale"])
        for weight in weights:
            weight.grad = None
    assert scales == [8.0, 16.0, 16.0, 32.0]
    assert [weight.item() for weight in weights] == [-3.0, -7.0, 1.0]


def test_state_goes_round_twice() -> None:
    state = {**build("float16").state_dict(), "scale": 512.0, "_growth_tracker": 7}
    for _ in range(2):
        precision = build("float16")
        precision.load_state_dict(state)
        assert precision.state_dict() == state
    assert build().state_dict() == {}
    build().load_state_dict({})


def test_the_growth_interval_is_the_option_and_not_the_checkpoints() -> None:
    precision = build("float16", growth_interval=5)
    precision.load_state_dict(build("float16").state_dict())
    assert precision.state_dict()["growth_interval"] == 5


@pytest.mark.parametrize(("writer", "reader"), [("bfloat16", "float16"), ("float16", "bfloat16")])
def test_state_of_another_format_is_refused(writer: str, reader: str) -> None:
    with pytest.raises(CheckpointError, match="gradient scaler"):
        build(reader).load_state_dict(build(writer).state_dict())
