"""Nodes rehearsed on one machine: torchrun agents of their own, each at a loopback address."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from attrs import define, field
from torch.distributed import TCPStore

FAULTS = Path(__file__).with_name("faults.py")
TRAIN = (
    *("train", "--plugin", "bc", "--model", "bc", "--device", "cpu", "--backend", "gloo"),
    *("--dataset-name", "dummy", "--dummy.num-samples", 400, "--bc.hidden-dim", 8),
    *("--bc.n-layers", 1, "--bc.dropout", 0.1, "--log-every", 5),
    *("--save-every", 10, "--eval-every", 20, "--warmup-steps", 2, "--batch-size", 8),
    *("--loggers", "jsonl", "--checkpoint-dir", "run", "--plugin", FAULTS, "--strategy", "ddp"),
)
SHORT = (*TRAIN, "--max-steps", 40)
"""A run with dropout of a second or two, once it has started."""


@define
class Cluster:
    """Agents that meet at one store, which lives in this process: any agent may die."""

    folder: Path
    environment: Mapping[str, str]
    per_node: int = 2
    nodes: str = "2"
    max_restarts: int = 0
    job: str = "job"
    agents: dict[str, subprocess.Popen[bytes]] = field(factory=dict)
    store: TCPStore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.store = TCPStore(
            "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60)
        )

    def start(self, node: str, *arguments: object, address: str = "127.0.0.1") -> None:
        """Start the agent of a node; its output goes to ``NODE.txt``."""
        command = [
            *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={self.nodes}"),
            *(f"--nproc-per-node={self.per_node}", "--rdzv-backend=c10d"),
            *(f"--rdzv-endpoint=127.0.0.1:{self.store.port}", f"--rdzv-id={self.job}"),
            "--rdzv-conf=is_host=0,last_call_timeout=3,keep_alive_interval=1",
            *(f"--local-addr={address}", f"--max-restarts={self.max_restarts}"),
            *("--monitor-interval=0.2", "-m", "simscaleai_core", *map(str, arguments)),
        ]
        with self.output_path(node).open("ab") as output:
            self.agents[node] = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=output
            )

    def output_path(self, node: str) -> Path:
        """Return where an agent and its ranks write."""
        return self.folder / f"{node}.txt"

    def output(self, node: str) -> str:
        """Return what an agent and its ranks have written."""
        return self.output_path(node).read_text(errors="replace")

    def ranks(self, node: str) -> list[int]:
        """Return the living processes that a node's agent has started, first the lowest rank."""
        pid = self.agents[node].pid
        with suppress(OSError):
            text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            return [child for child in map(int, text.split()) if is_running(child)]
        return []

    def kill(self, node: str) -> list[int]:
        """Send SIGKILL to an agent; return the processes that it leaves behind."""
        left = self.ranks(node)
        self.agents[node].kill()
        self.agents[node].wait()
        return left

    def finish(self, *nodes: str, within_s: float = 180.0) -> dict[str, int]:
        """Wait for agents, or for all; return their exit statuses."""
        until = time.monotonic() + within_s
        statuses = {}
        for node in nodes or tuple(self.agents):
            try:
                statuses[node] = self.agents[node].wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                shown = "\n".join(self.output(n)[-4000:] for n in self.agents)
                raise AssertionError(f"the agent {node} does not end\n{shown}") from None
        return statuses

    def close(self) -> None:
        """End what still runs."""
        for node, agent in self.agents.items():
            for pid in self.ranks(node):
                end(pid)
            agent.kill()
            agent.wait()


@contextmanager
def cluster(folder: Path, environment: Mapping[str, str], **settings: object) -> Iterator[Cluster]:
    """Give a cluster, and end it whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Cluster(folder, environment, **settings)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def end(pid: int) -> None:
    """Send SIGKILL, if there is still somebody."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def seconds_until(done: Callable[[], bool], *, within_s: float, what: str) -> float:
    """Return how long it takes until something is so [s]."""
    started = time.monotonic()
    while not done():
        waited_s = time.monotonic() - started
        assert waited_s < within_s, f"{what}: not after {within_s} s"
        time.sleep(0.05)
    return time.monotonic() - started


def seconds_until_gone(pids: Sequence[int], *, within_s: float) -> float:
    """Return how long it takes until none of these processes runs [s]."""
    return seconds_until(
        lambda: not any(map(is_running, pids)), within_s=within_s, what=f"processes {pids} ended"
    )
