"""From images to tokens, and to a finer map with the positions of objects.

B: images, C: channels, H, W: height and width [pixels], N: tokens, P: cells of the fine map,
E: width of a token, F: width of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_vla.layers import Block

_POSITION_SCALE = 0.3  # larger positional embeddings drown the content while it is still small
_SETTLING_BATCHES = 50


class ImageNormalizer(nn.Module):
    """Subtract the mean image of each camera and divide by the deviation of each channel.

    A dataset has no statistics of its images, so they are measured on the first batches of
    training and fixed afterwards. They are buffers, so a policy carries them.

    Args:
        num_cameras: Cameras K.
        image_size: Height and width [pixels].

    Source:
        Ours. The mean over pixels of a fixed camera is the empty scene; what is left is what
        moves.
    """

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, num_cameras: int, image_size: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((num_cameras, 3, *image_size), 0.5))
        self.register_buffer("square", torch.full((num_cameras, 3, 1, 1), 0.29))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._is_settled = False
        # the counter on the host: to read it on the device would be to wait for all its work
        self._known: Tensor | None = torch.zeros((), dtype=torch.int64, device="cpu")
        self.register_load_state_dict_post_hook(_forget_count)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Take the images `[B, K, C, H, W]` of one batch into the statistics, while they settle."""
        if self._is_settled:
            return
        if self._known is None:
            self._known = self.count.to("cpu", copy=True)
        count = int(self._known)
        self._is_settled = count + 1 >= _SETTLING_BATCHES
        if count >= _SETTLING_BATCHES:
            return
        mean, square = images.mean(0), images.square().mean((0, 3, 4))[..., None, None]
        if dist.is_available() and dist.is_initialized():  # every rank needs the same statistics
            for value in (mean, square):
                dist.all_reduce(value)
                value.div_(dist.get_world_size())
        self.mean.lerp_(mean, 1.0 / (count + 1))
        self.square.lerp_(square, 1.0 / (count + 1))
        self.count.add_(1)
        self._known.add_(1)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images `[B, K, C, H, W]` in [0, 1]."""
        spread = self.square - self.mean.square().mean((-2, -1), keepdim=True)
        return (images - self.mean) / spread.clamp_min(1e-4).sqrt()


def _forget_count(module: nn.Module, _: Any) -> None:
    """Read the counter anew: it was just loaded."""
    module._is_settled, module._known = False, None  # type: ignore[assignment]


class ConvEncoder(nn.Module):
    """Patches by strided convolutions, a transformer over them, and a finer map beside them.

    Args:
        image_size: Height and width [pixels], both multiples of the patch size.
        patch_size: Height and width of a patch [pixels].
        dim: Width E of a token; a cell of the fine map has F = E / 2.
        num_heads: Attention heads.
        num_layers: Transformer layers.
        is_checkpointed: Whether the layers' activations are computed again in the backward pass.

    Raises:
        ConfigError: If the image is no whole number of patches.

    Source:
        Dosovitskiy et al. 2021 (ViT, arXiv:2010.11929); convolutional stem: Xiao et al. 2021
        (arXiv:2106.14881). The fine map is ours, after Lin et al. 2017 (FPN, arXiv:1612.03144).
    """

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        patch_size: int,
        dim: int,
        num_heads: int,
        num_layers: int,
        is_checkpointed: bool = False,
    ) -> None:
        super().__init__()
        if any(size % patch_size or size < patch_size for size in image_size):
            raise ConfigError(
                f"field 'image_size': expected a multiple of patch_size={patch_size}, got "
                f"{tuple(image_size)}. Choose another patch_size."
            )
        strides = _strides(patch_size)
        self.grid = tuple(size // patch_size for size in image_size)
        self.fine_grid = tuple(size * strides[-1] for size in self.grid)
        self.dim, self.fine_dim = dim, dim // 2
        self._is_checkpointed = is_checkpointed
        self.stem = _stem(strides[:-1], self.fine_dim)
        self.refine = nn.Conv2d(self.fine_dim, self.fine_dim, 3, padding=1)
        self.patch = _strided(self.fine_dim, dim, strides[-1])
        self.patch_norm = nn.LayerNorm(dim)
        self.position = nn.Parameter(torch.randn(self.grid[0] * self.grid[1], dim))
        self.blocks = nn.ModuleList(Block(dim, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.context = nn.Linear(dim, self.fine_dim)
        self.fine_norm = nn.LayerNorm(self.fine_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images `[B, C, H, W]` as tokens `[B, N, E]` and a fine map `[B, P, F]`."""
        fine = self.stem(images.contiguous(memory_format=torch.channels_last))
        fine = fine + F.gelu(self.refine(fine))
        x = self.patch(fine).flatten(2).transpose(1, 2)
        # positions are added in the tokens' type: under autocast all stays in 16 bits
        x = self.patch_norm(x) + (_POSITION_SCALE * self.position).to(x.dtype)
        for block in self.blocks:
            x = _run(block, x, self._is_checkpointed and self.training)
        x = self.norm(x)
        context = torch.unflatten(self.context(x).transpose(1, 2), 2, self.grid)
        fine = fine + F.interpolate(context, size=self.fine_grid, mode="nearest")
        return x, self.fine_norm(fine.flatten(2).transpose(1, 2))


def _run(block: nn.Module, x: Tensor, is_checkpointed: bool) -> Tensor:
    out: Tensor = checkpoint(block, x, use_reentrant=False) if is_checkpointed else block(x)
    return out


def _strides(patch_size: int) -> list[int]:
    """Split a patch into strides: as many twos as it has, at least two steps in all."""
    strides, left = [], patch_size
    while left % 2 == 0:
        strides.append(2)
        left //= 2
    strides += [left] if left > 1 else []
    return strides if len(strides) > 1 else [1, *(strides or [1])]


def _stem(strides: Sequence[int], out_dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for position, stride in enumerate(strides):
        width = max(out_dim >> (len(strides) - 1 - position), min(out_dim, 16))
        layers += [_strided(channels, width, stride), nn.GELU()]
        channels = width
    return nn.Sequential(*layers)


def _strided(in_dim: int, out_dim: int, stride: int) -> nn.Conv2d:
    """Return a convolution that divides the image size exactly by its stride."""
    if stride <= 2:
        return nn.Conv2d(in_dim, out_dim, 3, stride=stride, padding=1)
    return nn.Conv2d(in_dim, out_dim, stride, stride=stride)
