"""What runs on the nodes: a task of a job whose settings and files come with it."""

from __future__ import annotations

import atexit
import os
import pickle
import platform
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from attrs import frozen
from simscaleai_plugin_gym.executors.contracts import Worker, worker_of
from simscaleai_plugin_gym.executors.failures import RemoteError, failure_of

from simscaleai_core.errors import ConfigError


@frozen(kw_only=True)
class Cargo:
    """All that a node needs to make a worker, but for what is installed there."""

    worker: str
    """Where to import the worker's class."""
    settings: bytes
    """Its settings, pickled: only a node with the right paths can read them."""
    files: Sequence[Mapping[str, bytes]]
    """Content of each file that it reads and of what belongs to it, by path; ``""`` is its name."""
    env_vars: Mapping[str, str]
    """Environment variables to set."""
    directory: str
    """Directory of the command, entered if it is there."""
    paths: Sequence[str]
    """Where the command looks for modules."""
    versions: Mapping[str, str]
    """Versions of what results depend on."""


@frozen(kw_only=True)
class Outcome:
    """What came of a task."""

    result: Any
    """Its result; None if it failed."""
    reports: Sequence[Any]
    """What it reported, in order."""
    error: RemoteError | None
    """Why it failed, if it did."""


_worker: Worker | None = None  # one process of Ray works for one command


def run_task(cargo: Sequence[Any], task: bytes) -> Outcome:
    """Run a task in this process, which makes a worker for its first.

    Args:
        cargo: One reference to the `Cargo`, in a list: Ray would fetch a bare one for every task.
        task: The task, pickled.

    Returns:
        What came of it; an error of the task is no failure of Ray's, and is not retried.
    """
    global _worker  # noqa: PLW0603 - lives as long as the process
    reports: list[Any] = []
    try:
        if _worker is None:
            import ray

            _worker = _made(ray.get(cargo[0]))
            atexit.register(_worker.close)
        result = _worker.run(pickle.loads(task), reports.append)  # noqa: S301 - our own
    except Exception as error:  # noqa: BLE001 - raised again in the command
        return Outcome(result=None, reports=reports, error=failure_of(error))
    return Outcome(result=result, reports=reports, error=None)


def versions() -> dict[str, str]:
    """Return the versions of what results depend on: Python, numerics and this project's parts."""
    found = {"python": platform.python_version()}
    for name in ("numpy", "torch", "gymnasium", "mujoco-core"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    ours = (d for d in distributions() if (d.name or "").startswith("simscaleai"))
    return found | {each.name: each.version for each in ours}


def content_of(path: Path) -> dict[str, bytes]:
    """Return the content of a checkpoint, a file or a folder, with its manifest, by path."""
    inner = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    manifest = path.with_suffix(".json")
    found = [*inner, *([manifest] if manifest.is_file() else [])]
    return {"": path.name.encode()} | {
        each.relative_to(path.parent).as_posix(): each.read_bytes() for each in found
    }


def _made(cargo: Cargo) -> Worker:
    import ray

    # What a worker leaves that is killed goes with Ray's own files.
    tempfile.tempdir = ray.get_runtime_context().get_temp_dir()
    os.environ.update(cargo.env_vars)
    if os.path.isdir(cargo.directory):  # noqa: PTH112 - may be of another system
        os.chdir(cargo.directory)
    sys.path += [path for path in cargo.paths if path not in sys.path]
    _check_versions(cargo.versions)
    files = _unpacked_all(cargo.files) if cargo.files else []
    return worker_of(cargo.worker, pickle.loads(cargo.settings), files)  # noqa: S301 - our own


def _unpacked_all(contents: Sequence[Mapping[str, bytes]]) -> list[Path]:
    place = tempfile.TemporaryDirectory(prefix="simscale-files-")
    atexit.register(place.cleanup)
    return [_unpacked(each, Path(place.name) / str(i)) for i, each in enumerate(contents)]


def _unpacked(content: Mapping[str, bytes], folder: Path) -> Path:
    for name, data in content.items():
        if name:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    return folder / content[""].decode()


def _check_versions(wanted: Mapping[str, str]) -> None:
    """Check that this node has what the command's machine has.

    Raises:
        ConfigError: If not: results would depend on the node.
    """
    here = versions()
    others = [
        f"{k} {v} (here {here.get(k, 'none')})" for k, v in wanted.items() if here.get(k) != v
    ]
    if others:
        raise ConfigError(
            f"node {socket.gethostname()!r} has other versions: expected {', '.join(others)}. "
            "Install the same on all nodes."
        )
