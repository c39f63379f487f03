"""The robomimic family: robomimic, robosuite, MimicGen, LIBERO, RoboCasa, Isaac Lab Mimic.

The file::

    data/demo_N/
        obs/KEY                              observations, groups inside each other included
        actions              [T, A]          others beside it, such as actions_abs, by action_key
        rewards, dones, states, next_obs     and more that is no observation
        @success                             Isaac Lab; else a reward of 1 among zeros says so
        @ep_meta                             RoboCasa: JSON, the instruction as lang
    data/@env_args                           JSON: env_name, env_kwargs.control_freq
    data/@key_names                          ours: JSON, the keys that have a / by names without it
    data/@problem_info                       LIBERO: JSON, the instruction as language_instruction
    mask/NAME                                filter keys: names of episodes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simscaleai_core.data.location import Location
from simscaleai_plugin_hdf5.checks import json_attribute, text_attribute
from simscaleai_plugin_hdf5.layouts.layout import Contents, Found, Group, Layout, Texts
from simscaleai_plugin_hdf5.layouts.numbered import filter_keys, is_numbered, places
from simscaleai_plugin_hdf5.layouts.texts import marked_success, told
from simscaleai_plugin_hdf5.reading.guard import dataset_in, group_in, names_in
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps, is_number
from simscaleai_plugin_hdf5.stored import ENV, REWARDS

PREFIX = "demo_"
DATA = "data"
OBS = "obs"
KEY_NAMES = "key_names"


def _matches(root: Found) -> bool:
    return DATA in root.names and is_numbered(_data(root)[1], PREFIX)


def _data(root: Found) -> tuple[Group, list[str]]:
    here = root.location.at(key=DATA)
    group = group_in(root.group, DATA, here)
    return group, names_in(group, here, root.allowance)


def _contents(root: Found) -> Contents:
    group, names = _data(root)
    here = root.location
    env_args = json_attribute(group, "env_args", here)
    env = env_args.get("env_name") or text_attribute(group, "env", here)
    kwargs = env_args.get("env_kwargs")
    rate = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
    return Contents(
        places=places(names, PREFIX, here, group=(DATA,), filter_keys=filter_keys(root)),
        env=env if isinstance(env, str) else text_attribute(group, ENV, here),
        fps=float(rate) if isinstance(rate, int | float) and rate > 0 else None,
        instructions=_problem(group, here),
        names=_names(json_attribute(group, KEY_NAMES, here)),
    )


def flat(key: str) -> str:
    """Return what a key is called in a file: robomimic reads no groups inside ``obs``."""
    return key.replace("/", ".")


def _names(stored: Mapping[str, Any]) -> dict[str, str]:
    return {n: key for n, key in stored.items() if isinstance(key, str) and flat(key) == n}


def _problem(group: Group, location: Location) -> Texts:
    """Return LIBERO's instruction, which may be stored as a list of its characters."""
    words: Any = json_attribute(group, "problem_info", location).get("language_instruction")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        words = "".join(words)
    return (words.strip('"'),) if isinstance(words, str) else ()


def _instructions(found: Found) -> Texts:
    texts = told(found)
    if texts:
        return texts
    lang = json_attribute(found.group, "ep_meta", found.location).get("lang")
    return (lang,) if isinstance(lang, str) else ()


_BESIDE = frozenset(
    {
        "next_obs", "dones", "states", "actions_abs", "action_dict", "robot_states",
        "datagen_info", "initial_state", "processed_actions", "src_demo_inds", "src_demo_labels",
    }
)  # fmt: skip


def _success(found: Found) -> bool | None:
    """Return whether an episode is marked, or earns robomimic's reward of 1 for the task done."""
    marked = marked_success(found)
    if marked is not None or REWARDS not in found.names:
        return marked
    here = found.location.at(key=REWARDS)
    stored = dataset_in(found.group, (REWARDS,), here)
    found.allowance.take(stored.num_bytes)
    if not is_number(stored, here):
        return None
    rewards = Timesteps(stored, here).read(0, stored.shape[0])
    is_sparse = bool(np.isin(rewards, (0, 1)).all())
    return True if is_sparse and rewards.any() else None


LAYOUT = Layout(
    name="robomimic",
    matches=_matches,
    contents=_contents,
    instructions=_instructions,
    success=_success,
    observations=OBS,
    beside=_BESIDE,
    remedy="Make its observations, for example with robomimic's dataset_states_to_obs.py",
)
