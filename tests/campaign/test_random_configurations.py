"""Runs of random configurations, killed at random moments, end as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from forked_runs import KILLED, assert_nothing_left, finish, output_path, start
from run_comparison import run_differences
from small_runs import collected, report

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("warm")]

ROOT_SEED = 20
CONFIGURATIONS = {1: 100, 2: 50}
"""By ranks."""
PARTS = 10
"""Tests that share the configurations, so that they can run side by side."""
LEAVES_WITHIN_S = 10.0
"""How soon a rank ends whose neighbour was killed [s]."""

SMALL_MODELS: dict[str, tuple[object, ...]] = {
    "bc": ("--bc.hidden-dim", 8),
    "bc-chunk": ("--bc-chunk.hidden-dim", 8, "--bc-chunk.horizon", 3),
    "bc-gmm": ("--bc-gmm.hidden-dim", 8, "--bc-gmm.num-modes", 2),
    "bc-rnn": ("--bc-rnn.hidden-dim", 8, "--bc-rnn.horizon", 4),
    "act": ("--act.hidden-dim", 16, "--act.num-heads", 2, "--act.latent-dim", 4),
    "diffusion": ("--diffusion.hidden-dim", 8, "--diffusion.n-layers", 1),
    "flow": ("--flow.hidden-dim", 8, "--flow.n-layers", 1),
    "vla": ("--vla.size", "debug", "--vla.vary-words-after", 5),
}
WITH_DROPOUT = ("bc", "bc-chunk", "bc-gmm", "act")
ON_IMAGES = ("bc", "bc-rnn", "vla")


def draw(rng: random.Random, recorded: Path, ranks: int) -> list[object]:
    """Return the arguments of a random run."""
    model = rng.choice([*SMALL_MODELS, "bc", "act"])
    steps, batch = rng.randint(20, 80), rng.choice([2, 4, 7, 8, 16])
    arguments: list[object] = ["train", "--model", model, *SMALL_MODELS[model], "--device", "cpu"]
    arguments += ["--max-steps", steps, "--batch-size", batch, "--warmup-steps", rng.randint(0, 9)]
    arguments += ["--accumulate", rng.choice([1, 1, 2]), "--seed", rng.randint(0, 10**6)]
    arguments += ["--save-every", rng.choice([0, 1, 3, 7, 20]), "--keep-last", rng.randint(1, 4)]
    arguments += ["--log-every", rng.choice([1, 4, 5, 9]), "--grad-clip", rng.choice([0, 0.1, 1])]
    arguments += ["--lr", rng.choice([1e-3, 1e-2]), "--weight-decay", rng.choice([0, 1e-2])]
    arguments += ["--checkpoint-backend", rng.choice(["pt", "safetensors", "dcp"])]
    arguments += ["--loggers", "jsonl"]
    arguments += ["--backend", "gloo"] if ranks > 1 else []
    if model in WITH_DROPOUT:
        arguments += [f"--{model}.dropout", rng.choice([0.0, 0.1])]
    arguments += _draw_data(rng, model, recorded)
    arguments += _draw_precision(rng)
    return arguments + _draw_extensions(rng)


def _draw_data(rng: random.Random, model: str, recorded: Path) -> list[object]:
    """Workers read images that stay in the file; what lies in memory needs none."""
    from_file = rng.random() < 0.4
    if from_file:
        data: list[object] = ["--dataset", recorded, "--dataset-name", "hdf5"]
        data += ["--num-workers", rng.choice([0, 2]), "--hdf5.cache-images-gib", 0]
    else:
        data = ["--dataset-name", "dummy", "--dummy.num-samples", rng.choice([40, 200])]
        data += ["--dummy.include-image"] if model == "vla" else []
        data += ["--dummy.include-language"] if model == "vla" and rng.random() < 0.5 else []
    if from_file and model in ON_IMAGES and model != "vla":
        data += [f"--{model}.use-image", f"--{model}.augment-shift", rng.choice([0, 2])]
    return data


def _draw_precision(rng: random.Random) -> list[object]:
    if rng.random() < 0.6:
        return []
    dtype = rng.choice(["bfloat16", "float16"])
    return ["--precision", "amp", "--amp.on-cpu", "--amp.growth-interval", 4, "--amp-dtype", dtype]


def _draw_extensions(rng: random.Random) -> list[object]:
    chosen = [name for name in ("ema", "early-stopping", "best-k") if rng.random() < 0.35]
    options: list[object] = [f"--extensions={name}" for name in chosen]
    options += ["--eval-every", rng.choice([3, 8, 15]) if chosen else rng.choice([0, 5, 11])]
    options += ["--ema.decay", 0.9] if "ema" in chosen else []
    options += (
        ["--early-stopping.patience", rng.randint(1, 3)] if "early-stopping" in chosen else []
    )
    options += ["--best-k.k", rng.randint(1, 3)] if "best-k" in chosen else []
    return options


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("ranks", CONFIGURATIONS)
def test_killed_and_resumed_is_bit_exact(
    ranks: int,
    part: int,
    recorded: Path,
    tmp_path: Path,
    scaled: Callable[[int], int],
    campaign: Callable[[str], Any],
) -> None:
    tally = campaign(f"random configurations on {ranks} rank{'s' * (ranks > 1)}")
    problems: list[str] = []
    for number in range(part, scaled(CONFIGURATIONS[ranks]), PARTS):
        rng = random.Random(f"{ROOT_SEED} {ranks} {number}")
        arguments = draw(rng, recorded, ranks)
        tally["tried"] += 1
        with collected(problems, f"{number}: {' '.join(map(str, arguments))}"):
            _kill_and_resume(tmp_path / str(number), arguments, ranks, rng, tally)
            shutil.rmtree(tmp_path / str(number))
    assert not problems, report(problems)


def _kill_and_resume(
    folder: Path, arguments: Sequence[object], ranks: int, rng: random.Random, tally: Any
) -> None:
    folder.mkdir()
    started = time.monotonic()
    finish(folder / "whole", *arguments, ranks=ranks)
    takes_s = time.monotonic() - started

    resume: Sequence[object] = ()
    pids: list[int] = []
    for _ in range(rng.randint(1, 3)):
        running = start(folder / "killed", *arguments, *resume, ranks=ranks)
        pids += running.pids
        time.sleep(rng.uniform(0.1, 1.0) * takes_s)
        have_met = "training from step" in output_path(running.folder).read_text()
        running.kill(*rng.choice([(), (0,), (ranks - 1,)]))  # all, the first or the last
        if not have_met:  # ranks that wait for one another to come are the launcher's to end
            running.terminate()
        ended = running.ended(within_s=LEAVES_WITHIN_S)
        tally["kills in a run"] += any(one.status == KILLED for one in ended)
        tally["kills after its end"] += all(one.status == 0 for one in ended)
        for one in ended:  # the loader workers of a killed process may say what they like
            assert one.status == KILLED or "Traceback" not in one.output, one.output
        resume = ("--resume", "auto")
    finish(folder / "killed", *arguments, *resume, ranks=ranks)
    differences = run_differences(folder / "killed", folder / "whole")
    assert not differences, "\n".join(differences[:10])
    tally["bit-exact"] += 1
    assert_nothing_left(pids)
