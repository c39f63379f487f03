"""Chunk execution against hand computations."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from simscaleai_plugin_bc.blocks.chunk_execution import ChunkExecutor

from simscaleai_core.errors import ConfigError

T = 4


class Predictor:
    """Chunk k of an env is 100 * env + 10 * k + (0, 1, 2, 3); records the calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, envs, indices):
        self.calls.append((envs.tolist(), indices.tolist()))
        start = 100.0 * envs + 10.0 * indices
        return torch.as_tensor(start[:, None, None] + np.arange(T)[None, :, None])


def run(executor, steps, envs=1, predictor=None):
    predictor = predictor or Predictor()
    return [executor.act(envs, predictor)[:, 0].tolist() for _ in range(steps)]


@pytest.mark.parametrize(
    ("execute", "expected"),
    [
        (None, [0, 1, 2, 3, 10, 11, 12, 13, 20]),
        (1, [0, 10, 20, 30, 40, 50, 60, 70, 80]),
        (3, [0, 1, 2, 10, 11, 12, 20, 21, 22]),
        (9, [0, 1, 2, 3, 10, 11, 12, 13, 20]),
    ],
)
def test_a_chunk_is_executed_so_far_and_no_further(execute, expected):
    assert [a for (a,) in run(ChunkExecutor(execute), 9)] == expected


@pytest.mark.parametrize("m", [0.0, 0.01, -0.5])
def test_ensembling_weighs_the_oldest_chunk_first(m):
    executor = ChunkExecutor(ensemble=m)
    found = [a for (a,) in run(executor, 7)]
    for now, action in enumerate(found):
        covering = [10.0 * k + (now - k) for k in range(now + 1) if now - k < T]  # oldest first
        weights = np.exp(-m * np.arange(len(covering)))
        assert action == pytest.approx(np.average(covering, weights=weights), rel=1e-6)


def test_ensembling_may_predict_less_often():
    found = [a for (a,) in run(ChunkExecutor(execute=2, ensemble=0.0), 6)]
    expected = [0, 1, (2 + 10) / 2, (3 + 11) / 2, (12 + 20) / 2, (13 + 21) / 2]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("options", [{"execute": 3}, {"ensemble": 0.1}, {}])
def test_sub_environments_are_independent_and_restart_when_reset(options):
    executor, predictor = ChunkExecutor(**options), Predictor()
    together = run(executor, 2, envs=3, predictor=predictor)
    executor.reset(np.array([False, True, False]))
    together += run(executor, 5, envs=3, predictor=predictor)
    for env in range(3):
        alone = ChunkExecutor(**options)
        steps = []
        for now in range(7):
            if now == 2 and env == 1:
                alone.reset()
            predict = lambda _, indices, env=env: Predictor()(np.full(1, env), indices)  # noqa: E731
            steps.append(alone.act(1, predict)[0, 0])
        assert [row[env] for row in together] == pytest.approx(steps)


def test_chunks_are_predicted_only_where_they_are_needed():
    executor, predictor = ChunkExecutor(execute=2), Predictor()
    run(executor, 1, envs=3, predictor=predictor)
    executor.reset(torch.tensor([True, False, False]))
    run(executor, 3, envs=3, predictor=predictor)
    assert predictor.calls == [
        ([0, 1, 2], [0, 0, 0]),
        ([0], [0]),
        ([1, 2], [1, 1]),
        ([0], [1]),
    ]


def test_sub_environments_may_be_added_and_left_alone():
    executor, predictor = ChunkExecutor(), Predictor()
    assert run(executor, 1, envs=1, predictor=predictor) == [[0]]
    assert run(executor, 1, envs=3, predictor=predictor) == [[1, 100, 200]]
    assert run(executor, 1, envs=2, predictor=predictor) == [[2, 101]]
    assert run(executor, 1, envs=3, predictor=predictor) == [[3, 102, 201]]
    executor.reset([True] * 9)  # more than there were so far
    assert executor.num_envs == 3
    executor.reset(np.True_)
    assert run(executor, 1, envs=2, predictor=predictor) == [[0, 100]]


def test_copies_go_on_where_the_original_was():
    executor = ChunkExecutor(execute=3)
    run(executor, 2)
    twins = [copy.deepcopy(executor), pickle.loads(pickle.dumps(executor))]
    wanted = run(executor, 3)
    assert all(run(twin, 3) == wanted for twin in twins)


def test_what_is_forgotten_is_predicted_anew_and_still_counts():
    executor, predictor = ChunkExecutor(), Predictor()
    run(executor, 1, envs=2, predictor=predictor)
    executor.forget([False, True])
    assert run(executor, 1, envs=2, predictor=predictor) == [[1, 110]]
    assert predictor.calls == [([0, 1], [0, 0]), ([1], [1])]


def test_the_rest_of_a_chunk_begins_with_the_present_step():
    executor = ChunkExecutor(execute=4)
    run(executor, 3)
    rest, left = executor.rest(np.array([0]))
    assert rest[0, :, 0].tolist() == [3, 3, 3, 3] and left.tolist() == [1]
    run(executor, 1)
    assert executor.rest(np.array([0]))[1].tolist() == [0]


@pytest.mark.parametrize("given", [{"execute": 0}, {"ensemble": float("nan")}])
def test_numbers_out_of_range_are_named(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        ChunkExecutor(**given)
