"""The optimisers are torch's own, with the configuration's rate and decay."""

from __future__ import annotations

import torch
from torch import nn

from simscaleai_core.builtin.optimizers import adamw, sgd
from simscaleai_core.builtin.plugin import AdamWOptions, SgdOptions
from simscaleai_core.config import TrainConfig
from simscaleai_core.run.optimisation import parameter_groups


def build(policy: nn.Module, config: TrainConfig, **options: float) -> torch.optim.AdamW:
    return adamw(parameter_groups(policy), config, AdamWOptions(**options))


def test_updates_equal_torchs_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = build(ours, TrainConfig(lr=0.01, weight_decay=0.1))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1, fused=False)
    for _ in range(5):
        x = torch.randn(8, 4)
        for module, opt in ((ours, optimizer), (theirs, reference)):
            opt.zero_grad()
            module(x).square().mean().backward()
            opt.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["fused"]


def test_weight_decay_and_rate_matter() -> None:
    """Negative control."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = build(ours, TrainConfig(lr=0.01, weight_decay=0.1))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.0)
    for module, opt in ((ours, optimizer), (theirs, reference)):
        module(torch.ones(1, 4)).sum().backward()
        opt.step()
    assert not torch.equal(ours.weight, theirs.weight)


def test_its_options_reach_torch() -> None:
    (group,) = build(nn.Linear(2, 2), TrainConfig(), beta1=0.5, beta2=0.7, eps=0.1).param_groups
    assert (group["betas"], group["eps"]) == ((0.5, 0.7), 0.1)


def test_sgd_is_torchs_with_momentum() -> None:
    groups = parameter_groups(nn.Linear(2, 2))
    optimizer = sgd(groups, TrainConfig(lr=0.3, weight_decay=0.2), SgdOptions(momentum=0.7))
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.SGD
    found = [group[name] for name in ("lr", "weight_decay", "momentum", "nesterov", "fused")]
    assert found == [0.3, 0.2, 0.7, False, True]
