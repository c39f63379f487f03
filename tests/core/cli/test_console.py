"""Training, recording and evaluating on a terminal, without one, and quietly."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminal_kit import BAR, MAIN, Terminal, bars

pytestmark = pytest.mark.slow

RECORD = (*MAIN, "record", "--env", "reach", "--overwrite", "--output")
ROW = r" *\d+/1500  ━+[━╸╺]*  +\d:\d\d left  +loss [\d.e-]+ +lr [\d.e-]+ +[\d.]+k? samples/s"
SLOW = """\
import logging, time, warnings
from simscaleai_core import hookspecs as at
from simscaleai_core.plugin import ExtensionSpec, PluginInfo

PLUGIN = PluginInfo(summary="Takes its time.")

class Slow:
    def __init__(self, config, options=None):
        pass

    @at.simscale_on_run_start
    def start(self, run):
        self.first = run.step

    @at.simscale_transform_batch
    def wait_in_the_first_step(self, run, batch):
        if run.step == self.first:
            time.sleep(1.5)
        return batch

    @at.simscale_on_step_end
    def talk(self, run):
        if run.step == 50:
            time.sleep(1)
            logging.getLogger("another.library").warning("a record of another library")
            warnings.warn("look out", stacklevel=1)
            print("printed by a plugin")
            time.sleep(1)

    @at.simscale_on_eval_end
    def wait_in_the_evaluation(self, run, name, results):
        time.sleep(1.5)

    @at.simscale_on_checkpoint_saved
    def wait_in_the_end(self, run, info):
        time.sleep(1.5)

@at.simscale_register_extensions
def offer():
    yield ExtensionSpec(name="slow", target=f"{__name__}:Slow")
"""


def train(name: str, max_steps: int = 1500, *more: str, eval_every: int = 500) -> tuple[str, ...]:
    """Return the command that trains into a folder."""
    return (
        *MAIN, "train", "--dataset", "demos.hdf5", "--max-steps", str(max_steps), "--checkpoint-dir",
        name, "--warmup-steps", "10", "--log-every", "100", "--eval-every", str(eval_every),
        "--eval-fraction", "0.2", "--lr", "0.001", *more,
    )  # fmt: skip


WITH_SLOW = ("--plugin", "slow.py", "--extension", "slow")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console")
    (folder / "slow.py").write_text(SLOW)
    subprocess.run([*RECORD, "demos.hdf5", "--episodes", "20"], cwd=folder, check=True)
    subprocess.run(train("trained", 150, "-q"), cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("columns", [80, 60])
def test_training_is_one_row_below_what_is_said(place: Path, columns: int) -> None:
    command = train(f"seen_{columns}")
    with Terminal(*command, folder=place, columns=columns) as terminal:
        assert terminal.finish() == 0
        drawn = [screen for screen in terminal.screens if bars(screen)]
        assert all(bars(screen) == [screen[-1]] and not screen[-2] for screen in drawn)
        assert terminal.is_clean and BAR not in terminal.text
        shown = [row for (*_, row) in drawn]
        if columns == 80:
            assert any(re.fullmatch(ROW, row) for row in shown)
            assert sum("samples/s" in row for row in shown) > 1
        else:
            assert any(re.fullmatch(r" *\d+/1500  .* left  +loss .*", row) for row in shown)
        said = terminal.text
        for text in ("  device: cpu", "training from step 0 to 1500", "eval step 500/1500  loss",
                     "eval step 1500/1500  loss", "training done"):  # fmt: skip
            assert f"\n{text}" in said, text
        assert "\nstep 100/1500" not in said and "trained\n" in said


def test_long_silences_say_what_goes_on_and_others_are_heard(place: Path) -> None:
    command = train("slow", 100, *WITH_SLOW, eval_every=0)
    with Terminal(*command, folder=place) as terminal:
        for words in ("first step 0:01", " left ", "evaluating 0:01", "writing a checkpoint 0:01"):
            lines = terminal.wait_for(words)
            assert bars(lines) == [lines[-1]], words
        assert terminal.finish() == 0
        said = terminal.text.split("\n")
        for text in ("a record of another library", "warning: look out", "printed by a plugin"):
            assert text in said
        assert terminal.is_clean and BAR not in terminal.text


def test_recording_is_counted(place: Path) -> None:
    command = (*RECORD, "many.hdf5", "--episodes", "400")
    with Terminal(*command, folder=place) as terminal:
        assert terminal.finish() == 0
        pattern = r"recording episodes  ━[━╸╺]* +\d+/400  [\d.]+/s  \d:\d\d left"
        rows = [row for screen in terminal.screens for row in bars(screen)]
        assert any(re.fullmatch(pattern, row) for row in rows)
        assert terminal.is_clean and BAR not in terminal.text
        assert "n_episodes" in terminal.text


def test_evaluating_is_counted(place: Path) -> None:
    command = (*MAIN, "eval", "trained/final.pt", "--episodes", "400")
    with Terminal(*command, folder=place) as terminal:
        assert terminal.finish() == 0
        pattern = r"evaluating episodes  ━[━╸╺]* +\d+/400  [\d.]+/s  \d:\d\d left"
        rows = [row for screen in terminal.screens for row in bars(screen)]
        assert any(re.fullmatch(pattern, row) for row in rows)
        assert terminal.is_clean and BAR not in terminal.text
        assert "success_rate_ci95" in terminal.text


@pytest.mark.parametrize("seen", [True, False])
def test_results_for_programs_are_one_object(place: Path, seen: bool) -> None:
    """Beside a row on the terminal, and on the terminal itself."""
    command = (*RECORD, "few.hdf5", "--episodes", "300", "--json")
    file = None if seen else place / "results.json"
    with Terminal(*command, folder=place, results=file) as terminal:
        assert terminal.finish() == 0
        assert any(bars(screen) for screen in terminal.screens)
        text = terminal.text if file is None else file.read_text()
        assert json.loads(text)["n_episodes"] == 300


def test_ctrl_c_while_training_saves_and_leaves_the_terminal_clean(place: Path) -> None:
    command = train("stopped", 1_000_000)
    with Terminal(*command, folder=place) as terminal:
        terminal.wait_for(" left ")
        terminal.type(b"\x03")
        assert terminal.finish() == 130
        assert terminal.is_clean and BAR not in terminal.text
        assert terminal.lines[-1] == "error: interrupted"
        assert any(line.startswith("training stopped") for line in terminal.lines)
    assert list((place / "stopped").glob("step_*.pt"))


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_counting_leaves_the_terminal_clean(place: Path, times: int) -> None:
    command = (*RECORD, f"never_{times}.hdf5", "--episodes", "1000000")
    with Terminal(*command, folder=place) as terminal:
        terminal.wait_for("/s +.* left")
        terminal.type(b"\x03" * times)
        assert terminal.finish() == 130
        assert terminal.is_clean and BAR not in terminal.text
        assert terminal.lines[-1] == "error: interrupted"


def test_only_rank_0_draws_and_the_others_are_heard(place: Path) -> None:
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
    command = (*launch, *train("ranks", 100, *WITH_SLOW, eval_every=0)[1:])
    with Terminal(*command, folder=place) as terminal:
        lines = terminal.wait_for("first step 0:01")
        assert bars(lines) == [lines[-1]]
        assert terminal.finish() == 0
        assert all(len(bars(screen)) <= 1 for screen in terminal.screens)
        assert terminal.text.split("\n").count("warning: look out") == 2  # once from each rank
        assert BAR not in terminal.text


@pytest.mark.parametrize(
    "command",
    [
        train("quiet", 50),
        (*RECORD, "quiet.hdf5", "--episodes", "20"),
        (*MAIN, "eval", "trained/final.pt", "--episodes", "20"),
        (*MAIN, "data", "check", "demos.hdf5"),
        (
            *MAIN,
            "data",
            "convert",
            "demos.hdf5",
            "--to",
            "robomimic",
            "--overwrite",
            "--output",
            "z",
        ),
        (*MAIN, "batch", "trained", "--step", "3"),
        (*MAIN, "reproduce", "trained/final.pt"),
    ],
    ids=lambda command: " ".join(command[3:5]),
)
def test_quiet_leaves_results_alone(place: Path, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*command, "--quiet"], cwd=place, capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and done.stdout
    shutil.rmtree(place / "quiet", ignore_errors=True)
    results = place / "quiet.json"
    results.unlink(missing_ok=True)
    with Terminal(*command, "-q", "--json", folder=place, results=results) as terminal:
        assert terminal.finish() == 0
        assert terminal.raw == b""
    json.loads(results.read_text())


def test_quiet_keeps_warnings_and_errors(place: Path) -> None:
    command = train("quiet_2", 60, *WITH_SLOW, "-q", eval_every=0)
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert done.stderr.split("\n") == [
        "a record of another library", "warning: look out", "printed by a plugin", ""
    ]  # fmt: skip
    failed = subprocess.run(
        [*MAIN, "eval", "nothing.pt", "-q"], cwd=place, capture_output=True, text=True, check=False
    )
    assert failed.returncode and failed.stderr.startswith("error: ")


def test_without_a_terminal_there_are_lines(place: Path) -> None:
    command = train("lines", 200)
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stderr and BAR not in done.stderr
    for line in (r"training from step 0 to 200", r"step 100/200  loss \S+  lr \S+  grad_norm .*",
                 r"eval step 200/200  loss \S+", r"training done"):  # fmt: skip
        assert re.search(f"(?m)^{line}$", done.stderr), line
