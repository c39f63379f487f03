"""The samples of a step of a run: where each comes from, and its loss under given weights."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.utils.data import Subset

from simscaleai_core.cli.from_config import LoadedData
from simscaleai_core.cli.recorded import RecordedRun
from simscaleai_core.contracts import Batch
from simscaleai_core.data.batches import sample_count, split_batch, to_device
from simscaleai_core.data.feed import MapFeed, build_feed
from simscaleai_core.data.mixture import Mixture
from simscaleai_core.errors import DataError
from simscaleai_core.host.components import build_component, transforms_of
from simscaleai_core.seeding import forked_rng


@frozen(kw_only=True)
class Origin:
    """Where a sample comes from; None is what its dataset does not say."""

    file: str | None
    """The file or folder."""
    weight: float | None
    """Share of its dataset in a mixture (0 to 1)."""
    episode: str | None
    """Name of the episode."""
    timesteps: range | None
    """Timesteps of the window; those outside of the episode repeat its edge."""


@frozen(kw_only=True)
class Sample:
    """One sample of one step."""

    step: int
    """The step, as metrics count: the first is 1."""
    rank: int
    """The rank that trained on it."""
    micro_batch: int
    """Number of the micro-batch of its rank, from 0."""
    index: int
    """Index in the training data."""
    source: str | None
    """Name of its dataset in a mixture."""
    origin: Origin
    """Where it comes from."""
    padded: int
    """Timesteps outside of the episode."""
    loss: float
    """Its loss under the weights in question."""
    picture: Mapping[str, Tensor]
    """The images of its last observation, float32 `[C, H, W]` in [0, 1], if asked for."""

    @property
    def place(self) -> str:
        """Episode and timesteps in words, such as ``episode_3 12:20``."""
        episode = self.origin.episode
        return f"sample {self.index}" if episode is None else f"{episode} {self.window}"

    @property
    def window(self) -> str:
        """The timesteps as Python slices them, such as ``12:20``, or ``12`` for a single one."""
        steps = self.origin.timesteps
        if steps is None:
            return ""
        if len(steps) == 1:
            return str(steps.start)
        return f"{steps[0]}:{steps[-1] + 1}" + (f":{steps.step}" if steps.step > 1 else "")


@frozen(kw_only=True)
class EpisodeLoss:
    """The losses of the samples of one episode."""

    file: str | None
    """The file or folder."""
    episode: str
    """Name of the episode, or the sample where the data names none."""
    samples: int
    """Number of its samples."""
    mean: float
    """Mean of their losses."""
    excess: float
    """How far the mean is above that of all samples [standard errors]."""
    worst: Sample
    """The sample with the largest loss."""


def feeds_of(run: RecordedRun, data: LoadedData, policy: nn.Module, ranks: Iterable[int]) -> Any:
    """Return the feed of each rank, as the run had it.

    Args:
        run: What the checkpoint says.
        data: Its data.
        policy: Says whether it wants the samples' keys.
        ranks: The ranks.

    Returns:
        Feeds by rank.

    Raises:
        DataError: If the order of the samples cannot be replayed.
    """
    config, host = run.config, run.host
    name = config.sampler
    order: dict[str, Any] = {
        "seed": config.seed,
        "world_size": run.world_size,
        "has_keys": bool(getattr(policy, "wants_sample_keys", False)),
        "accumulate": config.accumulate,
        "sampler": (name, build_component(host, "sampler", name, config)) if name else None,
        "transforms": transforms_of(host, config),
    }
    feeds = {rank: build_feed(data.train_loader, rank=rank, **order) for rank in ranks}
    told = run.tree["facts"].get("order", "replayed")
    if told != "replayed" or not all(isinstance(feed, MapFeed) for feed in feeds.values()):
        raise DataError(
            f"the order of the samples of {run.path} is {told}: expected data with indices and "
            "a sampler that draws from the seed. It cannot be asked for a step."
        )
    return feeds


def samples_of(
    run: RecordedRun,
    data: LoadedData,
    policy: nn.Module,
    feeds: Mapping[int, MapFeed],
    steps: range,
    *,
    has_pictures: bool = False,
) -> Iterator[Sample]:
    """Yield the samples of some steps, each with its loss.

    Args:
        run: What the checkpoint says.
        data: Its data.
        policy: In eval mode; gives the losses.
        feeds: The feed of each rank that is asked for.
        steps: The steps, as metrics count: the first is 1.
        has_pictures: Whether the samples keep their images.

    Yields:
        The samples in their order.
    """
    dataset = data.train_loader.dataset
    for rank, feed in feeds.items():
        batches = itertools.islice(feed.batches(steps.start - 1), len(steps))
        for step, batch in zip(steps, batches, strict=True):
            indices = feed.indices(step - 1)
            losses = sample_losses(policy, batch, run.config.seed)
            micro = _micro_batches(len(indices), run.config.accumulate)
            padding = batch.get("is_pad")
            for place, index in enumerate(indices):
                yield Sample(
                    step=step,
                    rank=rank,
                    micro_batch=micro[place],
                    index=index,
                    source=batch["source"][place] if "source" in batch else None,
                    origin=origin_of(dataset, index),
                    padded=0 if padding is None else int(padding[place].sum()),
                    loss=losses[place],
                    picture=_pictures(batch, place) if has_pictures else {},
                )


def sample_losses(policy: nn.Module, batch: Batch, seed: int) -> list[float]:
    """Return the loss of each sample: what the policy says, else that of each one alone.

    Args:
        policy: In eval mode, on the CPU.
        batch: The samples `[B, ...]`.
        seed: Seed of what the policy draws.

    Returns:
        The losses, one for each sample.
    """
    size = sample_count(batch)
    moved = to_device(batch, torch.device("cpu"))
    with torch.no_grad(), forked_rng(seed):
        losses = policy(moved).get("sample_loss")
        if isinstance(losses, Tensor) and losses.shape == (size,):
            found: list[float] = losses.float().tolist()
            return found
    alone = []
    for part in split_batch(moved, size):
        with torch.no_grad(), forked_rng(seed):
            alone.append(float(policy(part)["loss"]))
    return alone


def origin_of(dataset: Any, index: int) -> Origin:
    """Return where a sample comes from, seen through mixtures and subsets.

    A dataset with ``locate(index)`` says the episode's name and the timesteps.
    """
    weight = None
    while isinstance(dataset, (Subset, Mixture)):
        if isinstance(dataset, Subset):
            index, dataset = int(dataset.indices[index]), dataset.dataset
            continue
        ends = list(itertools.accumulate(dataset.sizes))
        source = next(place for place, end in enumerate(ends) if index < end)
        index, weight = index - (ends[source] - dataset.sizes[source]), dataset.weights[source]
        dataset = dataset.datasets[source]
    locate, path = getattr(dataset, "locate", None), getattr(dataset, "path", None)
    episode, timesteps = locate(index) if locate else (None, None)
    return Origin(
        file=None if path is None else str(path),
        weight=weight,
        episode=episode,
        timesteps=timesteps,
    )


def by_loss(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples by their loss, the largest first; what is not finite comes before all."""
    return sorted(samples, key=lambda s: s.loss if math.isfinite(s.loss) else math.inf)[::-1]


def by_episode(samples: Sequence[Sample]) -> list[EpisodeLoss]:
    """Gather samples by episode.

    Args:
        samples: Samples of any steps.

    Returns:
        The episodes; the one whose losses are most clearly too large comes first.

    Source:
        Ours: the z-score of an episode's mean among all samples, (mean - overall mean) /
        (standard deviation / sqrt(n)); a single large loss counts less than many.
    """
    groups: dict[tuple[str | None, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        name = sample.origin.episode or f"sample {sample.index}"
        groups[sample.origin.file, name].append(sample)
    losses = torch.tensor([s.loss for s in samples if math.isfinite(s.loss)], dtype=torch.float64)
    overall = float(losses.mean()) if len(losses) else 0.0
    spread = float(losses.std(correction=0)) if len(losses) else 0.0
    found = []
    for (file, name), group in groups.items():
        mean = sum(s.loss for s in group) / len(group)
        excess = (mean - overall) * math.sqrt(len(group)) / (spread or 1.0)
        found.append(
            EpisodeLoss(
                file=file,
                episode=name,
                samples=len(group),
                mean=mean,
                excess=excess if math.isfinite(excess) else math.inf,
                worst=by_loss(group)[0],
            )
        )
    return sorted(found, key=lambda e: -e.excess)


def _micro_batches(size: int, parts: int) -> list[int]:
    """Return the micro-batch of each place in a batch."""
    pieces = split_batch({"place": list(range(size))}, parts)
    return [number for number, piece in enumerate(pieces) for _ in piece["place"]]


def _pictures(batch: Batch, place: int) -> dict[str, Tensor]:
    """Return the images `[C, H, W]` of a sample's last observation."""
    images = to_device(batch, torch.device("cpu"))["observations"]
    found = {}
    for key, value in images.items():
        image = value[place]
        image = image[-1] if image.ndim == 4 else image
        if image.ndim == 3 and image.shape[0] in (1, 3):
            found[key] = image
    return found
