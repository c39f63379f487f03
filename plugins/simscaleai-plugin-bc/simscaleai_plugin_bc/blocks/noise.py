"""The noise that chunks are sampled from: a function of the episode and the chunk.

N: sub-environments, M: sub-environments that need a new chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_bc.blocks.options import FRESH, HELD, NOISES, WARM

_POLICY = 1  # last word of the counter: apart from streams that others key by the same seed


class EpisodeNoise:
    """Standard normal noise of every sub-environment, by its episode's seed and the chunk.

    It depends on neither the number of sub-environments, nor their order, nor the device, nor what
    else draws. An episode that begins without a seed has noise of its own: that of the k-th episode
    of its sub-environment. A single observation is that of sub-environment 0.

    Source:
        Salmon et al. 2011 (Philox, doi:10.1145/2063384.2063405), NumPy's: the key is the seed, the
        counter holds the chunk.

    Example:
        >>> noise = EpisodeNoise()
        >>> noise.reset([True, True], seeds=[7, 8])
        >>> both = noise.draw((2,), [0, 1], [3, 0])
        >>> noise.reset([True], seeds=[8])
        >>> bool((noise.draw((2,), [0], [0]) == both[1]).all())
        True
    """

    def __init__(self) -> None:
        # Key and counter of Philox, of each sub-environment: (seed, 0) and (position, chunk, 0, 1);
        # without a seed (episodes so far, sub-environment) and (position, chunk, 1, 1).
        self._seeds: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._begun: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._is_seeded: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def reset(self, mask: Any = None, seeds: Any = None) -> None:
        """Begin episodes.

        Args:
            mask: Where, bool `[N]`; None means everywhere.
            seeds: Seed of the episode in each sub-environment, integers `[N]` of at least 0; those
                where no episode begins do not count. None means that they have no seeds.

        Raises:
            ConfigError: If there are fewer seeds than sub-environments in the mask.
        """
        given = None if seeds is None else np.atleast_1d(_as_array(seeds)).astype(np.uint64)
        chosen = None if mask is None else np.atleast_1d(_as_array(mask)).astype(np.bool_)
        if chosen is not None and given is not None and len(given) != len(chosen):
            raise ConfigError(
                f"reset: expected a seed for each of {len(chosen)} sub-environments, got "
                f"{len(given)}"
            )
        known = max(len(self._begun), *(len(a) for a in (given, chosen) if a is not None), 0)
        self._grow(known)
        if chosen is None:
            chosen = np.ones(known if given is None else len(given), dtype=np.bool_)
        where = np.flatnonzero(chosen)
        self._is_seeded[where] = given is not None
        if given is None:
            self._begun[where] += np.uint64(1)
        else:
            self._seeds[where] = given[where]

    def draw(
        self, shape: tuple[int, ...], envs: Sequence[int] | Any, chunks: Sequence[int] | Any
    ) -> Tensor:
        """Return the noise of one chunk of each of some sub-environments.

        Args:
            shape: Shape of one chunk's noise, such as ``(T, A)``.
            envs: Sub-environments, int `[M]`.
            chunks: Chunks that each has had since its episode began, int `[M]`.

        Returns:
            Standard normal noise, float32 `[M, *shape]` on the CPU.
        """
        envs = np.asarray(envs, dtype=np.intp)
        if len(envs):
            self._grow(int(envs.max()) + 1)
        out = np.empty((len(envs), *shape), dtype=np.float32)
        bits = np.random.Philox(0)
        generator = np.random.Generator(bits)
        state = bits.state  # of a generator that has drawn nothing: its buffer is empty
        key, counter = state["state"]["key"], state["state"]["counter"]
        counter[:] = 0, 0, 0, _POLICY
        for row, (env, chunk) in enumerate(zip(envs.tolist(), chunks, strict=True)):
            is_seeded = bool(self._is_seeded[env])
            key[:] = (self._seeds[env], 0) if is_seeded else (self._begun[env], env)
            counter[1:3] = int(chunk), not is_seeded
            bits.state = state
            generator.standard_normal(dtype=np.float32, out=out[row])
        return torch.from_numpy(out)

    def _grow(self, num_envs: int) -> None:
        more = max(num_envs - len(self._begun), 0)
        self._seeds = np.pad(self._seeds, (0, more))
        self._begun = np.pad(self._begun, (0, more))
        self._is_seeded = np.pad(self._is_seeded, (0, more))


def _as_array(values: Any) -> NDArray[Any]:
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values)


def check_noise(kind: str, ensemble: float | None) -> str:
    """Return where chunks begin that are sampled one after the other.

    Args:
        kind: ``"warm"``: the next chunk begins with what is left of the last one, and the noise of
            the episode; ``"held"``: with the noise of the episode alone; ``"fresh"``: with noise of
            its own, whatever was planned before.
        ensemble: Coefficient of temporal ensembling; None if chunks are not averaged.

    Returns:
        The kind.

    Raises:
        ConfigError: If there is no such kind, or chunks would be averaged that may be of different
            modes.
    """
    if kind not in NOISES:
        raise ConfigError(f"field 'noise': expected one of {', '.join(NOISES)}, got {kind!r}")
    if ensemble is not None and kind == FRESH:
        raise ConfigError(
            f"ensemble={ensemble}: expected noise {WARM!r} or {HELD!r}, got {kind!r}: the mean of "
            "chunks that go different ways goes neither way. Leave one of them out."
        )
    return kind
