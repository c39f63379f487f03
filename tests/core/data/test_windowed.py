"""Windows of episodes: which rows, which keys, which episodes, and where frames come from."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from attrs import define
from torch.utils.data import DataLoader

from simscaleai_core.contracts import Collated, DescribedDataset
from simscaleai_core.data.batches import collate
from simscaleai_core.data.windowed import WindowedDataset
from simscaleai_core.errors import ConfigError, DataError

sys.path.insert(0, str(Path(__file__).parent))

from sources import CountingSource

IMAGES_GIB = 3 * 8 * 8 * 15 / 2**30
"""What the images of the first three episodes, 4 + 5 + 6 timesteps, take."""


def opened(**options: Any) -> WindowedDataset:
    return WindowedDataset(CountingSource(), **options)


def batch_of(dataset: WindowedDataset, *indices: int) -> dict[str, Any]:
    found = dataset.__getitems__(indices)
    assert isinstance(found, Collated)
    return found.batch


def test_a_sample_has_what_the_contract_draws() -> None:
    with pytest.warns(UserWarning, match="depth is left out unless obs_keys names it: 'depth'"):
        dataset = opened(include_language=True)
    assert isinstance(dataset, DescribedDataset)
    sample = dataset[5]
    assert {k: tuple(v.shape) for k, v in sample["observations"].items()} == {
        "image": (3, 8, 8), "pose": (4,), "q": (2,)
    }  # fmt: skip
    assert sample["observations"]["image"].dtype == torch.float32
    assert sample["observations"]["image"].unique().tolist() == pytest.approx([21 / 255])
    assert sample["actions"].tolist() == [21, 21, 21]
    assert sample["language"] == "go there"


def test_images_of_a_batch_are_uint8_and_those_of_a_loader_float() -> None:
    dataset = opened(obs_keys=["image"])
    assert batch_of(dataset, 0, 1)["observations"]["image"].dtype == torch.uint8
    for function in (None, collate):
        (batch, *_) = DataLoader(dataset, batch_size=4, collate_fn=function)
        assert batch["observations"]["image"].dtype == torch.float32
        assert batch["observations"]["image"].amax((1, 2, 3)).tolist() == pytest.approx(
            [n / 255 for n in (0, 1, 2, 3)]
        )


def test_depth_is_read_where_it_is_named() -> None:
    found = batch_of(opened(obs_keys=["depth"]), 6)["observations"]["depth"]
    assert found.shape == (1, 1, 8, 8)
    assert found.dtype == torch.float32
    assert found.unique().tolist() == [22]


@pytest.mark.parametrize("pad", [False, True])
def test_a_stride_leaves_out_timesteps(pad: bool) -> None:
    dataset = opened(seq_len=3, stride=2, pad=pad, obs_keys=["q"], episodes=[2])
    assert len(dataset) == (6 if pad else 2)
    batch = batch_of(dataset, 1)
    assert batch["actions"][0, :, 0].tolist() == [41, 43, 45]
    if pad:
        batch = batch_of(dataset, 3)
        assert batch["actions"][0, :, 0].tolist() == [43, 45, 45]
        assert batch["is_pad"].tolist() == [[False, False, True]]


@pytest.mark.parametrize("options", [{"pad": True, "obs_len": 2}, {"pad": True}, {}])
def test_a_sample_says_where_it_comes_from(options: dict[str, Any]) -> None:
    given = {"seq_len": 3, "stride": 2, "obs_keys": ["q"], "episodes": ["demo_1", 2, 4], **options}
    kept, held = opened(**given).split(0.4, seed=1)
    for part in (kept, held):
        for index in range(len(part)):
            name, timesteps = part.locate(index)
            assert name in part.episodes
            episode = int(name.removeprefix("demo_"))
            inside = np.clip(timesteps, 0, episode + 3)
            actions = batch_of(part, index)["actions"][0, :, 0]
            assert actions.tolist() == [20 * episode + t for t in inside]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"episodes": ["demo_3", 1]}, (1, 3)),
        ({"episodes": "1:3"}, (1, 2)),
        ({"episodes": "demo_4,0"}, (0, 4)),
        ({"filter_key": "valid"}, (1, 3)),
        ({"only_successes": True}, (0, 2, 4)),
        ({"only_successes": True, "episodes": ":3"}, (0, 2)),
    ],
)
def test_episodes_are_chosen(options: dict[str, Any], expected: tuple[int, ...]) -> None:
    dataset = opened(obs_keys=["q"], **options)
    assert dataset.episodes == tuple(f"demo_{e}" for e in expected)
    assert len(dataset) == sum(4 + e for e in expected)
    assert dataset[-1]["actions"][0] == 20 * expected[-1] + 3 + expected[-1]


def test_what_a_check_found_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    path.write_text(
        json.dumps({"exclude": {"counting": {"demo_1": "nan"}, "else": {"demo_0": ""}}})
    )
    dataset = opened(obs_keys=["q"], exclude_from=str(path))
    assert dataset.episodes == ("demo_0", "demo_2", "demo_3", "demo_4")
    path.write_text("[]")
    with pytest.raises(DataError, match="expected a file of 'simscale data check --exclude'"):
        opened(obs_keys=["q"], exclude_from=str(path))


def test_keys_have_other_names_in_samples() -> None:
    dataset = opened(rename={"q": "joint_pos"}, obs_keys=["joint_pos"])
    assert list(dataset.describe().observations) == ["joint_pos"]
    assert list(dataset.describe().statistics) == ["joint_pos", "actions"]


class Timed(CountingSource):
    """A source that says how fast it was recorded."""

    fps = 10.0


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({"seq_seconds": 0.4}, (4, 4)),
        ({"seq_seconds": 0.4, "stride": 2}, (2, 2)),
        ({"seq_seconds": 0.38, "obs_len": 1}, (4, 1)),
        ({"seq_seconds": 0.4, "obs_seconds": 0.2}, (4, 2)),
        ({"seq_seconds": 0.4, "obs_seconds": 0.001, "pad": True}, (4, 1)),
        ({"seq_seconds": 0.4, "fps": 5}, (2, 2)),
        ({"seq_len": 3, "obs_seconds": 0.2}, (3, 2)),
    ],
)
def test_seconds_are_timesteps_of_the_source(
    options: dict[str, Any], lengths: tuple[int, int]
) -> None:
    dataset = WindowedDataset(Timed(), obs_keys=["q"], **options)
    found = dataset.describe()
    assert (found.seq_len, found.obs_len) == lengths


class Told(CountingSource):
    """Says what each timestep was told; of the last episode that it does not know."""

    def timestep_instructions(self, episode: int) -> list[str] | None:
        length = self.episodes[episode].length
        return None if episode == 4 else ["reach"] * (length - 1) + ["go there"]


@pytest.mark.parametrize("options", [{}, {"seq_len": 3, "obs_len": 2, "pad": True}])
def test_a_sample_has_the_instruction_of_its_timestep(options: dict[str, Any]) -> None:
    dataset = WindowedDataset(Told(), include_language=True, obs_keys=["q"], **options)
    language = batch_of(dataset, *range(len(dataset)))["language"]
    assert language[:4] == ["reach", "reach", "reach", "go there"]
    assert language[4:9] == ["reach"] * 4 + ["go there"]
    assert language[-8:] == ["reach", "go there"] * 4
    assert dataset.describe().instructions == ("go there", "reach")
    in_turn = opened(include_language=True, obs_keys=["q"], **options)
    assert dataset.describe().fingerprint != in_turn.describe().fingerprint


def test_instructions_for_other_timesteps_are_one_error() -> None:
    class Short(CountingSource):
        def timestep_instructions(self, episode: int) -> list[str]:
            return ["reach"] * (3 + episode)

    with pytest.raises(DataError, match="expected 4 instructions, as timesteps, got 3"):
        WindowedDataset(Short(), include_language=True, obs_keys=["q"])
    WindowedDataset(Short(), obs_keys=["q"])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"obs_keys": ["qq"]}, DataError, "unknown observation key 'qq'.*Did you mean 'q'"),
        ({"rename": {"qq": "x"}}, ConfigError, "unknown key 'qq' in rename"),
        ({"rename": {"q": "pose"}}, ConfigError, "a name of its own for each key"),
        ({"episodes": [9]}, ConfigError, "unknown episode 9"),
        ({"filter_key": "test"}, ConfigError, "unknown filter_key 'test'.*'train', 'valid'"),
        ({"stride": 0}, ConfigError, "stride: expected a whole number >= 1"),
        ({"seq_len": 5, "stride": 3}, DataError, "expected 13 timesteps .seq_len and stride"),
        ({"episodes": "3:3"}, ConfigError, "no episode is left of 5"),
        ({"seq_seconds": 0.5}, ConfigError, "says its timesteps per second, got none @ counting. "),
        ({"seq_seconds": 0.5, "seq_len": 2}, ConfigError, "got seq_len=2 and seq_seconds=0.5"),
        ({"obs_seconds": 0.1, "obs_len": 2}, ConfigError, "got obs_len=2 and obs_seconds=0.1"),
        ({"seq_seconds": 0, "fps": 10}, ConfigError, "seq_seconds: expected a number > 0, got 0"),
        ({"fps": float("nan")}, ConfigError, "fps: expected a number > 0, got nan"),
        ({"fps": 10}, ConfigError, "fps=10 has no use: expected it with seq_seconds or obs_second"),
        ({"seq_seconds": 1, "obs_seconds": 2, "fps": 3}, ConfigError, "at most seq_len=3, got 6"),
        ({"seq_seconds": 3, "fps": 3}, DataError, r"9 timesteps \(seq_seconds\), got at most 8"),
    ],
)
def test_a_wrong_choice_is_one_error(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        opened(**{"obs_keys": ["q"], **options})


@pytest.mark.parametrize("gib", [0.0, IMAGES_GIB, 1.0])
def test_frames_are_the_same_wherever_they_come_from(gib: float) -> None:
    dataset = opened(obs_keys=["image"], cache_images_gib=gib, seq_len=2)
    assert dataset.in_memory == (gib == 1.0)
    batch = batch_of(dataset, 0, 9, 17, 0, 5)
    frames = batch["observations"]["image"]
    assert frames[..., 0, 0, 0].tolist() == batch["actions"][..., 0].tolist()
    assert torch.equal(frames, frames[:, :, :1, :1, :1].expand_as(frames))
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(
        batch_of(copy, 3)["observations"]["image"], batch_of(dataset, 3)["observations"]["image"]
    )


def test_a_budget_holds_the_first_episodes_and_each_frame_is_read_once() -> None:
    dataset = opened(obs_keys=["image"], cache_images_gib=IMAGES_GIB)
    reads = dataset.source.reads
    reads.clear()
    batch_of(dataset, 0, 14, 15, 17, 16, 15)
    assert reads == [(3, "image", 0, 3)]


@define
class Unsound(CountingSource):
    """NaN in `q`, a timestep too few in `pose`, and images with their channels first."""

    def read(self, episode: int, key: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the numbers, made unsound."""
        found = super().read(episode, key, start, stop)
        if key == "image":
            return found.transpose(0, 3, 1, 2)
        if key == "pose":
            return found[:-1]
        return np.where(found == 41, np.nan, found) if key == "q" else found


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("q", "field 'q' of demo_2: expected finite float32 numbers, got nan at timestep 1"),
        ("pose", r"field 'pose' of demo_0: expected 4 timesteps of \[2, 2\], got \[3, 2, 2\]"),
        ("image", r"field 'image' of demo_0: expected frames \[4, 8, 8, 3\] of uint8, got \[4, 3"),
    ],
)
def test_what_is_not_sound_is_one_error(key: str, text: str) -> None:
    with pytest.raises(DataError, match=text):
        WindowedDataset(Unsound(), obs_keys=[key])
