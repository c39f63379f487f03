"""Checks of what a dataset derives from its files: statistics, windows, splits, fingerprints."""

from __future__ import annotations

import gc
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai_core.errors import DataError
from simscaleai_devkit.checks import NotApplicable, checks_in, expect, expect_error
from simscaleai_devkit.datasets.samples import (
    MAX_SAMPLES,
    described,
    expect_same,
    opened,
    path_of,
    rows_of,
)
from simscaleai_devkit.subject import Subject


def check_statistics_are_those_of_the_data(subject: Subject) -> None:
    """Statistics equal a recomputation over all timesteps, to 1e-4."""
    data, spec = described(subject)
    if spec.seq_len != 1:
        if "seq_len" not in inspect.signature(subject.target).parameters:
            raise NotApplicable("its windows overlap and it takes no seq_len")
        data = opened(subject, seq_len=1)
        spec = data.describe()
    if not spec.statistics:
        raise NotApplicable("it gives no statistics")
    columns: dict[str, list[Any]] = {key: [] for key in spec.statistics}
    for index in range(len(data)):
        sample = data[index]
        for key, values in columns.items():
            found = sample["actions"] if key == "actions" else sample["observations"][key]
            values.append(found.reshape(-1).double().numpy())
    for key, values in columns.items():
        rows = np.stack(values)
        computed = (rows.mean(0), rows.std(0), rows.min(0), rows.max(0))
        for name, wanted in zip(("mean", "std", "low", "high"), computed, strict=True):
            given = np.asarray(getattr(spec.statistics[key], name))
            expect(
                given.shape == wanted.shape and np.allclose(given, wanted, rtol=1e-4, atol=1e-4),
                f"{name} of {key!r}",
                expected=np.round(wanted, 4),
                found=np.round(given, 4),
                remedy="Compute it over every timestep that samples come from; std of the whole "
                "population.",
            )


def check_windows_stay_in_their_episode(subject: Subject) -> None:
    """Windows of three timesteps are consecutive rows of one episode; none crosses into another."""
    if "seq_len" not in inspect.signature(subject.target).parameters:
        raise NotApplicable("it takes no seq_len")
    rows = opened(subject, seq_len=1)
    if len(rows) == 1:
        raise NotApplicable("it has a single timestep")
    try:
        windows = opened(subject, seq_len=3)
    except DataError as error:
        raise NotApplicable(f"no episode has three timesteps ({error})") from error
    episodes = windows.describe().num_episodes
    if episodes == len(windows) == len(rows):
        raise NotApplicable("each of its samples is an episode of its own")
    wanted = len(rows) - 2 * episodes
    is_all = rows.describe().num_episodes == episodes
    expect(
        not is_all or len(windows) == wanted,
        f"the number of windows of 3 timesteps in {len(rows)} timesteps of {episodes} episodes",
        expected=wanted,
        found=len(windows),
        remedy="Begin no window in the last seq_len - 1 timesteps of an episode.",
    )
    singles = [rows[i]["actions"] for i in range(min(len(rows), MAX_SAMPLES))]
    for index in range(min(len(windows), MAX_SAMPLES // 3)):
        window = windows[index]["actions"]
        starts = [i for i, row in enumerate(singles[:-2]) if torch.equal(row, window[0])]
        follows = any(all(torch.equal(singles[i + t], window[t]) for t in range(3)) for i in starts)
        expect(
            follows or not starts,
            f"window {index}",
            expected="three consecutive timesteps",
            found="others",
            remedy="Take rows start, start + 1, start + 2.",
        )


def check_split_is_by_episode(subject: Subject) -> None:
    """`split` gives two parts that together are the data, the same for the same seed."""
    data, spec = described(subject)
    if spec.num_episodes < 2 or not hasattr(data, "split"):
        raise NotApplicable("it has a single episode, or no split")
    (one, held), (again, _) = data.split(0.5, 3), data.split(0.5, 3)
    expect(
        len(one) + len(held) == len(data) and min(len(one), len(held)) > 0,
        "samples of the two parts of a split",
        expected=f"together {len(data)}, none empty",
        found=f"{len(one)} and {len(held)}",
        remedy="Give every episode to exactly one part.",
    )
    expect_same(
        one[0], again[0], "sample 0 of two splits with one seed", "Draw from the seed only."
    )
    kept = rows_of(held)
    both = [row for row in rows_of(one) if row in kept]
    repeats = len(rows_of(data)) - len(set(rows_of(data)))
    expect(
        len(both) <= repeats,
        "samples in both parts of a split",
        expected="none",
        found=len(both),
        remedy="Give every episode to exactly one part.",
    )


def check_same_data_has_the_same_fingerprint(subject: Subject) -> None:
    """Opened twice, the fingerprint and the statistics are the same: resume compares them."""
    one, two = (described(subject)[1] for _ in range(2))
    fact = "describe() of the same data, opened twice"
    remedy = "Leave times, random numbers and hash() out of it."
    expect(one == two, fact, expected="equality", found="a difference", remedy=remedy)


def check_closes_its_files(subject: Subject) -> None:
    """Opening, reading and dropping it leaves no file open."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        raise NotApplicable("this system does not list open files")
    opened(subject)[0]
    gc.collect()
    before = len(list(folder.iterdir()))
    for _ in range(3):
        opened(subject)[0]
    gc.collect()
    left = len(list(folder.iterdir())) - before
    expect(
        left <= 0,
        "files left open after opening, reading and dropping it three times",
        expected="none",
        found=left,
        remedy="Close them when the data is read, or in __del__.",
    )


def check_missing_file_is_named(subject: Subject) -> None:
    """A path where nothing is gives a `DataError` with the path."""
    if path_of(subject) is None:
        raise NotApplicable("it reads no file")
    path = subject.folder / "no such file.bin"
    expect_error(
        lambda: subject.target(path, **subject.options),
        DataError,
        "opening a file that is not there",
        mentions=[path.name],
        expected="a DataError that names it",
        remedy="Raise simscaleai_core.errors.DataError(message, path=path).",
    )


FILE_CHECKS = checks_in(globals())
"""The checks of this module."""
