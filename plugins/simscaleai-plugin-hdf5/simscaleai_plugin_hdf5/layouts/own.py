"""The layout that `EpisodeWriter` makes and `simscale record` uses.

The file, as the reader takes it and the writer makes it::

    episode_N/                       N counts up; leading zeros and gaps are fine
        observations/KEY   [T, D]            numbers, any real type, in the units of the data
                           [T, H, W, C]      images
        actions            [T, A]
        rewards            [T]               optional when reading
        timestamps         [T]               seconds, optional
        @language                            text, optional
        @success                             whether the task was done, optional
    mask/NAME                                names of episodes, optional
    @env_name                                text, optional
    @fps or @control_hz                      timesteps per second, optional

Beside a text that our writer stores is its CRC-32, as @language_crc32 and @env_name_crc32.

T: timesteps of the episode, D: dimensions of a key, A: dimensions of an action.
"""

from __future__ import annotations

import math

from simscaleai_plugin_hdf5.checks import number_attribute, text_attribute
from simscaleai_plugin_hdf5.layouts.layout import Contents, Found, Layout
from simscaleai_plugin_hdf5.layouts.numbered import filter_keys, is_numbered, places
from simscaleai_plugin_hdf5.layouts.texts import marked_success, told
from simscaleai_plugin_hdf5.stored import ENV

PREFIX = "episode_"
_RATES = ("fps", "control_hz")
"""Who writes a file says ``fps``; `simscale record` says ``control_hz``."""


def _matches(root: Found) -> bool:
    return is_numbered(root.names, PREFIX)


def _contents(root: Found) -> Contents:
    return Contents(
        places=places(root.names, PREFIX, root.location, filter_keys=filter_keys(root)),
        env=text_attribute(root.group, ENV, root.location),
        fps=_rate(root),
    )


def _rate(root: Found) -> float | None:
    rates = (number_attribute(root.group, name, root.location) for name in _RATES)
    return next((rate for rate in rates if rate is not None and 0 < rate < math.inf), None)


LAYOUT = Layout(
    name="simscaleai",
    matches=_matches,
    contents=_contents,
    instructions=told,
    success=marked_success,
    beside=frozenset({"dones", "terminals", "timeouts", "infos", "next_observations"}),
)
