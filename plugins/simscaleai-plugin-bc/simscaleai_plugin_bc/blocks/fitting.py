"""What a policy takes from the description of its data: input shapes and action statistics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simscaleai_core.contracts import DataSpec, Statistics
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_plugin_bc.blocks.action_space import ActionSpace
from simscaleai_plugin_bc.blocks.inputs import Inputs
from simscaleai_plugin_bc.blocks.normalization import (
    NEAR_CONSTANT_STD,
    Normalizer,
    centre_and_width,
)
from simscaleai_plugin_bc.blocks.observations import key_dim, missing_key

_SMALL = 0.5


def input_shapes(data: DataSpec, options: Mapping[str, Any], *, use_image: bool) -> dict[str, Any]:
    """Return the arguments of a policy that follow from the data.

    Args:
        data: Description of the dataset.
        options: The policy's options; ``state_keys`` and ``image_keys`` narrow the choice.
        use_image: Whether the policy sees images.

    Returns:
        ``state_keys`` and ``state_dim``; with images ``image_keys`` and ``image_size`` [pixels];
        where the options need them, ``state_dims`` and ``sources``.

    Raises:
        DataError: If a key is missing, the data has no image although one is asked for, or there
            is no observation at all.
    """  # noqa: DOC501
    listed = ", ".join(data.observations) or "none"
    keys = options.get("state_keys")
    keys = list(data.state_keys if keys is None else keys)
    images = list(options.get("image_keys") or data.image_keys) if use_image else []
    for key in (*keys, *images):
        if key not in data.observations:
            raise missing_key(key, data.observations)
    if use_image and not images:
        raise DataError(
            "use_image is on, but the data has no image: expected an observation key of "
            f"shape (C, H, W), got {listed}."
        )
    if not keys and not images:
        raise DataError(
            "behaviour cloning needs a state: expected at least one low-dimensional "
            f"observation key, got {listed}."
        )
    dims = [key_dim(data.observations[k]) for k in keys]
    found = {"state_keys": keys, "state_dim": sum(dims), **_needed_by_spaces(data, options, dims)}
    if not images:
        return found
    return {**found, "image_keys": images, "image_size": list(data.observations[images[0]][-2:])}


def window_length(options: Any, name: str) -> dict[str, Any]:
    """Return the dataset's option for windows as long as the horizon.

    Args:
        options: The policy's options, with the horizon in timesteps under `name` and perhaps
            `horizon_seconds`.
        name: Name of the option in timesteps.

    Returns:
        ``seq_len`` [timesteps] or ``seq_seconds`` [s].
    """
    if options.horizon_seconds is None:
        return {"seq_len": getattr(options, name)}
    return {"seq_seconds": options.horizon_seconds}


def with_horizon(data: DataSpec, options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a policy's options with the horizon of the data's windows, if it is given in seconds.

    Args:
        data: Description of the dataset, opened as `window_length` says.
        options: The policy's options.
        name: Name of the option in timesteps.

    Returns:
        The options.

    Raises:
        DataError: If the data was not opened for seconds.
        ConfigError: If the horizon is given in timesteps, too.
    """
    seconds = options.get("horizon_seconds")
    if seconds is None:
        return dict(options)
    if name in options:
        raise ConfigError(
            f"horizon_seconds={seconds} and {name}={options[name]}: expected one of them. Leave "
            "the other out."
        )
    if data.seq_len == 1:
        raise DataError(
            f"the data does not fit the policy: expected windows of horizon_seconds={seconds}, got "
            f"single timesteps. Open the dataset with seq_seconds={seconds}, or give {name}, where "
            "its reader does not know seconds."
        )
    return {**options, name: data.seq_len}


def check_normalization(inputs: Inputs, *, clips: bool) -> None:
    """Refuse ways of normalising that the policy cannot take.

    Args:
        inputs: The policy's inputs, adapted to the data.
        clips: Whether it never predicts an action outside [-1, 1].

    Raises:
        ConfigError: If a key is unknown, or the way does not bring actions to [-1, 1].
    """
    table = inputs.space.normalization
    known = {*(inputs.state_keys or ()), "actions"}
    for key in table:
        if key not in known:
            raise ConfigError(
                f"normalization: expected 'actions' or a key of the state, got {key!r}. Known: "
                f"{', '.join(sorted(known))}."
            )
    if clips and table.get("actions") == "mean_std":
        raise ConfigError(
            "normalization of 'actions': expected range, quantiles or none for a policy that "
            "predicts no action outside [-1, 1], got 'mean_std'. Leave it out for range."
        )


def check_reach(actions: Statistics) -> None:
    """Refuse actions outside [-1, 1] for a policy that never predicts any.

    Args:
        actions: Statistics of the actions to the network, not normalised.

    Raises:
        ConfigError: If they reach further.
    """
    reach = max(map(abs, (*actions.low, *actions.high)))
    if reach > 1 + 1e-3:
        raise ConfigError(
            "normalization of 'actions': expected actions within [-1, 1] for 'none' and a policy "
            f"that predicts none outside, got up to {reach:.4g}. Choose range or quantiles."
        )


def _needed_by_spaces(
    data: DataSpec, options: Mapping[str, Any], dims: Sequence[int]
) -> dict[str, Any]:
    """Return the dimensions of the state's keys and the sources, where the options need them."""
    found: dict[str, Any] = {}
    if options.get("rotations") or options.get("delta_actions"):
        found["state_dims"] = list(dims)
    if options.get("statistics") == "by_source":
        found["sources"] = list(data.sources)
        if not data.sources:
            raise DataError(
                "statistics='by_source' needs several sources: expected a mixture of datasets, got "
                "one dataset. Give --dataset several times, or leave it out."
            )
    return found


def fit_actions(
    normalizer: Normalizer,
    data: DataSpec,
    *,
    to_range: bool = False,
    mode: str | None = None,
    source: int | None = None,
) -> None:
    """Fit the normaliser of the actions, unless it is fitted or the data needs none.

    Without a mode, actions within [-1, 1] stay as they are.

    Args:
        normalizer: The normaliser of the actions.
        data: Description of the dataset.
        to_range: Map the range of the data to [-1, 1], also where it is much smaller, as heads that
            turn noise into actions need; else standardise.
        mode: How to normalise, whatever the range; see `centre_and_width`.
        source: Position of the source that the statistics are of, if each has its own.
    """
    actions = data.statistics.get("actions")
    if actions is None or (normalizer.fitted and source is None):
        return
    low, high = np.asarray(actions.low), np.asarray(actions.high)
    reach = np.maximum(np.abs(low), np.abs(high))
    is_small = bool(((reach < _SMALL) & (high > low)).any())
    if mode or reach.max() > 1.0 or (to_range and is_small):
        chosen = mode or ("range" if to_range else "mean_std")
        scale_actions(normalizer, actions, chosen, source=source)


def scale_actions(
    normalizer: Normalizer,
    actions: Statistics,
    mode: str,
    *,
    least: Sequence[float] | float = NEAR_CONSTANT_STD,
    source: int | None = None,
) -> None:
    """Fit the normaliser of the actions by one of the modes, without a word about constant ones.

    Args:
        normalizer: The normaliser of the actions.
        actions: Their statistics.
        mode: How to normalise; see `centre_and_width`.
        least: See `Normalizer.fit`.
        source: Position of the source that the statistics are of, if each has its own.
    """
    centre, width = centre_and_width(actions, mode, "actions")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a constant action is harmless
        normalizer.fit(mean=centre, std=width, least=least, source=source)


def least_spread(space: ActionSpace, actions: Statistics | None) -> list[float]:
    """Return what the spread of each dimension is below where it counts as constant.

    Differences from the state are small: theirs is a part of the spread of the actions themselves.

    Args:
        space: Actions to the network.
        actions: Statistics of the actions in the data, if they are known.

    Returns:
        A number for each dimension to the network [units of the data].
    """
    found = []
    for span in space.spans:
        if actions is None or span.kind or span.state is None:
            found += [NEAR_CONSTANT_STD] * span.encoded
        else:
            found += [NEAR_CONSTANT_STD * min(1.0, std) for std in actions.std[span.columns]]
    return found
