"""Measure the policies of this project in closed loop, against its targets.

Every row records demonstrations, trains and evaluates through the command line, as a user would;
seeds are fixed. Rows that need what is not installed say so, and the others go on.

    python benchmarks/policies                       # all rows; hours
    python benchmarks/policies --only bc meta-world  # those whose names begin so
    python benchmarks/policies --list
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import rows_arm
import rows_others
import rows_vla
from bench import ROOT, Bench, MissingError
from results import Measure, Results, shown

Row = Callable[[Bench], Iterator[Measure]]

ROWS: dict[str, Row] = {
    "expert-reach": partial(rows_arm.expert, env="reach", at_least=0.99),
    "expert-pick-place": partial(rows_arm.expert, env="pick_place", at_least=0.99),
    "expert-push": partial(rows_arm.expert, env="push", at_least=0.98),
    "bc-reach": partial(rows_arm.cloning, env="reach", at_least=0.99),
    "bc-pick-place": partial(rows_arm.cloning, env="pick_place", at_least=0.98),
    "bc-push": partial(rows_arm.cloning, env="push", at_least=0.85),
    "best-pick-place-50": partial(rows_arm.best_of, env="pick_place", demos=50, at_least=0.98),
    "best-push-200": partial(rows_arm.best_of, env="push", demos=200, at_least=0.95),
    "vla-reach": rows_vla.reach,
    "vla-pick": rows_vla.pick,
    "vla-fine-tune": rows_vla.fine_tune,
    **{
        f"meta-world-{task.replace('_', '-')}": partial(rows_others.meta_world, task=task)
        for task in rows_others.META_WORLD
    },
    "fetch-reach": rows_others.fetch,
    "throughput": rows_arm.throughput,
}


def main() -> int:
    """Run the chosen rows; return 0 if every target of theirs is met."""
    options = _options()
    if options.list:
        print(*ROWS, sep="\n")
        return 0
    names = [n for n in ROWS if not options.only or n.startswith(tuple(options.only))]
    results = Results(options.json)
    bench = Bench(options.work, options.venvs.resolve())
    for name in names:
        print(name, file=sys.stderr, flush=True)
        _run(name, bench, results)
        page = results.write_page(list(ROWS))
    print(page if names else f"no row begins with {' or '.join(options.only)}")
    measured = [results.rows[name] for name in names]
    bad = [r for r in measured if r["problem"] or any(m["met"] is False for m in r["measures"])]
    return 1 if bad or not names else 0


def _run(name: str, bench: Bench, results: Results) -> None:
    bench.commands.clear()
    measures: list[Measure] = []
    problem = ""
    try:
        for measure in ROWS[name](bench):
            measures.append(measure)
            print(f"  {measure.what}: {shown(measure.value, measure.unit)}", file=sys.stderr)
    except MissingError as error:
        problem = str(error)
        print(f"  not measured: {problem}", file=sys.stderr, flush=True)
    results.put(name, measures, bench.commands, problem)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="beginnings of the rows' names")
    parser.add_argument("--list", action="store_true", help="print the rows' names")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("runs/bench/policies.json"),
        help="rows are added to it, and the page beside it is written (default %(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/policies"),
        help="data and checkpoints (default %(default)s)",
    )
    parser.add_argument(
        "--venvs",
        type=Path,
        default=ROOT,
        help="where .venv-metaworld and .venv-robotics are, or are made (default: the repository)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
