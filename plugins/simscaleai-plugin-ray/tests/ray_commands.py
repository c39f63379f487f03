"""Commands in processes of their own, on a Ray of two processors; whatever is left is found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

HERE = Path(__file__).parent
ENV = "ray_toys:Toys/Home-v0"
RAY = ("--on", "ray", "--ray.object-store-mib", 100)
TIMES = {"wall_s", "predict_ms", "policy_share", "env_share", "physics_share"}
_MARK = "SIMSCALE_TEST_RUN"


class Command:
    """A command that runs, and every process that it has started."""

    def __init__(self, words, folder, **environ):
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so in a job in the background
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simscaleai_core", *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", _MARK: self.mark,
                 "SIMSCALE_PLUGINS": "gym,hdf5,ray,bc", **environ},
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def end(self, status=0):
        """Wait for its end and return (standard output, standard error)."""
        out, said = self.process.communicate(timeout=240)
        assert self.process.returncode == status, said
        assert "Traceback" not in said, said
        return out, said

    def interrupt(self):
        """Do what Ctrl-C in a terminal does: the signal goes to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def started(self):
        """Processes that carry its mark and are alive, by id: their command lines."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{_MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found

    def kill_a_worker(self):
        """Kill a process of Ray that is at a task."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            busy = [pid for pid, line in self.started().items() if line.startswith("ray::simscale")]
            if busy:
                os.kill(busy[0], signal.SIGKILL)
                return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        raise AssertionError("no worker began a task")

    def wait_for_none(self):
        """Wait until nothing of it is left.

        After a SIGKILL two agents of Ray (DashboardAgent, RuntimeEnvAgent) outlive their raylet for
        as long as they try to report its death to the GCS, which is dead too: 60 s, Ray's
        RAY_gcs_rpc_server_reconnect_timeout_s, after the 2 s in which they notice (five looks of
        0.4 s, ray/_private/process_watcher.py). Measured: 63 s. All else is gone much sooner.
        """
        deadline = time.monotonic() + 120
        while left := self.started():
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


def record(output, *words, episodes=60, workers=2, slow_s=0.0, expert="ray_toys:expert"):
    """Words of a command that records."""
    return ("record", "--env", ENV, "--expert", expert, "--episodes", episodes, "--workers", workers,
            "--noise", 0.1, "--env-kwargs.slow-s", slow_s, "--output", output, *words)  # fmt: skip


def evaluate(*checkpoints_and_words, episodes=60, slow_s=0.0):
    """Words of a command that evaluates."""
    return ("eval", *checkpoints_and_words, "--env", ENV, "--episodes", episodes, "--workers", 2,
            "--json", "--env-kwargs.slow-s", slow_s)  # fmt: skip


def without_times(text):
    """Results of an evaluation, but for its timings, as JSON."""

    def kept(value):
        if not isinstance(value, dict):
            return value
        return {k: kept(v) for k, v in value.items() if k not in TIMES}

    return json.dumps(kept(json.loads(text)))


def finished_shards(path):
    """Shards that are there."""
    return sorted(p.name for p in Path(f"{path}.parts").glob("shard_*.json"))


def wait_for_a_shard(path, command):
    """Wait until the first shard is there."""
    deadline = time.monotonic() + 120
    while not finished_shards(path):
        assert command.process.poll() is None, command.process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
