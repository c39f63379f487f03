"""Windows of timesteps, gathered for a whole batch at once.

B: samples, S: windows, T: timesteps of a window, E: episodes, N: rows (timesteps of all episodes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from attrs import frozen
from torch import Tensor


@frozen(kw_only=True, eq=False)
class Windows:
    """The windows of some episodes, as rows of the packed matrix."""

    starts: Tensor
    """First row of each window, int64 `[S]`; with padding it may lie before its episode."""
    episodes: tuple[int, ...]
    """Positions of the episodes that have windows."""
    seq_len: int
    """Timesteps per window."""
    stride: int
    """Rows from one timestep of a window to the next."""
    edges: tuple[Tensor, Tensor] | None
    """First and last row of each window's episode, int64 `[S]` each; None without padding."""
    lead: int
    """Rows before the one that every window stands for."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.starts)

    def rows(self, chosen: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the rows of some windows.

        Args:
            chosen: Positions of windows, int64 `[B]`.

        Returns:
            Rows, int64 `[B, T]`, clipped to the episode; and which of them stand for a timestep
            outside of it, bool `[B, T]`, or None without padding.
        """
        starts = self.starts.index_select(0, chosen)
        unclipped = starts[:, None] + torch.arange(self.seq_len) * self.stride
        if self.edges is None:
            return unclipped, None
        first, last = (edge.index_select(0, chosen)[:, None] for edge in self.edges)
        rows = torch.minimum(torch.maximum(unclipped, first), last)
        return rows, rows != unclipped


def windows_of(
    offsets: npt.NDArray[np.int64],
    episodes: Sequence[int],
    seq_len: int,
    stride: int = 1,
    lead: int | None = None,
) -> Windows:
    """Find the windows of some episodes, in order.

    Args:
        offsets: First row of each episode and the number of rows at the end, int64 `[E + 1]`.
        episodes: Positions of the episodes to take windows from.
        seq_len: Timesteps per window.
        stride: Rows from one of them to the next.
        lead: None: the windows that lie within one episode. Otherwise one for each timestep, which
            begins so many rows before it and may reach over the edges.

    Returns:
        The windows; episodes that are too short have none.

    Example:
        >>> found = windows_of(np.array([0, 3, 4, 8]), [0, 1, 2], 2)
        >>> found.starts, found.episodes
        (tensor([0, 1, 4, 5, 6]), (0, 2))
        >>> windows_of(np.array([0, 3]), [0], 2, lead=0).rows(torch.arange(3))
        (tensor([[0, 1],
                [1, 2],
                [2, 2]]), tensor([[False, False],
                [False, False],
                [False,  True]]))
    """
    reach = (seq_len - 1) * stride if lead is None else 0
    fitting = [e for e in episodes if offsets[e + 1] - offsets[e] > reach]
    parts = [np.arange(offsets[e], offsets[e + 1] - reach) for e in fitting]
    starts = torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *parts]))
    edges = None
    if lead is not None:
        lengths = torch.tensor([len(part) for part in parts])
        first, last = (
            torch.tensor([part[place] for part in parts]).repeat_interleave(lengths)
            for place in (0, -1)
        )
        edges = (first, last)
    return Windows(
        starts=starts - (lead or 0), episodes=tuple(fitting), seq_len=seq_len, stride=stride,
        edges=edges, lead=lead or 0,
    )  # fmt: skip


def overlapping(matrix: Tensor, seq_len: int, stride: int = 1) -> Tensor:
    """View a matrix as all its windows, without copying; a gather then takes whole windows.

    Args:
        matrix: Rows `[N, W]`, contiguous, at least one window of them.
        seq_len: Timesteps per window.
        stride: Rows from one of them to the next.

    Returns:
        Windows `[N - (seq_len - 1) * stride, seq_len, W]`, or `matrix` itself if `seq_len` is 1.

    Example:
        >>> overlapping(torch.tensor([[0.0], [1.0], [2.0]]), 2)[:, :, 0]
        tensor([[0., 1.],
                [1., 2.]])
    """
    if seq_len == 1:
        return matrix
    num_rows, width = matrix.shape
    count = num_rows - (seq_len - 1) * stride
    return matrix.as_strided((count, seq_len, width), (width, stride * width, 1))
