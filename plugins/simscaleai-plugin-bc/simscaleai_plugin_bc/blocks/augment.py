"""Random shifts and colours of images, computed on the images' device.

The draws of a sample are a function of its key, which the data loader makes of (seed, epoch,
index): neither the batch around it, nor the number of ranks, nor an interruption changes its
pixels.

B: images, C: channels, H: rows, W: columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT_DRAWS = 2
"""Draws of one image that `shift_images` takes."""

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as a signed integer, like the next two
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_BITS = 24  # what a float32 holds exactly


def colour_draws(channels: int) -> int:
    """Return how many draws of one image `jitter_colour` takes."""
    return 2 + channels


def draws_of(keys: Tensor, count: int) -> Tensor:
    """Return uniform draws that are a function of the key alone.

    Args:
        keys: Keys `[B]`, int64.
        count: Draws N for each.

    Returns:
        Draws `[B, N]` in [0, 1).

    Source:
        SplitMix64 (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators),
        each key one of its states.
    """
    steps = torch.arange(1, count + 1, device=keys.device)
    x = keys[:, None] + steps * _GOLDEN
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    x = x ^ _shifted(x, 31)
    return _shifted(x, 64 - _BITS).float() * 2.0**-_BITS


def shift_images(images: Tensor, pixels: int, draws: Tensor) -> Tensor:
    """Shift each image by a random whole number of pixels; edges are repeated.

    The same as padding by `pixels` and cropping at random.

    Args:
        images: Images `[B, C, H, W]`.
        pixels: Largest shift in each direction [pixels]; 0 changes nothing.
        draws: Uniform draws `[B, 2]` in [0, 1): down and to the right.

    Returns:
        Images `[B, C, H, W]`.

    Source:
        Kostrikov et al. 2021 (DrQ, arXiv:2004.13649), section 3.1: pad, replicate, crop.
    """
    if not pixels:
        return images
    size, channels, height, width = images.shape
    device = images.device
    moves = (draws * (2 * pixels + 1)).long() - pixels
    rows = (torch.arange(height, device=device) + moves[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + moves[:, 1:]).clamp(0, width - 1)
    shifted: Tensor = images[
        torch.arange(size, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
    return shifted


def jitter_colour(images: Tensor, fraction: float, draws: Tensor) -> Tensor:
    """Change brightness, contrast and the balance of the channels of each image at random.

    Args:
        images: Images `[B, C, H, W]` in [0, 1].
        fraction: Each factor is drawn from [1 - fraction, 1 + fraction]; 0 changes nothing.
        draws: Uniform draws `[B, 2 + C]` in [0, 1): contrast, brightness and channels.

    Returns:
        Images `[B, C, H, W]` in [0, 1].

    Source:
        Ours: ``((x - mean) * contrast + mean) * brightness * balance``, clamped to [0, 1].
    """
    if not fraction:
        return images
    factors = 1 + fraction * (2 * draws[:, :, None, None] - 1)
    contrast, brightness, balance = factors[:, :1], factors[:, 1:2], factors[:, 2:]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = ((images - mean) * contrast + mean) * brightness * balance
    return changed.clamp(0, 1)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift to the right and fill with zeros; torch itself repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
