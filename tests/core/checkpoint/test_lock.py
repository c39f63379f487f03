"""How a run that torchrun has restarted is told from a new one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from simscaleai_core.checkpoint import lock
from simscaleai_core.checkpoint.lock import identity_of, launcher, number_of_run


def begin(directory: Path, fresh: int, *launchers: str | None) -> tuple[int, bool]:
    """Do the same as a process of its own would: the note says another one."""
    found = number_of_run(directory, fresh, launchers)
    path = directory / ".elastic.json"
    if path.exists():
        path.write_text(json.dumps({**json.loads(path.read_text()), "process": "host:1:1"}))
    return found


def test_any_agent_that_stays_recognises_its_run(tmp_path: Path) -> None:
    assert begin(tmp_path, 3, "a", "b") == (3, False)
    assert begin(tmp_path, 4, "b") == (3, True), "a node has died"
    assert begin(tmp_path, 4, "c", "b") == (3, True), "another has come, and is the first"
    assert begin(tmp_path, 4, "c") == (3, True), "and is alone"
    assert begin(tmp_path, 4, "a", "b") == (4, False), "a new launch"


def test_without_an_agent_nothing_is_noted(tmp_path: Path) -> None:
    assert begin(tmp_path, 2, None) == (2, False)
    assert not list(tmp_path.iterdir())


def test_a_script_may_train_twice(tmp_path: Path) -> None:
    assert number_of_run(tmp_path, 1, ["a"]) == (1, False)
    assert number_of_run(tmp_path, 2, ["a"]) == (2, False)


@pytest.mark.parametrize("text", ["", "[]", '{"agents": 5, "run": 1}', '{"agents": ["a"]}'])
def test_a_note_that_is_none_of_ours_is_no_restart(tmp_path: Path, text: str) -> None:
    (tmp_path / ".elastic.json").write_text(text)
    assert begin(tmp_path, 7, "a") == (7, False)


def test_a_launcher_is_torchruns_agent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launcher() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert launcher() == identity_of(os.getppid())


def test_a_process_that_cannot_be_asked_for_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, number: int) -> None:
        raise AssertionError(f"Ctrl-C for {pid} on Windows: {number}")

    assert lock.is_alive(os.getpid()) and not lock.is_alive(2**22 + 1)
    monkeypatch.setattr(lock, "os", SimpleNamespace(name="nt", kill=kill))
    assert lock.is_alive(2**22 + 1) and not lock.is_alive(0)
