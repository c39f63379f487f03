"""Warnings and log records on standard error, one line each."""

from __future__ import annotations

import logging
import warnings

from simscaleai_core.cli.output import Screen, fitted, print_warning
from simscaleai_core.cli.terminal import is_quiet


def show_short_messages() -> None:
    """Send warnings and log records to standard error, one line each."""
    handler = logging.StreamHandler(Screen(error=True))
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not is_quiet())
    handler.setFormatter(_LowerCase("%(levelname)s: %(message)s"))
    logger = logging.getLogger("simscaleai")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print_warning(f"warning: {message}")

    warnings.showwarning = show


class _LowerCase(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return fitted(super().format(record))
