"""The trainer and its configuration."""

from simscaleai_core.config import TrainConfig
from simscaleai_core.trainer import Trainer

__all__ = ["TrainConfig", "Trainer"]
