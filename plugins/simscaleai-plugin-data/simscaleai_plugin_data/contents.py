"""What demonstrations hold, from what their reader says of them, without reading the numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from simscaleai_core.data.source import EpisodeSource, Key


def contents_of(source: EpisodeSource) -> dict[str, Any]:
    """Return what a source holds, as plain values by name.

    Args:
        source: The demonstrations.

    Returns:
        ``file``, ``env``, ``num_episodes``, ``num_timesteps``, ``num_success`` (None if no episode
        is marked), ``languages`` (in the order of their first episode), ``fps``, ``duration_s``,
        ``filter_keys`` (episodes of each), ``episodes`` and ``keys``.
    """
    episodes = source.episodes
    outcomes = [e.success for e in episodes if e.success is not None]
    fps, total = getattr(source, "fps", None), sum(e.length for e in episodes)
    return {
        "file": str(source.path),
        "env": getattr(source, "env", None),
        "num_episodes": len(episodes),
        "num_timesteps": total,
        "num_success": sum(outcomes) if outcomes else None,
        "languages": list(dict.fromkeys(text for e in episodes for text in e.instructions)),
        "fps": fps,
        "duration_s": total / fps if fps else None,
        "filter_keys": dict(sorted(Counter(k for e in episodes for k in e.filter_keys).items())),
        "episodes": [
            {
                "name": e.name,
                "length": e.length,
                "instructions": list(e.instructions),
                "success": e.success,
                "filter_keys": sorted(e.filter_keys),
            }
            for e in episodes
        ],
        "keys": [_key(key) for key in (*source.observations, source.actions)],
    }


def facts_of(contents: dict[str, Any]) -> dict[str, object]:
    """Return the facts of `contents_of` for people: all but the list of keys, in words."""
    facts = {name: _shown(value) for name, value in contents.items()}
    del facts["episodes"], facts["keys"], facts["duration_s"]
    lengths = [episode["length"] for episode in contents["episodes"]]
    facts["episode lengths"] = f"{min(lengths)} to {max(lengths)}" if lengths else "none"
    if contents["duration_s"]:
        facts["duration"] = _duration(contents["duration_s"])
    parts = contents["filter_keys"]
    facts["filter_keys"] = ", ".join(f"{k} ({n} episodes)" for k, n in parts.items()) or "none"
    return facts


def _key(key: Key) -> dict[str, Any]:
    return {
        "key": key.name,
        "shape": list(key.shape),
        "dtype": key.dtype,
        "kind": key.kind,
        "image": key.kind == "image",
        "dimensions": list(key.dimensions),
    }


def _shown(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not given" if value is None else value


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{seconds:.3g} s"
    )
