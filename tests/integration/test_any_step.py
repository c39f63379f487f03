"""Any step of a run again: which samples it had, and the same weights to the last bit."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # asking, under --import-mode=importlib

from asking import Ask, asking, done, forking

from simscaleai_core.cli.app import run
from simscaleai_core.cli.recorded import recorded_run
from simscaleai_core.plugin import hookimpl

ROWS = 20
FAST = (
    *("--max-steps", 12, "--save-every", 4, "--log-every", 3),
    *("--warmup-steps", 2, "--batch-size", 8),
)
MIXTURE = """
weights = [0.7, 0.3]
dataset_path = ["a.h5", "b.h5"]
"""


def write(path: Path, episodes: int, seed: int) -> None:
    """Write episodes whose every action is another one."""
    draw = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        for number in range(episodes):
            pose = draw.normal(size=(ROWS + number, 3)).cumsum(0).astype(np.float32)
            group = file.create_group(f"episode_{number}")
            group["observations/pose"] = pose
            group["observations/image"] = draw.integers(0, 256, (len(pose), 16, 16, 3), np.uint8)
            group["actions"] = np.diff(pose, axis=0, append=pose[-1:] + 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files of data, in the current directory."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.h5", 5, 1)
    write(tmp_path / "b.h5", 3, 2)
    (tmp_path / "mix.toml").write_text(MIXTURE)
    return tmp_path


def simscale(*arguments: object, status: int = 0) -> None:
    """Run a command in this process."""
    assert run([*map(str, arguments)]) == status


def asked(
    capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0
) -> dict[str, Any]:
    """Return what a command prints with ``--json``."""
    capsys.readouterr()
    simscale(*arguments, "--json", status=status)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the error of a command that is the user's mistake."""
    capsys.readouterr()
    simscale(*arguments, status=2)
    return capsys.readouterr().err


def edited(path: Path, **changes: Any) -> Path:
    """Write a copy of a checkpoint, in a folder of its own, that says something else."""
    tree = torch.load(path, weights_only=True)
    for key, table in changes.items():
        tree[key] |= table
    copy = path.parent / "edited" / path.name
    copy.parent.mkdir(exist_ok=True)
    torch.save(tree, copy)
    return copy


@pytest.mark.slow
def test_a_run_on_dummy_data_is_reproduced_and_its_samples_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    simscale("train", *FAST, "--accumulate", 3, "--num-workers", 0)
    report = asked(capsys, "reproduce", "checkpoints/step_8.pt", "--steps", 3)
    assert report["equal"] and report["differences"] == []
    assert report["from"] == "checkpoints/step_4.pt"
    batch = asked(capsys, "batch", "checkpoints", "--step", 6)
    assert batch["weights"] == "checkpoints/step_4.pt"
    assert sorted(s["micro_batch"] for s in batch["samples"]) == [0] * 3 + [1] * 2 + [2] * 3
    losses = [s["loss"] for s in batch["samples"]]
    assert losses == sorted(losses, reverse=True)
    mistakes = {
        ("batch", "nowhere", "--step", 1): "nowhere",
        ("batch", "checkpoints", "--step", 0): "--step: expected an integer of at least 1, got 0",
        ("batch", "checkpoints", "--step", 1, "--rank", 1): "0 to 0, got 1",
        ("batch", "checkpoints", "--step", 1, "--sheet", "x.png"): "expected samples with images",
        ("reproduce", "checkpoints/step_8.pt", "--steps", 0): "--steps: expected",
        ("reproduce", "checkpoints/step_8.pt", "--directory", "checkpoints"): "an empty folder",
        ("reproduce", "checkpoints/none.pt"): "no checkpoint at checkpoints/none.pt",
    }
    for arguments, text in mistakes.items():
        assert text in told(capsys, *arguments), arguments
    several = edited(Path("checkpoints/step_8.pt"), facts={"world_size": 2})
    assert "with torchrun on 2 processes" in told(capsys, "reproduce", several)
    drawn = edited(Path("checkpoints/step_8.pt"), facts={"order": "not replayable: it draws"})
    assert "is not replayable: it draws" in told(capsys, "batch", drawn, "--step", 6)
    by_hand = edited(Path("checkpoints/step_8.pt"), config={"dataset_name": None})
    assert "was given its data in Python" in told(capsys, "batch", by_hand, "--step", 6)


RUNS = {
    "bc-ema-workers": ("--model", "bc", "--dataset-path", "a.h5", "--extensions", "ema",
                       "--bc.dropout", 0.2, "--eval-every", 5, "--bc.use-image",
                       "--num-workers", 2, "--dataset-kwargs.cache-images-gib", 0),
    "act-accumulate-mixture": ("--model", "act", "--config", "mix.toml", "--accumulate", 2,
                               "--num-workers", 0, "--eval-every", 5),
    "vla": ("--model", "vla", "--vla.size", "debug", "--vla.action-horizon", 2, "--eval-every", 5,
            "--num-workers", 0,
            "--dataset-kwargs.include-image", "true", "--dataset-kwargs.include-language", "true",
            "--dataset-kwargs.image-size", "[32,32]", "--dataset-kwargs.num-samples", 64),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", RUNS)
def test_runs_are_reproduced_to_the_last_bit(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    simscale("train", *FAST, *RUNS[case])
    for arguments in (("final.pt",), ("step_8.pt",), ("final.pt", "--steps", 2), ("best.pt",)):
        report = asked(capsys, "reproduce", f"checkpoints/{arguments[0]}", *arguments[1:])
        assert report["equal"] and report["differences"] == [], (arguments, report)
        assert report["parts"]["weights"]["entries"] > 5
        assert (report["from"] is None) == (len(arguments) == 1)
    assert asked(capsys, "batch", "checkpoints", "--step", 7)["samples"][0]["loss"] > 0


@pytest.mark.slow
def test_what_differs_is_said_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simscale("train", *FAST, *RUNS["bc-ema-workers"])
    final = Path("checkpoints/final.pt")
    plugins = recorded_run(final).tree["facts"]["plugins"]
    older = edited(final, facts={"plugins": {**plugins, "bc": "simscaleai-plugin-bc 0.0.9"}})
    report = asked(capsys, "reproduce", older)
    assert report["equal"]
    assert report["differences"] == [
        f"the plugin 'bc' was simscaleai-plugin-bc 0.0.9, is {plugins['bc']}"
    ]
    other = edited(final, config={"seed": 5})
    report = asked(capsys, "reproduce", other, status=1)
    assert "model_state_dict." in report["parts"]["weights"]["first"]
    assert report["parts"]["weights"]["largest_difference"] > 0
    with h5py.File("a.h5", "r+") as file:
        file["episode_2/actions"][3, 1] += 0.5
    report = asked(capsys, "reproduce", final, status=1)
    assert [text for text in report["differences"] if "the data's fingerprint was" in text]
    assert report["parts"]["optimiser state"]["different"] > 0
    error = told(capsys, "batch", "checkpoints", "--step", 7)
    assert "the data is not what" in error and "its fingerprint was" in error


@pytest.mark.slow
def test_a_run_that_was_continued_with_another_seed_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simscale("train", *FAST, *RUNS["bc-ema-workers"], "--keep-last", 9)
    for name in ("final", "step_12", "step_8", "best"):
        for path in Path("checkpoints").glob(f"{name}.*"):
            path.unlink()
    changed = ("--seed", 9, "--batch-size", 4, "--allow-drift")
    simscale("train", "--resume", "checkpoints/step_4.pt", *changed)
    report = asked(capsys, "reproduce", "checkpoints/final.pt", status=1)
    place = "in the run itself, between step_4.pt and final.pt:"
    assert {f"{place} seed was 0, is 9", f"{place} batch_size was 8, is 4"} <= {
        *report["differences"]
    }
    assert asked(capsys, "reproduce", "checkpoints/step_8.pt", "--steps", 1)["equal"]
    sizes = [asked(capsys, "batch", "checkpoints", "--step", n)["samples"] for n in (4, 5)]
    assert [len(samples) for samples in sizes] == [8, 4]


class Recorder:
    """Keeps the actions of every sample of every step."""

    def __init__(self) -> None:
        self.actions: list[list[bytes]] = []

    @hookimpl
    def simscale_transform_batch(self, run: Any, batch: Any) -> Any:
        step, rows = run.step, [a.numpy().tobytes() for a in batch["actions"]]
        self.actions += [[] for _ in range(step + 1 - len(self.actions))]
        self.actions[step] += rows
        return batch


@pytest.mark.slow
@pytest.mark.parametrize("case", ["bc-ema-workers", "act-accumulate-mixture"])
def test_the_samples_are_those_that_the_run_trained_on(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    simscale("train", *FAST, *RUNS[case], "--dataset-kwargs.episodes", "1:")
    recorded, recorder = recorded_run(Path("checkpoints/final.pt")), Recorder()
    from simscaleai_core.cli.from_config import train_from_config

    config = attrs.evolve(recorded.config, checkpoint_dir="again", loggers=())
    train_from_config(config, recorded.host, recorded.given, [recorder])
    for step in (1, 6, 12):
        samples = asked(capsys, "batch", "checkpoints", "--step", step)["samples"]
        found = []
        for sample in samples:
            with h5py.File(sample["file"]) as file:
                actions = file[sample["episode"]]["actions"][:]
            inside = np.clip(sample["timesteps"], 0, len(actions) - 1)
            assert sample["padded"] == int((inside != sample["timesteps"]).sum())
            assert sample["episode"] != "episode_0"
            found.append(actions[inside].tobytes())
        assert sorted(found) == sorted(recorder.actions[step - 1])
    if case.endswith("mixture"):
        assert {(s["source"], s["weight"]) for s in samples} <= {("a.h5", 0.7), ("b.h5", 0.3)}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_episode_with_a_swapped_gripper_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    warnings.filterwarnings("ignore", message="near-constant")
    simscale("record", "--env", "pick_place", "--episodes", 24, "--output", "data.h5")
    with h5py.File("data.h5", "r+") as file:
        file["episode_7/actions"][:, -1] *= -1
    simscale(
        *("train", "--model", "bc", "--dataset-path", "data.h5", "--max-steps", 300),
        *("--save-every", 100, "--batch-size", 64, "--warmup-steps", 20, "--lr", 1e-3),
        *("--num-workers", 0, "--seed", 1),
    )
    for step in (110, 150, 250):
        report = asked(capsys, "batch", "checkpoints", "--step", step, "--worst")
        first, second = report["episodes"][:2]
        assert first["episode"] == "episode_7" and first["excess"] > 2 * second["excess"]
        assert report["samples"][0]["episode"] == "episode_7"
        assert report["steps"] == [step - 10, step + 9]
    # a step that has a sample of it says so
    steps = [s["step"] for s in report["samples"] if s["episode"] == "episode_7"]
    single = asked(capsys, "batch", "checkpoints", "--step", steps[0])
    assert "episode_7" in {s["episode"] for s in single["samples"]}


@pytest.mark.slow
def test_a_contact_sheet_shows_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from matplotlib.image import imread

    monkeypatch.chdir(tmp_path)
    warnings.filterwarnings("ignore", message="near-constant")
    simscale("record", "--env", "pick_place", "--episodes", 4, "--images", 32, "--output", "i.h5")
    simscale(
        "train",
        *FAST,
        "--model",
        "bc",
        "--dataset-path",
        "i.h5",
        "--bc.use-image",
        "--num-workers",
        0,
    )
    simscale("batch", "checkpoints", "--step", 6, "--sheet", "sheet.png")
    assert "sheet.png" in capsys.readouterr().out
    assert imread("sheet.png").shape[1] > 1000 and imread("sheet.png").std() > 0.1
    assert "expected a name in" in told(capsys, "batch", "checkpoints", "--step", 6, "--sheet", "x")


@pytest.fixture(scope="module")
def ask(here: Any) -> Iterator[Ask]:
    """Run the command on several ranks."""
    from conftest import clean_environment

    with forking(here.python, clean_environment()) as process:
        yield asking(process)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_are_reproduced_and_told_apart(
    folder: Path, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--model", "bc", "--dataset-path", "a.h5", "--backend", "gloo", "--num-workers", 0)
    done(ask("train", *FAST, *given, cwd=folder, ranks=2))
    for arguments in (("final.pt",), ("step_8.pt",), ("step_8.pt", "--steps", 1)):
        path = f"checkpoints/{arguments[0]}"
        output = done(ask("reproduce", path, *arguments[1:], cwd=folder, ranks=2))
        assert output.count("equal to the last bit") == 1
    both = asked(capsys, "batch", "checkpoints", "--step", 6)["samples"]
    assert sorted(s["rank"] for s in both) == [0] * 8 + [1] * 8
    assert len({s["index"] for s in both}) == 16
    one = asked(capsys, "batch", "checkpoints", "--step", 6, "--rank", 1)["samples"]
    assert one == [s for s in both if s["rank"] == 1]
    shutil.rmtree("checkpoints")
