"""Whether the image feed keeps the device busy.

Samples per second of the feed alone, of training from images in memory and from the file with
loader workers, and of training with batches that stay on the device. The last is the most that the
device can do; what training with the feed lacks of it is the share of the time that it waits.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from checks import Context, Found
from simscaleai_plugin_vla.policy import VLAPolicy
from speed import Clock, build_batches, build_policy, now
from torch.utils.data import DataLoader
from work import configuration, loader_of, open_data

from simscaleai_core import Trainer
from simscaleai_core.data.batches import to_device
from simscaleai_core.data.feed import build_feed


def feed(context: Context, found: Found) -> None:
    """Time every way, and compare training with and without the feed."""
    memory = _loader(context, gib=8.0)
    on_device = build_batches(context, context.sizes.feed)
    rates = {
        "feed alone, images in memory": _alone(context, memory),
        "feed alone, from the file": _alone(context, _loader(context, gib=0.0)),
        "training, batches on the device": _training(context, on_device),
        "training, images in memory": _training(context, memory),
        "training, from the file": _training(context, _loader(context, gib=0.0)),
    }
    most = rates["training, batches on the device"]
    for name, rate in rates.items():
        row = {"way": name, "samples/s": round(rate), "waiting": ""}
        if name.startswith("training, ") and rate is not most:
            row["waiting"] = f"{max(0.0, 1 - rate / most):.1%}"
        found.rows.append(row)
    size = context.sizes.feed
    found.facts |= {
        "preset": size.preset,
        "batch": size.batch,
        "pixels": context.sizes.pixels,
        "workers_for_the_file": context.sizes.workers,
        "busy_from_memory": round(min(1.0, rates["training, images in memory"] / most), 3),
        "busy_from_the_file": round(min(1.0, rates["training, from the file"] / most), 3),
    }


def _loader(context: Context, *, gib: float) -> DataLoader[Any]:
    """Return a loader of images in memory, or of none there and workers that read the file."""
    dataset = open_data(context, VLAPolicy, gib=gib, size=context.sizes.feed.preset)
    workers = 0 if gib else context.sizes.workers
    return loader_of(context, dataset, batch=context.sizes.feed.batch, workers=workers)


def _alone(context: Context, loader: DataLoader[Any]) -> float:
    """Return the samples per second that reach the device as float images."""
    steps, device = context.sizes.timed_steps, torch.device(context.device)
    batches = build_feed(loader, seed=0).batches(0)
    to_device(next(batches), device)  # workers have started
    begun = now(context.device)
    for batch in itertools.islice(batches, steps):
        to_device(batch, device)
    return steps * context.sizes.feed.batch / (now(context.device) - begun)


def _training(context: Context, batches: Any) -> float:
    """Return the samples per second of training, from the first window on."""
    size, clock = context.sizes.feed, Clock(context.device, context.sizes.timed_steps)
    name = str(len(list(context.folder.iterdir())))
    config = configuration(
        context, name, steps=clock.num_steps, precision="bf16", log_every=20,
        checkpoint_backend="safetensors",
    )  # fmt: skip
    Trainer(build_policy(context, size), batches, config, listeners=[clock]).train()
    return size.batch / clock.seconds
