"""Evaluation in several processes: the results of one, whatever the policy."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
POINT = "recording_toys:Toys/Point-v0"
TIMES = {"wall_s", "predict_ms", "policy_share", "env_share", "physics_share"}
pytestmark = pytest.mark.slow
pytest.importorskip("simscaleai_plugin_bc", reason="needs policies: simscaleai-plugin-bc")


def begin(*words, cwd):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so in a job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    environ = {**os.environ, "PYTHONPATH": str(HERE), "SIMSCALE_PLUGINS": "gym,hdf5,bc"}
    environ.pop("SIMSCALE_PLUGIN", None)
    return subprocess.Popen(
        [sys.executable, "-m", "simscaleai_core", *map(str, words)], env=environ, cwd=cwd,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def run(*words, cwd, status=0):
    process = begin(*words, cwd=cwd)
    out, said = process.communicate(timeout=240)
    assert process.returncode == status, said
    assert "Traceback" not in said, said
    return out, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two policies: one of single actions, one that samples chunks."""
    place = tmp_path_factory.mktemp("policies")
    run("record", "--env", POINT, "--expert", "recording_toys:go", "--episodes", 60, "--output",
        "p.h5", "--noise", 0.1, cwd=place)  # fmt: skip
    for model in ("bc", "flow"):
        run("train", "--model", model, "--dataset", "p.h5", "--max-steps", 40, "--warmup-steps", 5,
            "--checkpoint-dir", model, cwd=place)  # fmt: skip
    return place


def results(*words, cwd):
    found = json.loads(run("eval", *words, "--env", POINT, "--json", cwd=cwd)[0])
    times = {name: found.pop(name) for name in TIMES}
    assert times["wall_s"] > 0 and times["predict_ms"]["calls"] > 0
    return json.dumps(found)


@pytest.mark.parametrize("model", ["bc", "flow"])
@pytest.mark.parametrize("words", [(), ("--num-envs", 3), ("--vectorization", "async")])
def test_the_results_do_not_depend_on_the_workers(folder, model, words):
    words = (f"{model}/final.pt", "--episodes", 45, *words)
    one = results(*words, cwd=folder)
    assert results(*words, "--workers", 2, cwd=folder) == one


def test_an_environment_that_fails_is_the_same_line(folder):
    words = (
        "eval",
        "bc/final.pt",
        "--env",
        POINT,
        "--episodes",
        60,
        "--env-kwargs.reports",
        "false",
    )
    _, one = run(*words, cwd=folder, status=2)
    _, two = run(*words, "--workers", 2, cwd=folder, status=2)
    assert two.splitlines()[-1] == one.splitlines()[-1]


def members(session):
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def test_a_sweep_does_not_depend_on_the_workers(folder):
    words = ("eval", "bc/final.pt", "flow/final.pt", "--env", POINT, "--episodes", 45, "--json",
             "--vary", "reachable=0.5,1", "--vary", "delay=0,1")  # fmt: skip
    found = []
    for workers in (1, 2, 3):
        found.append(json.loads(run(*words, "--workers", workers, cwd=folder)[0]))
        assert found[-1].pop("wall_s") > 0 and found[-1] == found[0]
    assert found[0]["policies"] == ["bc/final.pt", "flow/final.pt"] and len(found[0]["cells"]) == 8
    assert len({cell["mean_return"] for cell in found[0]["cells"]}) == 4  # all that can differ
    alone = ("bc/final.pt", "--episodes", 45, "--env-kwargs.reachable", "0.5")
    assert json.loads(results(*alone, cwd=folder))["successes"] == found[0]["cells"][0]["successes"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sweep_that_is_interrupted_says_so_in_one_line(folder, workers):
    process = begin("eval", "bc/final.pt", "--env", POINT, "--episodes", 100, "--workers", workers,
                    "--vary", "delay=0,1", "--env-kwargs.slow-s", 0.01, cwd=folder)  # fmt: skip
    while "evaluating" not in process.stderr.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert said.splitlines()[-1].startswith("error: interrupted") and "Traceback" not in said


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "worker killed"])
def test_nothing_is_left_of_it(folder, stop):
    process = begin("eval", "bc/final.pt", "--env", POINT, "--episodes", 200, "--workers", 2,
                    "--env-kwargs.slow-s", 0.02, cwd=folder)  # fmt: skip
    while "evaluating" not in process.stderr.readline():  # the first task is done
        assert process.poll() is None
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)
        expected, status = "error: interrupted", 130
    else:
        workers = [pid for pid in members(process.pid) if b"spawn_main" in
                   Path(f"/proc/{pid}/cmdline").read_bytes()]  # fmt: skip
        os.kill(workers[0], stop)
        expected, status = "error: a process that evaluated died: expected it to finish", 2
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert said.splitlines()[-1].startswith(expected) and "Traceback" not in said
    deadline = time.monotonic() + 20
    while members(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_when_it_stops_does_not_depend_on_the_workers(folder):
    words = ("bc/final.pt", "--episodes", 300, "--until", "success_rate>=0.5")
    alone = results(*words, cwd=folder)
    assert json.loads(alone)["decision"] != "undecided"
    assert results(*words, "--workers", 3, cwd=folder) == alone
