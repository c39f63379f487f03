"""Five hundred damaged configuration files: each is refused in one line, or read as it stands."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from simscaleai_core.cli.app import run
from simscaleai_core.cli.configuration import build_config, read_toml
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError

pytestmark = pytest.mark.slow

HANG_S = 10
MEMORY_BYTES = 4 * 2**30
BASE = """\
# Behaviour cloning on dummy data.
model_name = "bc"
dataset_name = "dummy"
batch_size = 8
num_workers = 0
lr = 1e-3
weight_decay = 0.0
warmup_steps = 1
grad_clip = 1.0
use_amp = false
amp_dtype = "bfloat16"
checkpoint_dir = "runs/one"
save_every = 0
log_every = 1
eval_every = 0
device = "cpu"
seed = 7
accumulate = 2
eval_fraction = 0.25
loggers = ["console", "jsonl"]
extensions = []
keep_last = 2
allow_drift = false
plugins = ["bc"]

[model_kwargs]
hidden_dim = 8

[dataset_kwargs]
num_samples = 40

[bc]
loss_type = "l1"

[options.dummy]
obs_dim = 3
"""
OTHER_VALUES = (
    "3", "-1", "0", "1.5", "true", '"text"', "[]", "[[1]]", "{}", "{a = {b = 1}}", "nan", "-inf",
    "1e999", "2026-01-01", "07:32:00", str(2**63), "1" + "0" * 400, "1" + "0" * 5000, "0x" + "f" * 99,
    '"\\u0000"', '"\\u001b[2J"', '"' + "x" * 300 + '"', "[" * 5000 + "]" * 5000, '["a", "a"]', '""',
    "[1, 'a', [2.5, {}]]", "'''\nseveral\nlines'''",
)  # fmt: skip
INSERTED = (
    b"\x00", b"\x1b[2J", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"=", b"]]",
    b'"', b"'''", b"\n[", b"\n[[options]]\n", b"a" * 100_000, b"a." * 5000 + b"a = 1\n", b"# \x7f\n",
    "\u202e".encode(), b"\nlrr = 1\n", b"\n[bcc]\nx = 1\n", b"\nlr.x = 1\n", b"\n'' = 1\n",
)  # fmt: skip


def flip_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change up to four bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    """Cut off the end, or a piece from the middle."""
    start, end = sorted(rng.sample(range(len(data)), 2))
    return data[:start] if rng.random() < 0.5 else data[:start] + data[end:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    """Write one or more lines a second time: a key or a table comes twice."""
    lines = data.splitlines(keepends=True)
    start = rng.randrange(len(lines))
    piece = lines[start : start + rng.randint(1, 4)]
    place = rng.randrange(len(lines))
    return b"".join([*lines[:place], *piece, *lines[place:]])


def shuffle(rng: random.Random, data: bytes) -> bytes:
    """Put the lines into another order: keys get under other tables."""
    lines = data.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def other_value(rng: random.Random, data: bytes) -> bytes:
    """Give a key a value of another type or size."""
    lines = data.splitlines()
    if places := [i for i, line in enumerate(lines) if b" = " in line]:
        place = rng.choice(places)
        key = lines[place].partition(b" = ")[0]
        lines[place] = key + b" = " + rng.choice(OTHER_VALUES).encode()
    return b"\n".join([*lines, b""])


def insert(rng: random.Random, data: bytes) -> bytes:
    """Put something in."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(INSERTED) + data[place:]


def other_key(rng: random.Random, data: bytes) -> bytes:
    """Misspell a key, or make it huge."""
    lines = data.splitlines()
    if places := [i for i, line in enumerate(lines) if b" = " in line]:
        place = rng.choice(places)
        key, _, value = lines[place].partition(b" = ")
        quoted = b'"' + key + b'\\u202e"'
        new = rng.choice([key + b"s", key[1:] or b"x", key * 2000, quoted, b"options", key.upper()])
        lines[place] = new + b" = " + value
    return b"\n".join([*lines, b""])


MUTATORS = (flip_bytes, cut, repeat, shuffle, other_value, insert, other_key)


class Hung(Exception):
    """Something took longer than `HANG_S`."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder; what takes `HANG_S` in it is interrupted."""
    monkeypatch.chdir(tmp_path)

    def hung(*_: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, hung)
    yield tmp_path
    signal.signal(signal.SIGALRM, before)


def mutant(number: int) -> bytes:
    """Return the mutant of a number: up to three changes, one after the other."""
    rng = random.Random(number)
    data = BASE.encode()
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(MUTATORS)(rng, data) or b"\n"
    return data


def differences(config: TrainConfig, table: Mapping[str, Any]) -> Iterator[str]:
    """Say what a configuration holds otherwise than the parser of the standard library read it."""
    fields = attrs.fields_dict(TrainConfig)
    options: dict[str, dict[str, Any]] = {}
    for key, value in table.items():
        if key == "options":
            for name, inner in value.items():
                options.setdefault(name, {}).update(inner)
        elif key in fields:
            found = getattr(config, key)
            wanted = tuple(value) if isinstance(value, list) else value
            if found != wanted and repr(found) != repr(wanted):
                yield f"{key} is {found!r}, not {value!r}"
        else:
            options.setdefault(key, {}).update(value)
    if repr(config.options) != repr(options):  # NaN differs from itself
        yield f"options are {config.options!r}, not {options!r}"
    defaults = TrainConfig()
    for name in fields.keys() - table.keys() - {"options"}:
        if getattr(config, name) != getattr(defaults, name):
            yield f"{name} is {getattr(config, name)!r}, but is not in the file"


def _one_line(status: int, out: str, err: str) -> list[str]:
    checks = {
        f"status {status}": status not in {2, 3},
        "something on standard output": bool(out),
        "not an error": err.count("error: ") < 1 or not err.startswith(("error: ", "warning: ")),
        "a traceback": "Traceback" in err,
        "a control character": any(ord(c) < 32 and c != "\n" for c in err),
        "too long": len(err) > 50_000,
    }
    return [text for text, is_so in checks.items() if is_so]


def _trains_or_says_why(folder: Path) -> list[str]:
    """Train one step in a process of its own, with bounded memory, as the file says."""
    output, started = folder / "output", time.monotonic()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        sys.stdout = sys.stderr = output.open("w", encoding="utf-8")
        status = 99
        try:
            status = run(["train", "--config", "mutant.toml", "--max-steps", "1", "--json"])
        finally:
            os._exit(status)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() - started > HANG_S:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise Hung
        time.sleep(0.01)
    text = output.read_text(encoding="utf-8", errors="replace")
    is_done = '"global_step": 1' in text
    return [] if "Traceback" not in text and (is_done or "error: " in text) else [text[-300:]]


def _try(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    """Return "accepted" or "refused", and what is wrong with that."""
    path = folder / "mutant.toml"
    try:
        config = build_config(read_toml(path))
    except ConfigError:
        status = run(["train", "--config", path.name])
        captured = capsys.readouterr()
        left = [p.name for p in folder.iterdir() if p != path]
        faults = _one_line(status, captured.out, captured.err)
        return "refused", faults + [f"wrote {name}" for name in left]
    faults = list(differences(config, tomllib.loads(path.read_bytes().decode())))
    return "accepted", faults + _trains_or_says_why(folder)


def test_toml_mutants(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    campaign: Callable[[str], Any],
    scaled: Callable[[int], int],
) -> None:
    run(["train", "--help"])  # imports what each child would
    import simscaleai_core.trainer  # noqa: F401

    capsys.readouterr()
    tally = campaign("toml mutants")
    tally.update({"tried": 0, "accepted": 0, "refused": 0, "tracebacks": 0, "hung": 0})
    wrong = {}
    for number in range(scaled(500)):
        (folder / "mutant.toml").write_bytes(mutant(number))
        tally["tried"] += 1
        signal.alarm(2 * HANG_S)
        try:
            outcome, faults = _try(folder, capsys)
        except Hung:
            outcome, faults = "hung", ["hung"]
        except Exception as error:  # what a user would see as a traceback
            outcome, faults = "tracebacks", [f"{type(error).__name__}: {error}"[:300]]
        finally:
            signal.alarm(0)
        tally[outcome] += 1
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if faults:
            wrong[number] = faults
    shown = [f"{number}: {faults}" for number, faults in wrong.items()]
    assert not wrong, "\n".join(shown[:20])


def test_the_undamaged_file_is_accepted_and_trains(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mutant.toml").write_text(BASE)
    assert _try(folder, capsys) == ("accepted", [])


def test_a_difference_is_noticed() -> None:
    config = build_config(tomllib.loads(BASE))
    assert not list(differences(config, tomllib.loads(BASE)))
    assert list(differences(config, tomllib.loads(BASE.replace("seed = 7", "seed = 8"))))
    assert list(differences(config, tomllib.loads(BASE.replace("seed = 7", ""))))
    assert list(differences(config, tomllib.loads(BASE.replace('"l1"', '"l2"'))))
