"""Distributions written to disk, as pip would install them."""

from __future__ import annotations

from pathlib import Path

HEAD = "from simscaleai_core.plugin import *\n"
INFO = "PLUGIN = PluginInfo(summary='A plugin'{})\n"


def models_of(*names: str, target: str = "json:JSONDecoder") -> str:
    yields = "\n".join(f"    yield ModelSpec(name={n!r}, target={target!r})" for n in names)
    return f"@hookimpl\ndef simscale_register_models():\n{yields}\n"


def sound(*names: str, info: str = "") -> str:
    return HEAD + INFO.format(info) + models_of(*names)


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        name: str,
        code: str,
        *,
        distribution: str | None = None,
        version: str = "1.0",
        requires: str = "",
        extra: str = "",
    ) -> None:
        distribution = distribution or f"simscaleai-plugin-{name}"
        module = "fake_" + distribution.replace("-", "_")
        (self.folder / module).mkdir()
        (self.folder / module / "__init__.py").write_text("")
        (self.folder / module / "plugin.py").write_text(code)
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requires}"] if requires else []
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(
            f"[simscaleai.plugins]\n{name} = {module}.plugin\n{extra}"
        )
