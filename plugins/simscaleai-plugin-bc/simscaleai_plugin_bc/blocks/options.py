"""Options that several policies share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import and_, ge, gt, in_, lt, optional

from simscaleai_core.plugin import REPORTED

LOSSES = ("mse", "l1", "huber")
"""Regression losses by name."""
MODES = ("mean_std", "range", "quantiles", "none")
"""Ways of normalising a key."""
REPRESENTATIONS = {"quaternion_xyzw": 4, "quaternion_wxyz": 4, "axis_angle": 3, "matrix": 9}
"""Representations of a rotation, and the dimensions of each; a matrix is row after row."""
STATISTICS = ("pooled", "by_source")
"""Statistics of a mixture: of all its samples, or of each source its own."""

NOISES = (WARM, HELD, FRESH) = ("warm", "held", "fresh")
"""Where the sampling of a chunk begins: near the last one, from the episode's noise, or its own."""


def count_option(
    default: int, *, minimum: int = 1, metadata: Mapping[str, str] | None = None
) -> Any:
    """Declare a whole number.

    Args:
        default: Its value if not given.
        minimum: The smallest value allowed.
        metadata: What becomes of another value on resume; refused if None.

    Returns:
        The attrs field.
    """
    return field(default=default, validator=ge(minimum), metadata=metadata)


def fraction_option(default: float = 0.0) -> Any:
    """Declare a fraction in [0, 1)."""
    return field(default=default, validator=and_(ge(0.0), lt(1.0)))


def loss_option(default: str = "mse") -> Any:
    """Declare the name of a regression loss."""
    return field(default=default, validator=in_(LOSSES))


def table_option(values: Collection[str] | None = None) -> Any:
    """Declare a table from text to text, or to one of `values`; empty by default."""
    wanted = f"one of {', '.join(values)}" if values else "text"

    def check(_: object, attribute: Attribute[Any], table: Any) -> None:
        for key, value in dict(table).items():
            if not isinstance(value, str) or (values and value not in values):
                raise ValueError(
                    f"field {attribute.name!r}: expected {wanted} for {key!r}, got {value!r}"
                )

    return field(factory=dict, validator=check)


def seconds_option() -> Any:
    """Declare a horizon in seconds, which is not given by default."""
    return field(default=None, validator=optional(gt(0.0)))


def noise_option() -> Any:
    """Declare where chunks begin that a policy samples."""
    return field(default=WARM, validator=in_(NOISES), metadata=REPORTED)


def temperature_option() -> Any:
    """Declare the factor on the noise that a policy samples from."""
    return field(default=1.0, validator=ge(0.0), metadata=REPORTED)


@frozen(kw_only=True)
class SpaceOptions:
    """Options about the numbers that the network sees and predicts, whatever the policy."""

    normalization: Mapping[str, str] = table_option(MODES)
    """How each observation key, or actions, is normalised: mean_std, range (to [-1, 1]), quantiles
    (1% and 99% to [-1, 1]) or none. Without: mean_std; actions only where they leave [-1, 1], or
    where the policy starts from noise."""
    delta_actions: Mapping[str, str] = table_option()
    """Ranges of action dimensions, such as 0:3, that are learnt relative to an observation key."""
    rotations: Mapping[str, str] = table_option(REPRESENTATIONS)
    """Rotations among the dimensions of observation keys or actions, such as actions[3:7]:
    quaternion_xyzw, quaternion_wxyz, axis_angle or matrix; the network sees six numbers."""
    statistics: str = field(default="pooled", validator=in_(STATISTICS))
    """Statistics of a mixture to normalise with: pooled, or by_source, each source with its own."""
    source: str | None = field(default=None, metadata=REPORTED)
    """Source whose statistics count when the policy acts, with statistics by_source."""


@frozen(kw_only=True)
class ImageOptions(SpaceOptions):
    """Options about images, whatever the policy."""

    use_image: bool = False
    """Whether the policy sees images besides the state."""
    image_keys: tuple[str, ...] | None = None
    """Observation keys of the cameras, in order; all of the data's if not given."""
    augment_shift: int = count_option(0, minimum=0)
    """Largest random shift of an image in training [pixels]."""
    augment_colour: float = fraction_option()
    """Largest random change of an image's colours in training [fraction]."""


@frozen(kw_only=True, slots=False)  # two bases with slots cannot be combined
class MLPOptions:
    """Options about an MLP, whatever it predicts."""

    hidden_dim: int = count_option(256)
    """Width of the hidden layers."""
    n_layers: int = count_option(3)
    """Number of hidden layers."""
    dropout: float = fraction_option()
    """Fraction of hidden units that are dropped in training."""


@frozen(kw_only=True)
class ChunkOptions(ImageOptions):
    """Options about chunks of actions, whatever predicts them."""

    horizon: int = count_option(8)
    """Actions in a chunk [timesteps]."""
    horizon_seconds: float | None = seconds_option()
    """Actions in a chunk [s], instead of horizon; of data that knows its rate."""
    execute: int | None = field(default=None, metadata=REPORTED)
    """Steps of a chunk that are executed before the next; all of them, or 1 with ensembling, if
    not given."""
    ensemble: float | None = field(default=None, metadata=REPORTED)
    """Temporal ensembling: weight exp(-m i) of the i-th oldest chunk; off if not given."""
