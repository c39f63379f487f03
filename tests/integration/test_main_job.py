"""The main job: record, train, evaluate; the success rate is one that can be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.slow  # `make demo` is the quick one


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, here: Any) -> Path:
    """A folder with a trained policy; its data is gone again."""
    folder = tmp_path_factory.mktemp("job")
    here.simscale("record", "--env", "reach", "--episodes", 100, "--output", "reach.h5", cwd=folder)
    here.simscale(
        *("train", "--model", "bc", "--dataset", "reach.h5", "--checkpoint-dir", "run"),
        *("--max-steps", 600, "--batch-size", 256, "--lr", 2e-3, "--warmup-steps", 50),
        *("--eval-every", 300, "--env", "reach", "--closed-loop.episodes", 20),
        cwd=folder,
    )
    (folder / "reach.h5").unlink()
    return folder


def evaluate(command: Command, job: Path, *arguments: object) -> dict[str, Any]:
    status, out, _ = command(
        *("eval", job / "run" / "final.pt", "--env", "reach", "--json", *arguments)
    )
    assert status == 0
    return dict(json.loads(out))


def test_policy_reaches_unseen_targets(job: Path, simscale_here: Command) -> None:
    found = evaluate(simscale_here, job, "--episodes", 100)
    assert found["n_episodes"] == 100
    assert found["seeds"] == list(range(10_000, 10_100))
    assert found["success_rate"] >= 0.9
    low, high = found["success_rate_ci95"]
    assert low <= found["success_rate"] <= high


def test_evaluation_repeats(job: Path, simscale_here: Command) -> None:
    first, second = (evaluate(simscale_here, job, "--episodes", 40) for _ in range(2))
    times = {"wall_s", "predict_ms", "policy_share", "env_share", "physics_share"}
    assert times < first.keys()
    for found in (first, second):
        for name in times:
            del found[name]
    assert first == second


def test_number_of_environments_changes_nothing(job: Path, simscale_here: Command) -> None:
    one, many = (evaluate(simscale_here, job, "--episodes", 40, "--num-envs", n) for n in (1, 32))
    for key in ("seeds", "successes", "lengths"):
        assert one[key] == many[key]
    # a matrix product of one row and one of 32 rows round differently
    assert one["returns"] == pytest.approx(many["returns"], abs=1e-4)


def test_other_seeds_are_other_episodes(job: Path, simscale_here: Command) -> None:
    """The negative control of the two tests above."""
    first = evaluate(simscale_here, job, "--episodes", 20)
    other = evaluate(simscale_here, job, "--episodes", 20, "--seed", 500)
    assert first["returns"] != other["returns"]


def test_gate(job: Path, simscale_here: Command) -> None:
    command = ("eval", job / "run" / "final.pt", "--env", "reach", "--episodes", 20)
    assert simscale_here(*command, "--gate", "success_rate>=0.5")[0] == 0
    assert simscale_here(*command, "--gate", "mean_length<=1")[0] == 1


def test_closed_loop_is_logged_during_training(job: Path) -> None:
    rows = map(json.loads, (job / "run" / "metrics.jsonl").read_text().splitlines())
    rates = {row["step"]: row["eval/success_rate"] for row in rows if "eval/success_rate" in row}
    assert sorted(rates) == [300, 600]
    assert all(0 <= rate <= 1 for rate in rates.values())
    assert rates[600] >= 0.8


def test_checkpoint_says_what_it_is(job: Path, simscale_here: Command) -> None:
    status, out, _ = simscale_here("checkpoint", "show", job / "run" / "final.pt", "--json")
    shown = json.loads(out)
    assert status == 0
    assert shown["step"] == 600
    assert shown["policy"]["component"] == "bc/bc"
    assert shown["data"]["env"] == "reach"
    assert shown["data"]["num_episodes"] == 90


def test_run_is_drawn(job: Path, simscale_here: Command) -> None:
    status, _, err = simscale_here("plot", job / "run")
    assert (status, err) == (0, "")
    assert (job / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
