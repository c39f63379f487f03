"""A process that dies while it saves loses nothing that was durable.

SIGKILL cannot prove that data was flushed to the disk: for that the order of system calls is tested
with the checkpoint store itself.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.background import Saver
from simscaleai_core.checkpoint.manifest import list_checkpoints
from simscaleai_core.checkpoint.store import CheckpointStore, read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 50
WITHIN_S = 0.08  # several saves of the tree below
KEEP_LAST = 2


def _tree(step: int) -> dict[str, Any]:
    """Half a megabyte in which every number is the step, so that a mixture would show."""
    weights = {f"layer_{i}": torch.full((32, 1024), float(step)) for i in range(4)}
    return {"step": step, "model_state_dict": weights, "tail": [step] * 1000}


def _steps_in(tree: Mapping[str, Any]) -> set[float]:
    values = {tree["step"], *tree["tail"]}
    for tensor in tree["model_state_dict"].values():
        values |= set(tensor.unique().tolist())
    return values


def _store(directory: Path) -> CheckpointStore:
    return CheckpointStore(directory, PtBackend(), keep_last=KEEP_LAST)


def _save_for_ever(directory: Path, acknowledgements: int) -> None:
    """Continue from the newest checkpoint; tell of each save as soon as it is durable."""
    store = _store(directory)
    store.open()
    found = store.load("auto")
    step = 0 if found is None else found[1]["step"]
    saver = Saver(store)
    os.write(acknowledgements, b"ready\n")
    tree = _tree(step)
    while True:
        step += 1
        tree["step"], tree["tail"] = step, [step] * 1000
        for tensor in tree["model_state_dict"].values():
            tensor.fill_(step)  # while the save before is being written
        best = ["best"] if step % 3 == 0 else []
        saver.submit([f"step_{step}", *best], tree, step=step)
        for info in saver.finished():
            os.write(acknowledgements, f"{info.step}\n".encode())
        assert saver.failure is None


def _killed_while_saving(directory: Path, delay_s: float, errors: Path) -> list[int]:
    """Let a child save, kill it, and return the steps that it has acknowledged."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons mistrust threads
        pid = os.fork()
    if pid == 0:
        try:
            _save_for_ever(directory, writer)
        except BaseException:
            errors.write_text(traceback.format_exc())
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as acknowledged:
        try:
            assert acknowledged.readline() == "ready\n", errors.read_text()
            time.sleep(delay_s)
        finally:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, errors.read_text()
        lines = acknowledged.read().splitlines(keepends=True)
    return [int(line) for line in lines if line.endswith("\n")]


def test_fifty_kills_lose_nothing_that_was_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, errors = tmp_path / "checkpoints", tmp_path / "errors.txt"
    rng, newest_acknowledged, cut_off, saves = random.Random(20), 0, 0, 0
    for _ in range(KILLS):
        steps = _killed_while_saving(directory, rng.uniform(0.0, WITHIN_S), errors)
        saves += len(steps)
        newest_acknowledged = max([newest_acknowledged, *steps])
        cut_off += bool(_leftovers(directory))

        _assert_every_checkpoint_is_whole(directory)
        found = _store(directory).load("auto")
        assert (found is None) == (not list_checkpoints(directory))
        if found is not None:
            path, tree = found
            assert tree["step"] >= newest_acknowledged
            assert re.fullmatch(r"step_\d+\.pt|best\.pt", path.name)
            assert _steps_in(tree) == {tree["step"]}

        store = _store(directory)
        store.open()
        store.close()
        assert _leftovers(directory) == []
        assert newest_acknowledged == 0 or list_checkpoints(directory)
    assert "damaged" not in caplog.text
    # otherwise the kills came too early or too late to prove anything
    print(f"{cut_off} of {KILLS} kills fell into a save; {saves} saves were acknowledged")
    assert saves > KILLS // 5
    assert cut_off > KILLS // 4, f"{cut_off} of {KILLS} kills fell into a save"


def _assert_every_checkpoint_is_whole(directory: Path) -> None:
    """Under its own name there is never half a file, whether its manifest was written or not."""
    infos = list_checkpoints(directory)
    for path in directory.glob("[!.]*.pt"):
        tree = read_checkpoint(path, PtBackend())
        assert _steps_in(tree) == {tree["step"]}, path
        if path.name.startswith("step_"):
            assert path.name == f"step_{tree['step']}.pt"
    for info in infos:
        assert read_checkpoint(directory / info.file, PtBackend())["step"] == info.step


def _leftovers(directory: Path) -> list[str]:
    """What a save makes and takes away again."""
    return [p.name for p in directory.iterdir() if ".tmp-" in p.name or p.name.endswith(".next")]
