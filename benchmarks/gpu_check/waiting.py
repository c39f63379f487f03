"""How often the host waits for the device between logging windows: it should be never.

A host that waits in every step cannot give the device its next work in time. torch tells of each
operation that waits (``torch.cuda.set_sync_debug_mode``), but for those of other libraries.
"""

from __future__ import annotations

import importlib
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from checks import Context, Found
from work import configuration, loader_of, open_data

from simscaleai_core import Trainer
from simscaleai_core.hookspecs import simscale_on_step_end, simscale_transform_batch
from simscaleai_core.run.state import Run

_POLICIES = "simscaleai_plugin_bc.policies"
RUNS: Sequence[tuple[str, str, dict[str, Any], str, tuple[str, ...]]] = (
    ("bc, fp32", "simscaleai_plugin_bc.policy:BCPolicy", {"dropout": 0.1}, "fp32", ()),
    ("bc, bf16, ema", "simscaleai_plugin_bc.policy:BCPolicy", {}, "bf16", ("ema",)),
    ("bc with images", "simscaleai_plugin_bc.policy:BCPolicy",
     {"use_image": True, "augment_shift": 2, "augment_colour": 0.1}, "bf16", ()),
    ("bc-gmm, bf16", f"{_POLICIES}:MixturePolicy", {}, "bf16", ()),
    ("bc-diffusion, bf16", f"{_POLICIES}:DiffusionPolicy", {}, "bf16", ()),
    ("bc-flow, bf16", f"{_POLICIES}:FlowPolicy", {}, "bf16", ()),
    ("act, bf16", "simscaleai_plugin_bc.act:ACTPolicy", {}, "bf16", ()),
    ("bc-rnn, bf16", "simscaleai_plugin_bc.recurrent:RecurrentPolicy", {}, "bf16", ()),
    ("vla, bf16, ema", "simscaleai_plugin_vla.policy:VLAPolicy", {}, "bf16", ("ema",)),
    ("vla with diffusion", "simscaleai_plugin_vla.policy:VLAPolicy",
     {"action_head_type": "diffusion"}, "bf16", ("throughput",)),
)  # fmt: skip
"""Name, policy, its options, precision and extensions. float16 is not among them: its loss scaling
reads on the host whether a step is skipped."""
_WINDOW, _STEPS = 8, 24


class Sentinel:
    """Has torch tell of waits from the first batch of a window to its last step."""

    def __init__(self) -> None:
        self.step = 0

    @simscale_transform_batch
    def begin(self, run: Run, batch: dict[str, Any]) -> dict[str, Any]:
        """Watch from here on."""
        self.step = run.step
        torch.cuda.set_sync_debug_mode("warn")
        return batch

    @simscale_on_step_end
    def end(self, run: Run) -> None:
        """Stop watching before the window is read."""
        if run.step % run.config.log_every == 0:
            torch.cuda.set_sync_debug_mode("default")


def no_waiting(context: Context, found: Found) -> None:
    """Train each for three windows and count the waits; the first window may set something up."""
    for number, (name, target, options, precision, extensions) in enumerate(RUNS):
        try:
            first, later = _waits(context, number, target, options, precision, extensions)
        except Exception as error:  # noqa: BLE001 - the others are to be counted all the same
            found.faults.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[:1]}")
            continue
        finally:
            torch.cuda.set_sync_debug_mode("default")
        places = "; ".join(f"{place} ({count})" for place, count in later.most_common(3))
        found.rows.append(
            {"run": name, "first window": first.total(), "later": later.total(), "where": places}
        )
        found.expect(not later, f"{name}: {later.total()} waits, at {places}")
    found.facts["runs"] = len(found.rows)
    found.facts["waits"] = sum(row["later"] for row in found.rows)


def _waits(
    context: Context,
    number: int,
    target: str,
    options: dict[str, Any],
    precision: str,
    extensions: tuple[str, ...],
) -> tuple[Counter[str], Counter[str]]:
    """Return where the host waited in the first window, and in the later ones."""
    module, _, kind = target.partition(":")
    policy_class: Any = getattr(importlib.import_module(module), kind)
    options = {"size": context.sizes.vla, **options} if kind == "VLAPolicy" else options
    dataset = open_data(context, policy_class, **options)
    policy = policy_class.from_data(dataset.describe(), **options)
    config = configuration(
        context, str(number), steps=_STEPS, precision=precision, log_every=_WINDOW,
        extensions=extensions,
    )  # fmt: skip
    sentinel, first, later = Sentinel(), Counter[str](), Counter[str]()

    def note(message: Warning | str, *_: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            (first if sentinel.step < _WINDOW else later)[_place()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        Trainer(policy, loader_of(context, dataset), config, listeners=[sentinel]).train()
    return first, later


def _place() -> str:
    """Return the line of this project that the host waits at, else torch's own."""
    stack = [f for f in traceback.extract_stack() if f.filename != __file__]
    ours = [f for f in stack if "/simscaleai_" in f.filename]
    frame = (ours or stack)[-1]
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
