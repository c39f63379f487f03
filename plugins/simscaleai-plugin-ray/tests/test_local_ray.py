"""On the Ray that a command starts: same results as without, whatever happens to its workers."""

from __future__ import annotations

import json
import signal

import pytest
from ray_commands import (
    ENV,
    RAY,
    evaluate,
    finished_shards,
    record,
    wait_for_a_shard,
    without_times,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("ray", reason="Ray is not installed: pip install simscaleai-plugin-ray")


def test_the_file_and_the_summary_are_those_of_the_local_command(run, tmp_path):
    here, _ = run(*record("here.h5", "--json", "--only-successes")).end()
    out, said = run(*record("ray.h5", "--json", "--only-successes", *RAY)).end()
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "here.h5").read_bytes()
    assert json.loads(out) == {**json.loads(here), "output": "ray.h5"}
    assert said.splitlines()[-1] == "recording episodes: 60/60"
    assert all(line.startswith("recording episodes") for line in said.splitlines()), said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here.h5", "ray.h5"]


def test_the_results_are_those_of_the_local_command(run, checkpoint):
    here, _ = run(*evaluate(checkpoint)).end()
    out, said = run(*evaluate(checkpoint, *RAY)).end()
    assert without_times(out) == without_times(here)
    assert json.loads(out)["predict_ms"]["calls"] == json.loads(here)["predict_ms"]["calls"]
    assert said.splitlines()[-1] == "evaluating episodes: 60/60"


def test_two_checkpoints_and_a_gate(run, checkpoint):
    words = (checkpoint, checkpoint, "--gate", "difference>0")
    here, _ = run(*evaluate(*words)).end(status=1)
    out, _ = run(*evaluate(*words, *RAY)).end(status=1)
    assert without_times(out) == without_times(here)
    assert json.loads(out)["gate_met"] is False


def test_failures_are_those_of_the_local_command(run, checkpoint, tmp_path):
    words = (checkpoint, "--max-steps", 6, "--failures")
    here, _ = run(*evaluate(*words, "here")).end()
    out, _ = run(*evaluate(*words, "ray", *RAY)).end()
    found = json.loads(out)
    assert 3 < found["n_recorded"] == found["n_failed"] and found["films"] == []
    assert without_times(json.dumps({**found, "failures": "here"})) == without_times(here)
    for name in ("conditions.json", "failures.h5"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_a_worker_that_is_killed_is_replaced(run, checkpoint, tmp_path):
    run(*record("here.h5", slow_s=0.01)).end()
    recording = run(*record("ray.h5", *RAY, slow_s=0.01))
    recording.kill_a_worker()
    recording.end()
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "here.h5").read_bytes()
    here, _ = run(*evaluate(checkpoint, slow_s=0.01)).end()
    evaluation = run(*evaluate(checkpoint, *RAY, slow_s=0.01))
    evaluation.kill_a_worker()
    out, _ = evaluation.end()
    assert without_times(out) == without_times(here)


def test_a_recording_that_is_interrupted_continues(run, tmp_path):
    run(*record("here.h5", slow_s=0.02)).end()
    path = tmp_path / "ray.h5"
    first = run(*record(path, *RAY, workers=1, slow_s=0.02))
    wait_for_a_shard(path, first)
    first.interrupt()
    _, said = first.end(status=130)
    assert "finished episodes are kept; repeat the command to continue" in said
    assert said.splitlines()[-1] == "error: interrupted"
    first.wait_for_none()
    assert not path.exists()
    kept = len(finished_shards(path))
    assert kept in {1, 2}
    out, _ = run(*record(path, "--json", *RAY, slow_s=0.02)).end()
    assert json.loads(out)["n_resumed"] == 25 * kept
    assert path.read_bytes() == (tmp_path / "here.h5").read_bytes()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_evaluation_that_is_stopped_leaves_nothing(run, checkpoint, stop):
    evaluation = run(*evaluate(checkpoint, *RAY, slow_s=0.2))
    while not any(line.startswith("ray::simscale") for line in evaluation.started().values()):
        assert evaluation.process.poll() is None
    if stop == signal.SIGINT:
        evaluation.interrupt()
        out, said = evaluation.end(status=130)
        assert said.splitlines()[-1] == "error: interrupted"
    else:
        evaluation.process.send_signal(stop)
        out, said = evaluation.process.communicate(timeout=60)
        assert evaluation.process.returncode == -stop
    assert out == "" and "Traceback" not in said
    evaluation.wait_for_none()


def test_an_environment_that_fails_is_the_same_line(run, checkpoint):
    words = evaluate(checkpoint, "--env-kwargs.fails-at", 10_030)
    _, here = run(*words).end(status=2)
    _, said = run(*words, *RAY).end(status=2)
    assert said.splitlines()[-1] == here.splitlines()[-1]
    assert f"environment '{ENV}' failed in step 1 of seed 10030: ValueError" in said


def test_a_task_that_kills_its_worker_every_time_is_one_error(run):
    words = ("--env-kwargs.fails-at", 3, "--env-kwargs.dies", "true", "--ray.max-retries", 1)
    _, said = run(*record("ray.h5", *RAY, *words)).end(status=2)
    line = next(line for line in said.splitlines() if line.startswith("error: "))
    assert "expected a result within 1 retries, got WorkerCrashedError" in line
    assert "What is finished is kept" in line


def test_environment_variables_reach_the_workers(run, tmp_path):
    (tmp_path / "checked.py").write_text(
        "import os\n\ndef expert(observation):\n"
        "    assert os.environ['GRIPPER_mode'] == '007'\n    return -5 * observation['state']\n"
    )
    words = ("--ray.env-vars.GRIPPER_mode", "007")
    run(*record("ray.h5", *RAY, *words, expert="./checked.py:expert")).end()
