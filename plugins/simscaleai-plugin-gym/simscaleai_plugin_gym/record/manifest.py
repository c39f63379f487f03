"""Everything that the content of a recording depends on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from simscaleai_core.checkpoint.files import digest_of
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.success import rule_from_text
from simscaleai_plugin_gym.record.collector import EXPERT, RecordingSettings
from simscaleai_plugin_gym.record.experts import expert_name, load_expert, source_digest
from simscaleai_plugin_gym.record.versions import versions_of_env


def manifest_of(settings: RecordingSettings, episodes: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Return everything that the content of a recording depends on.

    Args:
        settings: What is to be recorded.
        episodes: Episodes that the file is to have.
        seeds: Seeds that may be used for them: a range if they follow each other.

    Returns:
        A table as JSON gives it back. What was not chosen is left out where earlier versions had
        no choice, so that their recordings go on.
    """
    host = Host()
    has_expert = settings.labels == EXPERT
    digest = ""
    if has_expert:
        single = settings.expert_single
        digest = source_digest(load_expert(settings.env, settings.expert, single=single, host=host))
    manifest = {
        "env": settings.env,
        "env_kwargs": dict(settings.env_options),
        "expert": expert_name(settings.expert) if has_expert else "",
        "expert_single": settings.expert_single,
        "episodes": episodes,
        "seed": seeds[0],
        "noise": float(settings.noise),
        "max_steps": settings.max_steps,
        "only_successes": settings.only_successes,
        "relabel": settings.relabel,
        "sha256 of the expert's file": digest,
        **_chosen(settings, seeds),
        **{f"version of {k}": v for k, v in versions_of_env(settings.env, host).items()},
    }
    as_read: dict[str, Any] = json.loads(json.dumps(manifest, default=str))
    return as_read


def _chosen(settings: RecordingSettings, seeds: Sequence[int]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if not isinstance(seeds, range):
        chosen["seeds"] = list(seeds)
    if settings.policy is not None:
        chosen["labels"] = settings.labels
        chosen["BLAKE2b of the policy's checkpoint"] = digest_of(settings.policy)
        chosen["version of torch"] = version("torch")
        for name, value in settings.policy_settings.chosen().items():
            chosen[f"the policy's {name}"] = value
    if settings.success is not None:
        rule = settings.success
        chosen["success"] = rule if isinstance(rule, str) else expert_name(rule)
        rule = rule_from_text(rule) if isinstance(rule, str) else rule
        if callable(rule):
            chosen["sha256 of the success rule's file"] = source_digest(rule)
    return chosen
