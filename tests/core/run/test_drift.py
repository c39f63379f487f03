"""Which settings of a run may differ from the run that wrote its checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import attrs
import pytest
from training_kit import BARE_HOST, TinyPolicy, dummy_loader, read, train

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import CheckpointError
from simscaleai_core.run import drift


@pytest.fixture
def half_way(tmp_path: Path) -> Path:
    """A checkpoint of step 6 of 12."""
    train(tmp_path / "a", save_every=6)
    return tmp_path / "a" / "step_6.pt"


def test_every_field_of_the_configuration_has_one_class() -> None:
    """A new field fails here until someone decides what a resumed run may do with it."""
    classed = [*drift.REFUSED, *drift.REPORTED, *drift.HARMLESS]
    assert sorted(classed) == sorted(f.name for f in attrs.fields(TrainConfig))


@pytest.mark.parametrize(("field", "value"), [("backend", "gloo"), ("eval_every", 4)])
def test_a_reported_field_warns(
    half_way: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, value: Any
) -> None:
    with caplog.at_level(logging.WARNING, "simscaleai"):
        train(tmp_path / "b", resume_from=str(half_way), **{field: value})
    assert f"not bit-exact after resume: {field} was " in caplog.text


def test_windows_of_another_length_are_refused(half_way: Path, tmp_path: Path) -> None:
    class Longer(type(dummy_loader().dataset)):  # type: ignore[misc]
        def describe(self) -> Any:
            return attrs.evolve(super().describe(), seq_len=8, obs_len=1)

    loader = dummy_loader()
    loader.dataset.__class__ = Longer
    with pytest.raises(CheckpointError, match="the data's seq_len was 1, is 8"):
        train(tmp_path / "b", resume_from=str(half_way), loader=loader)


class WithHparams(TinyPolicy):
    """A policy of no component that says how to build it."""

    def __init__(self, **hparams: Any) -> None:
        super().__init__()
        self.hparams = hparams


def test_a_policys_own_arguments_are_compared(tmp_path: Path) -> None:
    train(tmp_path / "a", policy=WithHparams(dropout=0.1, sizes=(1, 2)), save_every=6)
    state = str(tmp_path / "a" / "step_6.pt")
    with pytest.raises(CheckpointError, match=r"policy\.dropout was 0\.1, is 0\.3"):
        train(tmp_path / "b", policy=WithHparams(dropout=0.3, sizes=(1, 2)), resume_from=state)
    train(tmp_path / "c", policy=WithHparams(dropout=0.1, sizes=[1, 2]), resume_from=state)


def test_what_was_not_saved_is_said(
    half_way: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Late:
        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise AssertionError(state)

        from simscaleai_core.plugin import hookimpl

        @hookimpl
        def simscale_on_run_setup(self, run: Any) -> None:
            run.register_state("late", self)

    with caplog.at_level(logging.WARNING, "simscaleai"):
        train(tmp_path / "b", resume_from=str(half_way), listeners=(Late(),))
    assert "nothing of 'late' was saved" in caplog.text


def test_settings_are_saved(half_way: Path) -> None:
    assert BARE_HOST.of_kind("model") == []
    assert read(half_way)["settings"] == {
        "optimizer": "builtin/adamw", "schedule": "builtin/cosine",
        "train_step": "builtin/supervised", "sampler": None, "transforms": [], "adapters": [],
        "builtin/adamw.beta1": 0.9, "builtin/adamw.beta2": 0.999, "builtin/adamw.eps": 1e-8,
    }  # fmt: skip


def test_an_option_that_is_younger_than_the_checkpoint_had_its_default(
    half_way: Path, tmp_path: Path
) -> None:
    tree = read(half_way)
    del tree["settings"]["builtin/adamw.beta1"]
    old = tmp_path / "old.pt"
    PtBackend().save(old, tree)
    train(tmp_path / "b", resume_from=str(old))
    changed: dict[str, Any] = {"options": {"adamw": {"beta1": 0.8}}}
    with pytest.raises(CheckpointError, match=r"adamw\.beta1 was 0\.9, is 0\.8"):
        train(tmp_path / "c", resume_from=str(old), **changed)
    for name in [n for n in tree["settings"] if n.startswith("builtin/adamw.")]:
        del tree["settings"][name]  # of a component that the checkpoint does not know
    PtBackend().save(old, tree)
    train(tmp_path / "d", resume_from=str(old), **changed)
