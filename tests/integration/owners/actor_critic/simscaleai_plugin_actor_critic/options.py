"""Options of this plugin's components."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt


@frozen(kw_only=True)
class ActorCriticOptions:
    """What can be chosen for the policy."""

    hidden_dim: int = field(default=64, validator=ge(1))
    """Width of the actor's and of the critic's hidden layer."""


@frozen(kw_only=True)
class LearnBothOptions:
    """What can be chosen for the train step."""

    critic_lr: float = field(default=1e-3, validator=gt(0))
    """Learning rate of the critic; the actor's is the run's."""
    momentum: float = field(default=0.9, validator=ge(0))
    """Momentum of the critic's optimiser."""
