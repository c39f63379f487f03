"""Every file that cannot be trained on, or points elsewhere, is refused with one clear line."""

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


@broken(
    r"no episodes in the file: expected groups episode_N, or .* got 'x', 'y' @ .*Name the groups"
)
def no_episodes(file: h5py.File) -> None:
    file.clear()
    file["x"] = file["y"] = 1.0


@broken(r"'obs' of demo_0: expected a group 'obs', got 'actions', .*dataset_states_to_obs")
def robomimic_without_observations(file: h5py.File) -> None:
    file.move("episode_0", "data/demo_0")
    for number in range(1, 4):
        del file[f"episode_{number}"]


@broken(r"field 'actions' of episode_2: expected a dataset 'actions', got ", "episode_2", "actions")
def no_actions(file: h5py.File) -> None:
    del file["episode_2/actions"]


@broken(r"expected a group 'observations', got 'actions', 'rew", "episode_2", "observations")
def no_observations(file: h5py.File) -> None:
    del file["episode_2/observations"]


@broken(
    r"episode_1 has no observations/ee_pos: expected the key, as in 3 other episodes, "
    r"got 'image', 'joint_pos'",
    "episode_1",
    "ee_pos",
)
def key_missing(file: h5py.File) -> None:
    del file["episode_1/observations/ee_pos"]


@broken(r"the file: expected at least one observation key, got none")
def no_keys(file: h5py.File) -> None:
    for number in range(4):
        file[f"episode_{number}/observations"].clear()


@broken(r"'ee_pos' of episode_3: expected 6 timesteps, .* got 5 timesteps", "episode_3", "ee_pos")
def ragged(file: h5py.File) -> None:
    replace(file, "episode_3/observations/ee_pos", data=np.ones((5, 3)))


@broken(r"'rewards' of episode_3: expected 6 timesteps", "episode_3", "rewards")
def ragged_rewards(file: h5py.File) -> None:
    replace(file, "episode_3/rewards", data=np.ones(5))


@broken(r"'actions' of episode_3: expected at least one timestep, got none", "episode_3", "actions")
def no_timesteps(file: h5py.File) -> None:
    replace(file, "episode_3/actions", data=np.ones((0, 4)))


@broken(
    r"'joint_pos' of episode_1: expected finite float32 numbers, got nan at timestep 4, "
    r"dimension 2",
    "episode_1",
    "joint_pos",
)
def nan(file: h5py.File) -> None:
    file["episode_1/observations/joint_pos"][4, 2] = np.nan
    file["episode_1/observations/joint_pos"][5, 0] = np.nan


@broken(r"'actions' of episode_1: .* got -inf at timestep 0", "episode_1", "actions")
def infinite(file: h5py.File) -> None:
    file["episode_1/actions"][0, 0] = -np.inf


@broken(r"'actions' of episode_1: .* got 1e\+200 at timestep 0", "episode_1", "actions")
def too_large(file: h5py.File) -> None:
    file["episode_1/actions"][0, 0] = 1e200


@broken(r"'ee_pos' of episode_0: expected real numbers, got text", "episode_0", "ee_pos")
def strings(file: h5py.File) -> None:
    replace(file, "episode_0/observations/ee_pos", data=["a"] * 6)


@broken(r"'ee_pos' of episode_0: expected real numbers, got compound", "episode_0", "ee_pos")
def compound(file: h5py.File) -> None:
    replace(file, "episode_0/observations/ee_pos", data=np.zeros(6, dtype=[("x", "f8")]))


@broken(r"expected real numbers, got rows of varying length", "episode_0", "ee_pos")
def varying(file: h5py.File) -> None:
    dtype = h5py.vlen_dtype(np.float64)
    replace(file, "episode_0/observations/ee_pos", shape=(6,), dtype=dtype)


@broken(r"expected real numbers, got complex numbers", "episode_0", "ee_pos")
def complex_numbers(file: h5py.File) -> None:
    replace(file, "episode_0/observations/ee_pos", data=np.ones((6, 3), dtype=complex))


@broken(r"expected real numbers, got references", "episode_0", "ee_pos")
def references(file: h5py.File) -> None:
    replace(file, "episode_0/observations/ee_pos", shape=(6,), dtype=h5py.ref_dtype)


@broken(
    r"'joint_pos' of episode_2: expected \[T, 7\] as in episode_0, got \[T, 6\]",
    "episode_2",
    "joint_pos",
)
def other_width(file: h5py.File) -> None:
    replace(file, "episode_2/observations/joint_pos", data=np.ones((6, 6)))


@broken(r"expected \[T, 8, 9, 3\] as in episode_0, got \[T, 8, 8, 3\]", "episode_2", "image")
def other_image_size(file: h5py.File) -> None:
    replace(file, "episode_2/observations/image", data=np.zeros((6, 8, 8, 3), dtype=np.uint8))


@broken(r"expected \[T, A\], got \[6, 2, 2\]", "episode_0", "actions")
def actions_of_rank_3(file: h5py.File) -> None:
    replace(file, "episode_0/actions", data=np.ones((6, 2, 2)))


@broken(r"expected at least one number per timestep, got \[T, 0\]", "episode_0", "ee_pos")
def no_width(file: h5py.File) -> None:
    replace(file, "episode_0/observations/ee_pos", data=np.ones((6, 0)))


@broken(r"expected an array \[T, ...\], got a single or empty value", "episode_0", "ee_pos")
def scalar(file: h5py.File) -> None:
    replace(file, "episode_0/observations/ee_pos", data=1.0)


@broken(r"expected an array \[T, ...\], got a single or empty value", "episode_0", "ee_pos")
def null(file: h5py.File) -> None:
    replace(file, "episode_0/observations/ee_pos", data=h5py.Empty("f8"))


@broken(
    r"episode_0 has no observations/ee_pos: expected the key, as in 3 other episodes, "
    r"got 'ee_pos/inner', 'image'",
    "episode_0",
    "ee_pos",
)
def nested(file: h5py.File) -> None:
    del file["episode_0/observations/ee_pos"]
    file["episode_0/observations/ee_pos/inner"] = np.ones(6)


@broken(r"episode_1: expected a group, got a dataset", "episode_1")
def episode_is_a_dataset(file: h5py.File) -> None:
    replace(file, "episode_1", data=np.ones(6))


@broken(r"expected a dataset, got a named data type", "episode_0", "ee_pos")
def named_type(file: h5py.File) -> None:
    del file["episode_0/observations/ee_pos"]
    file["episode_0/observations/ee_pos"] = np.dtype("f8")


# Files that point elsewhere, need foreign code or hold texts that are no text.


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


@broken(r"expected one of the filters gzip, lzf, .* got filter 32099 \(no name\)", "episode_0")
def unknown_filter(file: h5py.File) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((6, 3))
    properties.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
    del file["episode_0/observations/ee_pos"]
    space = h5py.h5s.create_simple((6, 3))
    group = file["episode_0/observations"].id
    h5py.h5d.create(group, b"ee_pos", h5py.h5t.IEEE_F64LE, space, properties)


@broken(
    r"expected at most 64 MiB and 250 times the \d+ bytes of the file, got a declared size",
    "episode_0",
)
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


def test_a_bad_text_is_a_warning_unless_it_is_asked_for(sound_file: Path) -> None:
    with h5py.File(sound_file, "a") as file:
        for number in (1, 2):
            file[f"episode_{number}"].attrs["language"] = 5
    message = r"'@language' of episode_1: expected one text.* So in 1 more episodes\."
    with pytest.warns(UserWarning, match=message) as caught:
        TrajectoryDataset(sound_file)
    assert len(caught) == 1
