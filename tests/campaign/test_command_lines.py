"""A hundred bad command lines: each is one error, and nothing is written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simscaleai_core.cli.app import run

pytestmark = pytest.mark.slow

HANG_S = 10
LONG, DEEP = "x" * 300, "[" * 5000 + "]" * 5000
NOWHERE = "/proc/nowhere"
FILES = {
    "broken.toml": b"lr = = 3\n",
    "binary.toml": bytes(range(256)),
    "latin.toml": "name = 'Gr\u00f6\u00dfe'".encode("latin-1"),
    "deep.toml": f"a = {DEEP}\n".encode(),
    "inline.toml": b"a = " + b"{b = " * 5000 + b"1" + b"}" * 5000,
    "dotted.toml": b"a" + b".a" * 50_000 + b" = 1\n",
    "header.toml": b"[" + b"a." * 5000 + b"a]\n",
    "list.toml": b"model_name = [[1]]\n",
    "table.toml": b"[model_name]\na = 1\n",
    "plugins.toml": b"plugins = [[1]]\n",
    "options.toml": b"options = [1]\n",
    "unknown.toml": "".join(f"field{i} = 1\n" for i in range(60_000)).encode(),
    "tables.toml": "".join(f"[table{i}]\n" for i in range(60_000)).encode(),
    "keywords.toml": b"[model_kwargs]\n" + b"".join(b"k%d = 1\n" % i for i in range(50_000)),
    "large.toml": b"#" * 2_000_000,
    "nul.toml": b'checkpoint_dir = "a\\u0000b"\n',
    "escape.toml": b'loggers = ["\\u001b[2J"]\n',
    "digits.toml": b"seed = 1" + b"0" * 5000 + b"\n",
    "hex.toml": b"seed = 0x" + b"f" * 500_000 + b"\n",
    "float.toml": b"lr = 1e999\n",
    "date.toml": b"lr = 2026-01-01\n",
    "twice.toml": b'extensions = ["ema", "ema"]\n',
    "short-and-full.toml": b'loggers = ["jsonl", "builtin/jsonl"]\n',
    "empty.toml": b'checkpoint_dir = ""\n',
    "notes.txt": b"no checkpoint\n",
    "empty.pt": b"",
    "text.pt": b"not a checkpoint",
    "cut.h5": b"\x89HDF\r\n\x1a\n",
    "run/metrics.jsonl": b'{"step": 1}\nbroken\n',
    "words/metrics.jsonl": b'{"step": 1, "train/loss": "low"}\n',
    "evaluated/metrics.jsonl": b'{"step": 1, "train/loss": 1.0}\n',
    "evaluated/eval.json": b"[1, 2",
    "plugin.py": b"raise RuntimeError('no \x1b[31mred')\n",
    "syntax.py": b"def\n",
}
TRAIN = [
    ["stray"],
    ["--max-steps", "1.5"],
    ["--max-steps", "ten"],
    ["--max-steps", "0"],
    ["--max-steps", "-1"],
    ["--max-steps", str(2**63)],
    ["--max-steps", "9" * 5000],
    ["--max-stepps", "3"],
    ["--max-steps"],
    ["--lr", "nan"],
    ["--lr", "inf"],
    ["--lr", "-1"],
    ["--lr", "fast"],
    ["--lr", "1e999"],
    ["--lr", "1e-3", "--lr", "1e-4"],
    ["--batch-size", "0"],
    ["--batch-size", "--lr"],
    ["--accumulate", "33"],
    ["--accumulate", str(2**62)],
    ["--num-workers", "1000000"],
    ["--seed", "12345678901234567890123"],
    ["--seed", "-1"],
    ["--seed", "0x10"],
    ["--seed", ""],
    ["--grad-clip", "-0.5"],
    ["--eval-fraction", "1"],
    ["--eval-fraction", "0.9999"],
    ["--keep-last", "0"],
    ["--device", "tpu"],
    ["--amp-dtype", "float8"],
    ["--backend", "mpi"],
    ["--use-amp=maybe"],
    ["--checkpoint-dir", ""],
    ["--checkpoint-dir", LONG],
    ["--checkpoint-dir", "a\0b"],
    ["--checkpoint-dir", "/".join(["y" * 200] * 40)],
    ["--resume", ""],
    ["--resume", LONG],
    ["--resume", "nothing.pt"],
    ["--resume", "text.pt"],
    ["--resume", "notes.txt"],
    ["--dataset", "nothing.h5"],
    ["--dataset", "data.xyz"],
    ["--dataset", f"{LONG}.h5"],
    ["--dataset", "cut.h5"],
    ["--dataset", "."],
    ["--dataset-name", "dumy"],
    ["--dataset-kwargs.num-samples", "0"],
    ["--dataset-kwargs.num-samples", "many"],
    ["--dataset-kwargs.num-samples", str(10**15)],
    ["--dataset-kwargs.seq-length", "2"],
    ["--dataset-kwargs.x", DEEP],
    ["--model", "bcc"],
    ["--model", ""],
    ["--model", "\x1b[31m"],
    ["--model", "x" * 100_000],
    ["--model-kwargs.hiden-dim", "3"],
    ["--model-kwargs.hidden-dim", "wide"],
    ["--model-kwargs.hidden-dim", "-3"],
    ["--model-kwargs.hidden-dim", str(2**62)],
    ["--model-kwargs.hidden-dim", "9" * 23],
    ["--model-kwargs", "3"],
    ["--logger", "consol"],
    ["--logger", "builtin/jsonl"],
    ["--extension", "ema,ema"],
    ["--extension", "ema,extensions/ema"],
    ["--extension", "emma"],
    ["--eval-fn", "closed_loop,closed_loop"],
    ["--precision", "fp8"],
    ["--strategy", "everywhere"],
    ["--checkpoint-backend", "zip"],
    ["--plugin", "vlaa"],
    ["--plugin", "bc", "--no-plugin", "bc"],
    *(["--config", name] for name in FILES if name.endswith(".toml")),
    ["--config", "nothing.toml"],
    ["--config", LONG],
    ["--config", "."],
    ["--config", "/dev/zero"],
]
OTHERS = [
    ["trian"],
    ["--verbose"],
    ["\x1b[2J"],
    ["plugins", "info", "nothing"],
    ["plugins", "info"],
    ["plugins", "list", "--bogus"],
    ["hooks", "show", "on_step"],
    ["hooks", "trace"],
    ["plot"],
    ["plot", "nowhere"],
    ["plot", LONG],
    ["plot", "run"],
    ["plot", "words"],
    ["plot", "evaluated"],
    ["checkpoint", "show", "nothing.pt"],
    ["checkpoint", "show", "empty.pt"],
    ["checkpoint", "show", "text.pt"],
    ["checkpoint", "show", "notes.txt"],
    ["checkpoint", "show", LONG],
    ["checkpoint", "show", "."],
    ["checkpoint", "list", "nowhere"],
    ["checkpoint", "list", LONG],
    ["data", "show", "nothing.h5"],
    ["data", "check", "cut.h5"],
    ["eval", "nothing.pt", "--env", "reach"],
    ["eval", "text.pt"],
    ["record", "--env", "nowhere", "--output", "new.h5"],
    ["record", "--env", "reach", "--output", f"{NOWHERE}/new.h5"],
    ["record", "--env", "reach", "--output", "new.h5", "--episodes", "0"],
]
PLUGIN_FAILED, NOT_WRITTEN = 3, 4
WITH_A_STATUS_OF_THEIR_OWN = [
    (["train", "--checkpoint-dir", f"{NOWHERE}/runs"], NOT_WRITTEN),
    (["models", "--plugin", "plugin.py"], PLUGIN_FAILED),
    (["models", "--plugin", "syntax.py"], PLUGIN_FAILED),
    (["models", "--plugin", "nothing.py"], PLUGIN_FAILED),
]
LINES = [
    *((["train", *rest], 2) for rest in TRAIN),
    *((rest, 2) for rest in OTHERS),
    *WITH_A_STATUS_OF_THEIR_OWN,
]


class Hung(Exception):
    """A command took longer than `HANG_S`."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the command lines name; a command in it may take `HANG_S`."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)

    def hung(*_: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, hung)
    yield tmp_path
    signal.signal(signal.SIGALRM, before)


def _content(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder; Python leaves bytecode, and `--resume` an empty folder."""
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("SIMSCALE_")}


def _faults(status: int, expected: int, out: str, err: str) -> list[str]:
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    checks = {
        f"status {status}, not {expected}": status != expected,
        "something on standard output": bool(out),
        f"{len(errors)} errors": len(errors) != 1,
        "a traceback": "Traceback" in err,
        "a control character": any(ord(c) < 32 and c != "\n" for c in err),
        "too long": len(err) > 50_000,
    }
    return [text for text, is_so in checks.items() if is_so]


def test_bad_command_lines(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    campaign: Callable[[str], Any],
    scaled: Callable[[int], int],
) -> None:
    tally, before = campaign("command lines"), _content(folder)
    assert len(LINES) >= 100
    faults, hung, traceback = {}, 0, 0
    for line, expected in LINES[:: max(1, len(LINES) // scaled(len(LINES)))]:
        environ = _ours()
        signal.alarm(HANG_S)
        try:
            status = run(line)
        except Hung:
            hung += 1
            faults[" ".join(line)[:80]] = ["hung"]
            continue
        except Exception as error:  # what a user would see as a traceback
            traceback += 1
            faults[" ".join(line)[:80]] = [f"{type(error).__name__}: {error}"[:200]]
            continue
        finally:
            signal.alarm(0)
            tally["tried"] += 1
            captured = capsys.readouterr()
        found = _faults(status, expected, captured.out, captured.err)
        found += ["the environment changed"] * (_ours() != environ)
        if found:
            faults[" ".join(line)[:80]] = [*found, captured.err[-300:]]
        tally["refused in one line"] += not found
    written = _content(folder)
    tally["tracebacks"], tally["hung"] = traceback, hung
    tally["wrote something"] = int(written != before)
    assert not faults, "\n".join(f"{line}: {found}" for line, found in faults.items())
    assert sorted(written) == sorted(before)
    assert written == before
