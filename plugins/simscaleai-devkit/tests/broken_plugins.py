"""A sound plugin as files, and changes to its files that break one thing each."""

from __future__ import annotations

from pathlib import Path

INIT = '"""A plugin."""\n'
PLUGIN = """
from simscaleai_core.plugin import LoggerSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="A logger that keeps nothing", selects={"logger": "void"})


@hookimpl
def simscale_register_loggers():
    yield LoggerSpec(
        name="void", target="PACKAGE.logger:Void", options="PACKAGE.options:VoidOptions",
        summary="Keeps nothing",
    )
"""
OPTIONS = '''
from attrs import field, frozen
from attrs.validators import ge


@frozen(kw_only=True)
class VoidOptions:
    """Options."""

    every: int = field(default=1, validator=ge(1))
    """Rows to skip."""
'''
LOGGER = """
class Void:
    def __init__(self, config, options=None): ...
    def start(self, facts, step): ...
    def log(self, metrics, step): ...
    def close(self, status): ...
"""
METADATA = """Metadata-Version: 2.4
Name: DIST
Version: 0.1.0
Summary: A logger that keeps nothing
License-Expression: Apache-2.0
Requires-Python: >=3.11
Requires-Dist: simscaleai-core<0.3,>=0.2
"""
ENTRY = "[simscaleai.plugins]\nNAME = PACKAGE.plugin\n"

FILES = {
    "package/__init__.py": INIT,
    "package/plugin.py": PLUGIN,
    "package/options.py": OPTIONS,
    "package/logger.py": LOGGER,
    "package/py.typed": "",
    "dist/METADATA": METADATA,
    "dist/entry_points.txt": ENTRY,
    "dist/RECORD": "",
}
AT = "package/plugin.py"
CONNECT = """import socket
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.connect(("127.0.0.1", 9))
link.close()
"""

FAULTS = {
    "imports": [
        (
            "raises",
            AT,
            "PLUGIN =",
            "raise OSError('no licence server')\nPLUGIN =",
            "licence server",
        ),
        ("exits", AT, "PLUGIN =", "raise SystemExit(3)\nPLUGIN =", "SystemExit"),
        ("kills", AT, "PLUGIN =", "import os; os._exit(9)\nPLUGIN =", "status 9"),
    ],
    "import_is_light": [
        ("heavy", AT, "PLUGIN =", "import numpy\nPLUGIN =", "numpy"),
    ],
    "import_is_quick": [
        ("busy", AT, "PLUGIN =", "sum(range(20_000_000))\nPLUGIN =", "50 ms"),
    ],
    "import_is_silent": [
        ("prints", AT, "PLUGIN =", "print('welcome')\nPLUGIN =", "welcome"),
    ],
    "import_opens_no_connection": [
        ("connects", AT, "PLUGIN =", CONNECT + "PLUGIN =", "127.0.0.1"),
    ],
    "import_leaves_process_alone": [
        (
            "sets",
            AT,
            "PLUGIN =",
            "import os; os.environ['KIT_PLUGIN'] = '1'\nPLUGIN =",
            "KIT_PLUGIN",
        ),
        ("logs", AT, "PLUGIN =", "import logging; logging.basicConfig()\nPLUGIN =", "root logger"),
    ],
    "hooks_are_sound": [
        ("unknown", AT, "simscale_register_loggers", "simscale_register_logers", "did you mean"),
        ("argument", AT, "_loggers():", "_loggers(registry):", "registry"),
        (
            "event",
            AT,
            "PLUGIN =",
            "@hookimpl\ndef simscale_on_run_end(run): ...\n\nPLUGIN =",
            "event",
        ),
    ],
    "manifest": [
        ("nameless", AT, "A logger that keeps nothing", " ", "summary"),
        ("future", AT, 'nothing",', 'nothing", requires_api=">=2",', "plugin API"),
        ("selects", AT, '"logger": "void"', '"logger": "console"', "void"),
    ],
    "declarations": [
        (
            "forgets",
            AT,
            "yield LoggerSpec",
            "SEEN.append(1)\n    if len(SEEN) % 2: yield LoggerSpec",
            "keep no state",
        ),
        ("silent", AT, 'summary="Keeps nothing"', 'summary=""', "listings"),
        (
            "twice",
            AT,
            "    yield",
            "    yield LoggerSpec(name='void', target='a.b:C', summary='x')\n    yield",
            "twice",
        ),
    ],
    "targets_can_be_imported": [
        ("missing", AT, "logger:Void", "logger:Viod", "Viod"),
    ],
    "targets_leave_process_alone": [
        (
            "defaults",
            "package/logger.py",
            "class Void",
            "import torch\ntorch.set_num_threads(7)\nclass Void",
            "threads",
        ),
        ("chatty", "package/logger.py", "class Void", "print('hi')\nclass Void", "standard output"),
    ],
    "options_are_light": [
        (
            "optionsheavy",
            "package/options.py",
            "from attrs import field",
            "import numpy\nfrom attrs import field",
            "numpy",
        ),
    ],
    "options_are_usable": [
        ("undocumented", "package/options.py", '"""Rows to skip."""', "", "every"),
        ("mutable", "package/options.py", "frozen", "define", "frozen class"),
        ("invalid", "package/options.py", "default=1", "default=0", "every"),
    ],
    "distribution": [
        ("unlicensed", "dist/METADATA", "License-Expression: Apache-2.0\n", "", "licence"),
        ("openended", "dist/METADATA", "<0.3,", "", "both ends"),
    ],
    "package_is_typed": [
        ("untyped", "package/py.typed", None, None, "py.typed"),
    ],
    "entry_point": [
        ("Upper", "dist/METADATA", "", "", "lower-case"),
    ],
}
"""By check: name, file, text to replace, its replacement, a word of the message."""
BROKEN = [(*fault, check, word) for check, rows in FAULTS.items() for *fault, word in rows]
"""The same as rows: name, file, text, replacement, check that fails, a word of the message."""


def write(
    folder: Path, name: str, file: str = "", old: str | None = "", new: str | None = ""
) -> None:
    """Write the sound plugin under a name, with one change."""
    package, dist = f"kit_plugin_{name.lower()}", f"simscaleai-plugin-kit-{name.lower()}"
    homes = {
        "package": folder / package,
        "dist": folder / f"{dist.replace(chr(45), chr(95))}-0.1.0.dist-info",
    }
    for place, sound in FILES.items():
        home, _, rest = place.partition("/")
        if place == file and old is None:
            continue
        assert place != file or old in sound, (name, old)
        text = sound.replace(old, new or "") if place == file and old else sound
        text = f"SEEN = []\n{text}" if "SEEN" in text else text
        for word, value in (("PACKAGE", package), ("DIST", dist), ("NAME", f"kit-{name}")):
            text = text.replace(word, value)
        homes[home].mkdir(parents=True, exist_ok=True)
        (homes[home] / rest).write_text(text)
