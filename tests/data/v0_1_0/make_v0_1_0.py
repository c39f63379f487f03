"""Write the files of this folder with SimScaleAI 0.1.0, and what 0.1.0 makes of them.

The test of later versions measures with the same functions.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import torch

from simscaleai_core import load_policy

HERE = Path(__file__).parent
RECORDINGS = {
    "reach.h5": ("--env", "reach", "--episodes", 6),
    "words.h5": ("--env", "reach_language", "--episodes", 4, "--images", 16),
}
CHECKPOINTS = (
    "bc-pt/step_100.pt",
    "bc-safetensors/step_100.safetensors",
    "bc-dcp/step_100.dcp",
    "act-pt/step_40.pt",
    "vla-safetensors/step_30.safetensors",
)
WEIGHTS = ("evaluated", "trained")
RESULTS = ("seeds", "n_episodes", "successes", "lengths", "returns")
SHOWN = ("step", "best_eval_loss", "parameters", "policy", "data")

Command = Callable[..., Any]
"""Runs `simscale` in the current folder and returns what it prints as JSON."""


def train_arguments(name: str, directory: str, *more: object) -> list[object]:
    """Return the command that trains what a checkpoint is of, into a directory."""
    model, backend = Path(name).parent.name.split("-")
    where = ("--checkpoint-dir", directory, "--checkpoint-backend", backend)
    return ["train", "--config", f"{model}.toml", *where, *more]


def recording_as_seen(simscale: Command, name: str) -> dict[str, Any]:
    """Return what a recording holds, and the statistics of every dimension."""
    return {what: simscale("data", what, name) for what in ("show", "stats")}


def shown(simscale: Command, name: str) -> dict[str, Any]:
    """Return what a checkpoint says of itself, but for versions and settings."""
    about = simscale("checkpoint", "show", name)
    return {key: about[key] for key in SHOWN}


def evaluated(simscale: Command, name: str, weights: str) -> dict[str, Any]:
    """Return what eight episodes in closed loop gave."""
    found = simscale("eval", name, "--episodes", 8, "--seed", 10_000, "--weights", weights)
    return {key: found[key] for key in RESULTS}


def resumed(simscale: Command, name: str, directory: str, reference: str) -> dict[str, Any]:
    """Continue a checkpoint to the end of its run; return losses and final weights."""
    result = simscale(*train_arguments(name, directory, "--resume", reference))
    del result["checkpoint"]
    final = Path(directory, "final").with_suffix(Path(name).suffix)
    lines = Path(directory, "metrics.jsonl").read_text().splitlines()
    rows = [
        {key: value for key, value in json.loads(line).items() if not key.startswith("perf/")}
        for line in lines
    ]
    return {"result": result, "rows": rows, **both(final, recording_of(name))}


def recording_of(name: str) -> str:
    """Return the recording that a checkpoint's policy was trained on."""
    return "words.h5" if name.startswith("vla") else "reach.h5"


def both(path: Path, recording: str) -> dict[str, Any]:
    """Return what each of the two sets of weights of a checkpoint gives."""
    return {weights: loaded(path, weights, recording) for weights in WEIGHTS}


def loaded(path: Path, weights: str, recording: str) -> dict[str, Any]:
    """Return sum and absolute sum of each tensor, and three actions, of a policy."""
    policy = load_policy(path, weights=weights)
    state: Mapping[str, torch.Tensor] = policy.state_dict()
    doubles = {key: tensor.double() for key, tensor in sorted(state.items())}
    sums = {key: [t.sum().item(), t.abs().sum().item()] for key, t in doubles.items()}
    return {"sums": sums, "actions": actions(policy, recording)}


def actions(policy: Any, recording: str) -> list[list[float]]:
    """Return the actions at the first three timesteps of a recording's first episode."""
    with h5py.File(recording) as file:
        episode = file["episode_0"]
        seen = {key: values[:3] for key, values in episode["observations"].items()}
        told = episode.attrs.get("language")
    words = {} if told is None else {"language": told}
    steps = [{key: values[t] for key, values in seen.items()} for t in range(3)]
    return [policy.predict(step, **words).tolist() for step in steps]


def simscale_in(folder: Path) -> Command:
    """Return what runs the command in a folder, on one thread."""

    def call(*arguments: object) -> Any:
        command = [sys.executable, "-m", "simscaleai_core", *map(str, arguments), "--json"]
        threads = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=threads, check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    return call


def make(simscale: Command, name: str) -> dict[str, Any]:
    """Train in the current folder, keep one checkpoint here, and return what to expect of it."""
    directory, final = Path(name).parent, Path("final").with_suffix(Path(name).suffix)
    simscale(*train_arguments(name, str(directory)))
    whole = both(directory / final, recording_of(name))
    shutil.rmtree(HERE / directory, ignore_errors=True)
    (HERE / directory).mkdir()
    for path in directory.glob(f"{Path(name).stem}.*"):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, HERE / path)
    after = resumed(simscale, name, f"{directory}-resumed", name)
    assert {weights: after[weights] for weights in WEIGHTS} == whole, "resume is not exact"
    return {
        "shown": shown(simscale, name),
        "loaded": both(Path(name), recording_of(name)),
        "evaluated": {weights: evaluated(simscale, name, weights) for weights in WEIGHTS},
        "resumed": after,
    }


def main() -> None:
    """Make everything but the TOML files."""
    torch.set_num_threads(1)
    expected: dict[str, Any] = {"recordings": {}, "checkpoints": {}}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        simscale = simscale_in(Path(scratch))
        for path in HERE.glob("*.toml"):
            shutil.copy(path, scratch)
        for name, options in RECORDINGS.items():
            simscale("record", *options, "--output", name)
            shutil.copy(name, HERE)
            expected["recordings"][name] = recording_as_seen(simscale, name)
        for name in CHECKPOINTS:
            expected["checkpoints"][name] = make(simscale, name)
        os.chdir(HERE)
    text = json.dumps(expected, indent=1)
    rows = re.sub(r"\[[^][{}]*\]", lambda row: " ".join(row[0].split()), text)
    assert json.loads(rows) == expected
    (HERE / "expected.json").write_text(rows + "\n")


if __name__ == "__main__":
    main()
