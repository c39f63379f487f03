"""Rows of policies that follow instructions from pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import REPORT_SEED, Bench
from results import Measure, rate

THREADS = 2
VLA = "--model vla --eval-every 0 --eval-fraction 0 --save-every 0 --device cpu --num-workers 0"
REACH = "--config docs/examples/vla-reach.toml"
PICK = "--config docs/examples/vla-pick.toml"


def reach(bench: Bench) -> Iterator[Measure]:
    """Train on 1,000 demonstrations; evaluate as told, under swaps and in unseen words."""
    yield from _follow(
        bench,
        "reach_language",
        demos="--episodes 1000 --noise 0.3 --workers 2 --relabel --cameras front,wrist",
        train=REACH,
        success=0.98,
        minutes=10.0,
        unseen=0.90,
    )


def pick(bench: Bench) -> Iterator[Measure]:
    """Train to pick the object that is named and place it."""
    yield from _follow(
        bench,
        "pick_language",
        demos="--episodes 1500 --noise 0.2 --workers 2 --relabel",
        train=PICK,
        success=0.80,
        minutes=90.0,
    )


def _follow(
    bench: Bench,
    env: str,
    *,
    demos: str,
    train: str,
    success: float,
    minutes: float,
    unseen: float | None = None,
) -> Iterator[Measure]:
    data = bench.record(env, f"--env {env} {demos}")
    checkpoint, ran = bench.train(f"vla-{env}", data, VLA, train, threads=THREADS)
    took = Measure(
        what=f"{env}, VLA, wall time of training on {THREADS} cores",
        value=ran.wall_s / 60,
        unit="min",
        at_most=minutes,
        detail=f"{ran.cpu_s / 60:.1f} min of processor time",
    )
    yield took
    said = bench.evaluate(checkpoint, env, episodes=200)
    yield rate(f"{env}, VLA, as told", [said], at_least=success)
    swapped = _swapped(bench, checkpoint, env)
    yield rate(f"{env}, VLA, instruction swapped", [swapped], at_most=0.05)
    said = bench.evaluate(checkpoint, env, "--env-kwargs.phrasing unseen", episodes=200)
    yield rate(f"{env}, VLA, unseen phrasings", [said], at_least=unseen)


def _swapped(bench: Bench, checkpoint: Path, env: str) -> dict[str, float]:
    words = f"--env {env} --episodes 200 --seed {REPORT_SEED}"
    return bench.python("swapped.py", checkpoint, words)
