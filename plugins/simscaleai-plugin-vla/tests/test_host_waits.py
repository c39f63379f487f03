"""A training step never makes the host wait for the device, whichever policy is trained.

On the meta device, which has no numbers: what reads one raises, and copies from the host are seen.
"""

from __future__ import annotations

import importlib

import pytest
import torch
from simscaleai_plugin_extensions.shadow import Shadow
from torch.overrides import TorchFunctionMode

from simscaleai_core.builtin.single import clip_gradients
from simscaleai_core.run.metrics import MetricWindow, scalars_of

META = torch.device("meta")
BC, FAMILY = "simscaleai_plugin_bc.policy:BCPolicy", "simscaleai_plugin_bc.policies"
VLA = "simscaleai_plugin_vla.policy:VLAPolicy"
VARIED = {"augment_shift": 2, "augment_colour": 0.1}
QUICK = [
    (BC, {}, None),
    (f"{FAMILY}:MixturePolicy", {}, "horizon"),
    (VLA, {"size": "debug", "vary_words_after": 1}, "action_horizon"),
]
SLOW = [
    (BC, {"use_image": True, **VARIED}, None),
    (BC, {"sources": ["arm", "hand"], "statistics": "by_source", "state_keys": ["state"]}, None),
    (f"{FAMILY}:ChunkedBCPolicy", {}, "horizon"),
    (f"{FAMILY}:DiffusionPolicy", {}, "horizon"),
    (f"{FAMILY}:FlowPolicy", {}, "horizon"),
    ("simscaleai_plugin_bc.act:ACTPolicy", {}, "horizon"),
    (VLA, {"size": "debug", "action_head_type": "diffusion", **VARIED}, "action_horizon"),
    (VLA, {"size": "debug", "action_head_type": "flow"}, "action_horizon"),
]


class BlockingCopies(TorchFunctionMode):
    """Notes copies from the host to the device that the host waits for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        makes = func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
        moves = func is torch.Tensor.to and args[0].device.type == "cpu"
        waits = (makes or moves) and not (kwargs or {}).get("non_blocking")
        if waits and out.device.type == "meta":
            self.found.append(func.__name__)
        return out


def build(target, options):
    module, _, name = target.partition(":")
    kind = getattr(importlib.import_module(module), name)
    seen = options.get("use_image") or name == "VLAPolicy"
    with META:
        return kind(20, 4, **({"image_size": 32} if seen else {}), **options), seen


def batch_for(policy, seen, horizon, size=4):
    observations = {"state": torch.randn(size, 20, device=META)}
    if seen:
        observations["image"] = torch.rand(size, 3, 32, 32, device=META)
    steps = (getattr(policy.options, horizon),) if horizon else ()
    batch = {"observations": observations, "actions": torch.randn(size, *steps, 4, device=META)}
    batch["source"] = ["arm", "hand"] * (size // 2)
    if horizon:
        batch["is_pad"] = torch.zeros(size, *steps, dtype=torch.bool, device=META)
        batch["language"] = ["reach the red ball", "push the cube"] * (size // 2)
    return batch


@pytest.mark.parametrize(
    ("target", "options", "horizon"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_a_step_reads_nothing_from_the_device(target, options, horizon):
    policy, seen = build(target, options)
    batch = batch_for(policy.train(), seen, horizon)
    shadow, window = Shadow(policy, 0.99), MetricWindow()
    with BlockingCopies() as copies:
        for step in range(2):
            out = policy(batch)
            out["loss"].backward()
            norm = clip_gradients(list(policy.parameters()), 1.0)
            window.add({**scalars_of(out), "grad_norm": norm}, step)
            shadow.update()
        window.state_dict()
    assert copies.found == []


def test_such_a_copy_is_seen():
    with BlockingCopies() as copies:
        torch.zeros(3).to(META)
        torch.zeros(3).to(META, non_blocking=True)
        torch.zeros(3, device=META).new_tensor(1.0)
    assert copies.found == ["to", "new_tensor"]
    with pytest.raises(RuntimeError, match="meta"):
        int(torch.zeros((), device=META))
