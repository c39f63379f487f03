"""A plugin that is none of ours: built, installed from its wheel, and used by one flag."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TRAIN = (
    *("train", "--plugin", "acme", "--dataset", "log.acme", "--max-steps", 30, "--save-every", 10),
    *("--eval-every", 10, "--log-every", 10, "--warmup-steps", 5, "--num-workers", 2),
    *("--acme-linear.squash", "tanh", "--acme-effort.states", 8),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, reach_h5: Path, installed: Any) -> Path:
    """A folder with the recorded episodes as ACME's log, and a run trained on them."""
    made = tmp_path_factory.mktemp("acme")
    write_log(reach_h5, made / "log.acme")
    (made / "trained.json").write_text(installed.simscale(*TRAIN, "--json", cwd=made).stdout)
    return made


def write_log(source: Path, target: Path) -> None:
    with h5py.File(source) as file:
        episodes = [
            {
                "observations": {k: v[()].tolist() for k, v in group["observations"].items()},
                "actions": group["actions"][()].tolist(),
            }
            for group in file.values()
        ]
    target.write_text(json.dumps({"env": "reach", "episodes": episodes}))


def tree_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return dict(json.loads(archive.read("tree.json"))["dict"])


def test_plugin_is_listed(installed: Any, tmp_path: Path) -> None:
    (record,) = (
        record
        for record in installed.simscale_json("plugins", "list", cwd=tmp_path)["plugins"]
        if record["name"] == "acme"
    )
    assert (record["distribution"], record["version"]) == ("simscaleai-plugin-acme", "2.3.0")
    shown = installed.simscale_json("plugins", "info", "acme", cwd=tmp_path)
    assert {component["id"]: component["kind"] for component in shown["components"]} == {
        "acme/acme-linear": "model",
        "acme/acme-log": "dataset",
        "acme/acme-csv": "logger",
        "acme/acme-zip": "checkpoint_backend",
        "acme/acme-effort": "eval_function",
    }
    assert installed.simscale_json("plugins", "doctor", cwd=tmp_path)["faults"] == []


def test_its_options_are_in_the_help(installed: Any, tmp_path: Path) -> None:
    shown = installed.simscale("train", "--plugin", "acme", "--help", cwd=tmp_path).stdout
    assert "--acme-linear.gain" in shown
    assert "Random states at which the action is measured" in shown
    plain = installed.simscale("train", "--help", cwd=tmp_path).stdout
    assert "acme" not in plain


def test_all_five_were_used(folder: Path) -> None:
    kept = folder / "checkpoints"
    assert not list(kept.glob("*.pt"))
    saved = {"step_10.acme", "step_20.acme", "final.acme"}
    assert {path.name for path in kept.glob("*.acme")} >= saved
    assert json.loads((kept / "final.json").read_text())["backend"].endswith("acme-zip")
    tree = tree_of(kept / "final.acme")
    assert dict(tree["policy"]["dict"])["component"] == "acme/acme-linear"
    assert dict(dict(tree["policy"]["dict"])["hparams"]["dict"])["squash"] == "tanh"
    assert dict(tree["data"]["dict"])["num_episodes"] == 18
    assert (
        dict(dict(tree["facts"]["dict"])["plugins"]["dict"])["acme"]
        == "simscaleai-plugin-acme 2.3.0"
    )
    with (kept / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = {(int(row["step"]), row["name"]): float(row["value"]) for row in rows}
    for step in (10, 20, 30):
        assert values[step, "train/gripper_error"] > 0
        assert values[step, "eval/loss"] > 0
        assert 0 < values[step, "eval/effort"] < 1  # tanh
    assert (kept / "status.txt").read_text() == "done\n"
    assert (kept / "metrics.jsonl").is_file(), "the loggers that were on stay on"


def test_summary_names_the_checkpoint(folder: Path) -> None:
    """What ``train --json`` prints can be given to ``eval``, whatever the store."""
    trained = json.loads((folder / "trained.json").read_text())
    assert trained["global_step"] == 30
    assert (folder / trained["checkpoint"]).is_file()


@pytest.mark.parametrize("reference", ["auto", "checkpoints/step_20.acme"])
def test_resume_is_exact(folder: Path, installed: Any, tmp_path: Path, reference: str) -> None:
    """The core's promise holds with another plugin's policy, data and store."""
    kept = folder / "checkpoints"
    copied = tmp_path / "checkpoints"
    copied.mkdir()
    for name in ("step_20.acme", "step_20.json", "metrics.csv"):
        (copied / name).write_bytes((kept / name).read_bytes())
    (tmp_path / "log.acme").symlink_to(folder / "log.acme")
    done = installed.simscale(*TRAIN, "--resume", reference, cwd=tmp_path)
    assert "resumed: from checkpoints/step_20.acme at step 20" in done.stderr
    assert (copied / "final.acme").read_bytes() == (kept / "final.acme").read_bytes()


def test_checkpoint_alone_is_evaluated(folder: Path, installed: Any, tmp_path: Path) -> None:
    checkpoint = folder / "checkpoints" / "final.acme"
    found = installed.simscale_json(
        "eval", checkpoint, "--env", "reach", "--episodes", 4, cwd=tmp_path
    )
    assert found["n_episodes"] == 4
    shown = installed.simscale_json("checkpoint", "show", checkpoint, cwd=tmp_path)
    assert shown["step"] == 30


def test_model_is_used_by_name_alone(folder: Path, installed: Any, tmp_path: Path) -> None:
    """Without --plugin nothing is selected: only the model that was named, and the reader."""
    (tmp_path / "log.acme").symlink_to(folder / "log.acme")
    command = ("train", "--model", "acme-linear", "--dataset", "log.acme", "--max-steps", 4)
    installed.simscale(*command, cwd=tmp_path)
    kept = tmp_path / "checkpoints"
    assert (kept / "final.pt").is_file()
    assert not (kept / "metrics.csv").exists()
    found = installed.simscale_json(
        "eval", kept / "final.pt", "--env", "reach", "--episodes", 2, cwd=tmp_path
    )
    assert found["n_episodes"] == 2


def test_its_own_errors_are_one_line(installed: Any, tmp_path: Path) -> None:
    (tmp_path / "log.acme").write_text("{}")
    done = installed.simscale(*TRAIN, cwd=tmp_path, status=2)
    assert done.stderr.splitlines()[-1].startswith("error: log.acme is not a log of ours")
    assert "Traceback" not in done.stderr


def test_its_options_are_checked(folder: Path, installed: Any, tmp_path: Path) -> None:
    (tmp_path / "log.acme").symlink_to(folder / "log.acme")
    squash = TRAIN.index("tanh")
    misused = (*TRAIN[:squash], "sigmoid", *TRAIN[squash + 1 :])
    done = installed.simscale(*misused, cwd=tmp_path, status=2)
    assert "squash" in done.stderr and "sigmoid" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "checkpoints").exists()
