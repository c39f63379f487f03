"""``simscale hooks list|show|trace``."""

from __future__ import annotations

import difflib
import inspect

from cyclopts import App, Parameter

from simscaleai_core.cli.output import print_json, print_table, print_text
from simscaleai_core.errors import UnknownComponentError

app = App(
    name="hooks",
    help="List, show and trace the hooks that a run fires.",
    default_parameter=Parameter(negative=()),
)
app.command(
    "simscaleai_core.cli.trace:trace",
    name="trace",
    help="Run a command and show which listener each hook called, and for how long.",
)


@app.command(name="list")
def list_(*, json: bool = False) -> int:
    """List every hook in the order a run meets them.

    Args:
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    from simscaleai_core.host.validation import hook_specs

    rows = [(n, (inspect.getdoc(f) or "").splitlines()[0]) for n, f in hook_specs().items()]
    if json:
        print_json({"hooks": [{"name": n, "summary": s} for n, s in rows]})
    else:
        print_table(rows, headers=("hook", "summary"))
    return 0


@app.command
def show(name: str, /) -> int:
    """Show one hook: its arguments, when it is called and on which ranks.

    Args:
        name: The hook.

    Returns:
        0.

    Raises:
        UnknownComponentError: If there is no such hook.
    """
    from simscaleai_core.host.validation import hook_specs

    specs = hook_specs()
    if name not in specs:
        close = difflib.get_close_matches(name, specs, n=1, cutoff=0.6)
        hint = f" Did you mean {close[0]!r}?" if close else " See simscale hooks list."
        raise UnknownComponentError(
            f"unknown hook {name!r}.{hint}", kind="hook", name=name, candidates=list(specs)
        )
    signature = str(inspect.signature(specs[name])).replace("'", "")
    print_text(f"{name}{signature}\n\n{inspect.getdoc(specs[name])}")
    return 0
