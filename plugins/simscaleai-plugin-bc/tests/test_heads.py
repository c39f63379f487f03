"""Each head against what is known of it: formulas, torch's own distributions, toy problems."""

from __future__ import annotations

import math

import pytest
import torch
from simscaleai_plugin_bc.blocks.heads.base import HeadSizes, held_actions, losses, mlp
from simscaleai_plugin_bc.blocks.heads.diffusion import DiffusionHead, cosine_signal
from simscaleai_plugin_bc.blocks.heads.flow import FlowHead
from simscaleai_plugin_bc.blocks.heads.mixture import MixtureHead
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from simscaleai_core.errors import ConfigError


def fit(head, draw, *, steps=300, lr=3e-3):
    """Train on fresh draws of (features, actions); returns the head."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss(*draw())["loss"].backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def two_modes(size=128):
    """Actions near -0.6 or +0.6, both timesteps alike, with equal chance whatever is seen."""
    sign = torch.randint(0, 2, (size, 1, 1)) * 2.0 - 1
    return torch.randn(size, 3), 0.6 * sign + 0.05 * torch.randn(size, 2, 1)


@pytest.mark.parametrize("kind", [DiffusionHead, FlowHead])
def test_both_modes_of_a_distribution_are_recovered(kind):
    torch.manual_seed(0)
    head = fit(kind(HeadSizes(3, 2, 1), hidden_dim=64, n_layers=2), two_modes)
    with torch.no_grad():
        drawn = head.sample(torch.randn(500, 3)).squeeze(-1)
    right = (drawn > 0).float().mean()
    assert 0.35 < right < 0.65
    assert ((drawn.abs() - 0.6).abs() < 0.25).float().mean() > 0.9
    assert (drawn[:, 0].sign() == drawn[:, 1].sign()).float().mean() > 0.95  # one mode per chunk


def test_a_mixture_keeps_the_modes_apart_and_acts_on_one():
    torch.manual_seed(0)
    head = fit(MixtureHead(HeadSizes(3, 2, 1), hidden_dim=32, n_layers=1, num_modes=2), two_modes)
    with torch.no_grad():
        _, mean, _ = head(torch.randn(50, 3))
        acted = head.sample(torch.randn(50, 3))
    assert (mean.abs() - 0.6).abs().max() < 0.3
    assert (mean[:, 0].sign() == -mean[:, 1].sign()).all()
    assert (acted.abs() - 0.6).abs().max() < 0.3


@pytest.mark.parametrize("padded", [False, True])
def test_the_likelihood_of_a_mixture_is_torch_s_own(padded):
    torch.manual_seed(0)
    head = MixtureHead(HeadSizes(3, 4, 2), hidden_dim=16, n_layers=1, num_modes=3, least_std=0.1)
    features, actions = torch.randn(5, 3), torch.randn(5, 4, 2)
    log_weight, mean, std = head(features)
    length = 3 if padded else 4
    is_pad = torch.zeros(5, 4, dtype=torch.bool)
    is_pad[:, length:] = True
    assert std.min() > 0.1
    modes = Independent(Normal(mean[:, :, :length], std[:, :, :length]), 2)
    expected = MixtureSameFamily(Categorical(logits=log_weight), modes).log_prob(
        actions[:, :length]
    )
    loss = head.loss(features, actions, is_pad if padded else None)["loss"]
    torch.testing.assert_close(loss, -expected.sum() / (5 * length))


@pytest.mark.parametrize("num_levels", [20, 100])
def test_the_noise_schedule_is_the_published_one(num_levels):
    def ideal(level):
        return math.cos((level / num_levels + 0.008) / 1.008 * math.pi / 2) ** 2

    signal = cosine_signal(num_levels)
    product = 1.0
    for level in range(num_levels):
        product *= 1 - min(1 - ideal(level + 1) / ideal(level), 0.999)
        assert signal[level].item() == pytest.approx(product, rel=1e-4)
    assert signal[0] > 0.99 and signal[-1] < 1e-3
    levels = DiffusionHead(HeadSizes(3, 2, 1), num_levels=num_levels, sample_steps=5).levels
    assert levels[0] == num_levels - 1 and levels[-1] == 0 and len(levels) == 5


def test_a_step_of_sampling_is_the_published_one():
    """With a denoiser that knows the chunk, every number of steps gives exactly that chunk."""
    chunk, noise = torch.rand(4, 2, 3) * 2 - 1, torch.randn(4, 2, 3)
    for steps in (1, 2, 7):
        head = DiffusionHead(HeadSizes(5, 2, 3), num_levels=50, sample_steps=steps)
        seen = []

        def knowing(noisy, level, features, head=head, seen=seen):
            seen.append(noisy)
            signal = head.signal[(level * 50).round().long()][:, None, None]
            return (signal.sqrt() * noisy - chunk) / (1 - signal).sqrt()

        head.denoiser.forward = knowing
        torch.testing.assert_close(head.sample(torch.zeros(4, 5), noise), chunk, atol=1e-4, rtol=0)
        for k, noisy in enumerate(seen[1:], start=1):  # eq. 12 of DDIM, sigma = 0
            first, here = head.signal[head.levels[0]], head.signal[head.levels[k]]
            direction = (noise - first.sqrt() * chunk) / (1 - first).sqrt()
            wanted = here.sqrt() * chunk + (1 - here).sqrt() * direction
            torch.testing.assert_close(noisy, wanted, atol=1e-4, rtol=0)


def test_flow_matching_recovers_a_linear_gaussian():
    """Actions are 0.5 * feature + 0.2 * noise: mean and deviation come out of the samples."""

    def draw(size=128):
        features = torch.rand(size, 1) * 2 - 1
        return features, 0.5 * features[:, None] + 0.2 * torch.randn(size, 1, 1)

    torch.manual_seed(0)
    head = fit(FlowHead(HeadSizes(1, 1, 1), hidden_dim=64, n_layers=2, sample_steps=20), draw)
    for given in (-0.8, 0.0, 0.8):
        with torch.no_grad():
            drawn = head.sample(torch.full((2000, 1), given))
        assert drawn.mean().item() == pytest.approx(0.5 * given, abs=0.05)
        assert drawn.std().item() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("kind", [DiffusionHead, FlowHead])
def test_a_sample_follows_from_its_noise_alone(kind):
    head = kind(HeadSizes(3, 4, 2), hidden_dim=16, n_layers=1)
    features, noise = torch.randn(6, 3), torch.randn(6, 4, 2)
    first = head.sample(features, noise)
    torch.testing.assert_close(head.sample(features[2:3], noise[2:3])[0], first[2])
    assert first.shape == (6, 4, 2) == (6, *head.noise_shape)
    assert head.sample(features).shape == first.shape  # draws its own
    with pytest.raises(ConfigError, match="sample_steps"):
        kind(HeadSizes(3, 4, 2), sample_steps=0)


def test_padding_takes_the_action_beside_it():
    actions = torch.arange(5.0).view(1, 5, 1)
    is_pad = torch.tensor([[True, False, True, False, True]])
    assert held_actions(actions, is_pad).flatten().tolist() == [1, 1, 1, 3, 3]
    assert held_actions(actions, None) is actions


@pytest.mark.parametrize("kind", ["mse", "l1", "huber"])
def test_a_masked_loss_is_the_loss_of_what_is_left(kind):
    predicted, target = torch.randn(4, 5, 2), torch.randn(4, 5, 2)
    is_pad = torch.rand(4, 5) < 0.4
    left = losses(kind, predicted[~is_pad], target[~is_pad])["loss"]
    torch.testing.assert_close(losses(kind, predicted, target, is_pad)["loss"], left)
    nothing = losses(kind, predicted, target, torch.ones(4, 5, dtype=torch.bool))["loss"]
    assert nothing == 0


def test_no_hidden_layer_is_one_linear_layer():
    assert [type(m).__name__ for m in mlp(3, 8, 2, n_layers=0)] == ["Linear"]
