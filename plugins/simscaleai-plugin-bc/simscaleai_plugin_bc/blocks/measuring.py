"""Statistics of what a policy makes of the numbers of its data, and whose units count.

B: samples, N: rows, T: timesteps, D: dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simscaleai_core.contracts import Batch, DataSpec, Statistics
from simscaleai_core.data.statistics import pooled
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_plugin_bc.blocks.action_space import Span
from simscaleai_plugin_bc.blocks.rotations import deviation

_SOURCE = "/source"  # no observation key begins with a slash
_EXACT_ROWS = 2**20
_TOLERANCE = 1e-2


class Units:
    """The sources of the data that have statistics of their own, and whose count in acting.

    Args:
        sources: Their names; None if all share the same statistics.
        acting: Name of the source whose units observations and actions have in acting.
    """

    def __init__(self, sources: Sequence[str] | None, acting: str | None) -> None:
        self.sources = None if sources is None else list(sources)
        self._acting: int | None = None
        if acting is not None:
            self.choose(acting)

    @property
    def count(self) -> int | None:
        """Number of sources; None if they share their statistics."""
        return None if self.sources is None else len(self.sources)

    def choose(self, name: str) -> None:
        """Choose the source whose units count in acting.

        Raises:
            ConfigError: If there is no such source.
        """
        if self.sources is None or name not in self.sources:
            raise ConfigError(
                f"source: expected {self._listed()}, got {name!r}. Name one, or leave it out "
                "without statistics by_source."
            )
        self._acting = self.sources.index(name)

    def of(self, observations: Mapping[str, Tensor]) -> Tensor | None:
        """Return each sample's source, int64 `[B]`; None if all share their statistics.

        Raises:
            ConfigError: If no source is chosen to act in.
        """
        if self.sources is None:
            return None
        found = observations.get(_SOURCE)
        if found is not None:
            return found
        if self._acting is None:
            raise ConfigError(
                f"the policy has statistics by source: expected a choice of {self._listed()} to "
                "act with, got none. Call set_source(NAME), or train with the option source."
            )
        first = next(iter(observations.values()))
        return torch.full((len(first),), self._acting, device=first.device)

    def named(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the observations of a batch, with the source of each sample if that matters.

        Samples that do not say it are of the source that is chosen to act with.

        Raises:
            DataError: If a sample is of none of the sources.
        """
        observations: Mapping[str, Tensor] = batch["observations"]
        if self.sources is None or _SOURCE in observations:
            return observations
        names = batch.get("source", ())
        if not names and self._acting is not None:
            return observations
        strange = sorted(set(names) - set(self.sources))
        if strange or not names:
            raise DataError(
                f"the batch does not say whose units it has: expected {self._listed()} under "
                f"'source' for each sample, got {', '.join(strange) or 'nothing'}. Train on the "
                "mixture, or choose one with the option source."
            )
        device = next(iter(observations.values())).device
        rows = torch.tensor([self.sources.index(name) for name in names])
        at_once = device.type != "mps"  # a copy that is waited for waits for all of a GPU's work
        return {**observations, _SOURCE: rows.to(device, non_blocking=at_once)}

    def parts(self, data: DataSpec) -> Iterator[tuple[int | None, DataSpec]]:
        """Yield the position and the description of each source, or None and that of all.

        Data that is no mixture is of the source that is chosen to act with.

        Raises:
            DataError: If the data lacks one of the sources.
        """
        if self._acting is not None and not data.sources:
            yield self._acting, data
            return
        for place, name in enumerate(self.sources or ()):
            if name not in data.sources:
                raise DataError(
                    f"the data has no source {name!r}: expected a mixture of {self._listed()}, got "
                    f"{', '.join(sorted(data.sources)) or 'no mixture'}. Train on the mixture, or "
                    "with statistics='pooled'."
                )
            yield place, data.sources[name][1]
        if self.sources is None:
            yield None, data

    def _listed(self) -> str:
        return f"one of {', '.join(self.sources)}" if self.sources else "no source"


def measured(data: DataSpec, rows: Callable[[Batch], Tensor]) -> Statistics:
    """Measure what a policy makes of the numbers of all samples.

    Args:
        data: Description of the dataset; of a mixture, each part counts by its share.
        rows: From a batch of numbers to what is measured `[N, D]`.

    Returns:
        The statistics; of more than a million rows, the quantiles are of every n-th.

    Raises:
        DataError: If the data does not offer its numbers.

    Source:
        Chan, Golub and LeVeque 1979: means and squares of parts, joined.
    """
    if data.sources:
        weights, parts = zip(*data.sources.values(), strict=True)
        return pooled([measured(part, rows) for part in parts], weights)
    if data.numbers is None:
        raise DataError(
            "delta_actions and rotations need the numbers of the data: expected DataSpec.numbers, "
            "got none. Use a dataset that offers them, as every reader of episodes does, without a "
            "transform of states or actions."
        )
    every = math.ceil(max(data.num_samples, 1) * data.seq_len / _EXACT_ROWS)
    while math.gcd(every, data.seq_len) > 1:  # else only some timesteps of windows are taken
        every += 1
    totals = _Totals(every)
    for batch in data.numbers():
        totals.add(rows(batch))
    return totals.statistics()


def part_of(found: Statistics, columns: slice) -> Statistics:
    """Return the statistics of some dimensions."""
    return Statistics(
        mean=found.mean[columns], std=found.std[columns], low=found.low[columns],
        high=found.high[columns], q01=found.q01 and found.q01[columns],
        q99=found.q99 and found.q99[columns],
    )  # fmt: skip


def valid_rows(values: Tensor, is_pad: Tensor | None) -> Tensor:
    """Return the rows `[N, D]` of `values` `[B, D]` or `[B, T, D]` that are no padding.

    `is_pad`, bool `[B]` or `[B, T]`, may have more timesteps.
    """
    if is_pad is not None:
        timesteps = values.shape[1] if values.ndim == 3 else 1
        is_valid = ~is_pad.reshape(len(values), -1)[:, :timesteps]
        values = values[is_valid if values.ndim == 3 else is_valid[:, 0]]
    return values.reshape(-1, values.shape[-1])


def check_rotations(spans: Sequence[Span], values: Tensor, owner: str) -> None:
    """Refuse numbers that are not the rotations which they are said to be.

    Args:
        spans: Ranges of the dimensions.
        values: Rows in the data's units `[N, D]`.
        owner: Whose dimensions they are, for the message.

    Raises:
        DataError: If a quaternion has not length 1, or a matrix is no rotation.
    """
    for span in spans:
        if span.kind is None or not len(values):
            continue
        rows = values[:, span.columns]
        off = deviation(rows, span.kind)
        worst = int(off.argmax())
        if not off[worst] <= _TOLERANCE:
            numbers = ", ".join(f"{value:.3g}" for value in rows[worst].tolist())
            raise DataError(
                f"dimensions {span.start}:{span.stop} of {owner} hold no rotations as {span.kind}: "
                f"expected length 1 or an orthonormal matrix, got ({numbers}). Correct the range "
                "or the representation in rotations."
            )


class _Totals:
    """Moments, range and a sample for quantiles of rows that come in parts."""

    def __init__(self, every: int) -> None:
        self._every, self._count = every, 0
        self._mean, self._square, self._low, self._high = (np.zeros(()),) * 4
        self._kept: list[npt.NDArray[np.float32]] = []

    def add(self, rows: Tensor) -> None:
        """Add rows `[N, D]`."""
        values = rows.double().numpy()
        if not len(values):
            return
        mean, count = values.mean(axis=0), len(values)
        square = np.square(values - mean).sum(axis=0)
        low, high = values.min(axis=0), values.max(axis=0)
        self._kept.append(values[-self._count % self._every :: self._every].astype(np.float32))
        if self._count:
            share = count / (self._count + count)
            square += self._square + np.square(mean - self._mean) * share * self._count
            mean = self._mean + (mean - self._mean) * share
            low, high = np.minimum(low, self._low), np.maximum(high, self._high)
        self._count += count
        self._mean, self._square, self._low, self._high = mean, square, low, high

    def statistics(self) -> Statistics:
        """Return the statistics of all rows."""
        q01, q99 = np.quantile(np.concatenate(self._kept), (0.01, 0.99), axis=0)
        std = np.sqrt(self._square / self._count)
        return Statistics(
            mean=_floats(self._mean), std=_floats(std), low=_floats(self._low),
            high=_floats(self._high), q01=_floats(q01), q99=_floats(q99),
        )  # fmt: skip


def _floats(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(map(float, values))
