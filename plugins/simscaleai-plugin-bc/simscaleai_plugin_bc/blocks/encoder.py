"""A small convolutional encoder for one camera."""

from __future__ import annotations

from torch import Tensor, nn

_CHANNELS = (16, 32, 64, 64)


class ImageEncoder(nn.Module):
    """Four strided convolutions, an average over a 4 x 4 grid, one linear layer.

    Args:
        out_dim: Dimensions E of the embedding.
        in_channels: Channels C of the image.

    Source:
        Ours; the strided stack follows Mnih et al. 2015 (DQN), table 1 of its extended data.
    """

    def __init__(self, out_dim: int, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for width in _CHANNELS:
            layers += [
                nn.Conv2d(channels, width, kernel_size=3, stride=2, padding=1),
                nn.GroupNorm(8, width),
                nn.GELU(),
            ]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.project = nn.Linear(channels * 16, out_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Embed images `[B, C, H, W]` in [0, 1] as `[B, E]`."""
        features: Tensor = self.pool(self.convolutions(image - 0.5)).flatten(1)
        embedding: Tensor = self.project(features)
        return embedding
