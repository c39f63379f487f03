"""The seed document is a promise: its code runs, and what it says of the code is so.

``seed/training.md`` is kept word for word. Its Python blocks are executed in order, each in the
names that the blocks before it left behind, in a folder with ``data/reach.h5``. Only `SHORTENED`
is changed: numbers of steps and episodes, and the paths that contain them.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
import pytest
import torch
from simscaleai.training.data.dataset import DummyTrajectoryDataset, TrajectoryDataset
from simscaleai.training.trainer import TrainConfig, Trainer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from simscaleai_core.builtin.schedules import cosine
from simscaleai_core.builtin.single import find_device

DOCUMENT = Path(__file__).parent / "seed" / "training.md"

SHORTENED = {
    "max_steps=5000,": "max_steps=40,",
    "max_steps=50_000,": "max_steps=40,",
    "warmup_steps=1000,": "warmup_steps=10,",
    "save_every=10_000,": "save_every=20,",
    "eval_every=5_000,": "eval_every=20,",
    "EvalConfig(n_episodes=10)": "EvalConfig(n_episodes=3)",
    # the default of 100_000 steps, which the document leaves unsaid here
    'resume_from="checkpoints/step_5000.pt"': (
        'resume_from="checkpoints/step_20.pt", max_steps=40, save_every=20'
    ),
    "--resume checkpoints/step_5000.pt": (
        "--resume checkpoints/step_20.pt --max-steps 40 --save-every 20"
    ),
    "--nproc_per_node=4": "--nproc_per_node=2",
    "--model vla --max-steps 100000": "--model bc --max-steps 40",
}
"""Text of the document and what is executed in its place."""

NUM_BLOCKS = {"python": 12, "bash": 2, "": 3}


def blocks(language: str) -> list[str]:
    """The document's code blocks in a language, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    return [code for name, code in found if name == language]


def block(language: str, containing: str) -> str:
    """The one block that contains some text, as it stands."""
    (found,) = (code for code in blocks(language) if containing in code)
    return found


def shortened(code: str) -> str:
    for text, replacement in SHORTENED.items():
        code = code.replace(text, replacement)
    return code


def test_document_is_complete() -> None:
    assert {name: len(blocks(name)) for name in NUM_BLOCKS} == NUM_BLOCKS


def test_every_substitution_is_needed() -> None:
    assert [text for text in SHORTENED if text not in DOCUMENT.read_text()] == []


# --- code ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, reach_h5: Path) -> Path:
    path = tmp_path_factory.mktemp("seed")
    (path / "data").mkdir()
    (path / "data" / "reach.h5").symlink_to(reach_h5)
    return path


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """The names that the blocks share."""
    return {}


@pytest.fixture
def execute(
    folder: Path, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Execute the Python block that contains a text."""
    monkeypatch.chdir(folder)

    def run(containing: str) -> dict[str, Any]:
        code = compile(shortened(block("python", containing)), str(DOCUMENT), "exec")
        exec(code, names)
        return names

    return run


def test_configuration_shows_the_defaults(execute: Callable[[str], dict[str, Any]]) -> None:
    """Every field that the document lists is there, in that order, with that default."""
    found = execute("# Model registry name")
    listed = re.findall(r"^    (\w+)=", block("python", "# Model registry name"), re.MULTILINE)
    fields = [field.name for field in attrs.fields(TrainConfig)]
    assert fields[: len(listed)] == listed
    shown = {name: getattr(found["config"], name) for name in listed}
    assert shown.pop("dataset_path") == "data/reach.h5"  # an example; "empty = use dummy"
    assert TrainConfig().dataset_path == ""
    assert shown == {name: getattr(TrainConfig(), name) for name in shown}


def test_basic_usage(
    execute: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = execute("# Create dataset and loader")
    assert found["metrics"]["global_step"] == 40
    assert math.isfinite(found["metrics"]["final_loss"])
    printed = capsys.readouterr().out
    assert re.fullmatch(r"Final loss: \d+\.\d{4}\nSteps completed: 40\n", printed)


def test_amp_configuration(execute: Callable[[str], dict[str, Any]]) -> None:
    config = execute("# Preferred on Ampere+")["config"]
    assert (config.use_amp, config.amp_dtype) == (True, "bfloat16")


def test_ddp_configuration(execute: Callable[[str], dict[str, Any]]) -> None:
    config = execute("# NCCL for CUDA, gloo for CPU")["config"]
    assert (config.distributed, config.backend, config.batch_size) == (True, "nccl", 256)


def test_checkpoint_schema(execute: Callable[[str], dict[str, Any]], folder: Path) -> None:
    """The keys are the document's. `config` is kept as plain values, so that a checkpoint loads
    with ``weights_only=True`` and executes nothing; they give the `TrainConfig` back."""
    schema = execute("# Current training step")["checkpoint"]
    tree = torch.load(folder / "checkpoints" / "final.pt", weights_only=True)
    assert not schema.keys() - tree.keys()
    config = tree["config"]
    assert isinstance(TrainConfig(**config), schema.pop("config"))
    assert {name: type(tree[name]) for name in schema if name != "model_state_dict"} == {
        name: kind for name, kind in schema.items() if name != "model_state_dict"
    }
    assert isinstance(tree["model_state_dict"], schema["model_state_dict"])
    assert tree["step"] == 40


def test_resuming_and_saving(
    execute: Callable[[str], dict[str, Any]], names: dict[str, Any], folder: Path
) -> None:
    """``step_N`` every `save_every` steps and ``final``; a run goes on from where it was."""
    config = TrainConfig(max_steps=40, save_every=20)
    Trainer(names["model"], names["loader"], config).train()
    kept = folder / "checkpoints"
    assert {path.name for path in kept.glob("*.pt")} == {"step_20.pt", "step_40.pt", "final.pt"}
    whole = (kept / "final.pt").read_bytes()
    (kept / "final.pt").unlink()
    execute('resume_from="checkpoints/step_5000.pt"')
    assert names["trainer"].train()["global_step"] == 40
    assert (kept / "final.pt").read_bytes() == whole


def test_trajectory_dataset(execute: Callable[[str], dict[str, Any]]) -> None:
    found = execute("# Timesteps per sample (1 = single-step)")
    sample = found["sample"]
    assert sample["observations"]["joint_pos"].shape == (7,)
    assert sample["observations"]["ee_pos"].shape == (3,)
    assert sample["actions"].shape == (4,)
    assert "language" not in sample
    told = TrajectoryDataset("data/reach.h5", include_language=True)[0]
    assert isinstance(told["language"], str)


@pytest.mark.filterwarnings("ignore:.*episodes are shorter than seq_len")
def test_sequences(execute: Callable[[str], dict[str, Any]]) -> None:
    sample = execute("seq_len=10")["sample"]
    assert sample["observations"]["joint_pos"].shape == (10, 7)
    assert sample["actions"].shape == (10, 4)


def test_dummy_dataset(execute: Callable[[str], dict[str, Any]]) -> None:
    dataset = execute("image_size=(128, 128)")["dataset"]
    assert len(dataset) == 1000
    assert dataset[0]["observations"]["state"].shape == (20,)
    assert dataset[0]["actions"].shape == (4,)
    shown = re.findall(r"^    (\w+)=", block("python", "image_size=(128, 128)"), re.MULTILINE)
    ours = list(inspect.signature(DummyTrajectoryDataset).parameters)
    assert ours[: len(shown)] == shown  # what the document lacks comes after


def test_evaluation(
    execute: Callable[[str], dict[str, Any]], names: dict[str, Any], folder: Path
) -> None:
    """In eval mode, without gradients, every `eval_every` steps; then train mode again."""
    seen = []

    def my_custom_eval(model: torch.nn.Module) -> dict[str, float]:
        seen.append((model is names["model"], model.training, torch.is_grad_enabled()))
        return {"height": 3.0}

    names["train_loader"], names["my_custom_eval"] = names["loader"], my_custom_eval
    names["config"] = TrainConfig(max_steps=6, eval_every=2, log_every=2)
    execute("# Optional custom eval function")
    names["trainer"].train()
    assert seen == [(True, False, False)] * 3
    assert names["model"].training
    rows = logged(folder / "checkpoints")
    assert [row["step"] for row in rows if "eval/loss" in row] == [2, 4, 6]
    assert [row["eval/height"] for row in rows if "eval/height" in row] == [3.0] * 3
    assert [row["step"] for row in rows if {"train/loss", "train/lr"} <= row.keys()] == [2, 4, 6]


def test_wandb_configuration(execute: Callable[[str], dict[str, Any]]) -> None:
    config = execute('wandb_run_name="bc-reach-v1"')["config"]
    assert (config.use_wandb, config.wandb_run_name) == (True, "bc-reach-v1")


@pytest.mark.slow
def test_complete_example(tmp_path: Path, reach_h5: Path, here: Any) -> None:
    """The last block as a program of its own, four workers and all, with offline W&B."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reach.h5").symlink_to(reach_h5)
    code = shortened(block("python", "# 3. Custom eval function"))
    (tmp_path / "example.py").write_text(code + "\nprint(metrics)\n")
    done = here.run("example.py", cwd=tmp_path)
    assert "'global_step': 40" in done.stdout
    kept = tmp_path / "checkpoints"
    assert {path.name for path in kept.glob("*.pt")} >= {"step_20.pt", "final.pt"}
    rates = [row["eval/success_rate"] for row in logged(kept) if "eval/success_rate" in row]
    assert len(rates) == 2 and all(0 <= rate <= 1 for rate in rates)
    assert [path.name for path in tmp_path.rglob("*.wandb")], "no offline run was written"


@pytest.mark.slow
def test_resume_command(tmp_path: Path, reach_h5: Path, here: Any) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reach.h5").symlink_to(reach_h5)
    command = shell_words("simscale train")
    assert command[0] == "simscale"
    reference = command.index("--resume")
    before = [*command[1:reference], *command[reference + 2 :]]
    here.simscale(*before, cwd=tmp_path)
    final = tmp_path / "checkpoints" / "final.pt"
    whole = final.read_bytes()
    final.unlink()
    program = Path(sys.executable).parent / "simscale"
    done = here.run(program, *command[1:], cwd=tmp_path)
    assert "resumed: from checkpoints/step_20.pt at step 20" in done.stderr
    assert final.read_bytes() == whole


@pytest.mark.slow
def test_torchrun_command(tmp_path: Path, here: Any) -> None:
    """Without data, as in the document: the dummy dataset; two processes, one checkpoint."""
    command = shell_words("torchrun")
    assert command[0] == "torchrun"
    done = here.run("-m", "torch.distributed.run", *command[1:], cwd=tmp_path)
    assert "world_size: 2" in done.stderr
    tree = torch.load(tmp_path / "checkpoints" / "final.pt", weights_only=True)
    assert tree["step"] == 40
    assert len(tree["rng"]) == 2


def shell_words(containing: str) -> list[str]:
    return shortened(block("bash", containing)).replace("\\\n", " ").split()


def logged(directory: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


# --- statements ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_device_auto_detection(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert find_device("auto").type == expected


def test_learning_rate_schedule() -> None:
    """Linear from 0 to `lr` over the warm-up, then half a cosine to 0."""
    lr, warmup, steps = 1e-4, 50, 200
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = cosine(optimizer, TrainConfig(warmup_steps=warmup, max_steps=steps))
    assert isinstance(schedule, SequentialLR)
    assert [type(part) for part in schedule._schedulers] == [LinearLR, CosineAnnealingLR]
    rates = []
    for _ in range(steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    rise = [lr * step / warmup for step in range(warmup)]
    fall = [
        lr * (1 + math.cos(math.pi * step / (steps - warmup))) / 2
        for step in range(steps - warmup + 1)
    ]
    assert rates == pytest.approx([*rise, *fall], abs=1e-6 * lr)


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    """Two episodes of 6 and 4 timesteps, with images of 5 x 7 pixels, and float64 as documented."""
    path = tmp_path / "images.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for number, length in enumerate((6, 4)):
            group = file.create_group(f"episode_{number}")
            group["observations/joint_pos"] = rng.normal(size=(length, 7))
            group["observations/image"] = rng.integers(0, 256, (length, 5, 7, 3), dtype=np.uint8)
            group["actions"] = rng.normal(size=(length, 4))
            group["rewards"] = np.zeros(length)
            group.attrs["language"] = f"task {number}"
    return path


@pytest.mark.parametrize("seq_len", [1, 3])
def test_image_processing(image_file: Path, seq_len: int) -> None:
    """uint8 in [0, 255] to float32 in [0, 1], channels first, time squeezed for single steps."""
    image = TrajectoryDataset(image_file, seq_len=seq_len)[0]["observations"]["image"]
    with h5py.File(image_file) as file:
        stored = file["episode_0/observations/image"][:seq_len]
    expected = torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 255
    assert image.dtype == torch.float32
    assert image.shape == ((3, 5, 7) if seq_len == 1 else (seq_len, 3, 5, 7))
    assert torch.equal(image, expected[0] if seq_len == 1 else expected)


@pytest.mark.parametrize(("seq_len", "windows"), [(1, 10), (3, 6), (4, 4)])
def test_sliding_windows(image_file: Path, seq_len: int, windows: int) -> None:
    """Each sample is a contiguous window of one episode: T - seq_len + 1 of them."""
    dataset = TrajectoryDataset(image_file, seq_len=seq_len, include_language=True)
    assert len(dataset) == windows
    with h5py.File(image_file) as file:
        last = torch.from_numpy(file["episode_1/actions"][-seq_len:]).float()
    assert torch.equal(dataset[windows - 1]["actions"], last[0] if seq_len == 1 else last)
    assert dataset[0]["language"] == "task 0"
    assert dataset[windows - 1]["language"] == "task 1"


def test_observation_keys_and_transform(image_file: Path) -> None:
    dataset = TrajectoryDataset(
        data_path=image_file, obs_keys=["joint_pos"], transform=lambda s: {**s, "seen": True}
    )
    assert dataset[0]["seen"]
    assert list(dataset[0]["observations"]) == ["joint_pos"]


def test_dummy_data_are_drawn_once_and_five_instructions_take_turns() -> None:
    dataset = DummyTrajectoryDataset(
        num_samples=12, include_image=True, include_language=True, image_size=(8, 8)
    )
    assert torch.equal(dataset[3]["observations"]["state"], dataset[3]["observations"]["state"])
    assert dataset[0]["observations"]["image"].shape == (3, 8, 8)
    told = [dataset[index]["language"] for index in range(12)]
    assert len(set(told)) == 5
    assert told == [told[index % 5] for index in range(12)]
