"""Batches whose order is a function of (seed, epoch) and whose position is one of the step."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from doors_kit import Backwards, Given, Key, Lazy
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
)
from training_kit import DrawingData, differences, dummy_loader

from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.data.feed import IterableFeed, MapFeed, build_feed, describe, eval_batches
from simscaleai_core.errors import DataError
from simscaleai_core.seeding import capture_rng, seed_everything


class Numbers(Dataset[dict[str, Any]]):
    """Sample i is the number i."""

    def __init__(self, size: int = 20) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.tensor(index)}


def _take(loader: Any, count: int, start: int = 0, **options: Any) -> list[Any]:
    feed = build_feed(loader, **{"seed": 0, **options})
    return list(itertools.islice(feed.batches(start), count))


def _numbers(batches: list[Any]) -> list[list[int]]:
    return [b["x"].tolist() for b in batches]


def _loader(size: int = 20, batch_size: int = 4, **options: Any) -> DataLoader[Any]:
    return DataLoader(Numbers(size), **{"batch_size": batch_size, "shuffle": True, **options})


def test_every_sample_comes_once_an_epoch() -> None:
    batches = _numbers(_take(_loader(), 15))
    for epoch in range(3):
        part = itertools.chain(*batches[5 * epoch : 5 * epoch + 5])
        assert sorted(part) == list(range(20))
    assert batches[:5] != batches[5:10]


def test_the_order_depends_on_the_seed_and_nothing_else() -> None:
    first = _numbers(_take(_loader(), 12))
    seed_everything(123)
    assert _numbers(_take(_loader(), 12)) == first
    assert _numbers(_take(_loader(), 12, seed=1)) != first


@pytest.mark.parametrize("start", range(14))
def test_starting_anywhere_equals_skipping(start: int) -> None:
    whole = _numbers(_take(_loader(18, drop_last=True), 14 + 5))
    assert _numbers(_take(_loader(18, drop_last=True), 5, start)) == whole[start : start + 5]


def test_two_feeds_of_one_loader_do_not_disturb_each_other() -> None:
    loader = _loader()
    feed = build_feed(loader, seed=0)
    first, second = feed.batches(0), feed.batches(7)
    mixed = [(next(first), next(second)) for _ in range(12)]
    assert _numbers([a for a, _ in mixed]) == _numbers(_take(_loader(), 12))
    assert _numbers([b for _, b in mixed]) == _numbers(_take(_loader(), 12, 7))


def test_drawing_batches_leaves_the_global_generators_alone() -> None:
    before = capture_rng()
    _take(DataLoader(DrawingData(), batch_size=4, shuffle=True), 7)
    _take(_loader(), 7)
    assert not differences(before, capture_rng())


@pytest.mark.parametrize("start", [0, 7])
def test_workers_change_nothing_even_if_samples_draw_noise(start: int) -> None:
    """13 batches of 5 per epoch: several epochs, with torch, NumPy and Python noise."""
    found = [
        _take(
            DataLoader(DrawingData(), batch_size=4, shuffle=True, num_workers=n,
                       persistent_workers=n > 0),
            8, start,
        )
        for n in (0, 2)
    ]  # fmt: skip
    assert not differences(found[0], found[1])


def test_noise_differs_from_batch_to_batch() -> None:
    """Negative control: were every batch drawn from one seed, the test above would pass too."""
    loader = DataLoader(DrawingData(4), batch_size=4, shuffle=False)
    first, second = _take(loader, 2)
    assert torch.equal(first["actions"], second["actions"]) is False
    plain = torch.utils.data.default_collate([DrawingData(4)[i] for i in range(4)])
    assert differences(first, plain)


@pytest.mark.parametrize("drop_last", [True, False])
def test_drop_last(drop_last: bool) -> None:
    feed = build_feed(_loader(10, drop_last=drop_last), seed=0)
    assert feed.steps_per_epoch == (2 if drop_last else 3)
    sizes = [len(b["x"]) for b in itertools.islice(feed.batches(0), 6)]
    assert sizes == ([4] * 6 if drop_last else [4, 4, 2, 4, 4, 2])


def test_subset() -> None:
    loader = DataLoader(Subset(Numbers(20), [3, 5, 7, 11]), batch_size=2, shuffle=True)
    assert {n for b in _numbers(_take(loader, 2)) for n in b} == {3, 5, 7, 11}


def test_subset_of_data_in_memory_is_gathered_here() -> None:
    data = DummyTrajectoryDataset(20, obs_dim=3)
    loader = DataLoader(Subset(Subset(data, range(10)), [1, 2, 3, 4]), batch_size=2, num_workers=2)
    feed = build_feed(loader, seed=0)
    assert feed.facts["workers"].startswith("0 (the data is in memory")
    batch = next(feed.batches(0))
    assert torch.equal(batch["actions"], torch.stack([data[1]["actions"], data[2]["actions"]]))
    spec = describe(loader)
    assert spec is not None
    assert spec.fingerprint == data.describe().fingerprint


def test_whole_batches_equal_single_samples() -> None:
    data = DummyTrajectoryDataset(12, obs_dim=3, include_image=True, image_size=(4, 4),
                                  include_language=True)  # fmt: skip
    batch = _take(DataLoader(data, batch_size=5, shuffle=False), 1)[0]
    rows = [data[i] for i in range(5)]
    assert torch.equal(batch["actions"], torch.stack([r["actions"] for r in rows]))
    images = torch.stack([r["observations"]["image"] for r in rows])
    assert torch.equal(batch["observations"]["image"], images)
    assert batch["language"] == [r["language"] for r in rows]


def test_a_plain_loader_reads_the_same_data() -> None:
    """`Collated` is a sequence of samples to everyone else."""
    data = DummyTrajectoryDataset(8, obs_dim=3)
    plain = next(iter(DataLoader(data, batch_size=4)))
    ours = _take(DataLoader(data, batch_size=4), 1)[0]
    assert not differences(plain, ours)


def test_a_custom_collate_function_is_used() -> None:
    loader = _loader(collate_fn=lambda samples: {"sum": sum(int(s["x"]) for s in samples)})
    assert sum(b["sum"] for b in _take(loader, 5)) == sum(range(20))


def test_a_custom_collate_function_with_whole_batches() -> None:
    data = DummyTrajectoryDataset(8, obs_dim=3)
    loader = DataLoader(data, batch_size=4, collate_fn=lambda rows: {"n": len(list(rows))})
    assert _take(loader, 1)[0] == {"n": 4}


def test_weighted_sampler_is_replayed() -> None:
    def make() -> DataLoader[Any]:
        weights = torch.arange(1.0, 21.0)
        return DataLoader(Numbers(), batch_size=4, sampler=WeightedRandomSampler(weights, 16))

    feed = build_feed(make(), seed=0)
    assert feed.facts["order"] == "replayed"
    assert feed.steps_per_epoch == 4
    whole = _numbers(_take(make(), 10))
    assert _numbers(_take(make(), 4, 6)) == whole[6:]
    assert whole[:4] != whole[4:8]


def test_a_sampler_with_its_own_generator_is_replayed_and_left_as_it_was() -> None:
    def make() -> tuple[DataLoader[Any], torch.Generator]:
        generator = torch.Generator().manual_seed(77)
        sampler = RandomSampler(Numbers(), generator=generator)
        return DataLoader(Numbers(), batch_size=4, sampler=sampler), generator

    loader, generator = make()
    before = generator.get_state()
    whole = _numbers(_take(loader, 10))
    assert torch.equal(generator.get_state(), before)
    assert _numbers(_take(make()[0], 4, 6)) == whole[6:]
    assert sorted(itertools.chain(*whole[:5])) == list(range(20))


def test_a_loader_with_a_generator_is_replayed() -> None:
    def make() -> DataLoader[Any]:
        return _loader(generator=torch.Generator().manual_seed(5))

    whole = _numbers(_take(make(), 10))
    assert _numbers(_take(make(), 3, 7)) == whole[7:]
    assert whole[:5] != whole[5:]


def test_a_batch_sampler_is_used() -> None:
    batches = BatchSampler(SequentialSampler(Numbers(10)), batch_size=3, drop_last=False)
    loader = DataLoader(Numbers(10), batch_sampler=batches)
    assert _numbers(_take(loader, 5)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9], [0, 1, 2]]


class RandomBatches(BatchSampler):
    """A batch sampler that shuffles with a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(20, generator=self.generator).tolist()
        return iter([order[i : i + 4] for i in range(0, 20, 4)])


def test_a_batch_sampler_with_a_generator_is_replayed_or_said_not_to_be() -> None:
    feed = build_feed(DataLoader(Numbers(), batch_sampler=RandomBatches()), seed=0)
    whole = _numbers(list(itertools.islice(feed.batches(0), 8)))
    again = _numbers(_take(DataLoader(Numbers(), batch_sampler=RandomBatches()), 3, 5))
    assert again == whole[5:] or feed.facts["order"].startswith("not replayable")
    assert sorted(itertools.chain(*whole[:5])) == list(range(20))


class OwnSource(torch.utils.data.Sampler[int]):
    """Draws from a source that nobody else knows."""

    def __init__(self) -> None:
        self.source = iter(itertools.count())

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[int]:
        shift = next(self.source)
        return iter([(i + shift) % 20 for i in range(20)])


def test_a_sampler_with_a_source_of_its_own_is_said_not_to_be_replayable() -> None:
    feed = build_feed(DataLoader(Numbers(), batch_size=4, sampler=OwnSource()), seed=0)
    assert feed.facts["order"] == "not replayable: OwnSource draws from a source of its own"


class EpochSampler(torch.utils.data.Sampler[int]):
    """Like DistributedSampler: the order depends on what `set_epoch` was told."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[int]:
        return iter([(i + self.epoch) % 20 for i in range(20)])


def test_set_epoch_is_told_the_epoch_and_not_the_step() -> None:
    def make() -> DataLoader[Any]:
        return DataLoader(Numbers(), batch_size=4, sampler=EpochSampler())

    whole = _numbers(_take(make(), 15))
    assert [whole[5 * e][0] for e in range(3)] == [0, 1, 2]
    assert _numbers(_take(make(), 3, 11)) == whole[11:14]


def test_iterable_data_is_said_not_to_be_replayable() -> None:
    class Endless(IterableDataset[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter({"x": torch.tensor(i)} for i in range(6))

    feed = build_feed(DataLoader(Endless(), batch_size=2), seed=0)
    assert isinstance(feed, IterableFeed)
    assert feed.facts["order"] == "not replayable: Endless can only be read through again"
    assert feed.steps_per_epoch is None
    batches = list(itertools.islice(feed.batches(0), 5))
    assert _numbers(batches) == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]


def test_a_list_of_batches_is_replayed() -> None:
    data = [{"x": torch.tensor([i])} for i in range(3)]
    feed = build_feed(data, seed=0)
    assert feed.facts["order"] == "replayed"
    assert feed.steps_per_epoch == 3
    assert _numbers(list(itertools.islice(feed.batches(4), 4))) == [[1], [2], [0], [1]]


def test_nothing_to_iterate_is_an_error_and_not_an_endless_loop() -> None:
    with pytest.raises(DataError, match="gives no batch"):
        _take([], 1)
    used_up = iter([{"x": torch.tensor([0])}])
    with pytest.raises(DataError, match="used up"):
        _take(used_up, 2)


def test_too_little_data_is_refused_before_training() -> None:
    with pytest.raises(DataError, match="3 samples do not fill one step of 8 samples"):
        build_feed(_loader(3, 8, drop_last=True), seed=0)
    with pytest.raises(DataError, match="on each of 4 ranks"):
        build_feed(_loader(6, 2), seed=0, world_size=4)


class Unpicklable(Exception):
    """Hangs a plain DataLoader: its arguments do not build it again."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"bad sample {a}{b}")
        self.thing = lambda: None


class Failing(Numbers):
    """Raises at one sample."""

    def __init__(self, error: Exception) -> None:
        super().__init__(20)
        self.error = error

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 6:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("error", [ValueError("bad sample 12"), Unpicklable(1, 2)], ids=repr)
def test_an_exception_in_a_worker_is_a_data_error_and_does_not_hang(error: Exception) -> None:
    loader = DataLoader(Failing(error), batch_size=4, shuffle=False, num_workers=1)
    with pytest.raises(DataError) as caught:
        _take(loader, 5)
    assert f"{type(error).__name__} in a loader worker: bad sample 12" in str(caught.value)


@pytest.mark.timeout(30)
def test_a_data_error_keeps_its_place_through_a_worker() -> None:
    error = DataError("not finite", path="a.h5", episode="episode_3", key="actions")
    loader = DataLoader(Failing(error), batch_size=4, shuffle=False, num_workers=1)
    with pytest.raises(DataError, match=r"^not finite$") as caught:
        _take(loader, 5)
    found = caught.value
    assert (str(found.path), found.episode, found.key) == ("a.h5", "episode_3", "actions")


class UnpicklableSamples(Numbers):
    """Gives samples that no queue can carry."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.tensor(index), "f": lambda: None}


@pytest.mark.timeout(30)
def test_an_unpicklable_batch_in_a_worker_is_a_data_error() -> None:
    """torch's queue thread drops it; only a timeout ends the wait."""
    loader = DataLoader(
        UnpicklableSamples(), batch_size=4, num_workers=1, collate_fn=lambda rows: {"rows": rows},
        timeout=2,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"timed out|worker"):
        _take(loader, 1)


class Dying(Numbers):
    """Kills the process that reads sample 6, as the system does when memory is short."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.timeout(30)
def test_a_killed_worker_is_a_data_error() -> None:
    with pytest.raises(DataError, match="worker"):
        _take(DataLoader(Dying(), batch_size=4, num_workers=1), 5)


def test_without_workers_an_exception_is_the_datasets_own() -> None:
    with pytest.raises(ValueError, match="bad sample"):
        _take(DataLoader(Failing(ValueError("bad sample")), batch_size=4), 5)


def test_two_ranks_of_half_the_batch_see_the_samples_of_one_rank() -> None:
    one = _numbers(_take(_loader(24, 4), 18))
    ranks = [_numbers(_take(_loader(24, 2), 18, rank=r, world_size=2)) for r in range(2)]
    for step, whole in enumerate(one):
        assert ranks[0][step] + ranks[1][step] == whole


def test_ranks_take_the_same_number_of_steps_and_no_short_batch() -> None:
    """22 samples in batches of 4 are 5 whole ones and a short one: 2 steps of 2 ranks."""
    feeds = [build_feed(_loader(22, 4), seed=0, rank=r, world_size=2) for r in range(2)]
    assert {f.steps_per_epoch for f in feeds} == {2}
    for feed in feeds:
        assert {len(b["x"]) for b in itertools.islice(feed.batches(0), 6)} == {4}


def test_a_short_last_batch_does_not_make_the_order_of_ranks_inexact() -> None:
    feed = build_feed(_loader(22, 4), seed=0, world_size=2)
    assert feed.facts["order"] == "replayed"


def test_eval_batches_go_through_the_data_once() -> None:
    for loader in (dummy_loader(10, shuffle=False), DataLoader(Numbers(10), batch_size=4)):
        first = next(iter(loader))
        batches = list(eval_batches(loader))
        key = "actions" if "actions" in first else "x"
        assert [len(b[key]) for b in batches] == [4, 4, 2]
        assert not differences(first, batches[0])


def test_map_feed_is_chosen_for_map_data() -> None:
    assert isinstance(build_feed(_loader(), seed=0), MapFeed)
    unbatched = DataLoader(Numbers(), batch_size=None)
    assert not isinstance(build_feed(unbatched, seed=0), MapFeed)


def test_a_sampler_gives_the_order() -> None:
    batches = _numbers(_take(_loader(), 7, sampler=("it", Backwards())))
    assert batches[0] == [19, 18, 17, 16]
    assert batches[5] == [18, 17, 16, 15]  # the next epoch
    assert _numbers(_take(_loader(), 2, start=5, sampler=("it", Backwards()))) == batches[5:]
    twice = _numbers(_take(_loader(), 10, sampler=("it", Lazy())))
    assert sorted(itertools.chain(*twice)) == sorted([*range(20)] * 2)


def test_ranks_share_a_samplers_order() -> None:
    each = [
        _numbers(_take(_loader(), 2, sampler=("it", Backwards()), rank=rank, world_size=2))
        for rank in (0, 1)
    ]
    assert each == [[[19, 18, 17, 16], [11, 10, 9, 8]], [[15, 14, 13, 12], [7, 6, 5, 4]]]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "expected a sequence of indices, got NoneType"),
        ([0.5] * 20, "expected a sequence of indices, got list"),
        (["a"], "expected a sequence of indices, got list"),
        (torch.ones(20), "expected a sequence of indices, got Tensor"),
        ([20], r"found 1, \[20\] of them outside"),
        ([-1, 3], r"found 2, \[-1\] of them outside"),
        ([], "the data is too small"),
        (lambda epoch: range(8 + epoch), "expected 8 indices below 20 in epoch 1.*found 9, none"),
    ],
)
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_order_that_cannot_be_used_is_named(found: Any, message: str, drop_last: bool) -> None:
    with pytest.raises(DataError, match=message):
        _take(_loader(drop_last=drop_last), 3, sampler=("it", Given(found)))


def _with_keys(count: int, *names: str, workers: int = 0, **options: Any) -> list[Any]:
    loader = _loader(num_workers=workers)
    return _take(loader, count, transforms=[(name, Key(name)) for name in names], **options)


def test_the_key_of_a_transform_is_of_seed_epoch_and_index_alone() -> None:
    batches = _with_keys(10, "a")
    keys = [
        dict(zip(*(torch.cat([b[k] for b in part]).tolist() for k in ("x", "a")), strict=True))
        for part in (batches[:5], batches[5:])
    ]
    assert all(len({*epoch.values()}) == 20 and min(epoch.values()) >= 0 for epoch in keys)
    assert not {*keys[0].values()} & {*keys[1].values()}
    (other,) = _take(_loader(shuffle=False), 1, transforms=[("z", Key("z")), ("acme/a", Key("a"))])
    assert other["a"].tolist() == [keys[0][i] for i in other["x"].tolist()]
    assert not {*other["z"].tolist()} & {*other["a"].tolist()}  # two must not draw the same
    assert not {*_with_keys(1, "a", seed=1)[0]["a"].tolist()} & {*keys[0].values()}


def test_transforms_draw_the_same_in_workers_and_after_a_resume() -> None:
    here = _with_keys(6, "a", "b")
    assert differences(_with_keys(6, "a", "b", workers=2), here) == []
    assert differences(_with_keys(2, "a", "b", start=4), here[4:]) == []


def test_a_transform_without_a_sample_is_named() -> None:
    class Forgets(Key):
        def __call__(self, sample: dict[str, Any], key: int) -> Any:
            return None

    with pytest.raises(
        DataError, match=r"the transform 'it' failed, TypeError.*given one with 'x'"
    ):
        _take(_loader(), 1, transforms=[("it", Forgets("it"))])
