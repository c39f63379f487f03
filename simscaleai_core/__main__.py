"""The command line's entry point: ``simscale`` and ``python -m simscaleai_core``."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line on this process's arguments and exit with its status."""
    # before anything imports torch, which reads it once: threads that wait must not keep busy the
    # processors that others need, also other ranks and loader workers
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from simscaleai_core.cli import interrupts, terminal

    interrupts.leave_at_once()
    gc.disable()  # what start-up makes, stays; a command switches it on again
    if sys.stdout is None or sys.stderr is None:  # closed by who started this
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    try:
        from simscaleai_core.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = interrupts.tell()
    except Exception:  # noqa: BLE001 - shown in full, but for what would command a terminal
        import traceback

        terminal.write(traceback.format_exc(), error=True)
        status = 1
    interrupts.leave_at_once()
    terminal.divert()  # to the end of the process: what is left to say is no result
    sys.exit(status)


if __name__ == "__main__":
    main()
