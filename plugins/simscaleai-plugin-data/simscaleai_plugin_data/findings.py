"""What a check finds: the record, and every kind of finding with what it means and what to do.

The spread of a dimension is the distance of its percentiles 1 and 99.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import in_

Severity = Literal["error", "warning", "info"]
"""Data that cannot be trained on; data that trains worse than it should; a fact worth knowing."""


@frozen(kw_only=True)
class Kind:
    """A kind of finding."""

    severity: Severity
    """How bad it is."""
    meaning: str
    """What it is, with the definition that the check goes by."""
    why: str
    """Why it hurts training, one sentence."""
    remedy: str
    """What to do about it, one sentence."""


_LEAVE_OUT = "Leave the episode out (--exclude FILE, then train with exclude_from)"

KINDS: Mapping[str, Kind] = {
    # --- broken ---------------------------------------------------------------------------------
    "unreadable": Kind(
        severity="error",
        meaning="Something of an episode cannot be read, or has another shape than the rest.",
        why="Training stops when it comes to this episode.",
        remedy="Copy or record the file again, or leave the episode out.",
    ),
    "non-finite": Kind(
        severity="error",
        meaning="A number is NaN, infinite, or too large for float32.",
        why="One such number in a batch makes every weight of the policy NaN.",
        remedy=f"{_LEAVE_OUT}, or repair the numbers.",
    ),
    # --- numbers --------------------------------------------------------------------------------
    "dead-dimension": Kind(
        severity="warning",
        meaning=(
            "A dimension has one value in all of the data (deviation below a millionth of its "
            "key's largest) although most others of its key move within episodes; for "
            "actions, a value other than -1, 0 and 1. Rotations do not count. Needs 50 "
            "timesteps."
        ),
        why="A sensor that was not connected tells the policy nothing, and at execution it may.",
        remedy="Find out what the dimension should be; leave its key out (obs_keys) if nothing.",
    ),
    "near-constant-dimension": Kind(
        severity="warning",
        meaning=(
            "A dimension's deviation is below 0.002 [units of the data], where normalisation no "
            "longer scales it, and below 1% of that of the others of its key."
        ),
        why="Scaled by its own deviation, the noise of such a dimension is the largest input.",
        remedy="Leave its key out (obs_keys), or find out why the dimension does not move.",
    ),
    "stuck-dimension": Kind(
        severity="warning",
        meaning=(
            "An observed dimension has one value in all of an episode of at least 6 "
            "timesteps, although it moves in four of five episodes and three quarters of the "
            "others of its key move here. Needs 5 episodes."
        ),
        why="The policy learns to act on a sensor reading that has nothing to do with the robot.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "outlier": Kind(
        severity="warning",
        meaning=(
            "A number jumps by 1.5 spreads and back within a timestep, and 40 times as far as "
            "anything in three of four episodes; or it is more than 20 spreads from the "
            "middle, at no more than 3 timesteps or 0.2% of all. Rotations do not count. "
            "Needs 3 episodes and 100 timesteps."
        ),
        why="It widens the range that normalisation spreads, and its squared error rules the loss.",
        remedy=f"{_LEAVE_OUT}, or replace the number by its neighbours.",
    ),
    "unit-change": Kind(
        severity="warning",
        meaning=(
            "A key is about 57.3, 100 or 1000 times as large as in the median episode, or as "
            "small: root mean square, median size and deviation by about the same factor, and "
            "half of its dimensions too. Rotations do not count. Needs 3 episodes."
        ),
        why="One normalisation serves all episodes, so the others shrink to a point.",
        remedy=f"Convert the episode to the units of the others. {_LEAVE_OUT} until then.",
    ),
    "short-episode": Kind(
        severity="warning",
        meaning=(
            "An episode has a single timestep, or less than a fifth of the median length (of "
            "at least 5 episodes)."
        ),
        why="It is mostly a recording that was broken off, and it holds no whole window.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "failed-episode": Kind(
        severity="warning",
        meaning="The data marks the episode as not successful.",
        why="Behaviour cloning imitates failures as faithfully as successes.",
        remedy="Train with only_successes, or leave the episode out.",
    ),
    "stale-statistics": Kind(
        severity="warning",
        meaning=(
            "Mean, deviation or range that are stored beside the data differ from the data's by "
            "more than 2% of a deviation, 2%, or 1% of the range."
        ),
        why="A trainer that takes the stored ones normalises by the numbers of other data.",
        remedy="Compute them again; SimScaleAI always computes its own.",
    ),
    # --- actions --------------------------------------------------------------------------------
    "action-lag": Kind(
        severity="warning",
        meaning=(
            "In all of the data the state's change correlates best with an action that comes "
            "later, or that came more than 0.1 s before (a timestep, if the rate is not "
            "known). Or in an episode: at a lag two or more timesteps from that of the data "
            "the actions explain the change as well as they do elsewhere, and at that of the "
            "data they do not."
        ),
        why="The policy learns to do what was done at another moment.",
        remedy="Shift the actions by as many timesteps, or fix the recorder's clock.",
    ),
    "unexplained-motion": Kind(
        severity="warning",
        meaning=(
            "The straight line from action to change of the state that fits all of the data "
            "leaves more than 75% of an episode's change unexplained, and 45% more than of "
            "the median episode; or no action has a correlation of 0.15 with the state it "
            "moves most."
        ),
        why="What is stored as action is not what moved the robot, so there is nothing to learn.",
        remedy="Check which action was recorded. Leave the episode out if it is one of few.",
    ),
    "flipped-action": Kind(
        severity="warning",
        meaning=(
            "A dimension of the action moves the state in the opposite direction (correlation "
            "below -0.5, in the median episode above 0.5; 0.3 for a gripper). Or a gripper's "
            "command begins and ends with the opposite of what it does in four of five "
            "episodes."
        ),
        why="Some of the data says open where the rest says close, and the policy learns neither.",
        remedy="Turn the sign of this dimension in these episodes.",
    ),
    "saturated-actions": Kind(
        severity="warning",
        meaning=(
            "In an episode the actions are at the ends of their range at 40% of the timesteps "
            "or more (mean of the dimensions, grippers left out), and clearly more than in "
            "the others; or at 90% in all of the data; or a dimension is at 30%, and its "
            "state changes there by anything between little and much, as if the action had "
            "been cut off afterwards."
        ),
        why="What was cut off is lost: the policy learns the limit, not the intention.",
        remedy="Record with a larger range, or scale the actions before they are cut.",
    ),
    "idle": Kind(
        severity="warning",
        meaning=(
            "Neither state nor action changes (by 0.5% of the spread in a timestep) for at "
            "least 10 timesteps, half a second and a fifth of the episode."
        ),
        why="The policy learns to wait where it has once waited, and may never start.",
        remedy="Cut the pause out, or leave the episode out.",
    ),
    "ambiguous-label": Kind(
        severity="warning",
        meaning=(
            "Of a sample of timesteps, at least 1% and 3 have a match in another episode with "
            "the same observation (to 0.5% of the spread, frames alike) and instruction, but "
            "an action that differs by half a deviation. Needs 100 timesteps."
        ),
        why="One observation cannot explain the action: the policy learns the mean of both.",
        remedy="Give it more: the missing observation or instruction, or a history (obs_len).",
    ),
    # --- episodes that are alike ----------------------------------------------------------------
    "duplicate-episode": Kind(
        severity="warning",
        meaning="All low-dimensional numbers of an episode equal those of an earlier one.",
        why="It counts twice, and a held-out loss on a copy measures memory.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "near-duplicate-episode": Kind(
        severity="warning",
        meaning=(
            "Observations and actions follow those of an earlier episode of about the same "
            "length to within 1% of the spread (root mean square over 16 moments of the "
            "episode; dimensions that hardly move are left out)."
        ),
        why="It counts twice, and a held-out loss on a copy measures memory.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "split-leak": Kind(
        severity="warning",
        meaning=(
            "Of two duplicates one is held out and one trained on by train's default split "
            "(eval_fraction and seed)."
        ),
        why="The held-out loss is measured on what was trained on, and looks better than it is.",
        remedy="Leave the duplicates out, then the split is clean.",
    ),
    # --- images ---------------------------------------------------------------------------------
    "frozen-camera": Kind(
        severity="warning",
        meaning=(
            "At least 4 frames that are looked at, one after the other, are equal while the "
            "state moves by 5% of the spread; for half of the episode, or for a tenth more "
            "than twice what is usual before this camera."
        ),
        why="The picture is not of the moment at which the action was taken.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "black-frame": Kind(
        severity="warning",
        meaning="A frame that is looked at is black (below 10 of 255) or of a single colour.",
        why="The policy learns to act blindly.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "swapped-channels": Kind(
        severity="warning",
        meaning=(
            "The difference of red and blue over the mean frame of an episode is the opposite "
            "of that of the typical episode (likeness below -0.5, in the median episode above "
            "0.5). Needs 5 episodes."
        ),
        why="BGR frames among RGB ones teach the policy two colours for each thing.",
        remedy="Exchange red and blue in these episodes.",
    ),
    "slow-frames": Kind(
        severity="warning",
        meaning=(
            "A frame that is read by itself takes more than 2 ms of processor time, and 5 times as "
            "long as one that is read with its neighbours: it lies with them in one compressed "
            "piece, as h5py's compression has it by default. Needs an episode of 32 timesteps."
        ),
        why="Training draws frames at random, and decompresses many for each that it needs.",
        remedy=(
            "Write every frame by itself with simscale data convert, or hold all of them in "
            "memory (cache_images_gib)."
        ),
    ),
    # --- time -----------------------------------------------------------------------------------
    "time-gap": Kind(
        severity="warning",
        meaning="From one timestamp to the next pass more than 1.75 times the usual time.",
        why="Timesteps are missing, so a step there is longer than the policy's.",
        remedy="Cut the episode at the gap, or leave it out.",
    ),
    "clock-back": Kind(
        severity="warning",
        meaning="A timestamp is not later than the one before.",
        why="Timesteps are in the wrong order, or recorded twice.",
        remedy="Sort the timesteps by the recorder's own clock, or leave the episode out.",
    ),
    "frame-rate": Kind(
        severity="warning",
        meaning="The timestamps' usual step differs from the stated fps by more than 5%.",
        why="Windows in seconds and the rate at execution are computed from the stated fps.",
        remedy="Correct the fps that the data states.",
    ),
    # --- instructions ---------------------------------------------------------------------------
    "missing-instruction": Kind(
        severity="warning",
        meaning="An episode has no instruction although others have one.",
        why="It is trained on with an empty instruction, which then means this task.",
        remedy="Give the episode its instruction, or leave it out.",
    ),
    "blank-instruction": Kind(
        severity="warning",
        meaning="An instruction holds no letter.",
        why="The policy receives no instruction.",
        remedy="Give the episode its instruction, or leave it out.",
    ),
    "contradictory-instruction": Kind(
        severity="warning",
        meaning="Two episodes are duplicates but have different instructions.",
        why="The same motion cannot be right for both, unless they mean the same.",
        remedy="Find out which instruction is right; store other words for one task as a list.",
    ),
    # --- facts ----------------------------------------------------------------------------------
    "constant-dimension": Kind(
        severity="info",
        meaning=(
            "A dimension hardly moves (deviation below 0.002 [units of the data]) in a way that "
            "tasks have by nature: a gripper that is not used, a goal on the table, a part of a "
            "quaternion."
        ),
        why="None of the task's success depends on it in this data, so nothing of it is learnt.",
        remedy="Nothing, if the task is like that.",
    ),
    "actions-at-limits": Kind(
        severity="info",
        meaning=(
            "The actions are at the ends of their range at 40% of all timesteps or more (mean "
            "of the dimensions, grippers left out)."
        ),
        why="A squared error is dominated by the timesteps at which it is not.",
        remedy="Nothing, if the robot is to move as fast as it may.",
    ),
}  # fmt: skip
"""Every kind of finding by its code."""


@frozen(kw_only=True)
class Finding:
    """One thing that is wrong with the data."""

    code: str = field(validator=in_(KINDS))
    """Its kind: a key of `KINDS`."""
    message: str
    """What is wrong, with the numbers."""
    path: Path
    """The data that it is in."""
    episode: str | None = None
    """Name of the episode; None if it is about all of the data."""
    timestep: int | None = None
    """The first timestep that shows it, or None."""
    key: str | None = None
    """The observation key, ``"actions"``, or None."""
    number: float | None = None
    """How much: the number that was compared with the definition."""

    @property
    def severity(self) -> Severity:
        """Return how bad it is."""
        return KINDS[self.code].severity

    @property
    def why(self) -> str:
        """Return why it hurts training, one sentence."""
        return KINDS[self.code].why

    @property
    def remedy(self) -> str:
        """Return what to do about it."""
        return KINDS[self.code].remedy

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values by name, for JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "path": str(self.path),
            "episode": self.episode,
            "timestep": self.timestep,
            "key": self.key,
            "number": self.number,
            "message": self.message,
            "why": self.why,
            "remedy": self.remedy,
        }
