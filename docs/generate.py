"""Write what comes from the code, pages and picture: ``python docs/generate.py``."""

from __future__ import annotations

import inspect
import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from unittest.mock import patch

import api_pages
import attrs

from simscaleai_core.cli.configuration import field_docs
from simscaleai_core.cli.pages import commands
from simscaleai_core.cli.tree import build_app
from simscaleai_core.config import TrainConfig
from simscaleai_core.host.validation import hook_specs, provider_kind
from simscaleai_core.plugin import KINDS, PLUGIN_API_VERSION, ComponentSpec, PluginInfo

REFERENCE = Path(__file__).parent / "reference"
_NOTE = "<!-- written by docs/generate.py; change the code's documentation instead -->"


def pages() -> dict[str, str]:
    """Return the generated pages by file name below docs/reference."""
    return {
        "config.md": config_page(),
        "hooks.md": hooks_page(),
        "cli.md": cli_page(),
        "lifecycle.md": lifecycle_page(),
        **api_pages.texts(),
    }


def config_page() -> str:
    """Return the page about `TrainConfig`."""
    return _page(
        "# Configuration",
        _NOTE,
        "The fields of `TrainConfig`. Python, TOML files and the flags of `simscale train` use the "
        "same names: `max_steps` is `--max-steps`. [The command line](cli.md) lists the short "
        "forms. Every value is checked, and types are not converted. "
        "[Configuration files](../how-to/configuration-files.md) explains how files and flags "
        "combine.",
        _table(("field", "type", "default", "meaning"), _field_rows(TrainConfig)),
    )


def hooks_page() -> str:
    """Return the page about hooks and declaration records."""
    specs = hook_specs()
    providers = [name for name in specs if provider_kind(name)]
    events = [name for name in specs if not provider_kind(name)]
    kinds = [(f"`{k}`", f"`{c.__name__}`", f"`{p}`") for p in providers for k, c in _kind(p)]
    return _page(
        "# Hooks",
        _NOTE,
        f"Plugin API version {PLUGIN_API_VERSION}. The records are in `simscaleai_core.plugin`, "
        "the hooks in `simscaleai_core.hookspecs`. A hook marks a function or method of any name "
        "as its implementation: `@simscale_on_step_end`. "
        "[Plugins and hooks](../explanation/plugins-and-hooks.md) gives the reasons.",
        "## Providers",
        "They mark module-level functions of a plugin's `plugin` module. Each yields "
        "declarations; `provides(*declarations)` makes such a function. `@hookimpl` marks a "
        "function that has the name of its hook.",
        _table(("kind", "record", "hook"), kinds),
        *(part for name in providers for part in _hook(name, specs[name])),
        "## Events",
        "They mark methods of the instances that a run uses. A method takes all arguments, only "
        "`run`, all but `run`, or none; a method of the hook's name, marked with `@hookimpl`, "
        "takes any of them. The run calls them in this order: strategy, precision, checkpoint "
        "backend, policy, train step, extensions, eval functions, loggers, listeners given to "
        "`Trainer`.",
        *(part for name in events for part in _hook(name, specs[name])),
        "## Records",
        "### PluginInfo",
        "Kept as `PLUGIN` in the `plugin` module.",
        _table(("field", "type", "default", "meaning"), _field_rows(PluginInfo)),
        "### Every declaration",
        _table(("field", "type", "default", "meaning"), _field_rows(ComponentSpec)),
        *(part for name in providers for _, cls in _kind(name) for part in _record(cls)),
    )


def cli_page() -> str:
    """Return the page about the command line, with the commands of the first-party plugins."""
    with patch.object(sys, "argv", ["simscale"]):  # cyclopts shows it in places
        app = build_app(["train"])
        for command in commands():  # the command line adds these when they are named
            parent, _, name = command.name.partition(".")
            if not name:
                del app[parent]
                app.command(command.target, name=parent, help=command.summary)
            elif name not in app[parent]:
                app[parent].command(command.target, name=name, help=command.summary)
        text = app.generate_docs(output_format="markdown")
    body = re.sub(r"## Table of Contents\n.*?(?=\*\*Commands)", "", text, flags=re.DOTALL)
    body = body.partition("\n")[2].replace("```console", "```text")
    return _page(
        "# Command line",
        _NOTE,
        "`simscale` and `python -m simscaleai_core` are the same program. `simscaleai-plugin-gym` "
        "adds `record`, `eval` and `envs`, `simscaleai-plugin-data` adds `data`, "
        "`simscaleai-plugin-report` adds `report`, and `simscaleai-devkit` adds `plugins new` and "
        "`plugins check`. `simscale train` accepts the options of a component, such as "
        "`--bc.hidden-dim`, when the command line names the "
        "component; `simscale train --model bc --help` lists them. "
        "[Exit status](exit-status.md) explains the return codes.",
        body.strip(),
    )


_TRACED = (
    "train --model bc --extension ema --extension throughput --num-workers 0 --device cpu "
    "--max-steps 4 --log-every 2 --eval-every 4 --save-every 4"
)


def lifecycle_page() -> str:
    """Return the page that shows the hooks of a run, drawn from the record of one."""
    command = [sys.executable, "-m", "simscaleai_core", *_TRACED.split()]
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "trace"
        environ = {**os.environ, "SIMSCALE_TRACE_HOOKS": str(record)}
        subprocess.run(  # noqa: S603 - our own command
            command, cwd=folder, env=environ, check=True, capture_output=True
        )
        lines = record.read_text(encoding="utf-8").splitlines()
    return _page(
        "# The life of a run",
        _NOTE,
        "This page comes from the hook trace of a real run "
        "([debug a plugin](../how-to/debug-a-plugin.md) explains tracing):",
        f"```text\nSIMSCALE_TRACE_HOOKS=FILE simscale {_TRACED}\n```",
        "The table lists every hook in the order of the calls, the number of completed steps, and "
        "the listeners that implement the hook; `-` means none. Provider hooks come first; the "
        "host calls each plugin once. `simscale_transform_batch` and `simscale_on_grads_ready` run "
        "before the counters advance, all other events after.",
        f"```text\n{_timeline(lines)}\n```",
        "[Hooks](hooks.md#events) explains what each of them may do.",
    )


def _timeline(lines: Iterable[str]) -> str:
    fired: list[tuple[str, str, list[str]]] = []
    for line in lines:
        step, hook, listener, _ = line.split("\t")
        if hook.startswith("simscale_register_"):
            hook = "simscale_register_..."
        if fired and fired[-1][:2] == (step, hook):
            if listener not in fired[-1][2]:
                fired[-1][2].append(listener)
        else:
            fired.append((step, hook, [listener]))
    rows = [f"{'steps':<7}{'hook':<32}listeners"]
    before = ""
    for step, hook, listeners in fired:
        shown = "" if step in {before, "-"} else step
        rows.append(f"{shown:<7}{hook:<32}{', '.join(listeners)}")
        before = step
    return "\n".join(rows)


def _kind(hook: str) -> list[tuple[str, type[ComponentSpec]]]:
    kind = provider_kind(hook)
    return [(kind, KINDS[kind])] if kind else []


def _hook(name: str, spec: Any) -> list[str]:
    signature = str(inspect.signature(spec)).replace("'", "")
    return [f"### {name}", f"```text\n{name}{signature}\n```", _prose(inspect.getdoc(spec) or "")]


def _record(cls: type[ComponentSpec]) -> list[str]:
    inherited = {f.name for f in attrs.fields(ComponentSpec)}
    rows = [row for row in _field_rows(cls) if row[0].strip("`") not in inherited]
    parts = [f"### {cls.__name__}", _prose(inspect.getdoc(cls) or "").partition("\n")[0]]
    return [*parts, _table(("field", "type", "default", "meaning"), rows)] if rows else parts


def _prose(docstring: str) -> str:
    """Return a docstring as Markdown: sections in bold, arguments as a list."""
    text = docstring.replace("``", "`")
    head, has_arguments, arguments = text.partition("\nArgs:\n")
    head = re.sub(r"^Called: ", "**Called:** ", head.strip(), flags=re.MULTILINE)
    if not has_arguments:
        return head
    items = re.sub(r"^ +(\w+): ", r"- `\1`: ", arguments.strip("\n"), flags=re.MULTILINE)
    return f"{head}\n\n{items}"


def _field_rows(cls: Any) -> list[Sequence[str]]:
    docs, hints = field_docs(cls), get_type_hints(cls)
    return [
        (
            f"`{f.name}`",
            _type(hints[f.name]),
            _default(f.default),
            docs.get(f.name, "").replace("``", "`"),
        )
        for f in attrs.fields(cls)
    ]


def _type(hint: Any) -> str:
    members = get_args(hint)
    origin = get_origin(hint)
    if origin in {Union, UnionType}:
        return " or ".join(_type(m) for m in members)
    if origin is tuple:
        return f"list of {_type(members[0])}"
    if origin is not None:
        return "table"
    return {type(None): "none", Any: "anything"}.get(hint, getattr(hint, "__name__", str(hint)))


def _default(default: Any) -> str:
    if default is attrs.NOTHING:
        return "required"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return "empty"
    if isinstance(default, tuple):
        return ", ".join(f"`{v}`" for v in default) or "empty"
    if default is None or default == "":
        return "none" if default is None else '`""`'
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def _page(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> None:
    """Write every page, and draw the picture of the packages."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{REFERENCE / name}\n")
    script = Path(__file__).parent / "scripts" / "draw_architecture.py"
    runpy.run_path(str(script), run_name="drawing")["main"]([])


if __name__ == "__main__":
    main()
