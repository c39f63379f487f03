"""Each fault is planted in sound demonstrations; it is found, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from demonstrations import EPISODE, EVERYWHERE, FAULTS, Demonstrations, Plant, duplicate
from simscaleai_plugin_data.checking import Checked, check_sources, codes_of
from simscaleai_plugin_data.findings import KINDS, Finding

from simscaleai_core.data.source import EpisodeSource
from simscaleai_core.data.windowed import WindowedDataset, held_out_positions
from simscaleai_core.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def sound() -> Demonstrations:
    return Demonstrations(10)


def found_in(*sources: Any, **options: Any) -> list[tuple[str, str | None, str | None]]:
    checked = check_sources(sources, **options)
    return [(f.code, f.episode, f.key) for f in (*checked.findings, *checked.facts)]


def test_sound_demonstrations_give_no_finding(sound: Demonstrations) -> None:
    assert check_sources([sound]) == Checked(
        findings=(), facts=(), num_episodes=10, num_timesteps=sum(e.length for e in sound.episodes)
    )
    assert found_in(sound, frames=0) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_and_nothing_else(sound: Demonstrations, fault: Plant) -> None:
    code, key = FAULTS[fault]
    episode = None if fault in EVERYWHERE else f"episode_{EPISODE}"
    checked = check_sources([sound.plant(fault)])
    assert [(f.code, f.episode, f.key) for f in checked.findings] == [(code, episode, key)]
    (finding,) = checked.findings
    assert finding.severity == KINDS[code].severity and checked.facts == ()
    assert checked.is_broken == (finding.severity == "error")
    assert finding.message and finding.why.endswith(".") and finding.remedy.endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("num_episodes", [8, 40])
def test_faults_in_other_demonstrations(seed: int, num_episodes: int) -> None:
    sound = Demonstrations(num_episodes, seed=seed)
    assert found_in(sound) == []
    for fault, (code, key) in FAULTS.items():
        found = found_in(sound.plant(fault))
        assert {(c, k) for c, _, k in found} == {(code, key)}, fault.__name__


def test_all_faults_are_found_at_once(sound: Demonstrations) -> None:
    planted = deepcopy(sound)
    names = (
        "non_finite",
        "gripper_flip",
        "black_frame",
        "clock_back",
        "failed",
        "blank_instruction",
    )
    for fault in FAULTS:
        if fault.__name__ in names:
            fault(planted)
    planted.stored = {}
    wanted = [FAULTS[fault][0] for fault in FAULTS if fault.__name__ in names]
    assert sorted(code for code, *_ in found_in(planted)) == sorted(wanted)


def test_what_cannot_be_read_is_a_finding_and_the_rest_is_read(sound: Demonstrations) -> None:
    class Torn(Demonstrations):
        def read(self, episode: int, key: str, start: int, stop: int) -> Any:
            if episode in {2, 5} and key == "image":
                raise DataError("frame 3: expected a JPEG, got nothing @ x.", key=key)
            return super().read(episode, key, start, stop)

    torn = Torn(10)
    torn.change(7, success=False)
    checked = check_sources([torn])
    assert [(f.code, f.episode, f.key) for f in checked.findings] == [
        ("unreadable", "episode_2", "image"),
        ("unreadable", "episode_5", "image"),
        ("failed-episode", "episode_7", None),
    ]
    assert "expected a JPEG" in checked.findings[0].message and checked.is_broken


def test_several_episodes_have_their_colours_exchanged(sound: Demonstrations) -> None:
    planted = deepcopy(sound)
    for arrays in planted.arrays[::4]:
        arrays["image"] = arrays["image"][..., ::-1].copy()
    names = [f"episode_{place}" for place in (0, 4, 8)]
    assert found_in(planted) == [("swapped-channels", name, "image") for name in names]


def test_copies_on_both_sides_of_the_split(sound: Demonstrations) -> None:
    (held_out,) = held_out_positions(10, 0.1, 0)
    planted = deepcopy(sound)
    later = max(held_out, 2 if held_out != 2 else 3)
    first = min(held_out, 2 if held_out != 2 else 3)
    planted.replace(later, deepcopy(planted.arrays[first]))
    planted.change(later, instructions=planted.episodes[first].instructions)
    planted.stored = planted._statistics()
    name = f"episode_{later}"
    assert found_in(planted) == [("duplicate-episode", name, None), ("split-leak", name, None)]


@pytest.mark.parametrize(("count", "seed"), [(2, 0), (5, 3), (16, 0), (40, 7)])
def test_the_split_is_that_of_training(count: int, seed: int) -> None:
    source = Demonstrations(count)
    dataset = WindowedDataset(source, obs_keys=["tool_pos"])
    held_out = dataset.split(0.3, seed)[1].episodes
    places = {e.name: place for place, e in enumerate(source.episodes)}
    assert {places[name] for name in held_out} == held_out_positions(count, 0.3, seed)


def test_copies_in_another_file(sound: Demonstrations) -> None:
    other = Demonstrations(10, seed=1, path="other.h5")
    assert found_in(sound, other) == []
    other.replace(4, deepcopy(sound.arrays[3]))
    other.change(4, instructions=sound.episodes[3].instructions)
    other.stored = other._statistics()
    found = {f.code: f for f in check_sources([sound, other]).findings}
    assert found.keys() <= {"duplicate-episode", "split-leak"}
    copy = found["duplicate-episode"]
    assert (copy.path, copy.episode) == (other.path, "episode_4")
    assert "episode_3 of arm.h5" in copy.message


def test_a_goal_that_is_not_observed(sound: Demonstrations) -> None:
    """Episodes begin alike and go elsewhere: neither frames nor words say where."""
    planted = deepcopy(sound)
    planted.observations = [k for k in planted.observations if k.kind != "image"]
    for place, arrays in enumerate(planted.arrays):
        planted.change(place, instructions=())
        for key in ("joint_pos", "tool_pos", "gripper_width"):
            arrays[key] = arrays[key] - arrays[key][0] + planted.arrays[0][key][0]
    planted.stored = {}
    found = found_in(planted)
    assert ("ambiguous-label", None, "actions") in found


def test_one_recording_under_several_instructions_is_no_contradiction() -> None:
    """Relabelled: what was seen is stored again with the actions that other words ask for."""
    rng, source = np.random.default_rng(0), Demonstrations(12)
    for place in range(6):
        arrays = deepcopy(source.arrays[place])
        arrays["actions"] = np.clip(
            arrays["actions"] + rng.normal(size=arrays["actions"].shape), -1, 1
        )
        source.replace(place + 6, arrays)
        source.change(place + 6, instructions=("clear the table",))
    source.stored = source._statistics()
    assert found_in(source) == []
    source.arrays[6]["actions"] = source.arrays[0]["actions"].copy()  # both ask for the same
    source.stored = source._statistics()
    assert found_in(source) == []


def test_what_tasks_have_by_nature_is_a_fact(sound: Demonstrations) -> None:
    planted = deepcopy(sound)
    for arrays in planted.arrays:
        arrays["actions"][:, 3] = 1.0
        arrays["gripper_width"][:] = 0.08
    planted.stored = {}
    checked = check_sources([planted])
    assert [(f.code, f.key) for f in checked.facts] == [
        ("constant-dimension", "gripper_width"),
        ("constant-dimension", "actions"),
    ]
    assert checked.findings == () and not checked.is_broken


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_data_too_small_to_judge(length: int) -> None:
    source = Demonstrations(3)
    for place, arrays in enumerate(source.arrays):
        source.replace(place, {key: values[:length] for key, values in arrays.items()})
    source.stored = {}
    assert found_in(source) == []


def test_frames_alone(sound: Demonstrations) -> None:
    source = deepcopy(sound)
    source.observations = [k for k in source.observations if k.kind == "image"]
    source.stored = {}
    assert found_in(source) == []
    duplicate(source)
    assert found_in(source) == [("duplicate-episode", f"episode_{EPISODE}", None)]


def test_no_episodes_at_all() -> None:
    source = Demonstrations(2)
    source.episodes = []
    assert found_in(source) == []


def test_findings_that_are_not_wanted(sound: Demonstrations) -> None:
    planted = deepcopy(sound)
    planted.change(3, success=False)
    planted.change(4, instructions=())
    assert found_in(planted, ignored=codes_of("failed-episode, idle")) == [
        ("missing-instruction", "episode_4", None)
    ]
    with pytest.raises(ConfigError, match=r"unknown finding 'idel': expected one of .*idle"):
        codes_of("idel")


def test_episodes_are_read_one_after_the_other(sound: Demonstrations) -> None:
    """Numbers of one episode at a time, and a few frames; the sample of the scale comes first.

    In the longest episode it is measured what a frame costs to read: 7 alone and 32 together.
    """
    reads: list[tuple[int, str, int]] = []

    class Watched(Demonstrations):
        def read(self, episode: int, key: str, start: int, stop: int) -> Any:
            reads.append((episode, key, stop - start))
            return super().read(episode, key, start, stop)

    source = Watched(6)
    advanced: list[int] = []
    check_sources([source], frames=8, advance=lambda: advanced.append(1))
    assert len(advanced) == 6
    longest = int(np.argmax([episode.length for episode in source.episodes]))
    for episode in range(6):
        assert sum(1 for e, key, _ in reads if (e, key) == (episode, "tool_pos")) == 2
        frames = sum(count for e, key, count in reads if (e, key) == (episode, "image"))
        assert frames == 8 + (7 + 32) * (episode == longest)


def test_codes_and_their_texts() -> None:
    for code, kind in KINDS.items():
        assert code == code.lower() and " " not in code
        assert all(
            text.endswith(".") and "\n" not in text
            for text in (kind.meaning, kind.why, kind.remedy)
        )
    with pytest.raises(ValueError, match="code"):
        Finding(code="nonsense", message="", path=Demonstrations(2).path)


def test_a_source_needs_nothing_optional(sound: Demonstrations) -> None:
    class Bare:
        def __init__(self) -> None:
            self.path, self.episodes = sound.path, sound.episodes
            self.observations: Sequence[Any] = sound.observations
            self.actions, self.read = sound.actions, sound.read

    source: EpisodeSource = Bare()
    assert found_in(source) == []
