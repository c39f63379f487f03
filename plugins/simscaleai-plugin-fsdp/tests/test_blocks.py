"""Which modules are sharded one at a time, and what the options refuse."""

from __future__ import annotations

import pytest
import torch
from simscaleai_plugin_fsdp.blocks import blocks_of, compute_again
from simscaleai_plugin_fsdp.options import FSDPOptions
from torch import nn

from simscaleai_core import ModelRegistry
from simscaleai_core.errors import ConfigError


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.sin(self.inner(x))


class Stack(nn.Module):
    block_classes = ("Layer",)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.act = nn.GELU()


def test_the_policy_names_its_blocks_and_the_user_comes_first() -> None:
    policy = Stack()
    assert blocks_of(policy, ()) == [policy.layers[1], policy.layers[0]]
    assert blocks_of(policy, ("Lin*",)) == [layer.inner for layer in policy.layers][::-1]
    found = blocks_of(policy, ("Layer", "Linear"))
    assert found.index(policy.layers[0].inner) < found.index(policy.layers[0])  # inner ones first
    assert blocks_of(nn.Linear(1, 1), ()) == []


def test_a_pattern_that_matches_nothing_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'Lyer': expected one of Layer, Linear, ModuleList"):
        blocks_of(Stack(), ("Lyer",))
    with pytest.raises(ConfigError, match="'GELU'"):  # it has nothing to shard
        blocks_of(Stack(), ("GELU",))


@pytest.mark.parametrize(
    ("name", "options"), [("act", {}), ("vla", {"size": "debug", "image_size": 32})]
)
def test_our_large_policies_name_their_blocks(name: str, options: dict[str, object]) -> None:
    pytest.importorskip("simscaleai_plugin_vla")
    policy = ModelRegistry.create(name, **options)
    inside = sum(p.numel() for block in blocks_of(policy, ()) for p in block.parameters())
    assert inside > 0.4 * sum(p.numel() for p in policy.parameters())


def test_a_block_that_is_computed_again_has_the_same_gradients() -> None:
    plain, again = Layer(), Layer()
    again.load_state_dict(plain.state_dict())
    compute_again(again)
    x = torch.ones(3, 2)
    for layer in (plain, again):
        layer(x).square().sum().backward()
    assert (plain.calls, again.calls) == (1, 2)
    assert torch.equal(plain.inner.weight.grad, again.inner.weight.grad)


@pytest.mark.parametrize(
    "options", [{"replicate": 0}, {"param_dtype": "float16"}, {"reduce_dtype": "int8"}]
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        FSDPOptions(**options)
