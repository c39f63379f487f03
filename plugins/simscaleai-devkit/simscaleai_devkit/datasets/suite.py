"""Checks of datasets: descriptions and samples; and the suite with all checks of them."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch.utils.data import DataLoader

from simscaleai_core.contracts import DataSpec
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_error,
    expect_none,
    must_work,
    slow,
)
from simscaleai_devkit.datasets.files import FILE_CHECKS
from simscaleai_devkit.datasets.samples import (
    MAX_SAMPLES,
    described,
    expect_same,
    lead_of,
    opened,
    tensors_of,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite


def check_describes_itself(subject: Subject) -> None:
    """`describe` counts the samples and gives shapes, a fingerprint and finite statistics."""
    data = opened(subject)
    remedy = "Return simscaleai_core.contracts.DataSpec."
    with must_work("describe()", expected="a DataSpec", remedy=remedy):
        spec = data.describe()
    is_spec, kind = isinstance(spec, DataSpec), type(spec).__name__
    expect(is_spec, "describe()", expected="a DataSpec", found=kind, remedy=remedy)
    expect(
        spec.num_samples == len(data) and len(data) > 0,
        "num_samples of describe()",
        expected=f"{len(data)}, as len()",
        found=spec.num_samples,
        remedy="Count the samples that this object serves.",
    )
    expect(
        spec.fingerprint,
        "the fingerprint",
        expected="a digest of the data",
        found="nothing",
        remedy="Hash shapes and values; resume compares it.",
    )


def check_samples_match_the_description(subject: Subject) -> None:
    """Keys, order, shapes and dtypes of the samples are those of `describe`."""
    data, spec = described(subject)
    for index in {0, len(data) // 2, len(data) - 1}:
        sample = data[index]
        found = {k: tuple(v.shape) for k, v in sample["observations"].items()}
        wanted = {k: lead_of(spec, observed=True) + tuple(s) for k, s in spec.observations.items()}
        expect(
            list(found.items()) == list(wanted.items()),
            f"the observations of sample {index}",
            expected=wanted,
            found=found,
            remedy="Let describe() and __getitem__ agree in keys, their order and shapes.",
        )
        shape = (*lead_of(spec, observed=False), spec.action_dim)
        expect(
            tuple(sample["actions"].shape) == shape,
            f"the actions of sample {index}",
            expected=shape,
            found=tuple(sample["actions"].shape),
            remedy="Let action_dim and seq_len of describe() agree with the samples.",
        )
        dtypes = {k: v.dtype for k, v in tensors_of(sample).items() if k != "is_pad"}
        wrong = [f"{k}: {dtype}" for k, dtype in dtypes.items() if dtype != torch.float32]
        remedy = "Convert with .float(); images to [0, 1]."
        expect_none(wrong, f"dtypes of sample {index}", expected="float32", remedy=remedy)


def check_images_are_in_range(subject: Subject) -> None:
    """Images lie in [0, 1], channels first."""
    data, spec = described(subject)
    if not spec.image_keys:
        raise NotApplicable("it has no images")
    for key in spec.image_keys:
        image = data[0]["observations"][key]
        expect(
            float(image.min()) >= 0 and float(image.max()) <= 1 and image.shape[-3] in {1, 3, 4},
            f"the image {key!r} {list(image.shape)}",
            expected="values in [0, 1], shape [C, H, W]",
            found=f"{float(image.min()):.3g} to {float(image.max()):.3g}",
            remedy="Divide by 255 and move the channels to the front.",
        )


def check_language_is_text(subject: Subject) -> None:
    """Samples carry a text under ``language`` if, and only if, `describe` declares it."""
    data, spec = described(subject)
    sample = data[0]
    expect(
        ("language" in sample) == spec.language and isinstance(sample.get("language", ""), str),
        "the instruction of sample 0",
        expected="text" if spec.language else "none, as describe() declares",
        found=repr(sample.get("language")),
        remedy="Set `language` of describe() to what samples have.",
    )


def check_samples_repeat(subject: Subject) -> None:
    """One index gives the same sample each time, and what was taken out can be changed."""
    data = opened(subject)
    first = copy.deepcopy(data[0])
    taken = data[0]
    expect_same(
        first, taken, "sample 0, taken twice", "Draw nothing in __getitem__; augment later."
    )
    for tensor in tensors_of(taken).values():
        tensor.zero_()
    fact = "sample 0 after the one taken before was set to zero"
    expect_same(first, data[0], fact, "Return copies, not views into the data.")


def check_index_bounds(subject: Subject) -> None:
    """Negative indices count from the end, and others outside raise `IndexError`."""
    data = opened(subject)
    expect_same(data[len(data) - 1], data[-1], "sample -1", "Add len() to negative indices.")
    for index in (len(data), -len(data) - 1):
        fact = f"sample {index} of {len(data)}"
        remedy = "Check the index: a loop over the dataset ends with it."
        call = partial(data.__getitem__, index)
        expect_error(call, IndexError, fact, expected="IndexError", remedy=remedy)


def check_batches_are_the_samples(subject: Subject) -> None:
    """`__getitems__` gives what the single samples are, in the order asked for, as copies."""
    data = opened(subject)
    if not hasattr(data, "__getitems__"):
        raise NotApplicable("it has no __getitems__")
    indices = [len(data) - 1, 0, len(data) // 2, 0]
    for index, sample in zip(indices, data.__getitems__(indices), strict=True):
        fact = f"sample {index} as a row of a batch"
        expect_same(data[index], sample, fact, "Gather in the order of the indices.")
    first = copy.deepcopy(data[0])
    for sample in data.__getitems__(list(range(min(len(data), MAX_SAMPLES)))):
        for tensor in tensors_of(sample).values():
            tensor.zero_()
    fact = "sample 0 after a batch with it was set to zero"
    expect_same(first, data[0], fact, "Return copies, not views into the data.")


def check_pickles(subject: Subject) -> None:
    """It pickles, also after reading: worker processes get a copy."""
    data = opened(subject)
    first = data[0]
    remedy = "Drop open files in __getstate__ and open them again when they are needed."
    with must_work("a pickle of the dataset", expected="a copy", remedy=remedy):
        other = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own bytes
    expect_same(first, other[0], "sample 0 of a pickled copy", "Keep everything that samples need.")


def check_workers_give_the_same(subject: Subject) -> None:
    """Two forked loader workers give the samples that the main process gives."""
    _check_workers(subject, "fork")


@slow
def check_spawned_workers_give_the_same(subject: Subject) -> None:
    """Two spawned loader workers give the samples that the main process gives."""
    _check_workers(subject, "spawn")


class DatasetSuite(Suite):
    """Checks of a dataset. One that reads files needs `write_data`, or `path`."""

    kind: ClassVar[str] = "dataset"
    checks = (*checks_in(globals()), *FILE_CHECKS)

    path: ClassVar[Path | str | None] = None
    """A small file to read, with several episodes."""

    @classmethod
    def write_data(cls, folder: Path) -> Path | str | None:
        """Write a small file with several episodes, and return its path; None if it reads none."""
        del folder
        return cls.path


def _check_workers(subject: Subject, method: str) -> None:
    data = opened(subject)
    count = min(len(data), MAX_SAMPLES)
    part = torch.utils.data.Subset(data, range(count))
    loader = DataLoader(
        part, batch_size=None, num_workers=2, multiprocessing_context=method, timeout=60
    )
    remedy = "Open files in the worker that reads them, and let the dataset pickle."
    with must_work(f"two workers ({method})", expected="samples", remedy=remedy):
        found = list(loader)
    for index, sample in enumerate(found):
        fact = f"sample {index} of a worker"
        expect_same(data[index], sample, fact, "Open files in each worker.")
