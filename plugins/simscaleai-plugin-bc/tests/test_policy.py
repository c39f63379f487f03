"""The policy's contract, on real tensors."""

from __future__ import annotations

import inspect

import attrs
import numpy as np
import pytest
import torch
from simscaleai_plugin_bc.blocks.options import LOSSES
from simscaleai_plugin_bc.options import BCOptions
from simscaleai_plugin_bc.policy import BCPolicy

from simscaleai_core.contracts import DataSpec, Statistics
from simscaleai_core.errors import ConfigError, DataError


def stats(*std: float, mean: float = 0.0, reach: float = 1.0) -> Statistics:
    n = len(std)
    return Statistics(mean=(mean,) * n, std=std, low=(-reach,) * n, high=(reach,) * n)


def spec(**changes) -> DataSpec:
    given = {
        "observations": {"joint": (3,), "tool": (2,)},
        "action_dim": 4,
        "statistics": {
            "joint": stats(1.0, 2.0, 3.0, mean=5.0),
            "tool": stats(0.5, 0.5),
            "actions": stats(1, 1, 1, 1),
        },
    }
    return DataSpec(**{**given, **changes})


def batch(size: int = 8, **extra):
    generator = torch.Generator().manual_seed(0)
    return {
        "observations": {
            "tool": torch.randn(size, 2, generator=generator),
            "joint": torch.randn(size, 3, generator=generator),
            **extra,
        },
        "actions": torch.rand(size, 4, generator=generator) * 2 - 1,
    }


def test_loss_is_a_scalar_with_gradients_everywhere():
    policy = BCPolicy.from_data(spec())
    out = policy(batch())
    assert out["loss"].shape == ()
    out["loss"].backward()
    assert all(p.grad is not None for p in policy.parameters())
    assert out["predicted_actions"].shape == (8, 4)


def test_it_overfits_one_batch():
    torch.manual_seed(0)
    policy, data = BCPolicy.from_data(spec(), hidden_dim=64, n_layers=2), batch()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        policy(data)["loss"].backward()
        optimizer.step()
    assert policy(data)["loss"].item() < 1e-3


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_are_torch_s_own(kind):
    policy, data = BCPolicy.from_data(spec(), loss_type=kind), batch()
    predicted, wanted = policy(data)["predicted_actions"], data["actions"]
    function = {"mse": "mse_loss", "l1": "l1_loss", "huber": "huber_loss"}[kind]
    expected = getattr(torch.nn.functional, function)(predicted, wanted)
    torch.testing.assert_close(policy(data)["loss"], expected)


def test_the_order_of_the_observation_keys_does_not_matter():
    policy = BCPolicy.from_data(spec()).eval()
    data = batch()["observations"]
    turned = dict(reversed(data.items()))
    assert torch.equal(policy.predict(data), policy.predict(turned))
    joined = torch.cat([data["joint"], data["tool"]], dim=-1)
    torch.testing.assert_close(policy.predict({"state": joined}), policy.predict(data))


def test_predict_takes_numpy_or_torch_one_or_many():
    policy = BCPolicy.from_data(spec())
    many = {k: v.numpy() for k, v in batch()["observations"].items()}
    actions = policy.predict(many)
    assert isinstance(actions, np.ndarray) and actions.shape == (8, 4)
    one = policy.predict({k: v[3] for k, v in many.items()})
    assert one.shape == (4,)
    np.testing.assert_allclose(one, actions[3], rtol=1e-5, atol=1e-6)
    tensors = policy.predict({k: torch.as_tensor(v, dtype=torch.float64) for k, v in many.items()})
    assert isinstance(tensors, torch.Tensor)
    np.testing.assert_allclose(tensors.numpy(), actions, rtol=1e-5, atol=1e-6)
    assert BCPolicy().predict(np.zeros(20)).shape == (4,)


def test_predict_ignores_dropout_and_leaves_the_mode_alone():
    policy = BCPolicy.from_data(spec(), dropout=0.9).train()
    data = batch()["observations"]
    assert torch.equal(policy.predict(data), policy.predict(data))
    assert policy.training


def test_a_window_counts_as_single_steps():
    policy, data = BCPolicy.from_data(spec()), batch(6)
    windows = {
        "observations": {k: v.reshape(2, 3, -1) for k, v in data["observations"].items()},
        "actions": data["actions"].reshape(2, 3, 4),
    }
    torch.testing.assert_close(policy(windows)["loss"], policy(data)["loss"])


def test_the_normaliser_comes_from_the_data_and_is_kept():
    policy = BCPolicy(state_dim=5, action_dim=4)
    policy.adapt_to(spec())
    assert policy.state_normalizer.mean.tolist() == [5, 5, 5, 0, 0]
    assert policy.state_normalizer.scale.tolist() == [1, 2, 3, 0.5, 0.5]
    other = spec(
        statistics={"joint": stats(9, 9, 9), "tool": stats(9, 9), "actions": stats(1, 1, 1, 1)}
    )
    policy.adapt_to(other)  # fine-tuning on other data keeps what the weights were trained with
    assert policy.state_normalizer.scale.tolist() == [1, 2, 3, 0.5, 0.5]


def test_actions_are_normalised_only_beyond_one():
    assert not BCPolicy.from_data(spec()).action_normalizer.fitted
    wide = {**spec().statistics, "actions": stats(2, 2, 2, 2, mean=7.0, reach=9.0)}
    policy = BCPolicy.from_data(spec(statistics=wide))
    assert policy.action_normalizer.mean.tolist() == [7, 7, 7, 7]
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    assert policy.predict(batch()["observations"])[0].tolist() == [7, 7, 7, 7]


def test_near_constant_dimensions_are_named():
    flat = {**spec().statistics, "tool": stats(0.5, 0.0001)}
    with pytest.warns(UserWarning, match=r"tool\[1\]"):
        policy = BCPolicy.from_data(spec(statistics=flat))
    assert policy.state_normalizer.scale.tolist() == [1, 2, 3, 0.5, 1]


def test_hparams_build_the_same_policy_again():
    policy = BCPolicy.from_data(spec(), hidden_dim=32, n_layers=1, loss_type="l1")
    again = BCPolicy(**policy.hparams)
    again.load_state_dict(policy.state_dict())
    data = batch()["observations"]
    assert torch.equal(policy.predict(data), again.predict(data))


def test_images_are_seen():
    shapes = {"joint": (3,), "tool": (2,), "cam": (3, 32, 32)}
    policy = BCPolicy.from_data(spec(observations=shapes), use_image=True)
    images = torch.rand(8, 3, 32, 32)
    data = batch(cam=images)
    policy(data)["loss"].backward()
    assert policy.encoder.project.weight.grad.abs().sum() > 0
    observations = data["observations"]
    dark = {**observations, "cam": torch.zeros_like(images)}
    assert not torch.allclose(policy.predict(observations), policy.predict(dark))
    raw = (images.movedim(1, -1) * 255).round().to(torch.uint8)
    seen = {**observations, "cam": raw.movedim(-1, 1).float() / 255}
    assert torch.equal(policy.predict({**observations, "cam": raw}), policy.predict(seen))
    with pytest.raises(DataError, match=r"'cam'.*\(32, 32\) pixels, got \(16, 16\)"):
        policy.predict({**observations, "cam": torch.rand(8, 3, 16, 16)})
    with pytest.raises(DataError, match="'cam' is missing"):
        policy.predict(batch()["observations"])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: BCPolicy(state_dim=9).adapt_to(spec()), r"state_dim=9.*got 5 \(joint 3 \+ tool 2\)"),
        (lambda: BCPolicy(state_dim=5, action_dim=7).adapt_to(spec()), "expected 7 action dimensions, got 4"),
        (lambda: BCPolicy.from_data(spec(observations={"cam": (3, 8, 8)})), "at least one low-dimensional"),
        (lambda: BCPolicy.from_data(spec(), use_image=True), "use_image is on, but the data has no image"),
        (lambda: BCPolicy.from_data(spec()).predict({"joint": np.zeros(3)}), "'tool' is missing"),
        (
            lambda: BCPolicy.from_data(spec()).predict({"joint": np.zeros(4), "tool": np.zeros(2)}),
            "expected 5 dimensions of state, got 6",
        ),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_is_named(action, message):
    with pytest.raises(DataError, match=message):
        action()


def test_fewer_observations_than_actions_are_refused():
    with pytest.raises(
        DataError, match=r"seq_len=4 actions of a sample, got obs_len=1\. Omit obs_len"
    ):
        BCPolicy.from_data(spec(seq_len=4, obs_len=1))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ConfigError, match=r"'loss_type'.*got 'mae'"):
        BCPolicy(loss_type="mae")


def test_options_and_constructor_agree():
    parameters = inspect.signature(BCPolicy).parameters
    for field in attrs.fields(BCOptions):
        assert parameters[field.name].default == field.default
