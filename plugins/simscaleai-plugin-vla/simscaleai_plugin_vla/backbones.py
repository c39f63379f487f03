"""Pretrained image and text encoders through `transformers`, which is imported only when used.

B: images, H, W: height and width [pixels], N: patches of an image, U: distinct instructions,
L: text tokens, E: width of the policy's tokens, F: width of a cell of its fine map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from simscaleai_core.errors import ConfigError

_PREFIX = "hf:"
_HALF = (0.5, 0.5, 0.5)
_TOWERS = {"vision": "vision_model", "text": "text_model"}


@frozen
class Backbone:
    """An encoder, and its configuration, which rebuilds it without its source."""

    about: dict[str, Any]
    """Serialisable: ``config`` and, of an image encoder, ``mean`` and ``std``."""
    body: nn.Module
    """The encoder."""


def open_backbone(part: str, source: str, about: Mapping[str, Any] | None = None) -> Backbone:
    """Load a pretrained encoder, or rebuild one whose weights come from a checkpoint.

    Args:
        part: ``"vision"`` or ``"text"``; of a model with both, that one is taken.
        source: ``"hf:"`` and the name of a model on the hub, or of a folder.
        about: What `Backbone.about` was when the checkpoint was written; None loads the weights.

    Returns:
        The encoder.

    Raises:
        ConfigError: If `transformers` is not installed, or the encoder cannot be loaded.
    """
    if not source.startswith(_PREFIX):
        raise ConfigError(
            f"field '{part}_backbone': expected 'hf:' and a name or folder, got {source!r}"
        )
    name = source.removeprefix(_PREFIX)
    if about is None:
        config = _loaded(name, lambda hf: hf.AutoConfig.from_pretrained(name))
        about = {"config": json.loads(config.to_json_string(use_diff=False))}
        if part == "vision":
            about |= _pixel_statistics(name)
        model = _loaded(name, lambda hf: hf.AutoModel.from_pretrained(name, dtype=torch.float32))
    else:
        model = _blank(about["config"])
    body = _part(model, part)
    body.requires_grad_(False)
    used = _used(part, about["config"])
    for key, parameter in body.named_parameters():
        parameter.requires_grad_(key in used)
    return Backbone(dict(about), body)


def pretrained_tokenizer(source: str) -> str:
    """Return the JSON of a pretrained text encoder's tokenizer.

    Args:
        source: As for `open_backbone`.

    Raises:
        ConfigError: If it cannot be loaded, or has no such form.
    """
    name = source.removeprefix(_PREFIX)
    found = _loaded(name, lambda hf: hf.AutoTokenizer.from_pretrained(name))
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(
            f"the tokenizer of {name!r} cannot be kept in a checkpoint: expected a fast one, got "
            f"{type(found).__name__}. Choose another text_backbone."
        )
    text: str = backend.to_str()
    return text


class PretrainedVision(nn.Module):
    """A pretrained image encoder behind the interface of `ConvEncoder`.

    Args:
        backbone: The encoder.
        dim: Width E of a token; a cell of the fine map, here a patch, has F = E / 2.

    Raises:
        ConfigError: If the encoder has no patches.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, *, dim: int) -> None:
        super().__init__()
        config = backbone.about["config"]
        config = config.get("vision_config", config)
        size, patch = config.get("image_size"), config.get("patch_size")
        if not (isinstance(size, int) and isinstance(patch, int)):
            raise ConfigError(
                f"field 'vision_backbone': expected an encoder of patches, got image_size={size}, "
                f"patch_size={patch}."
            )
        self.body = backbone.body
        self.size = size
        self.fine_grid = (size // patch, size // patch)
        self.fine_dim = dim // 2
        for name in ("mean", "std"):
            value = torch.tensor(backbone.about[name])[:, None, None]
            self.register_buffer(name, value, persistent=False)
        self.token = nn.Sequential(nn.Linear(config["hidden_size"], dim), nn.LayerNorm(dim))
        self.cell = nn.Sequential(
            nn.Linear(config["hidden_size"], self.fine_dim), nn.LayerNorm(self.fine_dim)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images `[B, 3, H, W]` in [0, 1] as tokens `[B, N, E]` and cells `[B, N, F]`."""
        pixels = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        hidden = self.body(pixel_values=(pixels - self.mean) / self.std).last_hidden_state
        patches = hidden[:, -self.fine_grid[0] * self.fine_grid[1] :]  # a class token comes first
        return self.token(patches), self.cell(patches)


class PretrainedText(nn.Module):
    """A pretrained text encoder behind the interface of `TextEncoder`.

    Args:
        backbone: The encoder.
        dim: Width E of a token.
    """

    def __init__(self, backbone: Backbone, *, dim: int) -> None:
        super().__init__()
        config = backbone.about["config"]
        config = config.get("text_config", config)
        self.body = backbone.body
        self.token = nn.Sequential(nn.Linear(config["hidden_size"], dim), nn.LayerNorm(dim))

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode ids `[U, L]` as tokens `[U, L, E]`; `mask`, bool `[U, L]`, is True at tokens."""
        hidden = self.body(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return self.token(hidden), mask


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "a pretrained backbone needs transformers, which is not installed. Install it with "
            "pip install 'simscaleai-plugin-vla[hf]'."
        ) from error
    return transformers


def _loaded(name: str, load: Any) -> Any:
    try:
        return load(_transformers())
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"cannot load {name!r} ({reason}): expected a folder made by save_pretrained, or a "
            "model of the Hugging Face hub. Offline, download it elsewhere and give its folder."
        ) from error


def _blank(config: Mapping[str, Any]) -> nn.Module:
    """Build a model from its configuration, with random weights."""
    hf = _transformers()
    kind = hf.CONFIG_MAPPING[config["model_type"]]
    model: nn.Module = hf.AutoModel.from_config(kind.from_dict(dict(config)))
    return model


def _part(model: nn.Module, part: str) -> nn.Module:
    body: nn.Module = getattr(model, _TOWERS[part], model)
    return body


def _used(part: str, config: Mapping[str, Any]) -> set[str]:
    """Return the names of the parameters that the tokens depend on, without computing them.

    A pooling head that nothing uses would make every distributed step wait for its gradient.
    """
    with torch.device("meta"):
        body = _part(_blank(config), part)
        if part == "vision":
            side = config.get("vision_config", config)["image_size"]
            hidden = body(pixel_values=torch.zeros(1, 3, side, side)).last_hidden_state
        else:
            ids = torch.ones(1, 4, dtype=torch.int64)
            hidden = body(input_ids=ids).last_hidden_state  # the values of a mask would be read
        hidden.sum().backward()
    return {name for name, p in body.named_parameters() if p.grad is not None}


def _pixel_statistics(name: str) -> dict[str, list[float]]:
    """Return mean and deviation that the encoder's images were normalised with."""
    from transformers.utils.hub import cached_file

    path = cached_file(
        name,
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    given = json.loads(Path(path).read_text("utf-8")) if path else {}
    return {
        "mean": list(given.get("image_mean", _HALF)),
        "std": list(given.get("image_std", _HALF)),
    }
