"""Options of the vision-language-action policy."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, gt, in_, le, optional
from simscaleai_plugin_bc.blocks.options import (
    SpaceOptions,
    loss_option,
    noise_option,
    seconds_option,
    temperature_option,
)

from simscaleai_core.plugin import REPORTED
from simscaleai_plugin_vla.presets import PRESETS

HEADS = ("mlp", "diffusion", "flow")
SIZES = tuple(PRESETS)
PARTS = ("vision", "text", "fusion")

_FRACTION = and_(ge(0.0), le(1.0))
_COUNT = optional(ge(1))


@frozen(kw_only=True)
class VLAOptions(SpaceOptions):
    """Options of ``vla``."""

    size: str = field(default="S", validator=in_(SIZES))
    """Width and depth by name: debug, S, B, L or XL; what follows overrides it."""
    embed_dim: int | None = field(default=None, validator=_COUNT)
    """Width of every token."""
    num_heads: int | None = field(default=None, validator=_COUNT)
    """Attention heads."""
    num_layers: int | None = field(default=None, validator=_COUNT)
    """Fusion layers, in which queries attend to the instruction and the images."""
    vision_layers: int | None = field(default=None, validator=optional(ge(0)))
    """Transformer layers over the tokens of one image."""
    text_layers: int | None = field(default=None, validator=optional(ge(0)))
    """Transformer layers over the tokens of the instruction."""
    num_queries: int = field(default=4, validator=ge(1))
    """Queries that attend to everything for the action head, beside the state's own."""
    patch_size: int | None = field(default=None, validator=_COUNT)
    """Height and width of a patch [pixels]; if not given, an eighth of the image or near it."""
    use_language: bool = True
    """Whether the policy follows instructions."""
    action_head_type: str = field(default="mlp", validator=in_(HEADS))
    """Action head: mlp (regression), diffusion or flow."""
    action_horizon: int = field(default=8, validator=ge(1))
    """Actions that are predicted at once [steps]."""
    horizon_seconds: float | None = seconds_option()
    """Actions that are predicted at once [s], instead of action_horizon; of data that knows its
    rate."""
    execute: int | None = field(default=None, validator=_COUNT, metadata=REPORTED)
    """Actions that are executed before the next chunk [steps]; half of the horizon if not given."""
    ensemble: float | None = field(default=None, metadata=REPORTED)
    """Coefficient m of temporal ensembling; none if not given."""
    noise: str = noise_option()
    """Where a chunk of the diffusion or flow head begins: warm (what is left of the last one, and
    the episode's noise), held (the episode's noise) or fresh (noise of its own)."""
    temperature: float = temperature_option()
    """Factor on that noise; below 1, chunks are nearer to the middle of their mode."""
    loss_type: str = loss_option()
    """Loss of the mlp head on the normalised action: mse, l1 or huber."""
    tokenizer: str = "auto"
    """bpe, learnt from the instructions of the data; bytes; a `tokenizers` JSON file; or auto: bpe
    if the data has instructions, else bytes."""
    spelling: bool | None = None
    """Whether convolutions join neighbouring tokens, four to one; if not given, where the words
    were not learnt from the data."""
    max_text_length: int = field(default=128, validator=ge(1))
    """Tokens of an instruction that are used; the rest is cut off."""
    word_dropout: float = field(default=0.05, validator=_FRACTION)
    """Probability that a word of an instruction is dropped in training."""
    word_insertion: float = field(default=0.2, validator=_FRACTION)
    """Probability that meaningless words are inserted before a word in training."""
    vary_words_after: int = field(default=1000, validator=ge(0))
    """Training batches with plain instructions before words are dropped and inserted."""
    augment_shift: int = field(default=0, validator=ge(0))
    """Largest random shift of the images in training [pixels]."""
    augment_colour: float = field(default=0.0, validator=_FRACTION)
    """Random change of brightness, contrast and colour of the images in training."""
    freeze: str = ""
    """Parts that are not trained, such as vision,text; of vision, text and fusion."""
    lora_rank: int = field(default=0, validator=ge(0))
    """Rank of low-rank adapters; if above 0, `lora_parts` are trained through them only."""
    lora_alpha: float = field(default=16.0, validator=gt(0.0))
    """Scale of the adapters, divided by their rank."""
    lora_parts: str = "vision,text,fusion"
    """Parts that get adapters."""
    vision_backbone: str | None = None
    """Pretrained image encoder: hf:NAME or hf:FOLDER, loaded by transformers."""
    text_backbone: str | None = None
    """Pretrained text encoder: hf:NAME or hf:FOLDER, loaded by transformers."""
    activation_checkpointing: bool = field(default=False, metadata=REPORTED)
    """Compute activations again in the backward pass, to save memory."""
    compile: bool = field(default=False, metadata=REPORTED)
    """Compile the network with torch.compile."""
