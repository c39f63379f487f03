"""What somebody new does wrong: nothing is lost silently, nothing goes wrong without a word."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., tuple[int, str, str]]

SHORT = ("--max-steps", 2, "--warmup-steps", 1, "--log-every", 1)
REFUSED = 2


def lines_with(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


# --- training -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_run_in_the_default_directory_keeps_the_first(
    folder: Path, simscale_here: Command
) -> None:
    small = (*SHORT, "--bc.hidden-dim", 8)  # without --model: bc is the default
    assert simscale_here("train", *small)[0] == 0
    first = contents(folder / "checkpoints")
    assert {"final.pt", "best.pt", "metrics.jsonl"} < first.keys()
    status, _, said = simscale_here("train", *small, "--seed", 1)
    assert status == 0
    assert len(lines_with(said, "warning: checkpoints has an earlier run", "run_1")) == 1
    assert contents(folder / "checkpoints" / "run_1") == first
    second = contents(folder / "checkpoints")
    assert second.keys() == first.keys() and second["final.pt"] != first["final.pt"]


@pytest.mark.slow
def test_an_earlier_run_goes_on_where_it_is_kept(folder: Path, simscale_here: Command) -> None:
    for seed in (0, 1):
        assert simscale_here("train", *SHORT, "--save-every", 1, "--seed", seed)[0] == 0
    kept = folder / "checkpoints" / "run_1"
    assert simscale_here("train", "--resume", kept / "step_1.pt", "--keep-last", 9)[0] == 0
    rows = [json.loads(row) for row in (kept / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2]
    whole = folder / "whole"
    assert simscale_here("train", *SHORT, "--checkpoint-dir", whole)[0] == 0
    assert compared(kept / "final.pt", whole / "final.pt")
    assert not list(kept.glob("run_*"))


def compared(one: Path, other: Path) -> bool:
    import torch

    first, second = (torch.load(p, weights_only=True)["model_state_dict"] for p in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_weights_of_the_run_that_is_set_aside_are_refused(
    folder: Path, simscale_here: Command
) -> None:
    assert simscale_here("train", *SHORT)[0] == 0
    before = contents(folder / "checkpoints")
    again = ("train", *SHORT, "--init-from", "checkpoints/final.pt")
    status, _, said = simscale_here(*again)
    assert status == REFUSED and "Name one with --checkpoint-dir." in said
    assert contents(folder / "checkpoints") == before
    assert simscale_here(*again, "--checkpoint-dir", "tuned")[0] == 0


@pytest.mark.slow
def test_what_a_run_trains_on_is_said(folder: Path, simscale_here: Command, reach_h5: Path) -> None:
    shutil.copy(reach_h5, folder / "reach.h5")
    _, _, said = simscale_here("train", *SHORT, "--dataset", "reach.h5")
    (line,) = lines_with(said, "  dataset: reach.h5: 18 episodes, ")
    assert "samples, " in line and line.endswith("samples held out")
    (line,) = lines_with(said, "  observations: ")
    assert "joint_pos [7]" in line and "target_pos [3]" in line
    assert "  actions: [4]" in said.splitlines()
    assert not lines_with(said, "warning: no data was named")
    _, out, said = simscale_here("train", *SHORT, "--json")
    assert json.loads(out)["global_step"] == 2
    assert len(lines_with(said, "warning: no data was named", "--dataset")) == 1


@pytest.mark.slow
def test_evaluations_of_nothing_are_warned_of(folder: Path, simscale_here: Command) -> None:
    nothing = ("train", *SHORT, "--eval-fraction", 0)
    _, _, said = simscale_here(*nothing, "--eval-every", 1)
    assert len(lines_with(said, "warning: eval_every=1 has no effect", "--env")) == 1
    for words in ((), ("--eval-every", 1, "--env", "reach", "--closed-loop.episodes", 1)):
        _, _, said = simscale_here(*nothing, *words)
        assert not lines_with(said, "eval_every"), words


def test_an_option_of_what_is_not_used_is_explained(simscale_here: Command) -> None:
    status, _, said = simscale_here("train", *SHORT, "--vla.hidden-dim", 8)
    assert status == REFUSED
    assert said == (
        "error: --vla.hidden-dim is an option of the model 'vla/vla', which this run does not use. "
        "Add --model vla, or leave it out.\n"
    )


# --- evaluation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, here: Any, reach_h5: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    here.simscale("train", *SHORT, "--dataset", reach_h5, cwd=folder)
    return folder / "checkpoints" / "final.pt"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_results_that_cannot_be_written_are_refused_at_once(
    trained: Path, simscale_here: Command
) -> None:
    for output in ("/proc/results.json", "/proc/version"):
        status, out, said = simscale_here("eval", trained, "--output", output)
        assert (status, out) == (REFUSED, "") and len(said.splitlines()) == 1
        assert said.startswith(f"error: output {output!r}: expected a ")


@pytest.mark.slow
def test_without_graphics_a_video_is_refused_before_the_evaluation(
    trained: Path, here: Any, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("DISPLAY", raising=False)
    words = ("eval", trained, "--episodes", 3, "--max-steps", 3, "--video", "films")
    done = here.simscale(*words, cwd=folder, status=REFUSED)
    assert done.stdout == "" and not (folder / "films").exists()
    assert "evaluating episodes" not in done.stderr
    assert lines_with(done.stderr, "error: video 'films' cannot be made", "Leave out --video")


BREAKS = """
import gymnasium
from simscaleai_plugin_gym import make_env


class Breaks(gymnasium.Wrapper):
    drawn = 0

    def render(self):
        self.drawn += 1
        if self.drawn > 1:
            raise RuntimeError("the screen was unplugged")
        return self.env.render()


gymnasium.register("Breaks-v0", lambda **k: Breaks(make_env("reach", **k)))
"""


@pytest.mark.slow
def test_results_are_there_before_videos_are_made(trained: Path, here: Any, folder: Path) -> None:
    (folder / "breaking.py").write_text(BREAKS)
    words = ("eval", trained, "--env", "breaking:Breaks-v0", "--episodes", 3, "--max-steps", 3,
             "--video", "films", "--output", "results.json")  # fmt: skip
    done = here.simscale(*words, cwd=folder, status=REFUSED)
    shown = done.stdout.splitlines()
    assert shown[0] == "evaluated" and shown[1].startswith("success_rate ")
    assert json.loads((folder / "results.json").read_text())["n_episodes"] == 3
    assert "the screen was unplugged" in done.stderr
    done = here.simscale(*words, "--json", cwd=folder, status=REFUSED)
    assert json.loads(done.stdout)["n_episodes"] == 3


@pytest.mark.slow
def test_eval_knows_the_device_auto(trained: Path, simscale_here: Command) -> None:
    words = ("eval", trained, "--episodes", 1, "--max-steps", 2)
    assert simscale_here(*words, "--device", "auto")[0] == 0
    import torch

    if not torch.cuda.is_available():
        status, _, said = simscale_here(*words, "--device", "cuda")
        assert status == REFUSED and said.startswith("error: device 'cuda' cannot be used: ")
        assert len(said.splitlines()) == 1 and said.endswith("Use --device auto.\n")


# --- recording ------------------------------------------------------------------------------

TOYS = """
import gymnasium
import numpy as np


class Home(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.at.copy(), {}

    def step(self, action):
        self.at = (self.at + 0.3 * np.asarray(action)).astype(np.float32)
        return self.at.copy(), 0.0, bool(abs(self.at).max() < 0.1), False, {}


gymnasium.register("Home-v0", Home, max_episode_steps=20)
"""


@pytest.mark.slow
def test_an_expert_in_a_file_and_an_environment_in_a_module(here: Any, folder: Path) -> None:
    (folder / "toys.py").write_text(TOYS)
    (folder / "experts").mkdir()
    (folder / "experts" / "mine.py").write_text("def go(seen):\n    return -2 * seen['state']\n")
    words = ("record", "--env", "toys:Home-v0", "--expert", "./experts/mine.py:go")
    done = here.simscale_json(*words, "--episodes", 3, "--output", "home.h5", cwd=folder)
    assert done["n_episodes"] == 3


# --- the shell ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "completed"),
    [(["ev"], "eval"), (["train", "--save-"], "--save-every"), (["eval", "--fail"], "--failures")],
)
def test_a_shell_completes_commands_and_options(
    here: Any, folder: Path, words: list[str], completed: str
) -> None:
    script = folder / "simscale.bash"
    script.write_text(here.simscale("completion", "bash", cwd=folder).stdout)
    line = f"COMP_WORDS=(simscale {' '.join(words)}); COMP_CWORD={len(words)}"
    call = f'source {script}; {line}; _simscale; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [completed]
