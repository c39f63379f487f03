"""The executor ``ray``: tasks on Ray, which runs them again when a worker or a node dies."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, ClassVar, Self

from simscaleai_plugin_gym.executors.contracts import Job, Report
from simscaleai_plugin_gym.executors.failures import WorkerError

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_ray.options import RayOptions
from simscaleai_plugin_ray.task import Cargo, Outcome, content_of, run_task, versions

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # sends nothing, asks nothing
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or Ray warns that it will change its mind
}
_IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "2"}  # 20: minutes where something else listens
_POLL_S = 1.0
_REACHABLE_S = 10.0


class RayExecutor:
    """Runs tasks on Ray; connects for the first.

    A Ray that the caller has connected to already is used and left as it is.

    Args:
        job: What the workers are.
        workers: The most tasks at a time; None for as many as there is room for.
        options: Where, and what a task takes up.
    """

    shares_disk: ClassVar[bool] = False

    def __init__(self, job: Job, workers: int | None, options: RayOptions) -> None:
        self._job = job
        self._workers = workers
        self._options = options
        self._ray: Any = None
        self._is_ours = False
        self._is_terminated = False
        self._place: str | None = None
        self._submit: Any = None
        self._running: dict[Any, int] = {}
        self._unfit_since: float | None = None

    def run(self, tasks: Sequence[Any], report: Report) -> Iterator[tuple[int, Any]]:
        """Yield the index of each task and its result, in the order they come."""
        if self._ray is None:
            self._connect()
        left = iter(enumerate(tasks))
        self._fill(left)
        while self._running:
            done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_POLL_S)
            if not done:
                self._check_nodes()
                continue
            index = self._running.pop(done[0])
            self._fill(left)
            yield index, self._received(done[0], report)

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End the tasks that are running, and Ray if it was started for them."""
        if self._ray is None:
            return
        for reference in self._running:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._is_ours:
            self._ray.shutdown()
        if self._place is not None:
            rmtree(self._place, ignore_errors=True)
        if self._is_terminated:
            os.kill(os.getpid(), signal.SIGTERM)
        if signal.getsignal(signal.SIGTERM) == self._terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _terminate(self, number: int, frame: object) -> None:
        """End as after Ctrl-C, with all of Ray, and then by the signal itself.

        If this process ended at once, two agents of Ray could outlive it by a minute: they report
        that their raylet is dead to a GCS that is dead too.

        Raises:
            KeyboardInterrupt: Always.
        """
        del number, frame
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the next one ends this at once
        self._is_terminated = True
        raise KeyboardInterrupt

    def _connect(self) -> None:
        for name, value in (_QUIET | (_IMPATIENT if self._options.address else {})).items():
            os.environ.setdefault(name, value)
        import ray

        if not ray.is_initialized():
            self._is_ours = True
            logging.getLogger("ray").setLevel(logging.ERROR)
            before = signal.getsignal(signal.SIGTERM)
            try:
                self._start(ray)
            finally:
                if threading.current_thread() is threading.main_thread():
                    ends_at_once = before is signal.SIG_DFL
                    # Ray takes it
                    signal.signal(signal.SIGTERM, self._terminate if ends_at_once else before)
        self._ray = ray
        own = self._options
        function = ray.remote(run_task).options(
            num_cpus=own.num_cpus,
            num_gpus=own.num_gpus,
            resources=dict(own.resources),
            max_retries=own.max_retries,
            name=f"simscale: {self._job.done}",
        )
        cargo = ray.put(self._cargo())
        self._submit = lambda task: function.remote([cargo], pickle.dumps(task))

    def _start(self, ray: Any) -> None:
        """Connect to the cluster, or start Ray on this machine.

        Raises:
            ConfigError: If that fails.
        """
        own = self._options
        address = own.address or "local"
        if own.address:
            _check_reachable(own.address)
        given: dict[str, Any] = {} if own.address else self._local_resources()
        quiet = {"log_to_driver": False, "configure_logging": False}
        try:
            ray.init(address=address, **given, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ConfigError(
                f"no Ray can be used at {address!r}: {reason}. Check --ray.address, and that Ray "
                "runs there in the same version."
            ) from error

    def _local_resources(self) -> dict[str, Any]:
        own, count = self._options, self._workers or os.cpu_count() or 1
        self._place = mkdtemp(prefix="simscale-ray-")
        store = {} if own.object_store_mib is None else {
            "object_store_memory": own.object_store_mib * 2**20
        }  # fmt: skip
        return {
            "num_cpus": max(1, round(count * own.num_cpus)),
            "num_gpus": round(count * own.num_gpus + 0.499) if own.num_gpus else None,
            "resources": {name: count * amount for name, amount in own.resources.items()},
            "include_dashboard": False,
            "_temp_dir": self._place,
            **store,
        }

    def _cargo(self) -> Cargo:
        passed = {k: v for k, v in os.environ.items() if k.startswith("SIMSCALE_")}
        return Cargo(
            worker=self._job.worker,
            settings=pickle.dumps(self._job.settings),
            files=[content_of(Path(file)) for file in self._job.files],
            env_vars=passed | dict(self._options.env_vars),
            directory=str(Path.cwd()),
            paths=[path or str(Path.cwd()) for path in sys.path],
            versions=versions(),
        )

    def _fill(self, left: Iterator[tuple[int, Any]]) -> None:
        """Submit tasks until there are enough: some more than run, so that no worker waits."""
        while len(self._running) < self._window():
            following = next(left, None)
            if following is None:
                return
            index, task = following
            self._running[self._submit(task)] = index

    def _window(self) -> int:
        if self._workers is not None and self._options.address is not None:
            return self._workers
        cpus = self._ray.cluster_resources().get("CPU", 0.0)
        return max(2, 2 * int(cpus / self._options.num_cpus))

    def _received(self, reference: Any, report: Report) -> Any:
        """Return the result of a task, after its reports.

        Raises:
            WorkerError: If its workers died more often than it is repeated.
        """
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "")
            raise WorkerError(
                f"a task on Ray was lost: expected a result within {self._options.max_retries} "
                f"retries, got {type(error).__name__}: {reason.strip()} {self._job.advice}"
            ) from error
        for each in outcome.reports:
            report(each)
        if outcome.error is not None:
            raise outcome.error.error from outcome.error
        return outcome.result

    def _check_nodes(self) -> None:
        """Check that some node can run a task.

        Raises:
            ConfigError: If none could for too long.
        """
        own = self._options
        needed = {"CPU": own.num_cpus, "GPU": own.num_gpus, **own.resources}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(_has(node, needed) for node in nodes):
            self._unfit_since = None
            return
        now = time.monotonic()
        self._unfit_since = self._unfit_since or now
        if now - self._unfit_since >= own.node_timeout_s:
            wanted = ", ".join(f"{amount:g} {name}" for name, amount in needed.items() if amount)
            raise ConfigError(
                f"no node of the cluster can run a task: expected one with {wanted}, got "
                f"{len(nodes)} nodes without it for {own.node_timeout_s:g} s. Add one, or ask for "
                "less with --ray.num-cpus, --ray.num-gpus and --ray.resources."
            )


def _check_reachable(address: str) -> None:
    """Check that something listens at an address; Ray itself would try for minutes.

    Raises:
        ConfigError: If not.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "://" in address:
        return  # such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHABLE_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"no Ray can be used at {address!r}: {error}. Check --ray.address, and that Ray runs "
            "there."
        ) from error


def _has(node: Mapping[str, float], needed: Mapping[str, float]) -> bool:
    return all(node.get(name, 0.0) >= amount for name, amount in needed.items())
