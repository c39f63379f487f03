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
REACH_DEMOS = "--episodes 1000 --noise 0.3 --workers 2 --relabel --cameras front,wrist"
PICK_DEMOS = "--episodes 1500 --noise 0.2 --workers 2 --relabel"
QUARTER = "--max-steps 750 --vla.vary-words-after 375"


def reach(bench: Bench) -> Iterator[Measure]:
    """Train on 1,000 demonstrations; evaluate as told, under swaps and in unseen words."""
    yield from _follow(
        bench,
        "reach_language",
        demos=REACH_DEMOS,
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
        demos=PICK_DEMOS,
        train=PICK,
        success=0.80,
        minutes=90.0,
    )


def fine_tune(bench: Bench) -> Iterator[Measure]:
    """Train pick_language for a quarter of the steps: from nothing, and from reach_language."""
    reach_data = bench.record("reach_language", f"--env reach_language {REACH_DEMOS}")
    pick_data = bench.record("pick_language", f"--env pick_language {PICK_DEMOS}")
    first, _ = bench.train("vla-reach_language-1", reach_data, VLA, REACH)
    weights = f"--init-from {first} --init-from.statistics data"
    starts = {
        "from nothing": "",
        "from reach_language": weights,
        "from reach_language, LoRA": f"{weights} --adapter lora --lora.rank 16 --lr 2e-3",
    }
    for number, (start, words) in enumerate(starts.items()):
        name = f"vla-pick_language-quarter-{number}"
        checkpoint, ran = bench.train(name, pick_data, VLA, PICK, QUARTER, words)
        said = bench.evaluate(checkpoint, "pick_language", episodes=200)
        detail = f"{ran.cpu_s / 60:.1f} min of processor time"
        yield rate(f"pick_language, VLA, 750 steps {start}", [said], detail=detail)


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
