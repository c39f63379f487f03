"""The live row on a real terminal: one row, below all that is printed, whoever prints it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from terminal_kit import BAR, Terminal, bars

from simscaleai_core.cli import bars as texts
from simscaleai_core.cli.bars import Bar, Count, Part

PARTS = [
    Part("  120/100000"),
    Bar(120, 100_000),
    Part("1:02:03 left"),
    Part("loss 1.23e-05", 1),
    Part("lr 7.8e-05", 3),
    Part(" 26.7k samples/s", 2),
]
COLOUR = re.compile(rb"\x1b\[[\d;]*[349]\d[\d;]*m")
NOISY = """\
import logging, os, sys, time, warnings
logging.basicConfig(format="record: %(message)s")  # holds the stream from before
from simscaleai_core.cli.messages import show_short_messages
from simscaleai_core.cli.output import print_note, print_text, progress, waiting

show_short_messages()
def pause():
    time.sleep(0.7)
print("before")
with waiting("getting ready"):
    pause()
    with progress("counting", 100) as advance:
        advance(10)
        pause()
        print("printed", "in", "parts")
        print("to stderr", file=sys.stderr)
        logging.getLogger("another").warning("of another logger")
        logging.getLogger("simscaleai").info("of ours")
        warnings.warn("something", stacklevel=1)
        print_note("noted")
        print_text("a result")
        pause()
        sys.stderr.write("open ")
        pause()
        sys.stderr.write("end\\n")
        child = os.fork()
        if not child:
            print("of a child")
            os._exit(0)
        os.waitpid(child, 0)
        advance(10)
        pause()
        os.write(2, b"raw\\n")
        pause()
        os.write(2, b"raw again\\n")
        pause()
print("after")
"""
SAID = [
    "before", "printed in parts", "to stderr", "record: of another logger", "info: of ours",
    "warning: something", "noted", "a result", "open end", "of a child", "raw", "raw again", "after",
]  # fmt: skip


def test_a_row_fits_whatever_the_width() -> None:
    for columns in range(1, 101):
        shown = texts.row(PARTS, columns)
        assert len(shown) <= columns
        assert "\x1b" not in shown  # this is no terminal


def test_what_matters_most_stays_longest() -> None:
    kept = {
        columns: [p.text in texts.row(PARTS, columns) for p in PARTS if isinstance(p, Part)]
        for columns in (79, 69, 59, 30)
    }
    assert kept == {
        79: [True] * 5,
        69: [True, True, True, False, True],
        59: [True, True, True, False, False],
        30: [True, True, False, False, False],
    }
    assert BAR not in texts.row(PARTS, 27)
    assert len(texts.row([Part("counting"), Bar(1, 2), Part("1/2")], 200)) < 60


def test_control_characters_stay_out_of_a_row() -> None:
    assert texts.row([Part("a\x1b[2Jb\n")], 40) == r"a\x1b[2Jb\n"


def test_counting_says_how_fast_and_how_long() -> None:
    count = Count("counting", 10)
    assert "0/10" in count(60) and "left" not in count(60)
    count.advance(4)
    assert " 4/10" in count(60) and "/s" in count(60) and "0:00 left" in count(60)
    count.advance(6)
    assert "10/10" in count(60) and "finishing 0:00" in count(60)
    assert "0/0" in Count("nothing", 0)(60)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.py"
    path.write_text(NOISY)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 60])
def test_all_that_is_printed_stands_above(script: Path, columns: int) -> None:
    with Terminal(sys.executable, script, folder=script.parent, columns=columns) as terminal:
        assert terminal.finish() == 0
        assert terminal.text.split("\n") == SAID
        assert terminal.is_clean
        assert any("getting ready  0:00" in screen[-1] for screen in terminal.screens if screen)
        drawn = [screen for screen in terminal.screens if bars(screen)]
        assert len(drawn) > len(SAID)
        for *above, row in drawn:
            assert BAR in row and "/100" in row and "left" in row
            assert "\n".join(SAID).startswith("\n".join(above).rstrip())


@pytest.mark.slow
def test_a_terminal_made_narrower_and_wider_is_drawn_anew(script: Path) -> None:
    with Terminal(sys.executable, script, folder=script.parent, columns=80) as terminal:
        terminal.wait_for(BAR)
        terminal.resize(50)
        terminal.wait_for("noted")
        terminal.wait_for("(?m)^counting .* left$")
        terminal.resize(120)
        terminal.wait_for("open end")
        assert terminal.finish() == 0
        assert terminal.text.split("\n") == SAID
        assert max(len(line) for screen in terminal.screens for line in bars(screen)) > 60


@pytest.mark.slow
def test_no_colour_and_no_control_where_none_is_wanted(script: Path) -> None:
    start = (sys.executable, script)
    with Terminal(*start, folder=script.parent) as terminal:
        assert terminal.finish() == 0
        assert COLOUR.search(terminal.raw)
    with Terminal(*start, folder=script.parent, environ={"NO_COLOR": "1"}) as terminal:
        assert terminal.finish() == 0
        assert bars([line for screen in terminal.screens for line in screen])
        assert not COLOUR.search(terminal.raw)
    with Terminal(*start, folder=script.parent, environ={"TERM": "dumb"}) as terminal:
        assert terminal.finish() == 0
        assert b"\x1b" not in terminal.raw
        assert "counting: 10/100" in terminal.lines and "counting: 20/100" in terminal.lines
