"""The options of the executor ``ray``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from attrs.validators import and_, ge, gt, le, min_len, optional

from simscaleai_core.errors import ConfigError


def _amounts(given: Mapping[str, Any]) -> dict[str, float]:
    """Return amounts of resources as numbers.

    Raises:
        ConfigError: If one is none.
    """
    try:
        amounts = {name: float(amount) for name, amount in given.items()}
        if all(amount > 0 for amount in amounts.values()):
            return amounts
    except (TypeError, ValueError):
        pass
    raise ConfigError(f"resources: expected numbers greater than 0, got {dict(given)!r}")


@frozen(kw_only=True)
class RayOptions:
    """Where the tasks run and what each of them needs."""

    address: str | None = field(default=None, validator=optional(min_len(1)))
    """Address of a cluster, such as 10.0.0.1:6379, or auto for the one that this machine belongs
    to; Ray is started on this machine if not given, and ended with the command."""
    num_cpus: float = field(default=1.0, validator=and_(gt(0), le(4096)))
    """Processors that a task takes up."""
    num_gpus: float = field(default=0.0, validator=and_(ge(0), le(64)))
    """GPUs that a task takes up; a fraction shares one."""
    resources: Mapping[str, Any] = field(factory=dict, converter=_amounts)
    """Resources of your own that a task takes up, such as --ray.resources.simulator 1."""
    env_vars: Mapping[str, str] = field(factory=dict)
    """Environment variables of the workers, such as --ray.env-vars.MUJOCO_GL egl."""
    max_retries: int = field(default=3, validator=and_(ge(0), le(1000)))
    """How often a task is run again whose worker or node died."""
    node_timeout_s: float = field(default=60.0, validator=and_(ge(0), le(86_400)))
    """How long to wait for a node that has what a task takes up [s]."""
    object_store_mib: int | None = field(default=None, validator=optional(and_(ge(80), le(2**20))))
    """Shared memory of the Ray that is started on this machine [MiB]; Ray's choice if not given."""
