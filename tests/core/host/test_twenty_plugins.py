"""Twenty plugins installed: nothing gets heavy, and the order of files on disk decides nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from site_kit import Site

from simscaleai_core.host.trace import VARIABLE

pytestmark = pytest.mark.slow  # every test starts processes

HEAVY = {"torch", "h5py", "mujoco", "gymnasium", "wandb", "tensorboard", "transformers"}
NAMES = [f"p{number:02}" for number in range(20)]
CODE = """
from simscaleai_core.plugin import *

PLUGIN = PluginInfo(summary="Plugin NAME", selects={"extension": "NAME"})


@hookimpl
def simscale_register_extensions():
    options = "fake_simscaleai_plugin_NAME.options:Options"
    target = "fake_simscaleai_plugin_NAME.extension:Extension"
    yield ExtensionSpec(name="NAME", target=target, options=options)
"""
MODEL = """

@hookimpl
def simscale_register_models():
    yield ModelSpec(name="shared", target="simscaleai_plugin_bc.policy:BCPolicy")
"""
OPTIONS = "from attrs import frozen\n\n\n@frozen\nclass Options:\n    width: int = 8\n"
EXTENSION = """
import torch
from simscaleai_core.plugin import hookimpl


class Extension:
    def __init__(self, config, options):
        pass

    @hookimpl
    def simscale_on_run_start(self, run):
        pass

    @hookimpl
    def simscale_on_step_end(self, run, out):
        pass
"""
IN_ONE_PROCESS = """
import json, os, sys

listed = os.listdir
os.listdir = lambda *a: sorted(listed(*a), reverse=ORDER)
from simscaleai_core.cli.app import run

for command in json.loads(sys.argv[1]):
    try:
        status = run(command)
    except SystemExit as left:
        status = left.code
    print("exit status", status, flush=True)
print("MODULES" + json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def install(site: Site, names: list[str]) -> None:
    for name in names:
        code = CODE + (MODEL if name in {"p03", "p11"} else "")
        site.add(name, code.replace("NAME", name))
        package = site.folder / f"fake_simscaleai_plugin_{name}"
        (package / "options.py").write_text(OPTIONS)
        (package / "extension.py").write_text(EXTENSION)


def add_troubled(site: Site) -> None:
    """One that fails, and one that wants a name that another has."""
    site.add("lost", "import not_there\n")
    site.add("p05", CODE.replace("NAME", "p05"), distribution="acme-five")


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("site"))
    install(site, NAMES)
    return site


def simscale(
    *commands: list[str], path: list[Path], cwd: Path, is_reversed: bool = False
) -> tuple[str, set[str], str]:
    """Run commands in one new process: what they print, what is imported, standard error."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SIMSCALE_")}
    environ = {
        **kept,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "OMP_NUM_THREADS": "1",
        VARIABLE: str(cwd / "trace"),
    }
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS.replace("ORDER", str(is_reversed)),
         json.dumps(commands)],
        cwd=cwd, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, _, modules = done.stderr.rpartition("MODULES")
    return done.stdout, {name.partition(".")[0] for name in json.loads(modules)}, said


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["--help"], "plugins"),
        (["plugins", "list"], "p19"),
        (["plugins", "list", "--json"], "p19"),
        (["train", "--plugin", "p07", "--help"], "--p07.width"),
        (["models"], "p11/shared"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_looking_around_imports_nothing_heavy(
    twenty: Site, tmp_path: Path, command: list[str], shown: str
) -> None:
    printed, modules, _ = simscale(command, path=[twenty.folder], cwd=tmp_path)
    assert "exit status 0" in printed and shown in printed
    assert not modules & HEAVY
    if command[0] == "plugins":
        assert not [name for name in modules if name.startswith("fake_")]


def test_a_run_does_import_torch(twenty: Site, tmp_path: Path) -> None:
    """Negative control: the extension of one plugin imports it, and no other plugin's is there."""
    _, modules, _ = simscale(["plugins", "info", "p07"], path=[twenty.folder], cwd=tmp_path)
    assert "torch" in modules


LOOK = (
    ["plugins", "list"],
    ["plugins", "list", "--json"],
    ["plugins", "doctor"],
    ["plugins", "doctor", "--json"],
    ["models"],
    ["hooks", "list"],
    ["train", "--model", "shared", "--max-steps", "1"],
)
TRAIN = ["train", "--plugin", "p13", "--plugin", "p02,p17", "--model", "p03/shared"]
QUICK = ["--max-steps", "2", "--warmup-steps", "1", "--num-workers", "0", "--log-every", "1"]


def events_of(path: Path) -> list[list[str]]:
    """Return step, hook and listener of every call, in order."""
    return [line.split("\t")[:3] for line in path.read_text().splitlines()]


def test_the_order_on_disk_decides_nothing(tmp_path: Path) -> None:
    """Two folders, on the path in both orders, listed in both orders, written in both orders."""
    found = []
    for is_reversed in (False, True):
        cwd = tmp_path / f"reversed-{is_reversed}"
        even, odd = Site(cwd / "even"), Site(cwd / "odd")
        for site, names in ((even, NAMES[::2]), (odd, NAMES[1::2])):
            site.folder.mkdir(parents=True)
            install(site, names[::-1] if is_reversed else names)
        add_troubled(odd)
        path = [odd.folder, even.folder] if is_reversed else [even.folder, odd.folder]
        printed, _, said = simscale(
            *LOOK, [*TRAIN, *QUICK], path=path, cwd=cwd, is_reversed=is_reversed
        )
        kept = [line for line in said.splitlines() if "p0" in line or "p1" in line]
        found.append((printed, kept, events_of(cwd / "trace")))
    assert found[0] == found[1]
    printed, said, events = found[0]
    statuses = [line for line in printed.splitlines() if line.startswith("exit status")]
    assert [line[-1] for line in statuses] == ["0", "0", "1", "1", "0", "0", "2", "0"]
    assert "acme-five" in printed and "lost" in printed
    assert any("--model p03/shared" in line for line in said)
    heard = [who for step, hook, who in events if (step, hook) == ("1", "simscale_on_step_end")]
    assert [name for name in NAMES if any(name in who for who in heard)] == ["p02", "p13", "p17"]


def test_the_order_would_differ(twenty: Site, tmp_path: Path) -> None:
    """Negative control: what the standard library gives does follow the order of the folder."""
    code = (
        "import os\nlisted = os.listdir\nos.listdir = lambda *a: sorted(listed(*a), reverse={})\n"
        "from importlib import metadata\n"
        "print([p.name for p in metadata.entry_points(group='simscaleai.plugins')])"
    )
    environ = {**os.environ, "PYTHONPATH": str(twenty.folder)}
    one, two = (
        subprocess.run(
            [sys.executable, "-c", code.format(is_reversed)],
            cwd=tmp_path, env=environ, capture_output=True, text=True, check=True,
        ).stdout
        for is_reversed in (False, True)
    )  # fmt: skip
    assert one != two and sorted(one) == sorted(two)
