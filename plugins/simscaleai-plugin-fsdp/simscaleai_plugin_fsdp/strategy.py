"""Torch's ``fully_shard`` behind the strategy protocol of the core."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from simscaleai_plugin_ddp.options import DDPOptions
from simscaleai_plugin_ddp.strategy import DDPStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.run.evaluation import gathered
from simscaleai_plugin_fsdp.blocks import blocks_of, compute_again
from simscaleai_plugin_fsdp.options import FSDPOptions

logger = logging.getLogger("simscaleai")

_NOTHING = nullcontext()
_MEETING = ("timeout_s", "join_timeout_s", "hang_timeout_s")  # as with the strategy ddp
_BFLOAT16 = {"float32": None, "bfloat16": torch.bfloat16}


class FSDPStrategy(DDPStrategy):
    """One process per device, each with a part of parameters, gradients and optimiser state.

    See `simscaleai_core.contracts.Strategy`. Ranks meet, gather and end as with the strategy `ddp`.
    Buffers, such as a normaliser's statistics, are whole on every rank.

    Args:
        config: Gives `backend` and `device`.
        options: What is sharded, and how.

    Raises:
        ConfigError: If the ranks cannot be divided as the options say.

    Source:
        Zhao et al. 2023 (PyTorch FSDP, arXiv:2304.11277); Rajbhandari et al. 2020 (ZeRO,
        arXiv:1910.02054), stage 3.
    """

    places_policy = True

    def __init__(self, config: TrainConfig, options: FSDPOptions) -> None:
        self._sharding = options
        super().__init__(config, DDPOptions(**{name: getattr(options, name) for name in _MEETING}))
        if self.world_size % options.replicate:
            raise ConfigError(
                f"{self.world_size} ranks cannot hold {options.replicate} copies of the policy: "
                "expected a divisor of the number of ranks. Change --fsdp.replicate."
            )
        copies = f", {options.replicate} copies" if options.replicate > 1 else ""
        self.effective = f"fsdp{self.effective.removeprefix('ddp')}{copies}"
        if options.param_dtype != "float32":
            self.effective += f", {options.param_dtype} parameters"

    def setup(self, policy: nn.Module) -> nn.Module:
        """Return the policy with rank 0's weights, its parameters sharded in place.

        Raises:
            ConfigError: If a pattern of the options matches no module.
        """
        with torch.no_grad():  # on the host: a block goes to the device when it is sharded
            for tensor in (*policy.parameters(), *policy.buffers()):
                dist.broadcast(tensor, src=0, group=self._host_group)
        options, blocks = self._sharding, blocks_of(policy, self._sharding.blocks)
        if not blocks and self.rank == 0:
            logger.warning(
                "the policy is sharded as one piece, which saves no memory in a step: it names no "
                "blocks. Name the classes of its layers with --fsdp.blocks."
            )
        how: dict[str, Any] = {
            "mesh": self._mesh(),
            "reshard_after_forward": options.reshard_after_forward,
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=_BFLOAT16[options.param_dtype],
                reduce_dtype=_BFLOAT16[options.reduce_dtype] or torch.float32,
                cast_forward_inputs=False,
            ),
            "offload_policy": self._offload(),
        }
        for block in blocks:
            if options.checkpoint_activations:
                compute_again(block)
            fully_shard(block, **how)
        fully_shard(policy, **how)
        if dtype := _BFLOAT16[options.param_dtype]:
            whole: Any = policy
            whole.forward = torch.autocast(self.device.type, dtype=dtype)(policy.forward)
        return policy

    def sync(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Return a context that does nothing.

        The gradients of every micro-batch are reduced: kept till the last, they would be whole.
        """
        del module, last
        return _NOTHING

    @contextmanager
    def gathered(self, policy: nn.Module) -> Iterator[None]:
        """Return a context in which every rank has all parameters, for evaluations."""
        with gathered(policy, reshard=self._sharding.reshard_after_forward), self._autocast():
            yield

    def _backend(self, asked: str) -> str:
        backend = super()._backend(asked)
        # what is kept on the host is also reduced and gathered there
        return "cpu:gloo,cuda:nccl" if backend == "nccl" and self._sharding.cpu_offload else backend

    def _mesh(self) -> DeviceMesh:
        """Return the ranks in rows: each row shards one copy of the policy."""
        copies, kind = self._sharding.replicate, self.device.type
        if copies == 1:
            return init_device_mesh(kind, (self.world_size,))
        names = ("replicate", "shard")
        return init_device_mesh(kind, (copies, self.world_size // copies), mesh_dim_names=names)

    def _offload(self) -> OffloadPolicy:
        if not self._sharding.cpu_offload:
            return OffloadPolicy()
        return CPUOffloadPolicy(pin_memory=self.device.type == "cuda")

    def _autocast(self) -> AbstractContextManager[Any]:
        """Return a context that brings what meets the parameters to their number format."""
        dtype = _BFLOAT16[self._sharding.param_dtype]
        return torch.autocast(self.device.type, dtype=dtype) if dtype else _NOTHING
