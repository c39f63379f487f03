"""Low-rank adaptation: train a small product beside each frozen weight matrix."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from simscaleai_core.errors import ConfigError


class LoRALinear(nn.Module):
    """A frozen linear layer plus a trained one of low rank; at first it changes nothing.

    Args:
        base: The layer to adapt; its weights are frozen.
        rank: Rank r of the change.
        alpha: The change is scaled by ``alpha / rank``.

    Source:
        Hu et al. 2021 (LoRA, arXiv:2106.09685), eq. 3.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The adapted weight `[out, in]`, for modules that use it themselves."""
        return self.base.weight + self.scale * (self.up @ self.down)

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias `[out]`."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., in]` to `[..., out]`."""
        changed = F.linear(F.linear(x, self.down), self.up)
        out: Tensor = self.base(x) + self.scale * changed
        return out


def add_lora(module: nn.Module, *, rank: int, alpha: float) -> int:
    """Freeze a module and put a low-rank change beside each of its linear layers.

    Args:
        module: Changed in place.
        rank: Rank of each change.
        alpha: Scale of each change.

    Returns:
        Number of layers adapted.

    Raises:
        ConfigError: If the module has no linear layer.
    """
    module.requires_grad_(False)
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    if not found:
        raise ConfigError(f"no linear layer to adapt in {type(module).__name__}.")
    for parent, name, child in found:
        setattr(parent, name, LoRALinear(child, rank=rank, alpha=alpha))
    return len(found)
