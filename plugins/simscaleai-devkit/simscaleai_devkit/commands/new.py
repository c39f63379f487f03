"""``simscale plugins new``."""

from __future__ import annotations

from pathlib import Path

from simscaleai_core.cli.output import print_json, print_text


def new(name: str, /, *, kind: str, output: Path | None = None, json: bool = False) -> int:
    """Write a complete plugin that works and passes its own tests, to be changed into yours.

    Args:
        name: Name of the plugin, such as my-policy: lower-case letters, digits and single '-'.
        kind: model, dataset, env, logger, checkpoint-backend, eval-function, strategy, precision,
            extension, optimizer, schedule, train-step, sampler, transform or adapter.
        output: Folder to write; simscaleai-plugin-NAME if not given.
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    from simscaleai_devkit.scaffold import first_use, new_plugin

    folder = output or Path(f"simscaleai-plugin-{name}")
    files = new_plugin(name, kind, folder)
    if json:
        print_json({"folder": str(folder), "files": [str(f.relative_to(folder)) for f in files]})
        return 0
    print_text(f"{len(files)} files in {folder}. Next:\n")
    print_text(f"  cd {folder}\n  pip install --editable . --group dev    # pip 25.1 or newer")
    print_text(f"  pytest\n  {first_use(name, kind)}")
    return 0
