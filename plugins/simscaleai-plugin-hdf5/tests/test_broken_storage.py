"""Every file that points elsewhere, needs foreign code or holds odd text is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

from simscaleai_core.errors import DataError

Edit = Callable[[h5py.File], None]
Refusal = Callable[[], DataError]
CASES: list[Any] = []


def broken(message: str, episode: str | None = None, key: str | None = None) -> Any:
    """Register an edit of a sound file, and what must be said about it."""

    def register(edit: Edit) -> Edit:
        CASES.append(pytest.param(edit, message, episode, key, id=edit.__name__))
        return edit

    return register


def replace(file: h5py.File, name: str, **options: Any) -> None:
    del file[name]
    file.create_dataset(name, **options)


@broken(r"'ee_pos' of episode_1: expected data inside the file, got a soft link", "episode_1")
def soft_link(file: h5py.File) -> None:
    del file["episode_1/observations/ee_pos"]
    file["episode_1/observations/ee_pos"] = h5py.SoftLink("/episode_0/observations/ee_pos")


@broken(r"episode_1: expected data inside the file, got an external link", "episode_1")
def external_link_to_an_episode(file: h5py.File) -> None:
    del file["episode_1"]
    file["episode_1"] = h5py.ExternalLink("trap", "/x")


@broken(r"'observations' of episode_1: .* got an external link", "episode_1", "observations")
def external_link_on_the_way(file: h5py.File) -> None:
    del file["episode_1/observations"]
    file["episode_1/observations"] = h5py.ExternalLink("trap", "/x")


@broken(r"'rewards' of episode_1: .* got an external link", "episode_1", "rewards")
def external_link_to_rewards(file: h5py.File) -> None:
    del file["episode_1/rewards"]
    file["episode_1/rewards"] = h5py.ExternalLink("trap", "/x")


@broken(r"'actions' of episode_1: .* got external storage", "episode_1", "actions")
def external_storage(file: h5py.File) -> None:
    options = {"shape": (6, 4), "dtype": "f8", "external": [("trap", 0, 192)]}
    replace(file, "episode_1/actions", **options)


@broken(r"'actions' of episode_1: .* got a virtual dataset", "episode_1", "actions")
def virtual(file: h5py.File) -> None:
    del file["episode_1/actions"]
    layout = h5py.VirtualLayout((6, 4), "f8")
    layout[:] = h5py.VirtualSource("trap", "x", (6, 4))
    file.create_virtual_dataset("episode_1/actions", layout)


@broken(r"expected a filter that is built in .* got filter 32099 \(no name\)", "episode_0")
def unknown_filter(file: h5py.File) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((6, 3))
    properties.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
    del file["episode_0/observations/ee_pos"]
    space = h5py.h5s.create_simple((6, 3))
    group = file["episode_0/observations"].id
    h5py.h5d.create(group, b"ee_pos", h5py.h5t.IEEE_F64LE, space, properties)


@broken(r"expected at most 1000 times the 0 bytes stored, got a declared size of", "episode_0")
def declared_too_large(file: h5py.File) -> None:
    shape, chunks = (2**40, 3), (1024, 3)
    replace(file, "episode_0/observations/ee_pos", shape=shape, dtype="f8", chunks=chunks)


@broken(r"expected chunks of at most 256 MiB, got chunks of 800 MiB", "episode_0", "ee_pos")
def chunk_too_large(file: h5py.File) -> None:
    shape = chunks = (100 * 2**20, 1)
    replace(file, "episode_0/observations/ee_pos", shape=shape, dtype="f8", chunks=chunks)


@broken(r"'@language' of episode_2: expected one text, got an empty", "episode_2", "@language")
def language_empty(file: h5py.File) -> None:
    file["episode_2"].attrs["language"] = h5py.Empty("S10")


@broken(r"'@language' of episode_2: expected one text, got an array \[2\]", "episode_2")
def language_array(file: h5py.File) -> None:
    file["episode_2"].attrs["language"] = ["a", "b"]


@broken(r"'@language' of episode_2: expected one text, got int 5", "episode_2")
def language_number(file: h5py.File) -> None:
    file["episode_2"].attrs["language"] = 5


@broken(r"'@language' of episode_2: expected text in UTF-8, got b'\\xff\\xfe'", "episode_2")
def language_bytes(file: h5py.File) -> None:
    file["episode_2"].attrs["language"] = np.bytes_(b"\xff\xfe")


@broken(r"'@language' of episode_2: expected text in UTF-8, got 'a\\udcff'", "episode_2")
def language_surrogates(file: h5py.File) -> None:
    file["episode_2"].attrs.create("language", b"a\xff", dtype=h5py.string_dtype())


@pytest.mark.timeout(60, method="thread")
@pytest.mark.parametrize(("edit", "message", "episode", "key"), CASES)
def test_unsound_file(
    sound_file: Path,
    refusal: Refusal,
    edit: Edit,
    message: str,
    episode: str | None,
    key: str | None,
) -> None:
    os.mkfifo(sound_file.with_name("trap"))  # whoever opens what a link names would hang here
    TrajectoryDataset(sound_file)
    with h5py.File(sound_file, "a") as file:
        edit(file)
    error = refusal()
    with pytest.raises(DataError, match=message):
        raise error
    assert episode in {error.episode, None}
    assert key in {error.key, None}


def test_language_is_not_checked_unless_it_is_asked_for(sound_file: Path) -> None:
    with h5py.File(sound_file, "a") as file:
        language_array(file)
    TrajectoryDataset(sound_file)
