"""The order of a curriculum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from simscaleai_core.config import TrainConfig
from simscaleai_core.seeding import stream_seed
from simscaleai_plugin_curriculum.options import CurriculumOptions


class Curriculum:
    """Draws from the easiest samples only, and from more of them in each epoch.

    Source:
        Bengio et al. 2009 (Curriculum learning), section 4; how hard a sample is, is ours: the
        2-norm of its actions.
    """

    def __init__(self, config: TrainConfig, options: CurriculumOptions) -> None:
        del config
        self._options = options
        self._easiest_first: Tensor | None = None

    def order(self, data: Any, seed: int, epoch: int) -> Tensor:
        """Return as many samples `[N]` as there are, those that are not in yet made up for."""
        if self._easiest_first is None:  # once: it reads all of the data
            sizes = torch.stack([data[i]["actions"].norm() for i in range(len(data))])
            self._easiest_first = sizes.argsort(stable=True)
        grown = self._options.start_fraction + epoch / self._options.epochs
        count = max(1, round(min(1.0, grown) * len(data)))
        generator = torch.Generator().manual_seed(stream_seed(seed, "curriculum", epoch))
        rounds = -(-len(data) // count)
        ranks = [torch.randperm(count, generator=generator) for _ in range(rounds)]
        return self._easiest_first[torch.cat(ranks)[: len(data)]]
