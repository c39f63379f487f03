"""One root seed, many independent streams; capture and restore of every random state.

A stream is named, so that adding one never shifts another:
``stream_seed(seed, "order", epoch)`` depends on its arguments and nothing else.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """Derive the seed of a named stream.

    Args:
        seed: Root seed.
        names: Name of the stream and its indices, such as ``"order", epoch``.

    Returns:
        A seed in [0, 2**63).

    Source:
        Ours: the first 63 bits of BLAKE2b over the arguments.

    Example:
        >>> stream_seed(0, "order", 1) != stream_seed(0, "order", 2)
        True
    """
    text = "/".join(str(part) for part in (seed, *names))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, on every device."""
    seed_host(seed)
    torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def seed_host(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global CPU generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def capture_rng() -> dict[str, Any]:
    """Return every global random state as tensors and plain values.

    NumPy's state array becomes an int64 tensor: a checkpoint with a NumPy array in it could not be
    loaded with ``weights_only=True``.
    """
    name, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = [torch.cuda.get_rng_state()]  # its own: a checkpoint fits other machines
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_rng(state: dict[str, Any], *, is_trial: bool = False) -> None:
    """Put every global random state back that `capture_rng` took and this machine has.

    A trial only finds out whether the state fits, on generators made for it.

    Raises:
        ValueError: If a position is outside its generator's state; other misfits raise whatever
            the generators raise.
    """
    python: Any = random.Random() if is_trial else random  # noqa: S311 - no secret
    legacy: Any = np.random.RandomState() if is_trial else np.random
    version, internal, gauss = state["python"]
    name, keys, position, has_gauss, cached = state["numpy"]
    if not 0 <= position <= len(keys):  # numpy itself does not look
        raise ValueError(f"expected a position of 0 to {len(keys)}, found {position}")
    python.setstate((version, tuple(internal), None if gauss is None else float(gauss)))
    legacy.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, float(cached)))
    (torch.Generator() if is_trial else torch.default_generator).set_state(state["torch"])
    if "cuda" in state and torch.cuda.is_initialized() and not is_trial:  # type: ignore[no-untyped-call]
        torch.cuda.set_rng_state(state["cuda"][0])
    if "mps" in state and torch.backends.mps.is_available() and not is_trial:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def forked_rng(seed: int | None = None) -> Iterator[None]:
    """Run the body with random states of its own; the outer ones come back unchanged.

    Args:
        seed: Seed of the states inside; None continues from the outer ones.
    """
    outer = capture_rng()
    try:
        if seed is not None:
            seed_everything(seed)
        yield
    finally:
        restore_rng(outer)


@contextmanager
def seeded_host(seed: int) -> Iterator[None]:
    """Seed the CPU generators for the body, then put the outer states back."""
    outer = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    seed_host(seed)
    try:
        yield
    finally:
        random.setstate(outer[0])
        np.random.set_state(outer[1])
        torch.set_rng_state(outer[2])
