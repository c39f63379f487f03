"""Demonstrations of a small arm, made in memory: sound, or with one fault planted.

The arm's tool goes to a coloured block, closes on it, carries it to a tray and opens; a camera sees
tool, block and tray. Actions are displacements, and the gripper's command. T: timesteps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from simscaleai_core.contracts import Statistics
from simscaleai_core.data.source import Episode, Key

FPS = 20.0
SIDE = 32
COLOURS = {"red": (230, 40, 30), "green": (30, 200, 60), "blue": (40, 60, 220)}
JOINTS_OF_TOOL = np.array(
    [[1.1, 0.3, -0.4], [-0.5, 1.2, 0.2], [0.3, -0.6, 0.9], [0.7, 0.4, 0.8], [-0.2, 0.5, 1.3]]
)

Arrays = dict[str, Any]
Plant = Callable[["Demonstrations"], None]


class Demonstrations:
    """An `EpisodeSource` in memory, with everything that is optional."""

    def __init__(self, num_episodes: int = 16, seed: int = 0, path: str = "arm.h5") -> None:
        rng = np.random.default_rng(seed)
        self.path = Path(path)
        self.fps: float | None = FPS
        self.env = "arm"
        self.colours = [list(COLOURS)[i] for i in rng.integers(3, size=num_episodes)]
        self.arrays = [_episode(rng, colour) for colour in self.colours]
        self.observations = [
            Key(name="joint_pos", shape=(5,), dimensions=("base", "shoulder", "elbow", "w1", "w2")),
            Key(name="tool_pos", shape=(3,)),
            Key(name="gripper_width", shape=(1,)),
            Key(name="image", shape=(3, SIDE, SIDE), kind="image", dtype="uint8"),
        ]
        self.actions = Key(name="actions", shape=(4,))
        self.episodes = [
            Episode(
                name=f"episode_{i}",
                length=len(arrays["actions"]),
                instructions=(f"put the {colour} block on the tray",),
                success=True,
            )
            for i, (arrays, colour) in enumerate(zip(self.arrays, self.colours, strict=True))
        ]
        self.stored: dict[str, Statistics] = self._statistics()

    def read(self, episode: int, key: str, start: int, stop: int) -> Any:
        return self.arrays[episode][key][start:stop]

    def timestamps(self, episode: int) -> Any:
        return self.arrays[episode]["timestamps"]

    def rewards(self, episode: int) -> Any:
        return self.arrays[episode]["rewards"]

    def stored_statistics(self) -> Mapping[str, Statistics]:
        return self.stored

    def change(self, episode: int, **facts: Any) -> None:
        """Change what is said of an episode."""
        self.episodes[episode] = attrs.evolve(self.episodes[episode], **facts)

    def replace(self, episode: int, arrays: Arrays) -> None:
        """Give an episode other numbers, of any length."""
        self.arrays[episode] = arrays
        self.change(episode, length=len(arrays["actions"]))

    def plant(self, fault: Plant) -> Demonstrations:
        """Return these demonstrations with a fault, and with statistics that fit its numbers."""
        planted = deepcopy(self)
        fault(planted)
        if fault is not stale_statistics and fault is not non_finite:
            planted.stored = planted._statistics()
        return planted

    def _statistics(self) -> dict[str, Statistics]:
        found = {}
        for name in ("joint_pos", "tool_pos", "gripper_width", "actions"):
            rows = np.concatenate([a[name] for a in self.arrays])
            numbers = (rows.mean(0), rows.std(0), rows.min(0), rows.max(0))
            mean, std, low, high = (tuple(map(float, each)) for each in numbers)
            found[name] = Statistics(mean=mean, std=std, low=low, high=high)
        return found


def _episode(rng: np.random.Generator, colour: str) -> Arrays:
    tool = np.array([0.3, 0.0, 0.3]) + rng.normal(scale=0.02, size=3)
    block = np.array([*rng.uniform((0.35, -0.25), (0.65, 0.25)), 0.02])
    tray = np.array([*rng.uniform((0.35, -0.25), (0.65, 0.25)), 0.02])
    width, held, rows = 0.08, False, []
    last = rng.normal(scale=0.05, size=3)
    for _ in range(120):
        goal = (tray if held else block) + [0, 0, 0.02]
        hover = [0, 0, 0.08 * (np.hypot(*(goal - tool)[:2]) > 0.03)]
        close = np.linalg.norm(goal - tool) < 0.015
        last = 0.6 * last + 0.4 * rng.normal(scale=0.08, size=3)  # a hand is not quite steady
        delta = np.clip(0.25 * (goal + hover - tool) / 0.03 + last, -1, 1)
        command = -1.0 if (held and not close) or (close and not held) else 1.0
        rows.append((tool.copy(), width, np.array([*delta, command]), block.copy()))
        tool = tool + 0.03 * delta + rng.normal(scale=0.0004, size=3)
        width = float(
            np.clip(width + np.clip(0.04 + 0.04 * command - width, -0.02, 0.02), 0.03, 0.08)
        )
        if held and close:
            break
        held = held or (close and width < 0.05)
        block = tool - [0, 0, 0.02] if held else block
    tools, widths, actions, blocks = (np.array(each) for each in zip(*rows, strict=True))
    joints = tools @ JOINTS_OF_TOOL.T + rng.normal(scale=0.002, size=(len(tools), 5))
    return {
        "joint_pos": joints,
        "tool_pos": tools,
        "gripper_width": widths[:, None] + rng.normal(scale=1e-4, size=(len(tools), 1)),
        "image": np.array([_frame(t, b, tray, colour) for t, b in zip(tools, blocks, strict=True)]),
        "actions": actions,
        "rewards": np.append(np.zeros(len(tools) - 1), 1.0),
        "timestamps": np.arange(len(tools)) / FPS + rng.normal(scale=0.001, size=len(tools)),
    }


def _frame(tool: Any, block: Any, tray: Any, colour: str) -> Any:
    frame = np.full((SIDE, SIDE, 3), (200, 170, 120), dtype=np.float64)
    frame += np.linspace(-20, 20, SIDE)[:, None, None]
    for place, size, paint in (
        (tray, 4, (90, 60, 40)),
        (block, 3, COLOURS[colour]),
        (tool, 2, (50, 50, 60)),
    ):
        y, x = (
            (place[0] - 0.25) / 0.5 * SIDE,
            (place[1] + 0.35) / 0.7 * SIDE - 20 * (place[2] - 0.02),
        )
        rows, columns = np.mgrid[:SIDE, :SIDE]
        cover = np.clip(size + 0.5 - np.hypot(rows - y, columns - x), 0, 1)[..., None]
        frame = (1 - cover) * frame + cover * np.array(paint)
    return frame.round().clip(0, 255).astype(np.uint8)


# --- faults -------------------------------------------------------------------------------------

EPISODE = 7
"""Where a fault is planted."""


def non_finite(source: Demonstrations) -> None:
    source.arrays[EPISODE]["joint_pos"][5, 2] = np.nan


def infinite_reward(source: Demonstrations) -> None:
    source.arrays[EPISODE]["rewards"][-1] = np.inf


def dead_dimension(source: Demonstrations) -> None:
    for arrays in source.arrays:
        arrays["joint_pos"][:, 3] = 0.0


def near_constant_dimension(source: Demonstrations) -> None:
    rng = np.random.default_rng(1)
    for arrays in source.arrays:
        arrays["joint_pos"][:, 3] = 0.4 + rng.normal(scale=1e-4, size=len(arrays["actions"]))


def stuck_dimension(source: Demonstrations) -> None:
    source.arrays[EPISODE]["joint_pos"][:, 1] = source.arrays[EPISODE]["joint_pos"][0, 1]


def duplicate(source: Demonstrations) -> None:
    source.replace(EPISODE, deepcopy(source.arrays[2]))
    source.change(EPISODE, instructions=source.episodes[2].instructions)


def near_duplicate(source: Demonstrations) -> None:
    duplicate(source)
    rng, arrays = np.random.default_rng(1), source.arrays[EPISODE]
    for key in ("joint_pos", "tool_pos", "gripper_width", "actions"):
        spread = np.ptp(arrays[key], axis=0)
        arrays[key] = arrays[key] + rng.normal(size=arrays[key].shape) * 0.002 * spread


def short_episode(source: Demonstrations) -> None:
    source.replace(EPISODE, {k: v[:3] for k, v in source.arrays[EPISODE].items()})


def lag_everywhere(source: Demonstrations) -> None:
    for arrays in source.arrays:
        arrays["actions"] = np.concatenate(
            [arrays["actions"][:1].repeat(3, 0), arrays["actions"][:-3]]
        )
    source.stored = source._statistics()


def lag(source: Demonstrations) -> None:
    arrays = source.arrays[EPISODE]
    arrays["actions"] = np.concatenate([arrays["actions"][:1].repeat(4, 0), arrays["actions"][:-4]])


def other_actions(source: Demonstrations) -> None:
    arrays = source.arrays[EPISODE]
    arrays["actions"] = np.random.default_rng(1).permutation(arrays["actions"])


def gripper_flip(source: Demonstrations) -> None:
    source.arrays[EPISODE]["actions"][:, 3] *= -1


def saturated(source: Demonstrations) -> None:
    arm = source.arrays[EPISODE]["actions"][:, :3]
    source.arrays[EPISODE]["actions"][:, :3] = np.clip(20 * arm, -1, 1)


def frozen_camera(source: Demonstrations) -> None:
    frames = source.arrays[EPISODE]["image"]
    frames[10:] = frames[10]


def black_frame(source: Demonstrations) -> None:
    source.arrays[EPISODE]["image"][4:8] = 0


def swapped_channels(source: Demonstrations) -> None:
    source.arrays[EPISODE]["image"] = source.arrays[EPISODE]["image"][..., ::-1].copy()


def time_gap(source: Demonstrations) -> None:
    source.arrays[EPISODE]["timestamps"][12:] += 0.3


def clock_back(source: Demonstrations) -> None:
    source.arrays[EPISODE]["timestamps"][12:] -= 0.4


def outlier(source: Demonstrations) -> None:
    source.arrays[EPISODE]["joint_pos"][9, 1] += 8.0


def degrees(source: Demonstrations) -> None:
    source.arrays[EPISODE]["joint_pos"] *= 180 / np.pi


def millimetres(source: Demonstrations) -> None:
    source.arrays[EPISODE]["tool_pos"] *= 1000


def missing_instruction(source: Demonstrations) -> None:
    source.change(EPISODE, instructions=())


def blank_instruction(source: Demonstrations) -> None:
    source.change(EPISODE, instructions=(" ",))


def contradictory_instruction(source: Demonstrations) -> None:
    duplicate(source)
    source.change(EPISODE, instructions=("clear the table",))


def idle(source: Demonstrations) -> None:
    def paused(values: Any) -> Any:
        return np.concatenate([values[:8], values[8:9].repeat(40, 0), values[8:]])

    arrays = {k: paused(v) for k, v in source.arrays[EPISODE].items()}
    arrays["timestamps"] = np.arange(len(arrays["actions"])) / FPS
    source.replace(EPISODE, arrays)


def failed(source: Demonstrations) -> None:
    source.change(EPISODE, success=False)


def stale_statistics(source: Demonstrations) -> None:
    old = source.stored["joint_pos"]
    source.stored["joint_pos"] = attrs.evolve(old, std=tuple(1.3 * v for v in old.std))


def wrong_fps(source: Demonstrations) -> None:
    source.fps = 30.0


FAULTS: dict[Plant, tuple[str, str | None]] = {
    non_finite: ("non-finite", "joint_pos"),
    infinite_reward: ("non-finite", "rewards"),
    dead_dimension: ("dead-dimension", "joint_pos"),
    near_constant_dimension: ("near-constant-dimension", "joint_pos"),
    stuck_dimension: ("stuck-dimension", "joint_pos"),
    duplicate: ("duplicate-episode", None),
    near_duplicate: ("near-duplicate-episode", None),
    short_episode: ("short-episode", None),
    lag: ("action-lag", "actions"),
    lag_everywhere: ("action-lag", "actions"),
    other_actions: ("unexplained-motion", "actions"),
    gripper_flip: ("flipped-action", "actions"),
    saturated: ("saturated-actions", "actions"),
    frozen_camera: ("frozen-camera", "image"),
    black_frame: ("black-frame", "image"),
    swapped_channels: ("swapped-channels", "image"),
    time_gap: ("time-gap", None),
    clock_back: ("clock-back", None),
    wrong_fps: ("frame-rate", None),
    outlier: ("outlier", "joint_pos"),
    degrees: ("unit-change", "joint_pos"),
    millimetres: ("unit-change", "tool_pos"),
    missing_instruction: ("missing-instruction", None),
    blank_instruction: ("blank-instruction", None),
    contradictory_instruction: ("contradictory-instruction", None),
    idle: ("idle", None),
    failed: ("failed-episode", None),
    stale_statistics: ("stale-statistics", "joint_pos"),
}
"""Each fault with the finding that names it: its code and key."""

EVERYWHERE = {
    dead_dimension,
    near_constant_dimension,
    lag_everywhere,
    wrong_fps,
    stale_statistics,
}
"""Faults of all of the data, not of one episode."""
