"""Options of this plugin's components; light, because they are also the command line's help."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class ClosedLoopOptions:
    """How the closed-loop evaluation during training is run."""

    episodes: int = 50
    """Episodes per evaluation, over all ranks."""
    seed: int = 20_000
    """Seed of the first episode; every evaluation runs the same episodes."""
    num_envs: int = 32
    """Environments that run side by side on each rank."""
    images: int | None = None
    """Side of the square camera images [pixels]; an environment with ``image_options`` takes it
    from the policy."""
    frames: int = 0
    """Frames of the first episode to hand to the loggers as one strip; 0 draws nothing."""
