"""One process on one device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

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
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    here = {"cuda": has_cuda, "mps": has_mps, "cpu": True}
    chosen = next(n for n, there in here.items() if there) if name == "auto" else name
    if not here[chosen]:
        there = ", ".join(n for n, is_there in here.items() if is_there)
        raise ConfigError(
            f"device {name!r} is not available on this machine: found {there}. Use --device auto."
        )
    return torch.device(chosen)


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
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm is None:
        return norm
    if norm.device.type == "cpu" and norm.item() <= max_norm:
        return norm  # scaling by one would change nothing
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
