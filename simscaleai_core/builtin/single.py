"""One process on one device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from simscaleai_core.checkpoint.spread import whole
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError

_NOTHING = nullcontext()


class SingleDevice:
    """One process on one device. See `simscaleai_core.contracts.Strategy`.

    Raises:
        ConfigError: If the device is not there.
    """

    effective = "single"
    rank = 0
    world_size = 1

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del options
        self.device = find_device(config.device)

    def setup(self, policy: nn.Module) -> nn.Module:
        """Return the policy as it is."""
        return policy

    def sync(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Return a context that does nothing: there is one process."""
        del module, last
        return _NOTHING

    def clip(self, parameters: Sequence[Tensor], max_norm: float | None) -> Tensor:
        """Clip the gradients in place; return their total norm `[]` before clipping."""
        return clip_gradients(parameters, max_norm)

    def reduce(self, values: Tensor) -> Tensor:
        """Return `values` `[N]`."""
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return the value in a list."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return the value."""
        return value

    def teardown(self, status: str) -> None:
        """Do nothing."""
        del status


def find_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes CUDA, then MPS, then CPU.

    Raises:
        ConfigError: If it is not there.
    """
    kinds = {"cuda": torch.cuda, "mps": torch.backends.mps, "cpu": torch.cpu}
    here = [kind for kind, module in kinds.items() if module.is_available()]
    if name not in ("auto", *here):
        found = f"device {name!r} is not available on this machine: found {', '.join(here)}"
        raise ConfigError(f"{found}. Use --device auto.")
    return torch.device(here[0] if name == "auto" else name)


def clip_gradients(parameters: Sequence[Tensor], max_norm: float | None) -> Tensor:
    """Scale the gradients so that their total 2-norm is at most `max_norm`.

    Args:
        parameters: Parameters whose gradients to clip, in place.
        max_norm: Largest norm; None only measures.

    Returns:
        The norm `[]` before clipping; 0 if there is no gradient.

    Source:
        Pascanu et al. 2013 (arXiv:1211.5063), algorithm 1.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = whole(torch.nn.utils.get_total_norm(gradients))
    if max_norm is None:
        return norm
    if norm.device.type == "cpu" and norm.item() <= max_norm:
        return norm  # scaling by one would change nothing
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
