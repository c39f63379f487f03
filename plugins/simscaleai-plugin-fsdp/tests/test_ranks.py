"""Real runs on two and four ranks with gloo: what they train, save, resume and leave."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from sharded_runs import HOST, LayeredPolicy, differences, gap, train, tree_of

from simscaleai_core.host.registry import load_policy
from simscaleai_core.plugin import hookimpl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLOSE = 2e-6


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    return train(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a run on four ranks with a checkpoint backend."""
    folder = tmp_path_factory.mktemp("four")
    return cache(lambda backend: train(folder / backend, 4, checkpoint_backend=backend))


def rows(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "perf/" not in k} for line in lines]


def test_four_ranks_train_what_one_process_trains(alone: Path, four: Callable[[str], Path]) -> None:
    assert gap(alone, four("pt")) < CLOSE
    tree = tree_of(four("pt"))
    assert tree["policy"]["class"] == "sharded_runs:LayeredPolicy"
    assert {type(t) for t in tree["model_state_dict"].values()} == {torch.Tensor}


@pytest.mark.parametrize(
    ("ranks", "options", "close"),
    [
        (2, {}, CLOSE),
        (4, {"replicate": 2}, CLOSE),
        (2, {"reshard_after_forward": False}, CLOSE),
        (2, {"checkpoint_activations": True}, CLOSE),
        (2, {"cpu_offload": True}, CLOSE),
        (2, {"blocks": ("Linear",)}, CLOSE),
        (2, {"param_dtype": "bfloat16"}, 0.05),
        (2, {"param_dtype": "bfloat16", "reduce_dtype": "bfloat16"}, 0.05),
    ],
)
def test_every_way_of_sharding_trains_the_same(
    tmp_path: Path, alone: Path, ranks: int, options: dict[str, Any], close: float
) -> None:
    found = gap(train(tmp_path, ranks, options={"fsdp": options}), alone)
    assert found < close
    assert ("param_dtype" in options) == (found > CLOSE)  # otherwise it is not in effect


def test_accumulation_and_clipping_change_nothing(tmp_path: Path) -> None:
    """The norm is that of all ranks' gradients; a small one is seen to clip."""
    both: dict[str, Any] = {
        "accumulate": 2,
        "grad_clip": 0.01,
        "loggers": ("jsonl",),
        "log_every": 1,
    }
    one, two = train(tmp_path / "one", **both), train(tmp_path / "two", 2, **both)
    assert gap(one, two) < CLOSE
    for a, b in zip(rows(one), rows(two), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert all(row["train/grad_norm"] > 0.01 for row in rows(two) if "train/grad_norm" in row)


class BadLoss:
    """The loss of one rank is infinite at one step."""

    @hookimpl
    def simscale_transform_batch(self, run: Any, batch: Any) -> Any:
        is_here = run.strategy.rank == run.strategy.world_size - 1
        factor = float("inf") if is_here and run.step == 5 else 1.0
        return {**batch, "actions": batch["actions"] * factor}


@pytest.mark.parametrize("fields", [{}, {"precision": "amp", "amp_dtype": "float16",
                                         "options": {"amp": {"on_cpu": True}}}])  # fmt: skip
def test_a_loss_that_is_not_finite_on_one_rank_skips_the_update_on_all(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    pytest.importorskip("simscaleai_plugin_amp")
    done = train(tmp_path, 2, listeners=[BadLoss()], **fields)
    tree = tree_of(done)
    assert tree["counters"]["skipped"] == 1
    assert all(t.isfinite().all() for t in tree["model_state_dict"].values())
    if fields:
        assert tree["scaler_state_dict"]["scale"] == 32768.0


@pytest.mark.parametrize("backend", ["pt", "safetensors", "dcp"])
def test_resume_is_bit_exact_on_as_many_ranks(tmp_path: Path, backend: str) -> None:
    pytest.importorskip(f"simscaleai_plugin_{backend}") if backend != "pt" else None
    fields: dict[str, Any] = {"checkpoint_backend": backend, "dropout": 0.2, "loggers": ("jsonl",)}
    whole = train(tmp_path / "whole", 2, **fields)
    again = tmp_path / "again"
    shutil.copytree(whole, again, ignore=shutil.ignore_patterns("final.*", "best.*", "step_12.*",
                                                                "step_8.*"))  # fmt: skip
    train(again, 2, resume_from="auto", **fields)
    assert not differences(whole, again)
    assert rows(whole) == rows(again)


@pytest.mark.parametrize("backend", ["pt", "dcp"])
@pytest.mark.parametrize(
    ("ranks", "strategy"), [(4, "fsdp"), (2, "fsdp"), (1, "single"), (2, "ddp")]
)
def test_what_four_ranks_wrote_goes_on_anywhere(
    tmp_path: Path, four: Callable[[str], Path], ranks: int, strategy: str, backend: str
) -> None:
    path = four(backend) / f"step_8.{backend}"
    done = train(tmp_path, ranks, strategy, resume_from=str(path), checkpoint_backend=backend)
    assert gap(done, four("pt")) < CLOSE
    if (ranks, strategy) == (4, "fsdp"):
        assert not differences(done, four("pt"))


def test_what_one_process_wrote_goes_on_sharded(tmp_path: Path, alone: Path) -> None:
    done = train(tmp_path, 4, resume_from=str(alone / "step_4.pt"))
    assert gap(done, alone) < CLOSE


@pytest.mark.parametrize("backend", ["pt", "safetensors", "dcp"])
def test_one_process_loads_the_policy(tmp_path: Path, alone: Path, backend: str) -> None:
    done = train(tmp_path, 2, checkpoint_backend=backend)
    for weights in ("evaluated", "trained"):
        policy = load_policy(done / f"final.{backend}", HOST, weights=weights)
        wanted = load_policy(alone / "final.pt", HOST, weights=weights)
        assert isinstance(policy, LayeredPolicy)
        for name, tensor in wanted.state_dict().items():
            torch.testing.assert_close(policy.state_dict()[name], tensor, atol=CLOSE, rtol=1e-5)


class Counts:
    """An eval function in which every rank acts another number of times, the first never."""

    def __call__(self, policy: Any) -> dict[str, float]:
        times = int(os.environ["RANK"])
        for _ in range(times):
            policy.predict({"state": torch.ones(1, 6)})
        return {"times": float(times)}


def test_ranks_evaluate_different_numbers_of_times(tmp_path: Path, alone: Path) -> None:
    """No forward pass of an evaluation waits for another rank, and training is not touched."""
    done = train(tmp_path, 2, evaluate=Counts(), loggers=("jsonl",))
    assert gap(done, alone) < CLOSE
    found = [row for row in rows(done) if "eval/times" in row]
    assert [row["eval/times"] for row in found] == [0.5] * 3


def test_copies_that_do_not_fit_the_ranks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="2 ranks cannot hold 3 copies of the policy"):
        train(tmp_path, 2, options={"fsdp": {"replicate": 3}})
