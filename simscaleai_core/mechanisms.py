"""The protocols of a run's mechanism, each chosen by name, and the events that it fires."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from simscaleai_core.contracts import Batch, StateDict

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Precision(Protocol):
    """How numbers are kept in the forward and backward pass. One is chosen per run.

    A precision target is called as ``target(config, options)``.
    """

    effective: str
    """What is really in effect, such as ``"float32"``; printed and stored."""

    def setup(self, device: torch.device) -> None:
        """Learn the device, once, before anything else is called."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass; the same object each time."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass from the loss `[]`."""
        ...

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the gradients back to their true scale; called exactly once per step."""
        ...

    def step(self, optimizer: torch.optim.Optimizer, norm: Tensor, veto: bool) -> bool | Tensor:
        """Update the parameters unless the gradient norm `[]` is not finite or a listener vetoed.

        Returns:
            Whether the update was applied: a bool, or a bool tensor `[]` on the device where
            reading it would stall the device.
        """
        ...

    def state_dict(self) -> StateDict:
        """Return the state of the gradient scaler; empty if there is none."""
        ...

    def load_state_dict(self, state: StateDict) -> None:
        """Take the state of the gradient scaler back."""
        ...


class Strategy(Protocol):
    """How the work is spread over devices and processes. One is chosen per run.

    A strategy target is called as ``target(config, options)``.
    """

    effective: str
    """What is really in effect, such as ``"single"``; printed and stored."""
    device: torch.device
    """Where this process computes."""
    rank: int
    """Global rank of this process; rank 0 writes."""
    world_size: int
    """Number of processes."""

    def setup(self, policy: nn.Module) -> nn.Module:
        """Wrap the policy, which is on the device, for training."""
        ...

    def sync(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Return the context around one micro-batch; gradients are shared only on the last."""
        ...

    def clip(self, parameters: Sequence[Tensor], max_norm: float | None) -> Tensor:
        """Clip the gradients in place; return their total norm `[]` before clipping."""
        ...

    def reduce(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over ranks of `values` `[N]`."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return the plain value of every rank, in the order of ranks."""
        ...

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's plain value on every rank."""
        ...

    def teardown(self, status: str) -> None:
        """Release what `setup` took; `status` is ``"done"``, ``"stopped"`` or ``"failed"``."""
        ...


class Logger(Protocol):
    """Where metrics go. Several per run, on rank 0 only.

    A logger target is called as ``target(config, options)``. One that can hold pictures also has
    ``log_pictures(pictures, step)``: uint8 arrays `[H, W, 3]` by name.
    """

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Begin, or continue at `step`: rows after it, left by a killed run, are to be dropped.

        Args:
            facts: Effective settings of the run, plain values.
            step: Steps already completed.
        """
        ...

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record host floats for a step."""
        ...

    def close(self, status: str) -> None:
        """Flush and finish; `status` is ``"done"``, ``"stopped"`` or ``"failed"``."""
        ...


class CheckpointBackend(Protocol):
    """How a checkpoint's tree becomes bytes. One is chosen per run.

    Names, atomic commit, checksums, retention and recovery are the core's; a backend only
    writes and reads one file, or one directory, that it is given. A target is called as
    ``target(config, options)``. It may have event hooks, as an extension has; a backend that only
    reads hears none.

    Optional attribute: ``is_sharded``, True if `save` is to be called on every rank with one path,
    each time in the same order, so that every rank writes its part of a directory. Rank 0 commits
    after its own `save` returned: it must return there only when every part is written, and raise
    there if a part failed. All ranks must reach the directory under that path.
    """

    suffix: str
    """File name suffix with the dot, such as ``".pt"``."""

    def save(self, path: Path, tree: StateDict) -> None:
        """Write the tree (tensors and plain containers) to a fresh file or directory."""
        ...

    def load(self, path: Path) -> StateDict:
        """Read a tree back, tensors on the CPU, without executing anything from the file."""
        ...


def is_sharded(backend: CheckpointBackend) -> bool:
    """Return whether every rank writes a part of a backend's checkpoints."""
    return bool(getattr(backend, "is_sharded", False))


def _nothing(*_: Any) -> None:
    """Hear nothing: the event of a run without listeners."""


@frozen(kw_only=True)
class Events:
    """What a run fires, compiled once: hot events as tuples, so that no listener costs nothing."""

    transform_batch: tuple[Callable[[Any, Batch], Batch], ...] = ()
    grads_ready: tuple[Callable[[Any], bool | None], ...] = ()
    step_end: tuple[Callable[[Any, Mapping[str, Any]], None], ...] = ()
    run_setup: Callable[[Any], None] = _nothing
    run_start: Callable[[Any], None] = _nothing
    eval_context: tuple[Callable[[Any], AbstractContextManager[Any] | None], ...] = ()
    metrics: Callable[[Any, dict[str, float]], None] = _nothing
    eval_end: Callable[[Any, str, Mapping[str, float]], None] = _nothing
    checkpoint_saved: Callable[[Any, Any], None] = _nothing
    run_exception: Callable[[Any, BaseException], None] = _nothing
    run_end: Callable[[Any, str], None] = _nothing
    hook: Any = None
    """Fires hooks that plugins define, by name: a pluggy relay."""
