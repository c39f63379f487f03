"""What a check finds: the record, and every kind of finding with what it means and what to do."""

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
            "A dimension has one value in all of the data (deviation below a millionth of its key's"
            " largest) although most others of its key move within episodes; for actions, a value "
            "other than -1, 0 and 1."
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
            "An observed dimension has one value in all of an episode of at least 10 timesteps, "
            "moves in four of five of the other episodes, and most others of its key move."
        ),
        why="The policy learns to act on a sensor reading that has nothing to do with the robot.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "outlier": Kind(
        severity="warning",
        meaning=(
            "A number lies more than 5 times the spread (1% to 99% of an episode) from the middle, "
            "or more than 1.5 times for a single timestep with a jump there and back; at most 3 "
            "timesteps, or 0.2% of all, do in its dimension."
        ),
        why="It widens the range that normalisation spreads, and its squared error rules the loss.",
        remedy=f"{_LEAVE_OUT}, or replace the number by its neighbours.",
    ),
    "unit-change": Kind(
        severity="warning",
        meaning=(
            "A key is about 57.3, 100 or 1000 times as large in an episode as in the median episode"
            " (or as small), both in its root mean square and in its median size, in most of its "
            "dimensions."
        ),
        why="One normalisation serves all episodes, so the others shrink to a point.",
        remedy=f"Convert the episode to the units of the others. {_LEAVE_OUT} until then.",
    ),
    "short-episode": Kind(
        severity="warning",
        meaning="An episode has a single timestep, or less than a fifth of the median length.",
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
            "The state's change correlates best with the action of another timestep: one that comes"
            " later, or two or more earlier; for one episode, two or more away from the others."
        ),
        why="The policy learns to do what was done at another moment.",
        remedy="Shift the actions by as many timesteps, or mend the recorder's clock.",
    ),
    "unexplained-motion": Kind(
        severity="warning",
        meaning=(
            "The actions explain less than a fifth of the state's change that they explain in the "
            "median episode, at any lag; or their correlation is below 0.1 in all of the data."
        ),
        why="What is stored as action is not what moved the robot, so there is nothing to learn.",
        remedy="Check which action was recorded. Leave the episode out if it is one of few.",
    ),
    "flipped-action": Kind(
        severity="warning",
        meaning=(
            "A dimension of the action, such as the gripper's, moves the state in the opposite "
            "direction than in the other episodes (correlation below -0.3, others above 0.3); or "
            "a gripper without a state begins and ends with the opposite command."
        ),
        why="Half of the data says open where the other half says close.",
        remedy="Turn the sign of this dimension in these episodes.",
    ),
    "saturated-actions": Kind(
        severity="warning",
        meaning=(
            "At 90% of all timesteps an action is at the end of its range; or in an episode at half"
            " of them and at twice as many as in the median episode. Grippers do not count."
        ),
        why="What was cut off is lost: the policy learns the limit, not the intention.",
        remedy="Record with a larger range, or scale the actions before they are cut.",
    ),
    "idle": Kind(
        severity="warning",
        meaning=(
            "Neither state nor action changes (by 0.5% of the spread) for at least 10 timesteps, "
            "one second and a fifth of the episode."
        ),
        why="The policy learns to wait where it has once waited, and may never start.",
        remedy="Cut the pause out, or leave the episode out.",
    ),
    "ambiguous-label": Kind(
        severity="warning",
        meaning=(
            "Of a sample of timesteps, at least 1% and 3 have a twin with the same observation (to "
            "0.5% of the spread, frames alike) and instruction, but an action that differs by half "
            "a deviation."
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
            "Observations and actions follow those of an earlier episode to within 1% of the "
            "spread (root mean square over 16 moments of the episode)."
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
            "Successive frames that are looked at are equal while the state moves on by 5% of the "
            "spread or more."
        ),
        why="The picture is not of the moment at which the action was taken.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "black-frame": Kind(
        severity="warning",
        meaning="A frame is black or of a single colour.",
        why="The policy learns to act blindly.",
        remedy=f"{_LEAVE_OUT}.",
    ),
    "swapped-channels": Kind(
        severity="warning",
        meaning=(
            "The mean frame of an episode is at most half as far from that of the typical episode "
            "if red and blue are exchanged."
        ),
        why="BGR frames among RGB ones teach the policy two colours for each thing.",
        remedy="Exchange red and blue in these episodes.",
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
        why="The policy is told nothing.",
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
        meaning="At half of all timesteps an action is at the end of its range.",
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
