"""The command line's entry point: ``simscale`` and ``python -m simscaleai_core``."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line on this process's arguments and exit with its status."""
    gc.disable()  # what start-up makes, stays; a command switches it on again
    from simscaleai_core.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
