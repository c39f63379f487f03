"""A few queries attend to the instruction and the images, and point at positions in them.

B: samples, K: cameras, U: distinct instructions, L: text tokens, S: image tokens of all cameras,
Q: queries, P: cells of one camera's fine map, F: width of a cell, H: pointers, E: width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from simscaleai_plugin_vla.layers import Attention, Mlp, gather_heads, spread_heads


class TextMemory(NamedTuple):  # torch.compile does not trace the making of an attrs class
    """The encoded instructions of a batch: keys and values for the queries."""

    tokens: Tensor
    """`[U, L, E]`."""
    mask: Tensor
    """Bool `[U, L]`, True at tokens."""
    rows: Tensor
    """Row of each sample's instruction, int64 `[B]`."""


class FusionLayer(nn.Module):
    """Queries attend to the instruction, then the images, then each other; then an MLP.

    Args:
        dim: Width E.
        num_heads: Attention heads.
        use_language: Whether there is an instruction.

    Source:
        Ours; the decoder layer of Vaswani et al. 2017 (arXiv:1706.03762) with two memories.
    """

    def __init__(self, dim: int, num_heads: int, *, use_language: bool) -> None:
        super().__init__()
        names = (["text"] if use_language else []) + ["image", "queries"]
        self.attention = nn.ModuleDict({n: Attention(dim, num_heads) for n in names})
        self.norms = nn.ModuleDict({n: nn.LayerNorm(dim) for n in names})
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor, image: Tensor, text: TextMemory | None) -> Tensor:
        """Transform queries `[B, Q, E]`, given image tokens `[B, S, E]` and the instructions."""
        if text is not None:
            normed = self.norms["text"](x)
            x = x + self.attention["text"](normed, text.tokens, text.mask, text.rows)
        x = x + self.attention["image"](self.norms["image"](x), image)
        normed = self.norms["queries"](x)
        x = x + self.attention["queries"](normed, normed)
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class Pointers(nn.Module):
    """Each query points at positions in each image: coordinates, and the features there.

    Attention over the cells of the fine map, and the mean coordinates under it (soft argmax). The
    position of an object is then a number that the head can subtract, not a code to be learnt.

    Args:
        dim: Width E of a query.
        fine_dim: Width F of a cell.
        fine_grid: Rows and columns of the fine map.
        num_heads: Pointers H of each query.

    Source:
        Soft argmax: Levine et al. 2016 (arXiv:1504.00702), eq. 5, under attention from queries.
    """

    grid: Tensor

    def __init__(
        self, *, dim: int, fine_dim: int, fine_grid: Sequence[int], num_heads: int
    ) -> None:
        super().__init__()
        self._num_heads = num_heads
        rows, columns = (torch.linspace(-1, 1, size) for size in fine_grid)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)
        self.register_buffer("grid", grid, persistent=False)
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, fine_dim)
        self.key_value = nn.Linear(fine_dim, 2 * fine_dim)
        self.sharpness = nn.Parameter(torch.zeros(num_heads))

    def forward(self, x: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Point from queries `[B, Q, E]` into maps `[B, K, P, F]`.

        Returns:
            Coordinates in [-1, 1], `[B, Q, K * H * 2]`, and features there, `[B, Q, K * F]`.
        """
        heads, (num_cameras, num_cells) = self._num_heads, cells.shape[1:3]
        query = self.query(self.norm(x))
        sharp = self.sharpness.exp() * (query.shape[-1] // heads) ** -0.5
        query = query * sharp.repeat_interleave(query.shape[-1] // heads).to(query.dtype)
        key, value = self.key_value(cells).chunk(2, dim=-1)
        scores = spread_heads(query, heads) @ key.flatten(1, 2).transpose(1, 2)
        weights = torch.unflatten(scores.float(), -1, (num_cameras, num_cells)).softmax(-1)
        points = torch.unflatten(weights @ self.grid, 1, (-1, heads)).transpose(2, 3).flatten(2)
        by_camera = weights.transpose(1, 2).flatten(0, 1).to(value.dtype)
        found = gather_heads(by_camera @ value.flatten(0, 1), heads)
        found = torch.unflatten(found, 0, (-1, num_cameras)).transpose(1, 2).flatten(2)
        return points, found


class Fusion(nn.Module):
    """Queries and a state token attend to everything; pointers add the positions of objects.

    Args:
        state_dim: Dimensions D of the state; 0 for none.
        dim: Width E of a token.
        fine_dim: Width F of a cell.
        fine_grid: Rows and columns of the fine map.
        num_cameras: Cameras K.
        num_heads: Attention heads, and pointers of each query.
        num_layers: Fusion layers.
        num_queries: Queries beside the state's.
        use_language: Whether there is an instruction.
        is_checkpointed: Whether activations are computed again in the backward pass.
    """

    def __init__(
        self,
        *,
        state_dim: int,
        dim: int,
        fine_dim: int,
        fine_grid: Sequence[int],
        num_cameras: int,
        num_heads: int,
        num_layers: int,
        num_queries: int,
        use_language: bool,
        is_checkpointed: bool = False,
    ) -> None:
        super().__init__()
        self._is_checkpointed = is_checkpointed
        self.queries = nn.Parameter(torch.randn(num_queries, dim) * 0.3)
        self.state = nn.Linear(state_dim, dim) if state_dim else None
        self.camera = nn.Parameter(torch.randn(num_cameras, 1, dim) * 0.3)
        self.layers = nn.ModuleList(
            FusionLayer(dim, num_heads, use_language=use_language) for _ in range(num_layers)
        )
        self.pointers = Pointers(
            dim=dim, fine_dim=fine_dim, fine_grid=fine_grid, num_heads=num_heads
        )
        self.gather = nn.Linear(num_cameras * fine_dim, dim)
        self.norm = nn.LayerNorm(dim)
        num_tokens = num_queries + (self.state is not None)
        num_coordinates = num_tokens * num_cameras * num_heads * 2
        wide = num_tokens * dim + num_coordinates + state_dim
        self.trunk = nn.Sequential(nn.Linear(wide, 2 * dim), nn.GELU(), nn.Linear(2 * dim, 2 * dim))
        self.out_dim = 2 * dim

    def forward(
        self, image: Tensor, cells: Tensor, state: Tensor | None, text: TextMemory | None
    ) -> Tensor:
        """Fuse images, instructions and state.

        Args:
            image: Image tokens `[B, K, N, E]`.
            cells: Fine maps `[B, K, P, F]`.
            state: Normalised state `[B, D]`, or None.
            text: The instructions, or None.

        Returns:
            Features for the action head, `[B, 2 * E]`.
        """
        tokens = (image + self.camera.to(image.dtype)).flatten(1, 2)
        x = self.queries.expand(len(image), -1, -1)
        if self.state is not None and state is not None:
            x = torch.cat([self.state(state)[:, None], x], dim=1)
        for layer in self.layers:
            if self._is_checkpointed and self.training:
                x = checkpoint(layer, x, tokens, text, use_reentrant=False)
            else:
                x = layer(x, tokens, text)
        points, found = self.pointers(x, cells)
        x = self.norm(x + self.gather(found))
        vectors = [x.flatten(1), points.flatten(1)] + ([] if state is None else [state])
        out: Tensor = self.trunk(torch.cat(vectors, dim=-1))
        return out
