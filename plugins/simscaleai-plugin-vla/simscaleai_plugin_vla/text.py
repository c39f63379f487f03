"""From instructions to tokens and their encoding.

U: distinct instructions of a batch, L: tokens of the longest, E: width of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simscaleai_plugin_vla.layers import Block
from simscaleai_plugin_vla.tokenizer import TextTokenizer

_KERNEL = 5
_ROUND = 8  # lengths are rounded up to this, so that a compiled network sees few shapes


class InstructionTokens(NamedTuple):  # torch.compile does not trace the making of an attrs class
    """The tokens of a batch's instructions: each distinct one once."""

    ids: Tensor
    """Token ids, int64 `[U, L]`, 0 behind the end."""
    mask: Tensor
    """Bool `[U, L]`, True at tokens."""
    rows: Tensor
    """Row of each sample's instruction, int64 `[B]`."""


def tokenize(
    texts: Sequence[str], tokenizer: TextTokenizer, *, max_length: int, device: torch.device
) -> InstructionTokens:
    """Return the tokens of a batch's instructions, each distinct one once.

    Args:
        texts: Instruction of each sample.
        tokenizer: Turns them into ids.
        max_length: Tokens kept of each instruction.
        device: Where the tensors go.

    Returns:
        The tokens.
    """
    known: dict[str, int] = {}
    rows = [known.setdefault(text, len(known)) for text in texts]
    tokens = [tokenizer.encode(text)[:max_length] for text in known]
    longest = max(len(t) for t in tokens)
    length = min(-(-longest // _ROUND) * _ROUND, max_length)
    ids = torch.zeros(len(tokens), length, dtype=torch.int64)
    mask = torch.zeros(len(tokens), length, dtype=torch.bool)
    for row, encoded in enumerate(tokens):
        ids[row, : len(encoded)] = torch.tensor(encoded)
        mask[row, : len(encoded)] = True
    sample_rows = torch.tensor(rows, dtype=torch.int64)
    # waiting for the copy is waiting for all that a GPU has still to do; CUDA has read these when
    # it returns, MPS may not
    at_once = device.type != "mps"
    moved = [part.to(device, non_blocking=at_once) for part in (ids, mask, sample_rows)]
    return InstructionTokens(*moved)


class TextEncoder(nn.Module):
    """Embedding, strided convolutions if tokens are bytes, transformer layers over an instruction.

    The convolutions join the bytes of a word wherever it stands, so that it is recognised in a
    sentence that is not in the data, and leave one token of four. Where tokens are words already,
    they would only blend a word with its neighbours. The attention layers see relative positions
    only.

    Args:
        vocab_size: Number of token ids.
        dim: Width E of a token.
        num_heads: Attention heads.
        num_layers: Transformer layers.
        spelling: Whether there are convolutions.

    Source:
        Ours; spelling by convolutions follows Kim et al. 2016 (arXiv:1508.06615).
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        dim: int,
        num_heads: int,
        num_layers: int,
        spelling: bool = True,
    ) -> None:
        super().__init__()
        widths = (dim // 2, dim, dim) if spelling else (dim,)
        self.embedding = nn.Embedding(vocab_size, widths[0])
        self.spelling = nn.ModuleList(
            nn.Conv1d(a, b, _KERNEL, stride=2, padding=_KERNEL // 2) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[:-1])
        self.blocks = nn.ModuleList(Block(dim, num_heads, rotary=True) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode instructions.

        Args:
            ids: Token ids `[U, L]`.
            mask: Bool `[U, L]`, True at tokens.

        Returns:
            Tokens `[U, L, E]` and their mask, bool `[U, L]`; with spelling, L / 4 of them.
        """
        x = self.embedding(ids)
        for norm, convolution in zip(self.norms, self.spelling, strict=True):
            kept = norm(x) * mask[..., None]  # padding must not leak into the last tokens
            x = F.gelu(convolution(kept.transpose(1, 2))).transpose(1, 2)
            mask = mask[:, ::2]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask
