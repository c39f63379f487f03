"""A clean client for each test, configurations of short runs, and a reader of ``.wandb`` files."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wandb
from attrs import field, frozen
from simscaleai_devkit.support.runs import logged_rows
from wandb.proto.wandb_internal_pb2 import Record

from simscaleai_core import TrainConfig

_BLOCK = 32768
_WHOLE, _FIRST, _LAST = 1, 2, 4


@pytest.fixture(autouse=True)
def clean_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting, key or run of the machine or of another test."""
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def nowhere() -> Iterator[str]:
    """Return an address that refuses connections: bound, so that nobody else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@frozen(kw_only=True)
class Recorded:
    """What one ``.wandb`` file holds."""

    path: Path
    run_id: str
    started: float
    rows: dict[int, dict[str, float]]
    """Step to metrics."""
    config: dict[str, Any] = field(repr=False)
    exit_code: int | None


@pytest.fixture
def recorded() -> Callable[[Path], list[Recorded]]:
    """Return the reader of all runs under a folder, oldest first."""

    def read(folder: Path) -> list[Recorded]:
        wandb.teardown()  # the client's helper writes on for a moment after a run is finished
        runs = [_recorded(p) for p in folder.rglob("*.wandb")]
        return sorted((r for r in runs if r.run_id), key=lambda r: r.started)

    return read


def _recorded(path: Path) -> Recorded:
    rows: dict[int, dict[str, float]] = {}
    config: dict[str, Any] = {}
    run_id, started, exit_code = "", 0.0, None
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run_id = record.run.run_id
            started = record.run.start_time.ToNanoseconds() / 1e9
        elif kind == "config":
            for item in record.config.update:
                config[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "exit":
            exit_code = record.exit.exit_code
        elif kind == "history":
            items = {
                i.key or ".".join(i.nested_key): json.loads(i.value_json)
                for i in record.history.item
            }
            step = int(items["_step"])
            assert step not in rows, f"step {step} twice in {path}"
            rows[step] = {k: v for k, v in items.items() if not k.startswith("_")}
    return Recorded(
        path=path, run_id=run_id, started=started, rows=rows, config=config, exit_code=exit_code
    )


def _records(data: bytes) -> Iterator[Record]:
    """Decode the LevelDB log format: blocks of 32 KiB, records cut at their borders."""
    assert data[:4] in {b":W&B", b""}
    place, piece = 7, b""
    while place + 7 <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        piece += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in {_WHOLE, _LAST}:
            if place <= len(data):
                record = Record()
                record.ParseFromString(piece)
                yield record
            piece = b""


@pytest.fixture
def config(small_config: Callable[..., TrainConfig]) -> Callable[..., TrainConfig]:
    """Configurations of a run of 20 steps that is logged to W&B."""
    often = {"max_steps": 20, "log_every": 5, "eval_every": 10, "save_every": 10}
    return partial(small_config, **often, loggers=("jsonl", "wandb"), wandb_project="tests")


@pytest.fixture
def logged() -> Callable[[Path], dict[int, dict[str, float]]]:
    """Return the reader of ``metrics.jsonl``, rows of one step as one row."""

    def read(folder: Path) -> dict[int, dict[str, float]]:
        rows: dict[int, dict[str, float]] = {}
        for row in logged_rows(folder):
            rows.setdefault(int(row.pop("step")), {}).update(row)
        return rows

    return read
