"""Commands whose environment fails, as processes: one line, its exit status, and nothing left."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simscaleai_plugin_gym import record_episodes

HERE = Path(__file__).parent
ENV = {
    **os.environ,
    "PYTHONPATH": str(HERE),
    "OMP_NUM_THREADS": "1",
    "SIMSCALE_PLUGIN": str(HERE / "toy_plugin.py"),
    "SIMSCALE_PLUGINS": "gym,hdf5,bc",
}

pytestmark = pytest.mark.slow


def members(session):
    """Processes of a session that are alive."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def wait_for_none(session):
    deadline = time.monotonic() + 20
    while members(session):
        assert time.monotonic() < deadline, "a process was left"
        time.sleep(0.05)


def begin(*words, cwd):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so in a job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "simscaleai_core", *map(str, words)],
        env=ENV, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def fails(*words, cwd, status=2):
    """Run a command that fails, and return its last line."""
    with begin(*words, cwd=cwd) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert said.count("error: ") == 1 or status == 3  # each evaluation that fails is reported
    wait_for_none(process.pid)
    return said.splitlines()[-1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "still.h5"
    record_episodes("faulty_toys:Toys/Faulty-v0", path, episodes=4, expert="faulty_toys:expert")
    return path


@pytest.mark.parametrize(
    ("name", "vectorization", "expected"),
    [
        ("Breaks", "sync", "failed in step 2 of seed 20001: ValueError: the spring broke"),
        ("Hangs", "sync", "did not return from step 2 of seed 20001: expected it within 2 s"),
        ("Hangs", "async", "did not return from step 2 of seed 20001: expected it within 2 s"),
        ("Dies", "async", "failed in step 2 of seed 20001: its process ended with SIGKILL"),
    ],
)
def test_training_goes_on_and_ends_with_one_error(data, tmp_path, name, vectorization, expected):
    """As with any eval function that raises: every step and checkpoint is there."""
    train = ("train", "--model", "bc", "--dataset", data, "--max-steps", 4, "--warmup-steps", 1,
             "--batch-size", 4, "--save-every", 1, "--checkpoint-dir", tmp_path / "run")  # fmt: skip
    line = fails(*train, "--eval-every", 2, "--env", f"faulty_toys:Toys/{name}-v0",
                 "--closed_loop.episodes", 3, "--closed_loop.num-envs", 2,
                 "--closed_loop.env-timeout-s", 2, "--closed_loop.vectorization", vectorization,
                 cwd=tmp_path, status=3)  # fmt: skip
    start = "error: the evaluation 'closed_loop' failed at step 2: environment 'faulty_toys:Toys/"
    assert line.startswith(start) and expected in line
    assert (tmp_path / "run" / "final.pt").exists()
    with begin(*train, "--resume", "auto", cwd=tmp_path) as again:
        _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [("raise", "failed in step 2 of seed 1: ValueError"), ("sleep", "did not return from step 2")],
)
def test_recording_ends_with_one_error(tmp_path, fault, expected, workers):
    line = fails("record", "--env", "faulty_toys:Toys/Faulty-v0", "--expert", "faulty_toys:expert",
                 "--episodes", 4, "--output", "x.h5", "--workers", workers, "--env-timeout-s", 1,
                 "--env-kwargs.fault", fault, cwd=tmp_path)  # fmt: skip
    assert line.startswith("error: environment 'faulty_toys:Toys/Faulty-v0' ") and expected in line


SCRIPT = """
from faulty_toys import FAULTY, expert
from simscaleai_plugin_gym import EvalConfig, evaluate_policy, make_vector_env

if __name__ == "__main__":
    envs = make_vector_env(FAULTY, 2, vectorization="async", fault="sleep")
    print("built", flush=True)
    try:
        evaluate_policy(envs, expert, EvalConfig(seeds=[0, 1]))
    finally:
        envs.close()
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_processes_end_with_their_parent(tmp_path, stop):
    """While one of them hangs; Ctrl-C is heard at once, and there is no traceback of a process."""
    (tmp_path / "hang.py").write_text(SCRIPT)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "hang.py"], env=ENV, cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "built\n"
    time.sleep(0.5)
    began = time.monotonic()
    if stop == signal.SIGINT:  # a terminal sends it to the whole group
        os.killpg(process.pid, stop)
    else:
        process.kill()
    _, said = process.communicate(timeout=60)
    wait_for_none(process.pid)
    assert time.monotonic() - began < 20
    assert len(re.findall("Traceback", said)) == (stop == signal.SIGINT), said  # this script's own
