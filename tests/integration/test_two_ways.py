"""Policies that sample take each of two ways, in every batch the same, and keep to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAYS = "benchmarks.policies.two_ways"
TRAIN = (
    "--lr 1e-3 --batch-size 128 --warmup-steps 50 --max-steps 1500 --num-workers 0 --eval-every 0 "
    "--eval-fraction 0 --save-every 0 --log-every 500 --device cpu --seed 0"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def simscale(*words):
    command = [sys.executable, "-m", "simscaleai_core", *map(str, words), "--json"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    path = tmp_path_factory.mktemp("ways") / "round.h5"
    env = ("--env", f"{WAYS}:TwoWays/Round-v0", "--expert", f"{WAYS}:round_expert")
    simscale("record", *env, "--episodes", 100, "--output", path)
    return path


@pytest.mark.parametrize("model", ["flow", "diffusion"])
def test_each_way_is_taken_and_kept(model, demonstrations, tmp_path):
    where = ("--dataset", demonstrations, "--checkpoint-dir", tmp_path)
    simscale("train", "--model", model, *where, *TRAIN.split())

    def evaluated(*options):
        given = ("--env", f"{WAYS}:TwoWays/Round-v0", "--episodes", 128, *options)
        found = simscale("eval", tmp_path / "final.pt", *given)
        return {k: found[k] for k in ("successes", "lengths", "modes", "mode_shares")}

    one = evaluated("--num-envs", 64)
    assert evaluated("--num-envs", 1) == evaluated("--num-envs", 7) == one
    assert sum(one["successes"]) >= 0.95 * 128
    assert all(0.35 <= share <= 0.65 for share in one["mode_shares"].values())
    other = evaluated("--policy-seed", 1)
    assert sum(a != b for a, b in zip(one["modes"], other["modes"], strict=True)) > 30
    assert sum(other["successes"]) >= 0.95 * 128
    averaged = evaluated("--ensemble", 0.01)
    assert sum(averaged["successes"]) >= 0.95 * 128
