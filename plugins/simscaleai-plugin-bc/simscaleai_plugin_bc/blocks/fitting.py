"""What a policy takes from the description of its data: input shapes and action statistics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from simscaleai_core.contracts import DataSpec
from simscaleai_core.errors import DataError
from simscaleai_plugin_bc.blocks.normalization import Normalizer
from simscaleai_plugin_bc.blocks.observations import key_dim, missing_key

_SMALL = 0.5


def input_shapes(data: DataSpec, options: Mapping[str, Any], *, use_image: bool) -> dict[str, Any]:
    """Return the arguments of a policy that follow from the data.

    Args:
        data: Description of the dataset.
        options: The policy's options; ``state_keys`` and ``image_keys`` narrow the choice.
        use_image: Whether the policy sees images.

    Returns:
        ``state_keys`` and ``state_dim``; with images ``image_keys`` and ``image_size`` [pixels].

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
    found = {"state_keys": keys, "state_dim": sum(key_dim(data.observations[k]) for k in keys)}
    if not images:
        return found
    return {**found, "image_keys": images, "image_size": list(data.observations[images[0]][-2:])}


def fit_actions(normalizer: Normalizer, data: DataSpec, *, to_range: bool = False) -> None:
    """Fit the normaliser of the actions, unless it is fitted or the data needs none.

    Actions within [-1, 1] stay as they are.

    Args:
        normalizer: The normaliser of the actions.
        data: Description of the dataset.
        to_range: Map the range of the data to [-1, 1], also where it is much smaller, as heads that
            turn noise into actions need; else standardise.
    """
    actions = data.statistics.get("actions")
    if actions is None or normalizer.fitted:
        return
    low, high = np.asarray(actions.low), np.asarray(actions.high)
    reach = np.maximum(np.abs(low), np.abs(high))
    is_small = bool(((reach < _SMALL) & (high > low)).any())
    if not (reach.max() > 1.0 or (to_range and is_small)):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a constant action is harmless
        if to_range:
            middle, half = (high + low) / 2, (high - low) / 2
            normalizer.fit(mean=middle.tolist(), std=half.tolist())
        else:
            normalizer.fit(mean=actions.mean, std=actions.std)
