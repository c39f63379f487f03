"""The command line's entry point: ``simscale`` and ``python -m simscaleai_core``."""

from __future__ import annotations

import sys

from simscaleai_core.cli.app import run


def main() -> None:
    """Run the command line on this process's arguments and exit with its status."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
