"""What the checks train: episodes, policies, loaders and configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from checks import Context, Found
from simscaleai_plugin_bc.policy import BCPolicy
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.writer import EpisodeWriter
from simscaleai_plugin_vla.policy import VLAPolicy
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core import TrainConfig

STATE_DIM, ACTION_DIM = 7, 4
INSTRUCTIONS = ("reach the red ball", "push the cube to the left", "lift the green block")
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def write_data(context: Context, found: Found) -> None:
    """Write episodes as recordings have them: states, pictures of moving squares, instructions.

    Actions are a function of the state, so that there is something to learn.
    """
    sizes, draw = context.sizes, np.random.default_rng(0)
    weights = draw.normal(size=(STATE_DIM, ACTION_DIM)) / STATE_DIM
    with EpisodeWriter(context.data) as writer:
        for number in range(sizes.episodes):
            states = draw.normal(size=(sizes.length, STATE_DIM)).astype(np.float32)
            writer.write(
                {"joint_pos": states, "image": _pictures(states, sizes.pixels)},
                np.tanh(states @ weights),
                np.zeros(sizes.length),
                language=INSTRUCTIONS[number % len(INSTRUCTIONS)],
                success=True,
            )
    found.facts["samples"] = sizes.episodes * sizes.length
    found.facts["file_mib"] = round(context.data.stat().st_size / 2**20, 1)


def bc(context: Context, **options: Any) -> tuple[BCPolicy, DataLoader[Any]]:
    """Return behaviour cloning from the states, and its loader."""
    dataset = open_data(context, BCPolicy, **options)
    torch.manual_seed(0)
    return BCPolicy.from_data(dataset.describe(), **options), loader_of(context, dataset)


def vla(context: Context, **options: Any) -> tuple[VLAPolicy, DataLoader[Any]]:
    """Return the policy that sees images and follows instructions, and its loader."""
    options = {"size": context.sizes.vla, **options}
    dataset = open_data(context, VLAPolicy, **options)
    torch.manual_seed(0)
    return VLAPolicy.from_data(dataset.describe(), **options), loader_of(context, dataset)


def open_data(
    context: Context, policy: Any, *, gib: float = 8.0, **options: Any
) -> TrajectoryDataset:
    """Open the episodes as a policy with these options wants them.

    Args:
        context: What the check was given.
        policy: Its class.
        gib: Memory that images may take [GiB].
        options: The policy's options.
    """
    wanted = policy.data_options(**options)
    keys = ["joint_pos", "image"] if wanted.pop("include_image", False) else ["joint_pos"]
    return TrajectoryDataset(context.data, obs_keys=keys, cache_images_gib=gib, **wanted)


def loader_of(
    context: Context, dataset: Any, *, batch: int | None = None, workers: int = 0
) -> DataLoader[Any]:
    """Return a loader as the command line makes it."""
    return DataLoader(
        dataset,
        batch_size=batch or context.sizes.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=context.device == "cuda",
    )


def configuration(
    context: Context, name: str, *, steps: int, precision: str = "fp32", **more: Any
) -> TrainConfig:
    """Return the configuration of a run, in a folder of its own.

    Args:
        context: What the check was given.
        name: Name of the folder.
        steps: Length of the run [steps].
        precision: fp32, bf16 or fp16.
        more: Other fields.
    """
    amp = precision in _DTYPES
    return TrainConfig(**{
        "max_steps": steps,
        "warmup_steps": 2,
        "lr": 1e-3,
        "log_every": 4,
        "eval_every": 0,
        "save_every": 0,
        "num_workers": 0,
        "device": context.device,
        "checkpoint_dir": str(context.folder / name),
        "loggers": ("jsonl",),
        "precision": "amp" if amp else "fp32",
        "amp_dtype": _DTYPES.get(precision, "bfloat16"),
        "options": {"amp": {"on_cpu": True}} if amp else {},
        **more,
    })  # fmt: skip


def differing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return where two trees of tensors and plain values are not equal to the bit."""
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        ours, theirs = dict(enumerate(ours)), dict(enumerate(theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = ours.keys() | theirs.keys()
        both = ((k, ours.get(k), theirs.get(k)) for k in sorted(keys, key=str))
        return [place for k, a, b in both for place in differing(a, b, f"{path}.{k}")]
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return [] if torch.equal(ours, theirs) else [path]
    return [] if ours == theirs else [path]


def weights_of(policy: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a policy's tensors, on the host."""
    return {name: value.detach().cpu().clone() for name, value in policy.state_dict().items()}


def read(path: Path) -> dict[str, Any]:
    """Return a checkpoint's tree, tensors on the host."""
    tree: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return tree


def _pictures(states: np.ndarray[Any, Any], pixels: int) -> np.ndarray[Any, Any]:
    """Return pictures `[T, H, W, 3]` of a slope of grey with a square where the state says.

    With noise of two bits, so that they do not shrink to nothing in the file.
    """
    shape = (len(states), pixels, pixels, 3)
    frames = np.random.default_rng(1).integers(0, 4, shape, dtype=np.uint8)
    frames += np.linspace(30, 200, pixels, dtype=np.uint8)[:, None, None]
    side = pixels // 6
    corners = ((np.tanh(states[:, :2]) + 1) / 2 * (pixels - side)).astype(int)
    for frame, (row, column) in zip(frames, corners, strict=True):
        frame[row : row + side, column : column + side] = (220, 40, 40)
    return frames
