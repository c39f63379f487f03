"""A second set of a policy's weights that follows the first one slowly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simscaleai_core.checkpoint.schema import tensor_mismatches
from simscaleai_core.checkpoint.spread import is_spread
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError


class Shadow:
    """The exponential moving average of a policy's parameters and buffers.

    Floating-point tensors are averaged; others, such as counters, are copied. Lists are built
    once: one fused call per step instead of one per tensor.

    Args:
        policy: The policy, on its device. Its parameters must stay the same objects; of those that
            are spread over the ranks this rank's part is averaged.
        decay: Share of the average that survives one update [unitless, 0 to 1], once there were
            enough updates for it; see `update`.
    """

    def __init__(self, policy: nn.Module, decay: float) -> None:
        self._decay = decay
        self.updates = 0
        """Updates since the average began."""
        self._parameters = list(policy.parameters())
        # a module may replace a buffer by a new tensor, so buffers are looked up each time; a
        # shared one is kept once, or swapping it twice would mix it up
        self._slots = list(
            {
                id(buffer): (module, name)
                for module in policy.modules()
                for name, buffer in module.named_buffers(recurse=False)
            }.values()
        )
        self._copies = [t.detach().clone() for t in self._live()]
        self._averaged = [i for i, t in enumerate(self._copies) if t.is_floating_point()]
        self._exact = [i for i, t in enumerate(self._copies) if not t.is_floating_point()]
        self._floats = [_own(self._copies[i]) for i in self._averaged]
        by_identity = {id(t): c for t, c in zip(self._live(), self._copies, strict=True)}
        saved = policy.state_dict(keep_vars=True)
        self.tensors = {n: by_identity[id(t)] for n, t in saved.items() if id(t) in by_identity}
        """The averages under their names in the policy's state dict; tied weights share one."""

    def reset(self) -> None:
        """Start again from the policy's weights as they are."""
        self.updates = 0
        with torch.no_grad():
            for copy, live in zip(self._copies, self._live(), strict=True):
                copy.copy_(live)

    def update(self) -> None:
        """Move the average towards the policy's weights: a = d a + (1 - d) w.

        After n updates d is (1 + n) / (10 + n), at most the decay asked for: an average that
        began long ago would else be full of the initial weights.

        Source:
            Polyak and Juditsky 1992 (Acceleration of stochastic approximation by averaging), with
            exponential weights; the warm-up is that of TensorFlow's ExponentialMovingAverage.
        """
        live = self._live()
        weight = 1.0 - min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        with torch.no_grad():
            if self._floats:
                torch._foreach_lerp_(self._floats, [_own(live[i]) for i in self._averaged], weight)
            for i in self._exact:
                self._copies[i].copy_(live[i])

    def swap(self) -> None:
        """Exchange the average and the policy's weights; a second call undoes it to the bit."""
        with torch.no_grad():
            for copy, live in zip(self._copies, self._live(), strict=True):
                kept = live.clone()
                live.copy_(copy)
                copy.copy_(kept)

    def load(self, tensors: StateDict, updates: int) -> None:
        """Take averages back.

        Args:
            tensors: The averages by name.
            updates: How often they had been updated.

        Raises:
            CheckpointError: If they do not fit the policy; every tensor at fault is named.
        """
        faults = tensor_mismatches(self.tensors, tensors)
        if type(updates) is not int or updates < 0:
            faults.append(f"updates is {updates!r:.40}")
        if faults:
            raise CheckpointError(
                f"the moving average does not fit the policy: {'; '.join(faults[:10])}. Resume "
                "without the extension 'ema', or build the policy as it was trained.",
                path="",
            )
        self.reset()  # for buffers that are not saved
        for name, copy in self.tensors.items():
            copy.copy_(tensors[name])
        self.updates = updates

    def _live(self) -> list[Tensor]:
        buffers = [getattr(module, name) for module, name in self._slots]
        return [*self._parameters, *buffers]


def _own(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor `[...]`, the same memory."""
    part: Tensor = tensor.detach().to_local() if is_spread(tensor) else tensor
    return part
