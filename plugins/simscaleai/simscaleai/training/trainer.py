"""The trainer and its configuration."""

from simscaleai_core.assembly import Trainer
from simscaleai_core.config import TrainConfig

__all__ = ["TrainConfig", "Trainer"]
