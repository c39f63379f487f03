"""On a cluster that others have started: nodes come and go."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from ray_commands import evaluate, record, wait_for_a_shard, without_times

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("ray", reason="Ray is not installed: pip install simscaleai-plugin-ray")

NODES = """
import sys
from ray.cluster_utils import Cluster

memory = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory})
node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


class Nodes:
    """A cluster of two nodes with one processor each, in processes of its own."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", NODES],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.address = self._next_line()

    def remove_one(self):
        self._say()
        assert self._next_line() == "removed"

    def shut_down(self):
        self._process.communicate(input="\n\n", timeout=60)

    def _say(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _next_line(self):
        for line in self._process.stdout:
            if ":" in line or line == "removed\n":
                return line.strip()
        raise AssertionError("the cluster did not start")


@pytest.fixture
def nodes():
    cluster = Nodes()
    yield cluster
    cluster.shut_down()


def test_a_node_that_is_removed_takes_no_episode_along(run, nodes, tmp_path):
    run(*record("here.h5", episodes=150, slow_s=0.01)).end()
    path = tmp_path / "ray.h5"
    words = ("--on", "ray", "--ray.address", nodes.address)
    recording = run(*record(path, *words, episodes=150, slow_s=0.01))
    wait_for_a_shard(path, recording)
    nodes.remove_one()
    recording.end()
    assert path.read_bytes() == (tmp_path / "here.h5").read_bytes()


def test_an_evaluation_goes_on_with_the_node_that_is_left(run, nodes, checkpoint):
    here, _ = run(*evaluate(checkpoint, episodes=150, slow_s=0.01)).end()
    words = ("--on", "ray", "--ray.address", nodes.address)
    evaluation = run(*evaluate(checkpoint, *words, episodes=150, slow_s=0.01))
    said = evaluation.process.stderr.readline()
    while not said.startswith("evaluating episodes"):  # the first task is done
        said = evaluation.process.stderr.readline()
        assert evaluation.process.poll() is None
    time.sleep(0.5)
    nodes.remove_one()
    out, _ = evaluation.end()
    assert without_times(out) == without_times(here)


def test_what_no_node_has_is_said(run, nodes):
    words = ("--on", "ray", "--ray.address", nodes.address, "--ray.num-cpus", 64)
    _, said = run(*record("ray.h5", *words, "--ray.node-timeout-s", 2)).end(status=2)
    assert "no node of the cluster can run a task: expected one with 64 CPU, got 2 nodes" in said


def test_a_cluster_that_is_not_there_is_said(run):
    words = ("--on", "ray", "--ray.address", "127.0.0.1:1")
    _, said = run(*record("ray.h5", *words)).end(status=2)
    assert "no Ray can be used at '127.0.0.1:1'" in said.splitlines()[-1]
