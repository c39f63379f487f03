"""Sizes of the network by name."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen


@frozen
class Preset:
    """Width and depth of one size."""

    embed_dim: int
    """Width of every token."""
    num_heads: int
    """Attention heads."""
    vision_layers: int
    """Transformer layers over the tokens of one image."""
    text_layers: int
    """Transformer layers over the tokens of the instruction."""
    num_layers: int
    """Fusion layers, in which the queries attend to the instruction and the images."""


PRESETS: Mapping[str, Preset] = {
    "debug": Preset(32, 2, 1, 1, 1),
    "S": Preset(128, 4, 1, 1, 2),
    "B": Preset(256, 8, 4, 2, 4),
    "L": Preset(512, 8, 8, 4, 8),
    "XL": Preset(1024, 16, 16, 8, 12),
}
"""Every size, from the smallest to the largest."""
