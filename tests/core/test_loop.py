"""The training loop: exact resume, honest counters, and an orderly end whatever happens."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from simscaleai_devkit.support.hosts import host_with
from simscaleai_devkit.support.runs import copied_after
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training_kit import (
    DrawingData,
    Recorder,
    TinyPolicy,
    differences,
    draw,
    dummy_loader,
    read,
    train,
)

from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.contracts import Mean
from simscaleai_core.errors import (
    CheckpointError,
    DataError,
    EvaluationError,
    PolicyError,
    SaveError,
)
from simscaleai_core.plugin import LoggerSpec, hookimpl

STEPS = 12
# five batches an epoch: twelve steps are two epochs and two steps; log windows and evaluations
# fall across the points where the run is cut
EXACT = {"accumulate": 2, "eval_every": 5, "log_every": 4, "save_every": 1, "loggers": ("jsonl",)}


class StopAt:
    """Ends the run at a step, as an early-stopping listener would."""

    def __init__(self, step: int) -> None:
        self.at = step

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        if run.step == self.at:
            run.request_stop("enough")


class FailAt:
    """Raises at a step."""

    def __init__(self, step: int, error: BaseException) -> None:
        self.at, self.error = step, error

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        if run.step == self.at:
            raise self.error


def _rows(directory: Path, *, without_speed: bool = True) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    dropped = {"perf/samples_per_s"} if without_speed else set()
    return [{k: v for k, v in row.items() if k not in dropped} for row in rows]


def _drawing() -> DataLoader[Any]:
    return DataLoader(DrawingData(), batch_size=4, shuffle=True)


def _exact(directory: Path, **changes: Any) -> None:
    evaluation = dummy_loader(10, shuffle=False)
    train(directory, loader=_drawing(), eval_loader=evaluation, **{**EXACT, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with a checkpoint of every step."""
    directory = tmp_path_factory.mktemp("whole") / "c"
    _exact(directory)
    return directory


def _same_end(a: Path, b: Path) -> list[str]:
    first, second = read(a / "final.pt"), read(b / "final.pt")
    for tree in (first, second):
        tree["config"] = {k: v for k, v in tree["config"].items() if k != "checkpoint_dir"}
    return differences(first, second)


# --- exact resume ---------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(1, STEPS))
def test_resume_from_any_step_is_bit_exact(whole: Path, tmp_path: Path, k: int) -> None:
    """Weights, optimiser, schedule, counters, random states, best loss and metric rows."""
    shutil.copytree(whole, tmp_path / "c", ignore=shutil.ignore_patterns("final.*", "best.*"))
    _exact(tmp_path / "c", resume_from=str(tmp_path / "c" / f"step_{k}.pt"))
    assert not _same_end(whole, tmp_path / "c")
    assert _rows(tmp_path / "c") == _rows(whole)


@pytest.mark.parametrize("left_out", ["optimizer", "rng", "schedule", "step"])
def test_leaving_one_part_out_is_noticed(
    whole: Path, tmp_path: Path, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the comparison above does see each part of the state."""
    from simscaleai_core.run import snapshot

    def restore(run: Any, tree: Any, **about: Any) -> list[str]:
        kept = {
            "optimizer": run.optimizer.state_dict(), "schedule": run.schedule.state_dict(),
        }  # fmt: skip
        notes = original(run, tree, **about)
        if left_out == "optimizer":
            run.optimizer.load_state_dict(kept[left_out])
        elif left_out == "schedule":
            run.schedule.load_state_dict(kept[left_out])
        elif left_out == "step":
            run.counters.step = 0
        return notes

    original = snapshot.restore
    monkeypatch.setattr(snapshot, "restore", restore)
    if left_out == "rng":
        monkeypatch.setattr("simscaleai_core.loop.restore_random_state", lambda *_: None)
    _exact(tmp_path / "c", resume_from=str(whole / "step_7.pt"))
    assert _same_end(whole, tmp_path / "c")


@pytest.mark.slow
def test_interrupted_twice_in_one_epoch_and_again_later(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "c"
    for k in (6, 8, 11):
        with pytest.raises(RuntimeError, match="power cut"):
            _exact_with(path, FailAt(k + 1, RuntimeError("power cut")), resume=k != 6)
        assert read(path / f"step_{k}.pt")["step"] == k
    _exact(path, resume_from="auto")
    assert not _same_end(whole, path)
    assert _rows(path) == _rows(whole)


def _exact_with(path: Path, listener: object, *, resume: bool) -> None:
    train(
        path, loader=_drawing(), eval_loader=dummy_loader(10, shuffle=False),
        listeners=(listener,), resume_from="auto" if resume else None, **EXACT,
    )  # fmt: skip


def test_workers_may_change_between_the_parts(whole: Path, tmp_path: Path) -> None:
    loader = DataLoader(DrawingData(), batch_size=4, shuffle=True, num_workers=1)
    train(
        tmp_path / "c", loader=loader, eval_loader=dummy_loader(10, shuffle=False),
        **EXACT, resume_from=str(whole / "step_6.pt"),
    )  # fmt: skip
    found = differences(
        read(whole / "final.pt")["model_state_dict"],
        read(tmp_path / "c" / "final.pt")["model_state_dict"],
    )
    assert not found


def test_the_file_is_equal_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finals = []
    for resume in (None, "c/step_5.pt"):
        folder = tmp_path / str(bool(resume))
        folder.mkdir()
        monkeypatch.chdir(folder)
        if resume:
            shutil.copytree(tmp_path / "False" / "c", folder / "c")
        train("c", save_every=5, loader=_drawing(), resume_from=resume)
        finals.append((folder / "c" / "final.pt").read_bytes())
    assert finals[0] == finals[1]


def test_a_stop_by_a_listener_and_a_resume_give_the_same_weights(tmp_path: Path) -> None:
    train(tmp_path / "a", loader=_drawing(), accumulate=2)
    train(tmp_path / "b", loader=_drawing(), accumulate=2, listeners=(StopAt(7),))
    assert read(tmp_path / "b" / "final.pt")["step"] == 7
    train(tmp_path / "b", loader=_drawing(), accumulate=2, resume_from="auto")
    for key in ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "rng"):
        first, second = (read(tmp_path / n / "final.pt")[key] for n in "ab")
        assert not differences(first, second), key


def test_saving_and_logging_more_often_changes_nothing(tmp_path: Path) -> None:
    train(tmp_path / "a", loader=_drawing())
    train(tmp_path / "b", loader=_drawing(), save_every=1, log_every=1, loggers=("jsonl",))
    first, second = (read(tmp_path / n / "final.pt") for n in "ab")
    for key in ("model_state_dict", "optimizer_state_dict", "rng", "counters"):
        assert not differences(first[key], second[key]), key


# --- seeds ----------------------------------------------------------------------------------


def test_the_seed_decides_the_run(tmp_path: Path) -> None:
    """Whatever the global generators were at before."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(random.randrange(2**31))
        train(tmp_path / name, loader=_drawing(), seed=seed)
    a, b, c = (read(tmp_path / n / "final.pt")["model_state_dict"] for n in "abc")
    assert not differences(a, b)
    assert differences(a, c)


def _drawing_eval(policy: nn.Module) -> dict[str, float]:
    assert not policy.training
    assert not torch.is_grad_enabled()
    draw()
    return {"score": float(torch.rand(()))}


def test_an_evaluation_that_draws_leaves_training_alone(tmp_path: Path) -> None:
    train(tmp_path / "a", loader=_drawing())
    train(tmp_path / "b", loader=_drawing(), eval_fn=_drawing_eval, eval_every=1)
    first, second = (read(tmp_path / n / "final.pt") for n in "ab")
    for key in ("model_state_dict", "optimizer_state_dict", "rng"):
        assert not differences(first[key], second[key]), key


def test_a_logger_that_draws_leaves_training_alone(tmp_path: Path) -> None:
    host = host_with(LoggerSpec(name="drawing", target="training_kit:DrawingLogger"))
    train(tmp_path / "a", loader=_drawing(), log_every=2, host=host)
    train(tmp_path / "b", loader=_drawing(), log_every=2, host=host, loggers=("drawing",))
    first, second = (read(tmp_path / n / "final.pt")["model_state_dict"] for n in "ab")
    assert not differences(first, second)


# --- updates --------------------------------------------------------------------------------


class Poisoned(TinyPolicy):
    """Gives a gradient that is not finite at one forward pass."""

    def __init__(self, at: int, value: float = math.nan) -> None:
        super().__init__()
        self.at, self.value, self.count = at, value, 0

    def forward(self, batch: Any) -> Any:
        out = super().forward(batch)
        if self.training:
            self.count += 1
            if self.count == self.at:
                out["loss"] = out["loss"] * self.value
        return out


class Snapshots:
    """Keeps the weights after every step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.counters: list[tuple[int, int, int]] = []

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        state = run.policy.state_dict()
        self.weights.append({k: v.clone() for k, v in state.items()})
        c = run.counters
        self.counters.append((c.step, c.updates, c.skipped))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_skips_the_update(tmp_path: Path, value: float) -> None:
    seen, rates, plain = Snapshots(), Recorder(), Recorder()
    train(tmp_path / "a", policy=Poisoned(4, value), listeners=(seen, rates), log_every=1,
          loggers=("jsonl",))  # fmt: skip
    train(tmp_path / "b", policy=TinyPolicy(), listeners=(plain,))
    assert not differences(seen.weights[2], seen.weights[3])
    assert differences(seen.weights[3], seen.weights[4])
    assert all(t.isfinite().all() for t in seen.weights[-1].values())
    assert seen.counters[3] == (4, 3, 1)
    assert seen.counters[-1] == (12, 11, 1)
    assert rates.rates == plain.rates[:4] + plain.rates[3:-1]  # the list is shifted by one
    steps = read(tmp_path / "a" / "final.pt")["optimizer_state_dict"]["state"]
    assert {float(s["step"]) for s in steps.values()} == {11.0}
    assert [r["train/skipped"] for r in _rows(tmp_path / "a")] == [0.0] * 3 + [1.0] * 9


class VetoAt:
    """Vetoes the update of one step."""

    @hookimpl
    def simscale_on_grads_ready(self, run: Any) -> bool:
        return run.step == 3


def test_a_veto_skips_the_update(tmp_path: Path) -> None:
    seen = Snapshots()
    train(tmp_path, policy=TinyPolicy(), listeners=(VetoAt(), seen))
    assert not differences(seen.weights[2], seen.weights[3])
    assert seen.counters[-1] == (12, 11, 1)


@pytest.mark.slow
def test_a_skipped_step_and_a_resume_are_exact(tmp_path: Path) -> None:
    train(tmp_path / "a", policy=TinyPolicy(), listeners=(VetoAt(),), save_every=1)
    for k in (3, 4, 5):
        train(tmp_path / f"b{k}", policy=TinyPolicy(), listeners=(VetoAt(),), save_every=1,
              resume_from=str(tmp_path / "a" / f"step_{k}.pt"))  # fmt: skip
        assert not _same_end(tmp_path / "a", tmp_path / f"b{k}")


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_accumulation_equals_the_whole_batch(tmp_path: Path, parts: int) -> None:
    """Also with three parts of four samples, whose sizes differ."""
    train(tmp_path / "a", policy=TinyPolicy())
    train(tmp_path / "b", policy=TinyPolicy(), accumulate=parts)
    first, second = (read(tmp_path / n / "final.pt")["model_state_dict"] for n in "ab")
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=1e-5)


def test_accumulation_reports_the_same_loss(tmp_path: Path) -> None:
    found = [
        train(tmp_path / str(n), policy=TinyPolicy(), accumulate=n)["final_loss"] for n in (1, 4)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    norms: list[float] = []

    class Look:
        @hookimpl
        def simscale_on_step_end(self, run: Any) -> None:
            norms.append(run.step)

    train(tmp_path, policy=TinyPolicy(), grad_clip=1e-3, loggers=("jsonl",), log_every=1,
          listeners=(Look(),))  # fmt: skip
    assert all(row["train/grad_norm"] > 1e-3 for row in _rows(tmp_path))
    moments = read(tmp_path / "final.pt")["optimizer_state_dict"]["state"].values()
    total = math.sqrt(sum(float(m["exp_avg"].square().sum()) for m in moments))
    assert total <= 1e-3 * 1.001


@pytest.mark.parametrize(
    ("out", "found"),
    [({"mse": 1.0}, "'mse'"), (None, "NoneType"), ({"loss": torch.ones(2)}, r"shape \[2\]")],
)
def test_a_policy_without_a_loss_is_named(tmp_path: Path, out: Any, found: str) -> None:
    class Odd(TinyPolicy):
        def forward(self, batch: Any) -> Any:
            return out

    with pytest.raises(PolicyError, match=rf"Odd\.forward broke its contract.*{found}"):
        train(tmp_path, policy=Odd())


# --- metrics and evaluation -----------------------------------------------------------------


def test_eval_loss_is_weighted_by_samples(tmp_path: Path) -> None:
    """Ten samples in batches of four: the mean of batch means would be another number."""
    policy = TinyPolicy()
    evaluation = dummy_loader(10, shuffle=False)
    train(tmp_path, policy=policy, eval_loader=evaluation, loggers=("jsonl",), save_every=0)
    whole = next(iter(dummy_loader(10, 10, shuffle=False)))
    expected = float(policy.eval()(whole)["loss"].detach())
    row = next(r for r in _rows(tmp_path) if "eval/loss" in r)
    assert row["eval/loss"] == pytest.approx(expected, rel=1e-5)
    means = [float(policy(b)["loss"].detach()) for b in evaluation]
    assert abs(sum(means) / 3 - expected) > 1e-4  # negative control


def test_an_eval_function_returns_pairs_or_numbers(tmp_path: Path) -> None:
    def measure(policy: nn.Module) -> dict[str, Any]:
        return {"pair": Mean(3.0, 4), "number": np.float32(2), "tensor": torch.tensor(1.5),
                "seeds": [1, 2], "none": Mean(0, 0)}  # fmt: skip

    train(tmp_path, eval_fn=measure, loggers=("jsonl",))
    row = next(r for r in _rows(tmp_path) if "eval/pair" in r)
    assert {k: v for k, v in row.items() if k != "step"} == {
        "eval/pair": 0.75, "eval/number": 2.0, "eval/tensor": 1.5, "eval/none": None
    }  # fmt: skip


def test_the_policy_trains_again_after_an_evaluation_that_fails(tmp_path: Path) -> None:
    policy = TinyPolicy()

    def fail(policy: nn.Module) -> dict[str, float]:
        policy.eval()
        raise ValueError("simulator gone")

    with pytest.raises(EvaluationError, match="'eval_fn' failed at step 2: ValueError: simulator"):
        train(tmp_path, policy=policy, eval_fn=fail, eval_every=2)
    assert policy.training


def test_an_evaluation_that_fails_costs_nothing_else(tmp_path: Path) -> None:
    """Every step, every other evaluation and the final checkpoint are there."""

    def fail(policy: nn.Module) -> dict[str, float]:
        raise DataError("the held-out data is gone")

    fields: dict[str, Any] = {
        "eval_every": 3,
        "loggers": ("jsonl",),
        "eval_loader": dummy_loader(8),
    }
    train(tmp_path / "sound", eval_fn=lambda _: {}, **fields)
    with pytest.raises(
        EvaluationError, match=r"'eval_fn' failed at step 3: the held-out data"
    ) as caught:
        train(tmp_path / "failing", eval_fn=fail, **fields)
    assert caught.value.exit_status == 3
    assert not _same_end(tmp_path / "sound", tmp_path / "failing")
    assert _rows(tmp_path / "sound") == _rows(tmp_path / "failing")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_whose_updates_are_all_skipped_stops(tmp_path: Path, accumulate: int) -> None:
    class Broken(TinyPolicy):
        def forward(self, batch: Any) -> dict[str, Tensor]:
            return {"loss": super().forward(batch)["loss"] * float("nan")}

    said = (
        r"4 updates in a row were skipped, up to step 4: .* the metric loss is nan; the first that "
        r"is not finite is the gradient of '[\w.]+'"
    )
    with pytest.raises(PolicyError, match=said):
        train(tmp_path, policy=Broken(), max_skipped=4, save_every=2, accumulate=accumulate)
    assert read(tmp_path / "step_4.pt")["counters"]["skipped"] == 4
    assert not (tmp_path / "final.pt").exists()


def test_updates_that_are_applied_in_between_begin_the_count_again(tmp_path: Path) -> None:
    class Now(TinyPolicy):
        calls = 0

        def forward(self, batch: Any) -> dict[str, Tensor]:
            Now.calls += 1
            bad = float("nan") if Now.calls % 4 else 1.0
            return {"loss": super().forward(batch)["loss"] * bad}

    done = train(tmp_path, policy=Now(), max_skipped=3, grad_clip=0)
    assert done["global_step"] == STEPS
    assert read(tmp_path / "final.pt")["counters"]["updates"] == STEPS // 4


def test_a_frozen_part_stays_in_its_mode_after_an_evaluation(tmp_path: Path) -> None:
    """A listener put a backbone into eval mode for the run; evaluation must not undo that."""

    class Freeze:
        @hookimpl
        def simscale_on_run_start(self, run: Any) -> None:
            run.policy.net[2].eval()

        @hookimpl
        def simscale_on_step_end(self, run: Any) -> None:
            modes.append(run.policy.net[2].training)

    modes: list[bool] = []
    train(tmp_path, policy=TinyPolicy(dropout=0.5), listeners=(Freeze(),),
          eval_loader=dummy_loader(8), eval_every=3)  # fmt: skip
    assert len(set(modes)) == 1, modes


def test_best_is_the_step_of_the_smallest_loss(tmp_path: Path) -> None:
    losses = iter([5.0, 3.0, 4.0, 3.0, math.nan, 2.0])
    recorder = Recorder()
    found = train(
        tmp_path, eval_fn=lambda policy: {"loss": next(losses)}, eval_every=2,
        listeners=(recorder,),
    )  # fmt: skip
    saved = [c for c in recorder.calls if "best" in c]
    assert saved == ["saved:best.pt@2", "saved:best.pt@4", "saved:best.pt@12"]
    assert read(tmp_path / "best.pt")["best_eval_loss"] == 2.0
    assert found["best_eval_loss"] == 2.0
    assert read(tmp_path / "final.pt")["best_eval_loss"] == 2.0


def test_best_is_kept_through_a_resume(tmp_path: Path) -> None:
    train(tmp_path / "a", eval_fn=lambda p: {"loss": 1.0}, eval_every=2, save_every=4)
    recorder = Recorder()
    train(tmp_path / "a", eval_fn=lambda p: {"loss": 1.5}, eval_every=2, listeners=(recorder,),
          resume_from=str(tmp_path / "a" / "step_4.pt"))  # fmt: skip
    assert not [c for c in recorder.calls if "best" in c]
    assert read(tmp_path / "a" / "final.pt")["best_eval_loss"] == 1.0


def test_final_loss_is_the_mean_of_the_last_window(tmp_path: Path) -> None:
    losses: list[float] = []

    class Look:
        @hookimpl
        def simscale_on_step_end(self, out: Any) -> None:
            losses.append(float(out["loss"].detach()))

    found = train(tmp_path, policy=TinyPolicy(), listeners=(Look(),), log_every=5)
    assert found["final_loss"] == pytest.approx(sum(losses[10:]) / 2, rel=1e-6)
    assert found["global_step"] == 12
    assert math.isinf(found["best_eval_loss"])


def test_events_come_in_order_and_all_see_the_same_step(tmp_path: Path) -> None:
    recorder = Recorder()
    train(tmp_path, listeners=(recorder,), max_steps=4, log_every=2, eval_every=2, save_every=2,
          eval_loader=dummy_loader(8, shuffle=False))  # fmt: skip
    saved = [c for c in recorder.calls if c.startswith("saved")]  # in the background: at any step
    assert [c for c in recorder.calls if c not in saved] == [
        "setup", "start@0", "step@1", "step@2", "metrics@2", "eval:held_out_loss@2",
        "step@3", "step@4", "metrics@4", "eval:held_out_loss@4", "end:done",
    ]  # fmt: skip
    files = [call.partition("@")[0].removeprefix("saved:") for call in saved]
    assert files[:2] == ["best.pt", "step_2.pt"]
    assert [f for f in files[2:] if f != "best.pt"] == ["step_4.pt", "final.pt"]
    assert recorder.calls[-1] == "end:done"


def test_transforms_see_and_change_the_batch(tmp_path: Path) -> None:
    class Zero:
        @hookimpl
        def simscale_transform_batch(self, batch: Any) -> Any:
            sizes.append(len(batch["actions"]))
            return {**batch, "actions": torch.zeros_like(batch["actions"])}

    class Look:
        @hookimpl
        def simscale_transform_batch(self, batch: Any) -> Any:
            assert not batch["actions"].any()
            return batch

    sizes: list[int] = []
    train(tmp_path, listeners=(Zero(), Look()), accumulate=2, max_steps=3)
    assert sizes == [2] * 6


def test_nothing_is_read_on_the_host_between_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the gradient norm may be read, and only on the CPU, where it costs nothing."""
    calls: list[int] = []
    real = torch.Tensor.item

    class Count:
        at = 0

        @hookimpl
        def simscale_on_step_end(self, run: Any) -> None:
            Count.at = run.step

    def counted(self: torch.Tensor) -> Any:
        calls.append(Count.at)
        return real(self)

    for name in ("tolist", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda s, o=original: (calls.append(Count.at), o(s))[1]
        )
    monkeypatch.setattr(torch.Tensor, "item", counted)
    loader = DataLoader(dummy_loader().dataset, batch_size=4)
    train(tmp_path, loader=loader, policy=TinyPolicy(), listeners=(Count(),), log_every=12)
    per_step = [calls.count(step) for step in range(1, 11)]
    assert max(per_step) <= 2, per_step  # clip and the guarded step


# --- the end --------------------------------------------------------------------------------


class StopAgainAt:
    """Ends a run at a step, and again when it is resumed there."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def simscale_on_run_start(self, run: Any) -> None:
        self.simscale_on_step_end(run)

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        if run.step >= self.step:
            run.request_stop("enough")


@pytest.mark.parametrize("last", [STEPS, 9], ids=["at the end", "at a stop"])
@pytest.mark.parametrize("number", range(3))
def test_a_kill_between_the_last_commits_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, last: int
) -> None:
    """The best checkpoint is committed first, and a missing final one is written on resume."""
    save, names = CheckpointStore.save, []

    def save_and_copy(store: CheckpointStore, name: str, tree: Any, *, step: int) -> Any:
        info = save(store, name, tree, step=step)
        if step == last:
            names.append(name)
            if len(names) == number + 1:
                shutil.copytree(store.directory, tmp_path / "killed")
        return info

    fields: dict[str, Any] = {"eval_every": 0, "save_every": 3, "loggers": ("jsonl",)}
    monkeypatch.setattr(CheckpointStore, "save", save_and_copy)
    whole, stop = tmp_path / "whole", (StopAgainAt(last),)
    _exact(whole, listeners=stop, **fields)
    monkeypatch.undo()
    assert names == ["best", f"step_{last}", "final"]
    _exact(tmp_path / "killed", listeners=stop, resume_from="auto", **fields)
    assert not _same_end(whole, tmp_path / "killed")
    assert _rows(tmp_path / "killed") == _rows(whole)
    best = [read(d / "best.pt") for d in (whole, tmp_path / "killed")]
    assert [tree["step"] for tree in best] == [last, last]
    assert best[0]["best_eval_loss"] == best[1]["best_eval_loss"]


class SavedAtEvaluations:
    """Asks for a checkpoint at every evaluation."""

    @hookimpl
    def simscale_on_eval_end(self, run: Any) -> None:
        run.request_save()


@pytest.mark.parametrize("save_every", [0, 3], ids=["asked for", "due"])
def test_a_kill_between_two_commits_of_a_step_is_made_up_for(
    tmp_path: Path, save_every: int
) -> None:
    """What was to be written beside the best checkpoint of a step is written on resume."""
    fields: dict[str, Any] = {"eval_every": 3, "save_every": save_every, "keep_last": 9}
    fields["listeners"] = () if save_every else (SavedAtEvaluations(),)
    with copied_after("best", 6, tmp_path / "killed"):
        _exact(tmp_path / "whole", **fields)
    assert (tmp_path / "whole/step_6.pt").exists()
    assert not (tmp_path / "killed/step_6.pt").exists()
    _exact(tmp_path / "killed", resume_from="auto", **fields)
    names = [sorted(p.name for p in (tmp_path / d).iterdir()) for d in ("whole", "killed")]
    assert names[0] == names[1]
    assert not _same_end(tmp_path / "whole", tmp_path / "killed")


def test_a_best_that_could_not_be_written_is_the_best_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next evaluation that is better than the best on disk is the best."""
    losses = iter([3.0, 1.0, 2.0, 4.0])
    names: list[tuple[str, int]] = []
    save = CheckpointStore.save

    def save_or_fail(store: CheckpointStore, name: str, tree: Any, *, step: int) -> Any:
        if (name, step) == ("best", 6):
            raise SaveError("No space left", path=tmp_path)
        names.append((name, step))
        return save(store, name, tree, step=step)

    monkeypatch.setattr(CheckpointStore, "save", save_or_fail)
    train(tmp_path, eval_fn=lambda policy: {"loss": next(losses)}, eval_every=3)
    assert names == [("best", 3), ("best", 9), ("final", 12)]
    assert read(tmp_path / "final.pt")["best_eval_loss"] == 2.0


def test_a_finished_run_has_nothing_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path)
    before = (tmp_path / "final.pt").read_bytes()
    recorder = Recorder()
    with caplog.at_level(logging.WARNING, "simscaleai"):
        found = train(tmp_path, resume_from=str(tmp_path / "final.pt"), listeners=(recorder,))
    assert "nothing to do: the run ended at step 12 of 12" in caplog.text
    assert found["global_step"] == 12
    assert recorder.calls == ["setup", "start@12", "end:done"]
    assert (tmp_path / "final.pt").read_bytes() == before


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(5)], ids=repr
)
def test_an_exception_ends_the_run_in_order(tmp_path: Path, error: BaseException) -> None:
    recorder = Recorder()
    with pytest.raises(type(error)) as caught:
        train(tmp_path, listeners=(recorder, FailAt(3, error)), loggers=("jsonl",), log_every=1)
    assert caught.value is error
    assert recorder.calls[-2:] == [f"exception:{type(error).__name__}", "end:failed"]
    assert recorder.status == ["failed"]
    assert [r["step"] for r in _rows(tmp_path)] == [1, 2]  # the logger was closed, rows are whole
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("hook", ["setup", "start"])
def test_an_exception_before_the_first_step_ends_it_too(tmp_path: Path, hook: str) -> None:
    def fail(self: Any) -> None:
        raise ValueError(hook)

    recorder = Recorder()
    bad = type("Bad", (), {f"simscale_on_run_{hook}": hookimpl(fail)})()
    with pytest.raises(ValueError, match=hook):
        train(tmp_path, listeners=(recorder, bad))
    assert recorder.calls[-2:] == ["exception:ValueError", "end:failed"]


def test_a_listener_that_fails_at_the_end_hides_nothing(tmp_path: Path) -> None:
    class Worse:
        @hookimpl
        def simscale_on_run_exception(self) -> None:
            raise RuntimeError("worse")

        @hookimpl
        def simscale_on_run_end(self) -> None:
            raise RuntimeError("worst")

    recorder = Recorder()
    with pytest.raises(ValueError, match="first"):
        train(tmp_path, listeners=(recorder, Worse(), FailAt(2, ValueError("first"))))
    assert recorder.status == ["failed"]


def test_an_exception_in_the_data_is_the_original(tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        yield next(iter(dummy_loader()))
        raise OSError("disk gone")

    class Loader:
        def __iter__(self) -> Iterator[Any]:
            return broken()

    with pytest.raises(OSError, match="disk gone"):
        train(tmp_path, loader=Loader())


def test_a_save_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing = {"step_3", "step_9"}
    _fail_saves(monkeypatch, lambda name: name in failing)
    train(tmp_path, save_every=3)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == [
        "final.pt", "step_12.pt", "step_6.pt",
    ]  # fmt: skip
    assert caplog.text.count("No space left") == 2


def test_a_last_save_that_fails_ends_the_run_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_saves(monkeypatch, lambda name: name == "final")
    recorder = Recorder()
    with pytest.raises(SaveError, match="No space left"):
        train(tmp_path, save_every=3, listeners=(recorder,))
    assert recorder.status in (["done"], ["failed"])
    assert read(tmp_path / "step_9.pt")["step"] == 9


def test_final_failing_and_best_succeeding_is_still_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`best` is written after `final`; its success must not hide that `final` is missing."""
    _fail_saves(monkeypatch, lambda name: name == "final")
    losses = iter([1.0])
    with pytest.raises(SaveError):
        train(tmp_path, eval_fn=lambda policy: {"loss": next(losses)})


def _fail_saves(monkeypatch: pytest.MonkeyPatch, fails: Any) -> None:
    from simscaleai_core.builtin.pt import PtBackend

    real = PtBackend.save

    def save(self: Any, path: Path, tree: Any) -> None:
        if fails(path.name.lstrip(".").partition(".")[0]):
            raise OSError(28, "No space left on device")
        real(self, path, tree)

    monkeypatch.setattr(PtBackend, "save", save)


def test_a_checkpoint_directory_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("in the way")
    recorder = Recorder()
    with pytest.raises(SaveError):
        train(tmp_path / "c", listeners=(recorder,))
    assert not [c for c in recorder.calls if c.startswith("step")]


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        train(tmp_path, resume_from=str(tmp_path / "step_5.pt"))


class Terminate:
    """Sends this process SIGTERM at step 5."""

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        if run.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(SystemExit) as caught:
        train(tmp_path, listeners=(recorder, Terminate()))
    assert caught.value.code == 143
    assert recorder.calls[-2:] == ["saved:step_5.pt@5", "end:stopped"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not (tmp_path / "final.pt").exists()


SIGNALLED = """
    import os, signal, sys
    sys.path.insert(0, {kit!r})
    import torch
    torch.set_num_threads(1)
    from simscaleai_core.plugin import hookimpl
    from training_kit import train, Recorder

    class Kill:
        @hookimpl
        def simscale_on_step_end(self, run):
            if run.step == 5:
                for _ in range({times}):
                    os.kill(os.getpid(), signal.{name})

    recorder = Recorder()
    try:
        train({directory!r}, listeners=(recorder, Kill()))
    finally:
        print(recorder.calls[-2:])
"""


def _signalled(directory: Path, name: str, times: int = 1) -> subprocess.CompletedProcess[str]:
    kit = str(Path(__file__).parent)
    code = SIGNALLED.format(kit=kit, directory=str(directory), name=name, times=times)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_143(tmp_path: Path) -> None:
    done = _signalled(tmp_path / "a", "SIGTERM")
    assert done.returncode == 143, done.stderr
    assert "['saved:step_5.pt@5', 'end:stopped']" in done.stdout
    assert read(tmp_path / "a" / "step_5.pt")["step"] == 5
    train(tmp_path / "a", resume_from="auto")
    train(tmp_path / "b")
    first, second = (read(tmp_path / n / "final.pt")["model_state_dict"] for n in "ab")
    assert not differences(first, second)


@pytest.mark.slow
def test_sigint_saves_and_interrupts(tmp_path: Path) -> None:
    done = _signalled(tmp_path, "SIGINT")
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode in (130, -signal.SIGINT)
    assert read(tmp_path / "step_5.pt")["step"] == 5


@pytest.mark.slow
def test_a_second_signal_acts_at_once(tmp_path: Path) -> None:
    done = _signalled(tmp_path, "SIGTERM", times=2)
    assert done.returncode == 143
    assert not list(tmp_path.glob("step_*.pt"))


def test_sigusr1_saves_and_the_run_goes_on(tmp_path: Path) -> None:
    class Asks:
        @hookimpl
        def simscale_on_step_end(self, run: Any) -> None:
            if run.step == 5:
                os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    found = train(tmp_path, listeners=(Asks(),), save_every=0)
    assert found["global_step"] == 12
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["final.pt", "step_5.pt"]
    assert signal.getsignal(signal.SIGUSR1) is before
