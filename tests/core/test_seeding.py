"""Seeds are functions of their names; every random state can be taken and put back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.seeding import (
    capture_rng,
    forked_rng,
    restore_rng,
    seed_everything,
    seeded_host,
    stream_seed,
)

PARTS = st.lists(st.integers(0, 9) | st.sampled_from(["order", "samples", "init"]), max_size=3)


def _draws() -> list[float]:
    """Draw an odd number of normals, so that cached second values count as well."""
    return [
        random.gauss(0, 1), random.random(), float(np.random.normal()), float(np.random.rand()),
        *torch.randn(3).tolist(),
    ]  # fmt: skip


@given(seed=st.integers(0, 2**70), names=PARTS)
def test_stream_seed_is_a_seed(seed: int, names: list[str | int]) -> None:
    value = stream_seed(seed, *names)
    assert 0 <= value < 2**63
    assert value == stream_seed(seed, *names)


@given(a=st.tuples(st.integers(0, 99), PARTS), b=st.tuples(st.integers(0, 99), PARTS))
def test_streams_differ_by_name(a: tuple[int, list], b: tuple[int, list]) -> None:
    same_text = [str(x) for x in (a[0], *a[1])] == [str(x) for x in (b[0], *b[1])]
    assert (stream_seed(a[0], *a[1]) == stream_seed(b[0], *b[1])) == same_text


def test_stream_seed_is_the_same_for_ever() -> None:
    """Changing it would change every published run."""
    recorded = [3471081512423777433, 8024286156118006313, 8338785396946842456]
    assert [stream_seed(0, "order", epoch) for epoch in range(3)] == recorded


@pytest.mark.parametrize("is_used", [True, False])
def test_the_state_of_a_gpu_is_that_of_its_own_process(
    monkeypatch: pytest.MonkeyPatch, is_used: bool
) -> None:
    """A rank must not read the other GPUs, and a run on the CPU none at all."""
    state, taken = torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: is_used)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", taken.append)
    found = capture_rng()
    assert ("cuda" in found) is is_used
    restore_rng(found)
    restore_rng(found, is_trial=True)
    assert [t.tolist() for t in taken] == [state.tolist()] * is_used


def test_capture_and_restore_every_generator() -> None:
    seed_everything(3)
    _draws()
    state = to_serialisable(capture_rng())  # as a checkpoint would hold it
    first = _draws()
    assert _draws() != first
    restore_rng(state)
    assert _draws() == first


def test_leaving_one_generator_out_is_noticed() -> None:
    """Negative control."""
    state = capture_rng()
    first = _draws()
    other = dict(capture_rng(), torch=state["torch"], numpy=state["numpy"])
    restore_rng(other)
    assert _draws() != first


def test_forked_rng_leaves_the_outer_states_alone() -> None:
    seed_everything(5)
    expected = _draws()
    seed_everything(5)
    with forked_rng(9):
        inside = _draws()
    assert _draws() == expected
    with forked_rng(9):
        assert _draws() == inside
    assert inside != expected


def test_forked_rng_comes_back_after_an_exception() -> None:
    seed_everything(5)
    expected = _draws()
    seed_everything(5)
    try:
        with forked_rng(1):
            _draws()
            raise RuntimeError
    except RuntimeError:
        pass
    assert _draws() == expected


def test_forked_rng_without_a_seed_continues() -> None:
    seed_everything(5)
    expected = _draws()
    seed_everything(5)
    with forked_rng():
        assert _draws() == expected


def test_seeded_host() -> None:
    seed_everything(5)
    expected = _draws()
    seed_everything(5)
    with seeded_host(7):
        inside = _draws()
    assert _draws() == expected
    with seeded_host(7):
        assert _draws() == inside


def test_any_stream_seed_is_accepted_by_every_generator() -> None:
    with forked_rng():
        for seed in (0, 2**32 - 1, 2**32, 2**63 - 1):
            seed_everything(seed)
