"""Mixed precision: the forward pass in a 16-bit format, weights and gradients in float32."""

from __future__ import annotations

import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.builtin.fp32 import guarded_step
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError, ConfigError
from simscaleai_plugin_amp.options import AmpOptions

_ON_A_CPU = "float32 (amp on a CPU costs more than it gives; --amp.on-cpu to insist)"
_EMULATED = " (emulated: this GPU has no bfloat16; --amp-dtype float16 is faster)"
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class MixedPrecision:
    """Autocast in the forward pass. See `simscaleai_core.contracts.Precision`.

    bfloat16 has the range of float32 and needs no more than that. float16 does not: its loss is
    scaled so that small gradients survive, and the factor follows what the gradients bear.

    Args:
        config: Gives `amp_dtype`.
        options: The plugin's options; the defaults if None.

    Source:
        Micikevicius et al. 2018 (Mixed precision training, arXiv:1710.03740), section 3.
    """

    effective = "float32"

    def __init__(self, config: TrainConfig, options: AmpOptions | None = None) -> None:
        self._dtype_name = config.amp_dtype
        self._options = options or AmpOptions()
        self._context: AbstractContextManager[Any] = nullcontext()
        self._scaler: torch.amp.GradScaler | None = None
        self._is_applied = False
        self._unscaled: set[torch.optim.Optimizer] = set()  # and not stepped yet

    def setup(self, device: torch.device) -> None:
        """Build the autocast context, and the gradient scaler for float16.

        Raises:
            ConfigError: If the device cannot compute in the format.
        """
        if device.type == "cpu" and not self._options.on_cpu:
            self.effective = _ON_A_CPU
            return
        self._context = _build_context(device, self._dtype_name)
        self.effective = f"{self._dtype_name} autocast"
        if self._dtype_name == "float16":
            self._scaler = torch.amp.GradScaler(
                device.type,
                init_scale=self._options.init_scale,
                growth_interval=self._options.growth_interval,
            )
            self.effective += ", loss scaling"
        elif device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            self.effective += _EMULATED

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass; the same object each time."""
        return self._context

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass from the loss `[]`, scaled for float16."""
        torch.autograd.backward(loss if self._scaler is None else self._scaler.scale(loss))

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the gradients back to their true scale; torch refuses a second call per step."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
            self._unscaled.add(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, norm: Tensor, veto: bool) -> bool | Tensor:
        """Update unless a gradient or the norm `[]` is not finite or a listener vetoed.

        With float16 the norm is read on the host, so that the answer is exact at once.

        Returns:
            Whether the update was applied: a bool with float16 and on the CPU, else a bool
            tensor `[]` on the device.
        """
        if self._scaler is None:
            return guarded_step(optimizer, norm, veto)
        self._is_applied = False
        groups = optimizer.param_groups
        has_gradient = any(p.grad is not None for group in groups for p in group["params"])
        if has_gradient and not veto and math.isfinite(norm.item()):
            # the hook runs inside the step, where a fused optimiser still knows `found_inf`
            watch = optimizer.register_step_post_hook(self._on_step)
            try:
                self._scaler.step(optimizer)
            finally:
                watch.remove()
        self._unscaled.discard(optimizer)
        if not self._unscaled:  # the factor is one for all optimisers of a step
            # what `unscale` found decides here too, so a skipped step lowers the factor
            self._scaler.update()
        return self._is_applied

    def state_dict(self) -> StateDict:
        """Return the state of the gradient scaler; empty if there is none."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """Take the state of the gradient scaler back; the growth interval stays the option's.

        Raises:
            CheckpointError: If the checkpoint has a gradient scaler and this run has none, or the
                other way round, or if its state is not one.
        """
        if bool(state) != (self._scaler is not None):
            theirs, ours = ("a", "none") if state else ("no", "one")
            raise CheckpointError(
                f"the checkpoint was trained with {theirs} gradient scaler, this run has {ours} "
                f"({self.effective}): continue with the precision and the amp_dtype that it was "
                "trained with.",
                path="",
            )
        if self._scaler is not None:
            wanted = self._scaler.state_dict().keys()
            if state.keys() != wanted or not all(map(_is_finite, state.values())):
                raise CheckpointError(
                    f"scaler_state_dict: expected finite numbers for {', '.join(wanted)}, found "
                    f"{state!r:.200}. Use another checkpoint.",
                    path="",
                )
            interval = self._options.growth_interval
            self._scaler.load_state_dict({**state, "growth_interval": interval})

    def _on_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Note whether the step that is just ending changed anything.

        An ordinary optimiser gets here only if the scaler let it step; a fused one always does
        and leaves the parameters alone if `found_inf` is set.
        """
        del args, kwargs
        found_inf = getattr(optimizer, "found_inf", None)
        self._is_applied = found_inf is None or not found_inf.item()


def _is_finite(value: object) -> bool:
    return type(value) in {int, float} and math.isfinite(value)  # type: ignore[arg-type]


def _build_context(device: torch.device, dtype_name: str) -> AbstractContextManager[Any]:
    """Return the autocast context; torch itself knows best what a device can do."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns, and then quietly computes in float32
            return torch.autocast(device.type, dtype=_DTYPES[dtype_name])
    except (RuntimeError, UserWarning) as error:
        reason = str(error).splitlines()[0].rstrip(". ")
        raise ConfigError(
            f"the device {device.type!r} has no {dtype_name} autocast: {reason}. Choose another "
            "--amp-dtype, or --precision fp32."
        ) from error
