"""ACME's logs: one JSON object with a list of episodes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from simscaleai_core.contracts import DataSpec
from simscaleai_core.errors import DataError


class AcmeLog(Dataset[dict[str, Any]]):
    """Single timesteps of every episode of a log."""

    def __init__(self, path: str, episodes: Sequence[int] | None = None) -> None:
        self._path = path
        try:
            content = json.loads(Path(path).read_text())
            everything = content["episodes"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path} is not a log of ours: expected JSON with 'episodes'. Export it again.",
                path=path,
            ) from error
        self._env = content.get("env")
        self._total = len(everything)
        self._episodes = list(range(self._total)) if episodes is None else list(episodes)
        self._rows = [
            {
                "observations": {k: torch.tensor(v[t]) for k, v in e["observations"].items()},
                "actions": torch.tensor(e["actions"][t]),
            }
            for e in (everything[i] for i in self._episodes)
            for t in range(len(e["actions"]))
        ]

    def __len__(self) -> int:
        """Return the number of timesteps."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one timestep."""
        return self._rows[index]

    def describe(self) -> DataSpec:
        """Say what the log holds."""
        first = self._rows[0]
        return DataSpec(
            observations={k: tuple(v.shape) for k, v in first["observations"].items()},
            action_dim=first["actions"].numel(),
            num_episodes=len(self._episodes),
            num_samples=len(self),
            fingerprint=hashlib.blake2b(Path(self._path).read_bytes(), digest_size=8).hexdigest(),
            env=self._env,
        )

    def split(self, fraction: float, seed: int) -> tuple[AcmeLog, AcmeLog]:
        """Hold out a fraction of the episodes."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self._total, generator=generator).tolist()
        held_out = max(1, round(fraction * self._total))
        return AcmeLog(self._path, order[held_out:]), AcmeLog(self._path, order[:held_out])
