"""Checks of what a dataset derives from its files: statistics, windows, splits, fingerprints."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai_core.errors import DataError
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_none,
    raised_by,
    text_of,
)
from simscaleai_devkit.datasets.samples import (
    MAX_SAMPLES,
    actions_of,
    altered,
    described,
    opened,
    parts_of,
    path_of,
    rows_of,
    takes_seq_len,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.leaks import watched_leaks


def check_statistics_are_those_of_the_data(subject: Subject) -> None:
    """Statistics equal a recomputation over all timesteps, to 1e-4; of a split, over its own."""
    data, spec = described(subject)
    if spec.seq_len != 1:
        if not takes_seq_len(subject):
            raise NotApplicable("its windows overlap and it takes no seq_len")
        data = opened(subject, seq_len=1)
        spec = data.describe()
    if not spec.statistics:
        raise NotApplicable("it gives no statistics")
    _expect_statistics(data, "")
    kept = parts_of(data)[0] if spec.num_episodes > 1 else None
    if hasattr(kept, "describe"):
        _expect_statistics(kept, " in the part to train on, without what is held out")


def _expect_statistics(data: Any, where: str) -> None:
    spec = data.describe()
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
                f"{name} of {key!r}{where}",
                expected=np.round(wanted, 4),
                found=np.round(given, 4),
                remedy="Compute it over every timestep that samples come from, and no other; std "
                "of the whole population.",
            )


def check_windows_stay_in_their_episode(subject: Subject) -> None:
    """Windows of three timesteps are consecutive rows of one episode; none crosses into another."""
    if not takes_seq_len(subject):
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
    """`split` gives two parts that together are the data; no episode is in both."""
    data, spec = described(subject)
    one, held = parts_of(data)
    remedy = "Give every episode to exactly one part."
    expect(
        len(one) + len(held) == len(data) and min(len(one), len(held)) > 0,
        "samples of the two parts of a split",
        expected=f"together {len(data)}, none empty",
        found=f"{len(one)} and {len(held)}",
        remedy=remedy,
    )
    kept = rows_of(held)
    both = [row for row in rows_of(one) if row in kept]
    repeats = len(rows_of(data)) - len(set(rows_of(data)))
    fact, is_once = "samples in both parts of a split", len(both) <= repeats
    expect(is_once, fact, expected="none", found=len(both), remedy=remedy)
    if hasattr(one, "describe") and hasattr(held, "describe"):
        counts = [part.describe().num_episodes for part in (one, held)]
        expect(
            sum(counts) == spec.num_episodes,
            "episodes of the two parts of a split",
            expected=f"together {spec.num_episodes}",
            found=" and ".join(map(str, counts)),
            remedy=remedy,
        )
    shared = _shared_timesteps(subject)
    expect(
        not shared, "timesteps in both parts of a split", expected=0, found=shared, remedy=remedy
    )


def _shared_timesteps(subject: Subject) -> int:
    """Return how many timesteps windows of both parts hold; 0 if they cannot be told apart."""
    if not takes_seq_len(subject):
        return 0
    singles = rows_of(opened(subject, seq_len=1), "actions")
    try:
        windows = opened(subject, seq_len=3)
        parts = parts_of(windows)
    except (DataError, NotApplicable):
        return 0  # no episode has three timesteps, or only one has
    if len(set(singles)) < len(singles):
        return 0
    one, held = (actions_of(part) for part in parts)
    return len(one & held)


def check_split_follows_its_seed(subject: Subject) -> None:
    """One seed gives one split, and others give others."""
    data, _ = described(subject)
    first, again = (rows_of(parts_of(data, seed=3)[1]) for _ in range(2))
    fact, remedy = "two splits with one seed", "Draw from a generator with the seed, and no other."
    expect(first == again, fact, expected="the same", found="others", remedy=remedy)
    others = (rows_of(parts_of(data, seed=seed)[1]) for seed in range(4, 20))
    expect(
        any(rows != first for rows in others),
        "the splits of 17 seeds",
        expected="different ones",
        found="one",
        remedy="Choose the episodes with torch.Generator().manual_seed(seed).",
    )


def check_same_data_has_the_same_fingerprint(subject: Subject) -> None:
    """Opened twice, the fingerprint and the statistics are the same: resume compares them.

    Other data has another fingerprint: the other part of a split, or an altered file.
    """
    (data, one), (_, two) = (described(subject) for _ in range(2))
    fact = "describe() of the same data, opened twice"
    remedy = "Leave times, random numbers and hash() out of it."
    expect(one == two, fact, expected="equality", found="a difference", remedy=remedy)
    with suppress(NotApplicable):
        parts = [p.describe() for p in parts_of(data) if hasattr(p, "describe")]
        prints = {p.fingerprint for p in parts} | {one.fingerprint}
        if len(prints) == 1 and parts:
            prints |= _fingerprint_of_other_data(subject, data)
        expect(
            len(prints) > 1 or not parts,
            "the fingerprint of other data",
            expected="another one",
            found=f"{one.fingerprint!r} again",
            remedy="Hash the values that the samples come from.",
        )


def _fingerprint_of_other_data(subject: Subject, data: Any) -> set[str]:
    """Return the fingerprint of the same file with a changed byte, if one can be read."""
    path = path_of(subject)
    if path is None or not Path(path).is_file():
        return set()
    known = rows_of(data)
    for place in (0.5, 0.4, 0.6, 0.7, 0.3, 0.8):
        other = altered(Path(path), place, subject.folder / f"other{Path(path).suffix}")
        with suppress(Exception):  # not every byte can be changed
            found = subject.target(other, **subject.options)
            if rows_of(found) != known:
                return {found.describe().fingerprint}
    return set()


def check_closes_its_files(subject: Subject) -> None:
    """Opening, reading and dropping it leaves no file open; reading again opens no more."""
    if not Path("/proc/self/fd").is_dir():
        raise NotApplicable("this system does not list open files")
    opened(subject)[0]
    with watched_leaks() as left:
        for _ in range(3):
            opened(subject)[0]
    fact = "what opening, reading and dropping it three times left"
    remedy = "Close files when the data is read, or in __del__."
    expect_none(left, fact, expected="nothing", remedy=remedy)
    data = opened(subject)
    count = min(len(data), MAX_SAMPLES)
    rows_of(data)
    with watched_leaks() as left:
        for index in range(count):
            data[index]
    fact = f"what reading {count} samples a second time left open"
    remedy = "Open a file once, or close it in __getitem__."
    expect_none(left, fact, expected="nothing", remedy=remedy)
    del data


def check_missing_file_is_named(subject: Subject) -> None:
    """A path where nothing is gives a `DataError` with the path, in its text or as `path`."""
    if path_of(subject) is None:
        raise NotApplicable("it reads no file")
    path = subject.folder / "no such file.bin"
    error = raised_by(lambda: subject.target(path, **subject.options))
    expect(
        isinstance(error, DataError) and path.name in f"{error} {getattr(error, 'path', '')}",
        "opening a file that is not there",
        expected="a DataError that names it",
        found=text_of(error),
        remedy="Raise simscaleai_core.errors.DataError(message, path=path).",
    )


FILE_CHECKS = checks_in(globals())
"""The checks of this module."""
