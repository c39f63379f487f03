"""A run killed at a random moment and resumed ends in the same bytes as one left alone."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SAVE_EVERY = 50
STATE = (
    *("train", "--model", "bc", "--dataset", "../reach.h5", "--max-steps", 1500),
    *("--save-every", SAVE_EVERY, "--eval-every", 300, "--log-every", 30, "--warmup-steps", 100),
    *("--batch-size", 128, "--lr", 1e-3, "--num-workers", 0, "--seed", 3),
    *("--bc.dropout", 0.1),  # draws random numbers in every step
)
IMAGES = (
    *("train", "--model", "bc", "--dataset", "../reach.h5", "--max-steps", 200),
    *("--save-every", 20, "--eval-every", 50, "--log-every", 30, "--warmup-steps", 20),
    *("--batch-size", 16, "--lr", 1e-3, "--seed", 3, "--bc.hidden-dim", 32),
    *("--bc.use-image", "--bc.dropout", 0.1, "--hdf5.cache-images-gib", 0),
    *("--dataset-name", "hdf5"),
)


@pytest.fixture(scope="module")
def space(
    tmp_path_factory: pytest.TempPathFactory,
    reach_h5: Path,
    environment: Mapping[str, str],
    here: Any,
) -> Space:
    """Runs on the state; the uninterrupted one is ``whole``."""
    made = Space(tmp_path_factory.mktemp("state"), reach_h5, environment, here.python)
    made.finish("whole", *STATE)
    return made


@pytest.fixture(scope="module")
def image_space(
    tmp_path_factory: pytest.TempPathFactory,
    reach_images_h5: Path,
    environment: Mapping[str, str],
    here: Any,
) -> Space:
    """Runs on images that stay in the file; the uninterrupted ones are ``whole-WORKERS``."""
    made = Space(tmp_path_factory.mktemp("images"), reach_images_h5, environment, here.python)
    for num_workers in (0, 2):
        output = made.finish(f"whole-{num_workers}", *IMAGES, "--num-workers", num_workers)
        assert f"workers: {num_workers}\n" in output
    return made


class Space:
    """Runs side by side: each in a folder of its own, with the same relative paths."""

    def __init__(
        self, root: Path, data: Path, environment: Mapping[str, str], python: Path
    ) -> None:
        self.root = root
        self._environment = environment
        self._python = python
        (root / "reach.h5").symlink_to(data)

    def start(self, name: str, *arguments: object) -> subprocess.Popen[str]:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [str(self._python), "-m", "simscaleai_core", *map(str, arguments)],
            cwd=folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, name: str, *arguments: object) -> str:
        run = self.start(name, *arguments)
        output, _ = run.communicate(timeout=240)
        assert run.returncode == 0, output
        return output

    def kill(self, name: str, *arguments: object, rng: random.Random, within_s: float) -> None:
        """Send SIGKILL at a random moment after the run has written a checkpoint of its own."""
        folder, spare = self.root / name, self.root / f"{name}-before"
        folder.mkdir(exist_ok=True)
        shutil.copytree(folder, spare)
        while not self._is_killed(name, *arguments, after_s=rng.uniform(0, within_s)):
            within_s /= 2  # this machine was faster than the kill: once more
            shutil.rmtree(folder)
            shutil.copytree(spare, folder)
        shutil.rmtree(spare)

    def _is_killed(self, name: str, *arguments: object, after_s: float) -> bool:
        before = set(self.checkpoints(name))
        run = self.start(name, *arguments)
        deadline = time.monotonic() + 120
        while run.poll() is None and not set(self.checkpoints(name)) - before:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(after_s)
        run.send_signal(signal.SIGKILL)
        output, _ = run.communicate(timeout=30)
        assert run.returncode in {0, -signal.SIGKILL}, output
        return run.returncode != 0 and not self.path(name, "final.pt").exists()

    def path(self, name: str, file: str) -> Path:
        return self.root / name / "checkpoints" / file

    def checkpoints(self, name: str) -> list[str]:
        """Committed step checkpoints, oldest first."""
        steps = [int(p.stem[5:]) for p in self.path(name, "").glob("step_*.json")]
        return [f"checkpoints/step_{step}.pt" for step in sorted(steps)]

    def assert_equal(self, name: str, other: str) -> None:
        for file in ("final.pt", "best.pt"):
            assert self.path(name, file).read_bytes() == self.path(other, file).read_bytes(), file
        assert self.rows(name) == self.rows(other)
        assert not [p.name for p in self.path(name, "").iterdir() if p.name.startswith(".")]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Logged rows without what depends on the clock."""
        rows = map(json.loads, self.path(name, "metrics.jsonl").read_text().splitlines())
        return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_a_random_moment(space: Space, seed: int) -> None:
    name = f"killed-{seed}"
    space.kill(name, *STATE, rng=random.Random(seed), within_s=1.0)
    output = space.finish(name, *STATE, "--resume", "auto")
    assert "resumed: from checkpoints/step_" in output
    space.assert_equal(name, "whole")


def test_killed_twice(space: Space) -> None:
    rng = random.Random(11)
    space.kill("twice", *STATE, rng=rng, within_s=0.4)
    space.kill("twice", *STATE, "--resume", "auto", rng=rng, within_s=0.4)
    space.finish("twice", *STATE, "--resume", "auto")
    space.assert_equal("twice", "whole")


def test_resumed_from_an_explicit_file(space: Space) -> None:
    """From the oldest of several: the rows and files after it are written anew."""
    space.kill("explicit", *STATE, "--keep-last", 50, rng=random.Random(5), within_s=0.5)
    reference = space.checkpoints("explicit")[0]
    output = space.finish("explicit", *STATE, "--resume", reference, "--keep-last", 3)
    assert f"resumed: from {reference} at step {SAVE_EVERY}" in output
    space.assert_equal("explicit", "whole")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_killed_while_images_are_read(image_space: Space, num_workers: int) -> None:
    settings, name = (*IMAGES, "--num-workers", num_workers), f"killed-{num_workers}"
    image_space.kill(name, *settings, rng=random.Random(num_workers), within_s=0.5)
    image_space.finish(name, *settings, "--resume", "auto")
    image_space.assert_equal(name, f"whole-{num_workers}")


def test_number_of_workers_changes_nothing(image_space: Space) -> None:
    """Killed with two workers, resumed with none: the bytes of a run that never had any."""
    image_space.kill("mixed", *IMAGES, "--num-workers", 2, rng=random.Random(7), within_s=0.5)
    image_space.finish("mixed", *IMAGES, "--num-workers", 0, "--resume", "auto")
    image_space.assert_equal("mixed", "whole-0")
    assert image_space.rows("whole-0") == image_space.rows("whole-2")


def test_another_seed_differs(space: Space) -> None:
    """The negative control: the comparison can fail."""
    place = STATE.index("--seed") + 1
    space.finish("other", *STATE[:place], 4, *STATE[place + 1 :])
    other, whole = (space.path(name, "final.pt").read_bytes() for name in ("other", "whole"))
    assert other != whole
    assert space.rows("other") != space.rows("whole")
