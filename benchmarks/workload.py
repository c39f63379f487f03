"""The work that every training loop of `loop` does: one network, one list of batches, one clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import define, field
from rounds import Cost
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

STATE_DIM, HIDDEN_DIM, ACTION_DIM, DROPOUT = 20, 256, 4, 0.1
LR, WEIGHT_DECAY, GRAD_CLIP = 1e-4, 1e-5, 1.0
LOG_EVERY, WARMUP_STEPS, UNTIMED_STEPS = 100, 100, 100
_DISTINCT_BATCHES = 64

Batch = dict[str, Any]


class MLP(nn.Module):
    """The seed document's behaviour cloning network, without normalisers.

    Args:
        dropout: Fraction of hidden units that are dropped.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (STATE_DIM, HIDDEN_DIM, HIDDEN_DIM):
            layers += [nn.Linear(width, HIDDEN_DIM), nn.GELU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(HIDDEN_DIM, ACTION_DIM))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch."""
        return self.loss(batch["observations"], batch["actions"])

    def loss(self, observations: dict[str, Tensor], actions: Tensor) -> dict[str, Tensor]:
        """Return the mean squared error of the actions `[B, A]`."""
        return {"loss": F.mse_loss(self.net(observations["state"]), actions)}


class ClockedBatches(Sequence[Batch]):
    """Batches that note when they are asked for; the same clock for every loop.

    The time from the request of one batch to the request of a later one holds exactly as many
    steps as lie between them, also for a loop that fetches one batch ahead. Starting, ending and
    the final checkpoint are outside.

    Args:
        batches: Distinct batches, taken in turn.
        num_steps: Steps to time.
    """

    def __init__(self, batches: list[Batch], num_steps: int) -> None:
        self._batches = batches
        self._num_steps = num_steps
        self._begin = self._end = (0.0, 0.0)

    def __len__(self) -> int:
        """Return the steps of the whole run: untimed, timed, and one that ends the timing."""
        return UNTIMED_STEPS + self._num_steps + 1

    def __getitem__(self, index: Any) -> Any:
        """Return one batch."""
        return self._batches[index % len(self._batches)]

    def __iter__(self) -> Iterator[Batch]:
        """Yield every batch once."""
        last = UNTIMED_STEPS + self._num_steps
        for number in range(len(self)):
            if number == UNTIMED_STEPS:
                self._begin = _now()
            elif number == last:
                self._end = _now()
            yield self._batches[number % len(self._batches)]

    @property
    def cost(self) -> Cost:
        """What one step took."""
        wall, cpu = (b - a for a, b in zip(self._begin, self._end, strict=True))
        return Cost(wall_s=wall / self._num_steps, cpu_s=cpu / self._num_steps)


@define
class Work:
    """One run's worth of work at one batch size."""

    batches: list[Batch]
    num_steps: int
    """Steps that are timed."""
    dropout: float = DROPOUT
    """Fraction of hidden units that are dropped."""
    model: MLP | None = field(default=None, init=False)
    """The network of the run that started last."""

    def start(self) -> tuple[MLP, ClockedBatches]:
        """Return a fresh network and fresh batches, the same for every contender."""
        torch.manual_seed(0)
        self.model = MLP(self.dropout).train()
        return self.model, ClockedBatches(self.batches, self.num_steps)

    @property
    def weights(self) -> Tensor:
        """Every parameter of the last run's network, in one row."""
        parameters = self.model.parameters() if self.model else ()
        return torch.cat([p.detach().flatten() for p in parameters])


def build_work(batch_size: int, num_steps: int, dropout: float = DROPOUT) -> Work:
    """Draw the batches: states `[B, 20]` and actions `[B, 4]`, standard normal."""
    draw = torch.Generator().manual_seed(1)
    batches: list[Batch] = [
        {
            "observations": {"state": torch.randn(batch_size, STATE_DIM, generator=draw)},
            "actions": torch.randn(batch_size, ACTION_DIM, generator=draw),
        }
        for _ in range(_DISTINCT_BATCHES)
    ]
    return Work(batches, num_steps, dropout)


def build_optimizer(model: nn.Module, **options: Any) -> torch.optim.AdamW:
    """Build AdamW as the textbook does, with torch's own defaults besides `options`."""
    return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, **options)


def build_schedule(optimizer: torch.optim.Optimizer, num_steps: int) -> SequentialLR:
    """Build a linear warm-up and half a cosine."""
    warmup = LinearLR(optimizer, start_factor=1e-8, total_iters=WARMUP_STEPS)
    cosine = CosineAnnealingLR(optimizer, T_max=num_steps - WARMUP_STEPS)
    return SequentialLR(optimizer, [warmup, cosine], milestones=[WARMUP_STEPS])


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def check_alike(
    loops: Mapping[str, Callable[[Work], Any]], baseline: str, *, steps: int, tolerance: float
) -> None:
    """Make sure that every loop does the same work.

    Args:
        loops: Training loops by name.
        baseline: Name of the one that the others are held against.
        steps: Steps to train.
        tolerance: Largest difference of a weight.

    Raises:
        RuntimeError: If one ends with other weights than the baseline.
    """
    work = build_work(32, steps, dropout=0.0)
    loops[baseline](work)
    expected = work.weights
    for name, loop in loops.items():
        loop(work)
        difference = float((work.weights - expected).abs().max())
        if not difference < tolerance:
            raise RuntimeError(f"{name} does other work: its weights differ by {difference:.1e}")
