"""``simscale completion``: a shell completes commands, options and files."""

from __future__ import annotations

from typing import Literal


def completion(shell: Literal["bash", "zsh", "fish", "powershell"], /) -> int:
    """Print what makes a shell complete commands and options.

    For bash: simscale completion bash >> ~/.bashrc. Options of components are those of a run that
    names none. Print it again when a plugin was installed.

    Args:
        shell: The shell.

    Returns:
        0.
    """
    from simscaleai_core.cli.output import print_text
    from simscaleai_core.cli.tree import build_app

    app = build_app(["train"], is_whole=True)
    print_text(app.generate_completion(prog_name="simscale", shell=shell))
    return 0
