"""Two ranks as two threads of this process, which exchange what they have at every meeting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Barrier, BrokenBarrierError, Thread
from typing import Any

import torch
from torch import Tensor, nn

from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Batch

_WAIT_S = 5.0


class LostRankError(RuntimeError):
    """The other rank did not come to an exchange."""


class _Meeting:
    """Where the two ranks exchange what they have."""

    def __init__(self) -> None:
        self._barrier = Barrier(2, timeout=_WAIT_S)
        self._values: list[Any] = [None, None]

    def exchange(self, rank: int, what: str, value: Any) -> list[Any]:
        """Return the values of both ranks, in the order of ranks.

        Raises:
            LostRankError: If the other rank does not come, or for something else.
        """
        self._values[rank] = (what, value)
        try:
            self._barrier.wait()
            found = list(self._values)
            self._barrier.wait()
        except BrokenBarrierError:
            raise LostRankError(f"rank {rank} waits in {what} for the other") from None
        if found[0][0] != found[1][0]:
            raise LostRankError(f"rank 0 is in {found[0][0]}, rank 1 in {found[1][0]}")
        return [value for _, value in found]

    def leave(self) -> None:
        """Keep the other rank from waiting for this one, which has failed."""
        self._barrier.abort()


class ThreadRank(SingleDevice):
    """One of two ranks. Gradients are averaged as DistributedDataParallel does it.

    That is at the end of the last micro-batch of a pass, if its forward pass went through the
    wrapped policy.
    """

    effective = "two threads"
    world_size = 2

    def __init__(self, config: TrainConfig, rank: int, meeting: _Meeting) -> None:
        super().__init__(config)
        self.rank = rank
        self._meeting = meeting
        self._module: _Wrapped | None = None

    def setup(self, policy: nn.Module) -> nn.Module:
        """Wrap the policy, and give it rank 0's weights."""
        for value in policy.state_dict().values():
            value.copy_(self._meeting.exchange(self.rank, "setup", value.clone())[0])
        self._module = _Wrapped(policy)
        return self._module

    @contextmanager
    def sync(self, module: nn.Module, last: bool) -> Iterator[None]:
        """Average the gradients over ranks at the end of the last micro-batch."""
        yield
        if not (last and isinstance(module, _Wrapped) and module.is_called):
            return
        module.is_called = False
        for parameter in module.parameters():
            if parameter.requires_grad:
                both = self._meeting.exchange(self.rank, "gradients", parameter.grad)
                present = [gradient for gradient in both if gradient is not None]
                parameter.grad = sum(present[1:], present[0]) / 2 if present else None

    def reduce(self, values: Tensor) -> Tensor:
        """Return the sum over ranks of `values` `[N]`."""
        one, other = self._meeting.exchange(self.rank, "reduce", values.clone())
        total: Tensor = one + other
        return total

    def gather(self, value: Any) -> list[Any]:
        """Return the values of both ranks."""
        return self._meeting.exchange(self.rank, "gather", value)

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value."""
        return self._meeting.exchange(self.rank, "broadcast", value)[0]


class _Wrapped(nn.Module):
    """The policy as a strategy wraps it."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.module = policy
        self.is_called = False

    def forward(self, batch: Batch) -> Any:
        self.is_called = self.is_called or torch.is_grad_enabled()
        return self.module(batch)


def on_two_ranks(config: TrainConfig, function: Callable[[ThreadRank], Any]) -> list[Any]:
    """Run a function on two ranks.

    An exception of either comes through: that of the rank that failed, not of the one that waits.

    Args:
        config: The run's configuration.
        function: What each rank does, with its strategy.

    Returns:
        What each rank returned.
    """  # noqa: DOC501 - what is raised is theirs
    meeting, found, errors = _Meeting(), [None, None], list[BaseException]()

    def work(rank: int) -> None:
        try:
            torch.set_grad_enabled(True)  # each thread has its own mode
            found[rank] = function(ThreadRank(config, rank, meeting))
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)
            meeting.leave()

    threads = [Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise min(errors, key=lambda e: isinstance(e, LostRankError))
    return found
