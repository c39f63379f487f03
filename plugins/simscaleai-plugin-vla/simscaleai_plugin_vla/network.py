"""The network: images, instruction and state in, one vector for the action head out.

B: samples, K: cameras, C, H, W: channels, height and width, U: distinct instructions, L: text
tokens, D: dimensions of the state, E: width of a token.
"""

from __future__ import annotations

from torch import Tensor, nn

from simscaleai_plugin_vla.fusion import Fusion, TextMemory
from simscaleai_plugin_vla.text import InstructionTokens


class VLANetwork(nn.Module):
    """Encode each camera with the same weights, encode each distinct instruction once, fuse.

    Args:
        vision: Encodes images `[B, C, H, W]` as tokens and a fine map.
        text: Encodes ids `[U, L]` and their mask as tokens, or None.
        fusion: Joins them.
    """

    def __init__(self, vision: nn.Module, text: nn.Module | None, fusion: Fusion) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.fusion = fusion

    def forward(
        self, images: Tensor, state: Tensor | None, text: InstructionTokens | None
    ) -> Tensor:
        """Return features for the action head, `[B, 2 * E]`.

        Args:
            images: Normalised images `[B, K, C, H, W]`.
            state: Normalised state `[B, D]`, or None.
            text: The instructions, or None.
        """
        size = images.shape[:2]
        tokens, cells = self.vision(images.flatten(0, 1))
        memory = None
        if self.text is not None and text is not None:
            text_tokens, mask = self.text(text.ids, text.mask)
            memory = TextMemory(text_tokens, mask, text.rows)
        out: Tensor = self.fusion(
            tokens.unflatten(0, size), cells.unflatten(0, size), state, memory
        )
        return out
