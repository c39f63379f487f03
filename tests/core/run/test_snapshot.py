"""What a checkpoint holds, and what may not differ on resume."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_kit import (
    ACT,
    BARE_HOST,
    OBS,
    Recorder,
    TinyPolicy,
    differences,
    dummy_loader,
    read,
    train,
)

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import CheckpointError, ConfigError
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.snapshot import tensor_mismatches

SEED_KEYS = {
    "step", "model_state_dict", "optimizer_state_dict", "scheduler_state_dict",
    "scaler_state_dict", "config", "best_eval_loss",
}  # fmt: skip


@pytest.fixture
def half_way(tmp_path: Path) -> Path:
    """A checkpoint of step 6 of 12."""
    train(tmp_path / "a", save_every=6)
    return tmp_path / "a" / "step_6.pt"


def _with(path: Path, **changes: Any) -> Path:
    """Write a copy of a checkpoint with some keys changed."""
    tree = copy.deepcopy(read(path))
    tree.update(changes)
    other = path.parent / "changed"
    CheckpointStore(other, PtBackend()).open()
    CheckpointStore(other, PtBackend()).save("step_6", tree, step=6)
    return other / "step_6.pt"


def test_a_checkpoint_has_the_seed_documents_keys(half_way: Path) -> None:
    tree = torch.load(half_way, weights_only=True)
    assert tree.keys() >= SEED_KEYS
    assert tree["step"] == 6
    assert tree["config"]["max_steps"] == 12
    assert tree["config"]["resume_from"] is None
    assert tree["scaler_state_dict"] == {}
    assert tree["param_names"] == [n for n, _ in TinyPolicy().named_parameters()]
    assert TrainConfig(**tree["config"]).lr == 1e-2


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", 0.5), ("weight_decay", 0.5), ("warmup_steps", 3), ("batch_size", 5),
     ("accumulate", 2), ("seed", 1), ("grad_clip", 0.5)],
)  # fmt: skip
def test_drift_is_an_error_that_names_old_and_new(
    half_way: Path, tmp_path: Path, field: str, value: Any
) -> None:
    old = torch.load(half_way, weights_only=True)["config"][field]
    with pytest.raises(CheckpointError) as caught:
        train(tmp_path / "b", resume_from=str(half_way), **{field: value})
    assert f"{field} was {old}, is {value}" in str(caught.value)
    assert "--allow-drift" in str(caught.value)


def test_all_drift_is_named_at_once(half_way: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lr was .*; batch_size was .*; seed was "):
        train(tmp_path / "b", resume_from=str(half_way), lr=0.5, seed=3, batch_size=2)


def test_other_data_is_drift(half_way: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the data's fingerprint was .*, is "):
        train(tmp_path / "b", resume_from=str(half_way), loader=dummy_loader(24))


def test_a_refused_resume_touches_nothing(half_way: Path, tmp_path: Path) -> None:
    policy = TinyPolicy(dropout=0.2, seed=5)
    before = copy.deepcopy(policy.state_dict())
    with pytest.raises(CheckpointError):
        train(tmp_path / "b", policy=policy, resume_from=str(half_way), lr=0.5)
    assert not differences(before, policy.state_dict())


@pytest.mark.parametrize(("max_steps", "lr"), [(24, 1e-2), (12, 5e-2), (9, 1e-2)])
def test_allow_drift_builds_the_schedule_again(
    half_way: Path, tmp_path: Path, max_steps: int, lr: float
) -> None:
    """The rates from step 6 on are those of a run that had the new values from the start."""
    fresh, resumed = Recorder(), Recorder()
    train(tmp_path / "fresh", listeners=(fresh,), max_steps=max_steps, lr=lr)
    train(
        tmp_path / "b", listeners=(resumed,), resume_from=str(half_way), allow_drift=True,
        max_steps=max_steps, lr=lr,
    )  # fmt: skip
    assert resumed.rates == pytest.approx(fresh.rates[6:], rel=1e-9)
    assert len(resumed.rates) == max_steps - 6
    assert resumed.rates == sorted(resumed.rates, reverse=True)  # it never climbs again


def test_more_steps_are_no_drift_and_lay_the_schedule_out_again(
    half_way: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh, resumed = Recorder(), Recorder()
    train(tmp_path / "fresh", listeners=(fresh,), max_steps=24)
    with caplog.at_level(logging.WARNING, "simscaleai"):
        train(tmp_path / "b", listeners=(resumed,), resume_from=str(half_way), max_steps=24)
    assert resumed.rates == pytest.approx(fresh.rates[6:], rel=1e-9)
    assert "max_steps was 12, is 24" in caplog.text
    before = read(half_way)["optimizer_state_dict"]["param_groups"][0]["lr"]
    rates = f"the learning rate was {before:.3g}, goes on at {resumed.rates[0]:.3g}"
    assert f"the schedule is laid out over the new max_steps: {rates}" in caplog.text


def test_allow_drift_says_what_differs(
    half_way: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "simscaleai"):
        train(tmp_path / "b", resume_from=str(half_way), allow_drift=True, seed=9)
    assert "not bit-exact after resume: seed was 0, is 9" in caplog.text


def test_weight_decay_drift_takes_effect(half_way: Path, tmp_path: Path) -> None:
    train(tmp_path / "b", resume_from=str(half_way), allow_drift=True, weight_decay=0.7)
    groups = read(tmp_path / "b" / "final.pt")["optimizer_state_dict"]["param_groups"]
    assert {g["weight_decay"] for g in groups} == {0.7}


def test_another_number_of_threads_is_said(
    half_way: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.set_num_threads(2)
    try:
        with caplog.at_level(logging.WARNING, "simscaleai"):
            train(tmp_path / "b", resume_from=str(half_way))
    finally:
        torch.set_num_threads(1)
    assert "threads was 1, is 2" in caplog.text


def test_an_exact_resume_says_nothing(
    half_way: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "simscaleai"):
        train(tmp_path / "b", resume_from=str(half_way))
    assert not caplog.records


def test_mismatched_shapes_are_named(half_way: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        train(tmp_path / "b", policy=TinyPolicy(hidden=16), resume_from=str(half_way))
    assert f"'net.0.weight' is [8, {OBS}], the policy has [16, {OBS}]" in str(caught.value)
    assert f"'net.3.weight' is [{ACT}, 8], the policy has [{ACT}, 16]" in str(caught.value)


class Renamed(TinyPolicy):
    """The same network under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.body = self.net
        del self.net

    def forward(self, batch: Any) -> Any:
        self.__dict__["net"] = self.body
        return super().forward(batch)


def test_missing_and_extra_names_are_named(half_way: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        train(tmp_path / "b", policy=Renamed(), resume_from=str(half_way))
    assert "'body.0.bias' is missing" in str(caught.value)
    assert "'net.0.bias' is not in the policy" in str(caught.value)


class Reordered(nn.Module):
    """The parameters of `Ordered` in another order, with the same names and shapes."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(OBS, ACT))

    def forward(self, batch: Any) -> Any:
        x = batch["observations"]["state"]
        return {"loss": (self.a(x) + self.b(x) - batch["actions"]).square().mean()}


def test_reordered_parameters_are_refused(tmp_path: Path) -> None:
    train(tmp_path / "a", policy=Reordered("a", "b"), save_every=6)
    path = str(tmp_path / "a" / "step_6.pt")
    with pytest.raises(CheckpointError, match="come in another order"):
        train(tmp_path / "b", policy=Reordered("b", "a"), resume_from=path)
    train(tmp_path / "c", policy=Reordered("a", "b"), resume_from=path)


def test_frozen_parameters_are_named(tmp_path: Path, half_way: Path) -> None:
    policy = TinyPolicy()
    policy.net[0].weight.requires_grad_(False)
    with pytest.raises(CheckpointError, match=r"trainable in one, frozen.*net\.0\.weight"):
        train(tmp_path / "b", policy=policy, resume_from=str(half_way))


def test_a_newer_format_is_refused_by_number(half_way: Path, tmp_path: Path) -> None:
    path = _with(half_way, format_version=99)
    with pytest.raises(CheckpointError, match=r"checkpoint format 99.*Upgrade"):
        train(tmp_path / "b", resume_from=str(path))


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {}, "epoch": 3}, path)
    with pytest.raises(CheckpointError, match=r"not a SimScaleAI checkpoint.*epoch, state_dict"):
        train(tmp_path / "b", resume_from=str(path))


class Memory:
    """A listener with state."""

    def __init__(self, name: str = "memory") -> None:
        self.name, self.seen = name, 0
        self.loaded: dict[str, Any] | None = None

    @hookimpl
    def simscale_on_run_setup(self, run: Any) -> None:
        run.register_state(self.name, self)

    @hookimpl
    def simscale_on_step_end(self) -> None:
        self.seen += 1

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loaded, self.seen = state, state["seen"]


def test_state_of_listeners_is_saved_and_restored(tmp_path: Path) -> None:
    train(tmp_path / "a", save_every=6, listeners=(Memory(),))
    again = Memory()
    train(tmp_path / "b", listeners=(again,), resume_from=str(tmp_path / "a" / "step_6.pt"))
    assert again.loaded == {"seen": 6}
    assert again.seen == 12


def test_state_that_nobody_claims_is_kept(tmp_path: Path) -> None:
    train(tmp_path / "a", save_every=6, listeners=(Memory(),))
    train(tmp_path / "b", resume_from=str(tmp_path / "a" / "step_6.pt"))
    assert read(tmp_path / "b" / "final.pt")["states"]["memory"] == {"seen": 6}


def test_two_states_under_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="under the name 'memory'"):
        train(tmp_path, listeners=(Memory(), Memory()))
    with pytest.raises(ConfigError, match="under the name 'loop'"):
        train(tmp_path, listeners=(Memory("loop"),))


def test_state_that_cannot_be_loaded_again_is_named_when_saved(tmp_path: Path) -> None:
    class Odd(Memory):
        def state_dict(self) -> dict[str, Any]:
            return {"hist": [1, object()]}

    with pytest.raises(ConfigError, match=r"builtins\.object @ \$\.states\.memory\.hist\[1\]"):
        train(tmp_path, listeners=(Odd(),))


def test_tensor_mismatches_of_equal_dicts_is_empty() -> None:
    state = TinyPolicy().state_dict()
    assert tensor_mismatches(state, state) == []
    assert BARE_HOST.of_kind("model") == []
