"""Optimisers, schedules, samplers and transforms of any make, from the configuration to a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simscaleai_devkit.support.hosts import host_with
from training_kit import differences, read, train

from simscaleai_core.plugin import OptimizerSpec, SamplerSpec, ScheduleSpec, TransformSpec

FIELDS: dict[str, tuple[str, Any]] = {
    "adagrad": ("optimizer", OptimizerSpec),
    "one_cycle": ("schedule", ScheduleSpec),
    "chained": ("schedule", ScheduleSpec),
    "with_tensor": ("schedule", ScheduleSpec),
    "Backwards": ("sampler", SamplerSpec),
    "Lazy": ("sampler", SamplerSpec),
    "Noise": ("transforms", TransformSpec),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The checkpoint of a run with none of them."""
    folder = tmp_path_factory.mktemp("plain")
    train(folder)
    return read(folder / "final.pt")


@pytest.mark.parametrize("name", FIELDS)
def test_resume_is_exact_and_the_end_is_the_end(
    name: str, plain: dict[str, Any], tmp_path: Path
) -> None:
    field, spec = FIELDS[name]
    host = host_with(spec(name="it", target=f"doors_kit:{name}"))
    how = {"host": host, field: ("it",) if field == "transforms" else "it", "save_every": 7}
    train(tmp_path / "whole", **how)
    whole = read(tmp_path / "whole" / "final.pt")
    assert differences(plain["model_state_dict"], whole["model_state_dict"])
    for file in ("step_7.pt", "final.pt"):  # a run that has ended is read, too
        train(tmp_path / file, **how, resume_from=str(tmp_path / "whole" / file))
    again = read(tmp_path / "step_7.pt" / "final.pt")
    for part in ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict"):
        assert differences(whole[part], again[part]) == [], part


def test_an_exception_while_a_run_is_built_names_the_plugin(tmp_path: Path) -> None:
    host = host_with(SamplerSpec(name="it", target="doors_kit:Raising"), plugin="acme")
    with pytest.raises(KeyError) as caught:
        train(tmp_path, host=host, sampler="it")
    assert "plugin 'acme' (acme 0)" in caught.value.__notes__[0]
