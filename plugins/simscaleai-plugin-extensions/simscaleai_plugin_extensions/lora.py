"""Low-rank adaptation of a policy's linear layers, through peft."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_extensions.options import LoraOptions

_SHOWN = 8


def apply(policy: nn.Module, options: LoraOptions | None = None) -> nn.Module:
    """Add low-rank weights to linear layers and freeze everything else.

    The added weights change nothing until they are trained: the second factor starts at 0.

    Args:
        policy: The policy, changed in place.
        options: The adapter's options; the defaults if None.

    Returns:
        The same policy.

    Raises:
        ConfigError: If peft is not installed, or a pattern matches nothing.

    Source:
        Hu et al. 2022 (LoRA, arXiv:2106.09685), section 4.1.
    """
    options = options or LoraOptions()
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError(
            "the adapter 'lora' needs peft: expected it installed, found none. Install it: "
            "pip install 'simscaleai-plugin-extensions[lora]'."
        ) from None
    places = [(n, m) for n, m in policy.named_modules(remove_duplicate=False) if _is_linear(m)]
    layers = [name for name, m in policy.named_modules() if _is_linear(m)]
    targets = _matching(layers, options.targets, "linear layer", "--lora.targets")
    trained = _matching(
        list(dict(policy.named_parameters())), options.train, "parameter", "--lora.train"
    )
    parameters = dict(policy.named_parameters())
    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout,
        target_modules="|".join(map(re.escape, targets)),  # a list would match the ends of names
    )  # fmt: skip
    inject_adapter_in_model(config, policy)  # freezes everything but what it adds
    for name in trained:
        parameters[name].requires_grad_(True)
    adapted = {m.get_base_layer(): m for m in _adapted(policy).values()}
    for name, layer in places:  # a layer may have several, and peft sees the first
        _put(policy, name, adapted.get(layer, layer))
    for module in policy.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            # in eval mode torch's kernel for all of it would read the layers' own weights alone
            module.activation_relu_or_gelu = 0
    return policy


def merge(policy: nn.Module) -> nn.Module:
    """Add the low-rank weights to those that they belong to, and take the layers back as they were.

    Args:
        policy: An adapted policy, changed in place.

    Returns:
        The same policy.
    """
    for name, layer in _adapted(policy).items():
        if not layer.merged:
            layer.merge()
        _put(policy, name, layer.get_base_layer())
    return policy


def _is_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear  # what inherits from it may be read without being called


def _adapted(policy: nn.Module) -> dict[str, Any]:
    """Return the layers with low-rank weights, by each of their names."""
    from peft.tuners.lora import LoraLayer

    modules = policy.named_modules(remove_duplicate=False)
    return {name: m for name, m in modules if isinstance(m, LoraLayer)}


def _put(policy: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(policy.get_submodule(parent), own, module)


def _matching(names: list[str], patterns: tuple[str, ...], what: str, flag: str) -> list[str]:
    """Return the names that match any of the patterns, each of which must match one."""
    idle = [p for p in patterns if not any(fnmatchcase(n, p) for n in names)]
    if idle:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        found = ", ".join(names[:_SHOWN]) or "none"
        raise ConfigError(
            f"the adapter 'lora' finds no {what} {idle[0]!r}: expected one of {found}{more}. "
            f"Change {flag}."
        )
    return [n for n in names if any(fnmatchcase(n, p) for p in patterns)]
