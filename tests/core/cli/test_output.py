"""Whatever other people's files hold, no control character of theirs reaches the terminal."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from simscaleai_core.cli import output, terminal
from simscaleai_core.cli.console import ConsoleLogger
from simscaleai_core.cli.messages import show_short_messages
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import SimScaleError

COMMANDING = [
    *(chr(c) for c in (*range(0x20), *range(0x7F, 0xA0))),  # C0, DEL, C1
    *map(chr, (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))),
    "\udc80", "\udfff", "\ud800",  # in this order no two of them are one character
]  # fmt: skip
HOSTILE = "a" + "".join(COMMANDING) + "b"
OURS = set("\n")


def _found(text: str, allowed: set[str] = OURS) -> set[str]:
    return {c for c in COMMANDING if c in text} - allowed


def test_every_one_of_them_is_written_out() -> None:
    shown = terminal.escaped(HOSTILE)
    assert not _found(shown, set())
    for written in (r"\x1b", r"\x7f", r"\x9b", r"\r", r"\n", r"\u202e", r"\udc80"):
        assert written in shown


def test_ordinary_text_is_left_alone() -> None:
    for text in ("reach", "Größe 3 \u00b5m", "拾う", "\U0001f916", r"C:\x1b", "a-b_c/d.e"):
        assert terminal.escaped(text) == text


@pytest.mark.parametrize(
    "show",
    [
        lambda: output.print_table([(HOSTILE, 1)], headers=(HOSTILE, "n"), title=HOSTILE),
        lambda: output.print_facts({HOSTILE: HOSTILE}, title=HOSTILE),
        lambda: output.print_text(f"ours\n{HOSTILE}"),
        lambda: output.print_note(HOSTILE),
        lambda: output.print_json({HOSTILE: [HOSTILE, {"x": HOSTILE}]}),
        lambda: output._PlainProgress(HOSTILE, 1)(1),
        lambda: output.Screen().write(HOSTILE),
        lambda: ConsoleLogger(TrainConfig()).start({HOSTILE: HOSTILE}, 0),
        lambda: ConsoleLogger(TrainConfig()).log({f"eval/{HOSTILE}": 1.0}, 1),
        lambda: ConsoleLogger(TrainConfig()).close(HOSTILE),
    ],
    ids=["table", "facts", "text", "note", "json", "progress", "screen", "start", "log", "close"],
)
def test_no_way_of_showing_lets_them_through(
    show: object, capsys: pytest.CaptureFixture[str]
) -> None:
    show()  # type: ignore[operator]
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "a" in shown and "b" in shown
    assert not _found(shown)


def test_a_line_break_in_a_cell_makes_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table([("a\nerror: no", 1), ("b", 2)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_records_and_warnings_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    show_short_messages()
    logging.getLogger("simscaleai").warning("of %s", HOSTILE)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(HOSTILE, stacklevel=1)
    err = capsys.readouterr().err
    assert err.count("warning: ") == 2
    assert not _found(err)


def test_json_is_read_back_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    payload = {HOSTILE: [HOSTILE, 1, 0.5, True, None, {"deep": (1, 2)}]}
    output.print_json(payload)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {HOSTILE: [HOSTILE, 1, 0.5, True, None, {"deep": [1, 2]}]}


def test_json_has_null_for_what_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": float("inf"), "b": [float("nan")], 3: Path("x")})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == {"a": None, "b": [None], "3": "x"}


def test_a_message_is_cut_in_the_middle(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_note(f"expected text, got {'x' * 10**6} @ $.lr. Lower it.")
    line = capsys.readouterr().err
    assert len(line) < 2200
    assert line.startswith("expected text, got xxx") and line.endswith("xxx @ $.lr. Lower it.\n")
    output.print_note("\n".join("x" * 1000))
    assert "... and 960 more lines" in capsys.readouterr().err


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SimScaleError, match="standard output: No space left on device"):
            output.print_text("text")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_an_encoding_without_the_character_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        output.print_facts({"task": "Größe"})
        monkeypatch.undo()
    with os.fdopen(read, "rb") as reader:
        assert reader.read() == b"task  Gr\\xf6\\xdfe\n"


@pytest.mark.slow
def test_on_a_terminal_only_our_own_colours_are_left(tmp_path: Path) -> None:
    """The tables that rich draws, on a real terminal."""
    code = (
        "from simscaleai_core.cli import output\n"
        "hostile = 'a' + chr(27) + '[31mRED' + chr(0x9b) + '2J' + chr(0x202e) + '[bold]b'\n"
        "output.print_table([(hostile, hostile)], headers=(hostile, 'h'), title=hostile)\n"
        "with output.progress(hostile, 3) as advance:\n    advance()\n"
    )
    master, slave = pty.openpty()
    environ = {**os.environ, "COLUMNS": "400", "TERM": "xterm"}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=slave, stderr=slave, stdin=slave, env=environ
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    assert child.wait(timeout=60) == 0
    os.close(master)
    text = shown.decode("utf-8")
    assert text.count(r"a\x1b[31mRED\x9b2J\u202e[bold]b") >= 4
    assert "\x1b[31mRED" not in text
    assert not _found(text, {"\n", "\r", "\x1b"})
