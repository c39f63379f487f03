"""Record videos of the policies that the benchmark left: one per episode, and a contact sheet.

python benchmarks/policies/videos.py
python benchmarks/policies/videos.py --only reach pick_place
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attrs import frozen
from bench import ROOT, Bench, MissingError
from rows_others import FETCH, META_WORLD, meta_world_env


@frozen
class VideoSubject:
    """A policy to record."""

    checkpoint: str
    """Folder that the benchmark trained it in."""
    env: str
    venv: str | None = None


SUBJECTS = {
    "reach": VideoSubject("bc-reach-seed0", "reach"),
    "pick_place": VideoSubject("bc-pick_place-seed0", "pick_place"),
    "push": VideoSubject("bc-push-seed0", "push"),
    "reach_language": VideoSubject("vla-reach_language-seed0", "reach_language"),
    "pick_language": VideoSubject("vla-pick_language-seed0", "pick_language"),
    "fetch_reach": VideoSubject("fetch-reach-seed0", FETCH, "robotics"),
    **{
        f"metaworld_{task}": VideoSubject(
            f"metaworld-{task}-seed0", meta_world_env(task), "metaworld"
        )
        for task in META_WORLD
    },
}


def main() -> int:
    """Record the chosen tasks; return 0 if all of them could be recorded."""
    options = _options()
    bench = Bench(options.work, options.venvs.resolve())
    failed = 0
    for name in options.only or SUBJECTS:
        subject = SUBJECTS[name]
        folder = options.output / name
        words = f"--num-envs 4 --video-episodes {options.episodes} --video"
        checkpoint = options.work / subject.checkpoint / "final.pt"
        try:
            said = bench.evaluate(
                checkpoint, subject.env, words, folder, episodes=options.episodes, venv=subject.venv
            )
        except MissingError as error:
            failed += 1
            print(f"{name}: {error}")
            continue
        print(f"{name}: {said['contact_sheet']}")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), default=[])
    parser.add_argument("--episodes", type=int, default=4, help="episodes to record of each task")
    parser.add_argument("--work", type=Path, default=Path("runs/policies"))
    parser.add_argument("--output", type=Path, default=Path("runs/videos"))
    parser.add_argument("--venvs", type=Path, default=ROOT)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
