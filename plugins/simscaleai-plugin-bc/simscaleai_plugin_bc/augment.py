"""Random shifts and colours of images, drawn in the forward pass on the images' device.

Everything is drawn from torch's global generator of that device. A run seeds those from its root
seed and its rank, and a checkpoint restores them, so a step's draws are a function of (seed, rank,
step, position in the batch) and a resumed run sees the same pixels to the last bit.

B: images, C: channels, H: rows, W: columns.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shift_images(images: Tensor, pixels: int) -> Tensor:
    """Shift each image by a random whole number of pixels; edges are repeated.

    The same as padding by `pixels` and cropping at random.

    Args:
        images: Images `[B, C, H, W]`.
        pixels: Largest shift in each direction [pixels]; 0 changes nothing.

    Returns:
        Images `[B, C, H, W]`.

    Source:
        Kostrikov et al. 2021 (DrQ, arXiv:2004.13649), section 3.1: pad, replicate, crop.
    """
    if not pixels:
        return images
    size, channels, height, width = images.shape
    device = images.device
    moves = torch.randint(-pixels, pixels + 1, (2, size, 1), device=device)
    rows = (torch.arange(height, device=device) + moves[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + moves[1]).clamp(0, width - 1)
    shifted: Tensor = images[
        torch.arange(size, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
    return shifted


def jitter_colour(images: Tensor, fraction: float) -> Tensor:
    """Change brightness, contrast and the balance of the channels of each image at random.

    Args:
        images: Images `[B, C, H, W]` in [0, 1].
        fraction: Each factor is drawn from [1 - fraction, 1 + fraction]; 0 changes nothing.

    Returns:
        Images `[B, C, H, W]` in [0, 1].

    Source:
        Ours: ``((x - mean) * contrast + mean) * brightness * balance``, clamped to [0, 1].
    """
    if not fraction:
        return images
    size, channels = images.shape[:2]
    shape = (3, size, channels, 1, 1)
    factors = 1 + fraction * (2 * torch.rand(shape, device=images.device) - 1)
    contrast, brightness, balance = factors[0, :, :1], factors[1, :, :1], factors[2]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = ((images - mean) * contrast + mean) * brightness * balance
    return changed.clamp(0, 1)
