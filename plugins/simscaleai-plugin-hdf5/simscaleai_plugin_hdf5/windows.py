"""Windows of `seq_len` timesteps, gathered for a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def window_starts(
    offsets: npt.NDArray[np.int64], episodes: Sequence[int], seq_len: int
) -> tuple[Tensor, list[int]]:
    """Find the first row of every window that lies within one episode.

    Args:
        offsets: First row of each episode and the number of rows at the end, int64 `[E + 1]`.
        episodes: Positions of the episodes to take windows from.
        seq_len: Timesteps per window.

    Returns:
        The first rows, int64 `[S]`, in order; and the episodes that are long enough.

    Example:
        >>> window_starts(np.array([0, 3, 4, 8]), [0, 1, 2], 2)
        (tensor([0, 1, 4, 5, 6]), [0, 2])
    """
    fitting = [e for e in episodes if offsets[e + 1] - offsets[e] >= seq_len]
    parts = [np.arange(offsets[e], offsets[e + 1] - seq_len + 1) for e in fitting]
    starts = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return torch.from_numpy(starts.astype(np.int64)), fitting


def overlapping(matrix: Tensor, seq_len: int) -> Tensor:
    """View a matrix as all its windows, without copying; a gather then takes whole windows.

    Args:
        matrix: Rows `[N, W]`, contiguous, N at least `seq_len`.
        seq_len: Timesteps per window.

    Returns:
        Windows `[N - seq_len + 1, seq_len, W]`, or `matrix` itself if `seq_len` is 1.

    Example:
        >>> overlapping(torch.tensor([[0.0], [1.0], [2.0]]), 2)[:, :, 0]
        tensor([[0., 1.],
                [1., 2.]])
    """
    if seq_len == 1:
        return matrix
    num_rows, width = matrix.shape
    return matrix.as_strided((num_rows - seq_len + 1, seq_len, width), (width, width, 1))


def window_rows(starts: Tensor, seq_len: int) -> Tensor:
    """List every row of some windows.

    Args:
        starts: First rows, int64 `[B]`.
        seq_len: Timesteps per window.

    Returns:
        Rows, int64 `[B * seq_len]`, window after window.

    Example:
        >>> window_rows(torch.tensor([4, 9]), 2)
        tensor([ 4,  5,  9, 10])
    """
    return (starts[:, None] + torch.arange(seq_len)).flatten()
