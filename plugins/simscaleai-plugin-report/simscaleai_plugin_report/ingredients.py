"""What went into a run, as facts: its data, policy and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simscaleai_plugin_data.contents import facts_of
from simscaleai_plugin_data.view.drawing import number_text
from simscaleai_plugin_data.view.page import ranges

from simscaleai_plugin_report.checkpoint import CheckpointFacts, data_sizes
from simscaleai_plugin_report.data import DataCard

_WORDS = {
    "file": "data",
    "env": "recorded in",
    "num_episodes": "episodes",
    "num_timesteps": "timesteps",
    "num_success": "episodes that succeed",
    "languages": "instructions",
    "fps": "timesteps per second",
    "filter_keys": "filter keys",
}

Facts = list[tuple[str, str]]
"""Names and values, in the order in which they stand."""


def trained_on(checkpoint: CheckpointFacts) -> Facts:
    """Return what a run trained on, as its checkpoint says."""
    sizes, keys = data_sizes(checkpoint), checkpoint.data.get("observations")
    shapes = keys.items() if isinstance(keys, dict) else ()
    return [
        ("data", str(checkpoint.config.dataset_path or "the dummy dataset")),
        ("reader", str(checkpoint.config.dataset_name)),
        ("episodes trained on", value_text(sizes["num_episodes"])),
        ("samples trained on", value_text(sizes["num_samples"])),
        ("fingerprint", str(sizes["fingerprint"])),
        ("observations", ", ".join(f"{k} {_shape(v)}" for k, v in shapes) or "none"),
    ]


def card_of(card: DataCard) -> dict[str, Any]:
    """Return what is in a run's data now."""
    return {
        "facts": [(_WORDS.get(k, k), str(v)) for k, v in facts_of(dict(card.contents)).items()],
        "keys": [{**key, "shape": _shape(key["shape"])} for key in card.contents["keys"]],
        "ranges": [ranges(name, found) for name, found in card.dimensions.items()],
    }


def in_effect(checkpoint: CheckpointFacts) -> Facts:
    """Return what a run ended with and ran on."""
    facts = {k: v for k, v in checkpoint.facts.items() if k not in {"plugins", "data"}}
    return [
        ("checkpoint", str(checkpoint.path)),
        ("steps", f"{checkpoint.step:,}"),
        ("lowest held-out loss", number_text(checkpoint.best_eval_loss)),
        *((name.replace("_", " "), str(value)) for name, value in facts.items()),
    ]


def policy_of(checkpoint: CheckpointFacts) -> dict[str, str]:
    """Return what a run's policy is."""
    hparams = checkpoint.policy.get("hparams")
    return {
        "component": str(checkpoint.policy.get("component")),
        "class": str(checkpoint.policy.get("class")),
        "numbers in its state": f"{checkpoint.num_parameters:,}",
        **(shown(hparams) if isinstance(hparams, dict) else {}),
    }


def shown(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of a table as text."""
    return {str(name): _text(value) for name, value in table.items()}


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k} = {_text(v)}" for k, v in value.items()) or "none"
    return "none" if value is None else str(value)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def value_text(value: Any) -> str:
    """Return a number as short as it can be read, and all else as it is."""
    if isinstance(value, int):
        return f"{value:,}"
    return number_text(value) if isinstance(value, float) else str(value)
