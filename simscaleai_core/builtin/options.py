"""Options classes of the built-in components."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge


@frozen(kw_only=True)
class DummyOptions:
    """Options of the dummy dataset."""

    num_samples: int = field(default=1000, validator=ge(1))
    """Samples to generate."""
    obs_dim: int = field(default=20, validator=ge(1))
    """Dimensions of the state."""
    action_dim: int = field(default=4, validator=ge(1))
    """Dimensions of an action."""
    include_image: bool = False
    """Add an image to each observation."""
    include_language: bool = False
    """Add an instruction to each sample."""
    seed: int = field(default=42, validator=ge(0))
    """Seed of the generated data."""
