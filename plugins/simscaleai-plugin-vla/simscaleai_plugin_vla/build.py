"""Network, head and tokenizer of a policy, built from its hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from simscaleai_plugin_bc.blocks.heads.base import Head, HeadSizes
from simscaleai_plugin_bc.blocks.heads.diffusion import DiffusionHead
from simscaleai_plugin_bc.blocks.heads.flow import FlowHead
from simscaleai_plugin_bc.blocks.heads.regression import RegressionHead
from torch import nn

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_vla.fusion import Fusion
from simscaleai_plugin_vla.lora import add_lora
from simscaleai_plugin_vla.network import VLANetwork
from simscaleai_plugin_vla.options import HEADS, PARTS, VLAOptions
from simscaleai_plugin_vla.presets import PRESETS
from simscaleai_plugin_vla.text import TextEncoder
from simscaleai_plugin_vla.tokenizer import AUTO, BYTES, TextTokenizer
from simscaleai_plugin_vla.vision import ConvEncoder


def resolved(options: VLAOptions, image_size: Sequence[int]) -> dict[str, Any]:
    """Return options as serialisable values, with those that size and image determine filled in.

    Args:
        options: The policy's options.
        image_size: Height and width of the images [pixels].

    Returns:
        Options by name; every number of the network is set.

    Raises:
        ConfigError: If the width does not fit the heads.
    """
    out = attrs.asdict(options)
    preset = PRESETS[options.size]
    for name in ("embed_dim", "num_heads", "num_layers", "vision_layers", "text_layers"):
        if out[name] is None:
            out[name] = getattr(preset, name)
    if out["embed_dim"] % (4 * out["num_heads"]):
        raise ConfigError(
            f"field 'embed_dim': expected a multiple of 4 * num_heads={4 * out['num_heads']}, got "
            f"{out['embed_dim']}"
        )
    if out["patch_size"] is None and out["vision_backbone"] is None:
        out["patch_size"] = patch_size_for(image_size)
    out["spelling"] = options.spelling is not False
    if out["execute"] is None and out["ensemble"] is None:
        out["execute"] = max(out["action_horizon"] // 2, 1)
    return out


def patch_size_for(image_size: Sequence[int]) -> int:
    """Return the patch size that cuts an image into about 8 rows or columns.

    Args:
        image_size: Height and width [pixels].

    Returns:
        A divisor of both [pixels], a power of two if one gives 7 to 16 rows.

    Example:
        >>> [patch_size_for((size, size)) for size in (64, 84, 96, 128, 224)]
        [8, 12, 8, 16, 32]
    """
    short = min(image_size)
    fits = [p for p in range(1, short + 1) if all(s % p == 0 for s in image_size)]
    powers = [p for p in fits if p & (p - 1) == 0 and 7 <= short // p <= 16]
    return min(powers or fits, key=lambda p: abs(math.log2(short / p / 8)))


def build_network(
    hparams: Mapping[str, Any], *, state_dim: int, vocab_size: int, backbones: Mapping[str, Any]
) -> VLANetwork:
    """Build the network that resolved hyperparameters describe, with its adapters and frozen parts.

    Args:
        hparams: As `resolved` gives them.
        state_dim: Dimensions of the state to the network.
        vocab_size: Token ids of the tokenizer.
        backbones: Pretrained encoders, each a `simscaleai_plugin_vla.backbones.Backbone`, by part.

    Returns:
        The network.
    """
    vision = _vision(hparams, backbones.get("vision"))
    text = _text(hparams, vocab_size, backbones.get("text")) if hparams["use_language"] else None
    fusion = Fusion(
        state_dim=state_dim,
        dim=hparams["embed_dim"],
        fine_dim=vision.fine_dim,
        fine_grid=vision.fine_grid,
        num_cameras=len(hparams["image_keys"]),
        num_heads=hparams["num_heads"],
        num_layers=hparams["num_layers"],
        num_queries=hparams["num_queries"],
        use_language=hparams["use_language"],
        is_checkpointed=hparams["activation_checkpointing"],
    )
    network = VLANetwork(vision, text, fusion)
    _restrict(network, hparams)
    return network


def build_head(hparams: Mapping[str, Any], in_dim: int, action_dim: int) -> Head:
    """Build the action head.

    Args:
        hparams: As `resolved` gives them.
        in_dim: Dimensions of its features.
        action_dim: Dimensions of an action to the network.

    Returns:
        The head.

    Raises:
        ConfigError: If there is no such head.
    """
    kind = hparams["action_head_type"]
    sizes = HeadSizes(in_dim, hparams["action_horizon"], action_dim)
    if kind == "mlp":
        return RegressionHead(sizes, hidden_dim=in_dim, n_layers=1, loss_type=hparams["loss_type"])
    if kind == "diffusion":
        return DiffusionHead(sizes, hidden_dim=in_dim)
    if kind == "flow":
        return FlowHead(sizes, hidden_dim=in_dim)
    raise ConfigError(f"field 'action_head_type': expected one of {', '.join(HEADS)}, got {kind!r}")


def open_backbones(options: VLAOptions, known: Mapping[str, Any]) -> dict[str, Any]:
    """Open the pretrained encoders that the options name.

    Args:
        options: The policy's options.
        known: Their configurations from a checkpoint, by part.

    Returns:
        A `simscaleai_plugin_vla.backbones.Backbone` for each part that has one.
    """
    sources = {"vision": options.vision_backbone}
    if options.use_language:
        sources["text"] = options.text_backbone
    wanted = {part: source for part, source in sources.items() if source is not None}
    if not wanted:
        return {}
    from simscaleai_plugin_vla.backbones import open_backbone

    return {part: open_backbone(part, name, known.get(part)) for part, name in wanted.items()}


def build_tokenizer(options: VLAOptions) -> TextTokenizer:
    """Return the tokenizer that the options name, or that of the pretrained text encoder."""
    if options.text_backbone is None or options.tokenizer not in {AUTO, BYTES}:
        return TextTokenizer(options.tokenizer)
    from simscaleai_plugin_vla.backbones import pretrained_tokenizer

    return TextTokenizer(pretrained_tokenizer(options.text_backbone))


def _vision(hparams: Mapping[str, Any], backbone: Any) -> Any:
    if backbone is not None:
        from simscaleai_plugin_vla.backbones import PretrainedVision

        return PretrainedVision(backbone, dim=hparams["embed_dim"])
    return ConvEncoder(
        image_size=hparams["image_size"],
        patch_size=hparams["patch_size"],
        dim=hparams["embed_dim"],
        num_heads=hparams["num_heads"],
        num_layers=hparams["vision_layers"],
        is_checkpointed=hparams["activation_checkpointing"],
    )


def _text(hparams: Mapping[str, Any], vocab_size: int, backbone: Any) -> nn.Module:
    if backbone is not None:
        from simscaleai_plugin_vla.backbones import PretrainedText

        return PretrainedText(backbone, dim=hparams["embed_dim"])
    return TextEncoder(
        vocab_size=vocab_size,
        dim=hparams["embed_dim"],
        num_heads=hparams["num_heads"],
        num_layers=hparams["text_layers"],
        spelling=hparams["spelling"],
    )


def _restrict(network: VLANetwork, hparams: Mapping[str, Any]) -> None:
    """Freeze the parts that the options name, and add adapters to others."""
    modules: dict[str, nn.Module | None] = {
        "vision": getattr(network.vision, "body", network.vision),
        "text": getattr(network.text, "body", network.text),
        "fusion": network.fusion.layers,
    }
    for name in _named("freeze", hparams["freeze"]):
        module = modules[name]
        if module is not None:
            module.requires_grad_(False)
    if not hparams["lora_rank"]:
        return
    for name in _named("lora_parts", hparams["lora_parts"]):
        module = modules[name]
        if module is not None:
            add_lora(module, rank=hparams["lora_rank"], alpha=hparams["lora_alpha"])


def _named(field: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise ConfigError(
            f"field {field!r}: expected names of {', '.join(PARTS)}, got {', '.join(unknown)}"
        )
    return names
