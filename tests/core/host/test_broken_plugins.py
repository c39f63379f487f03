"""Eight broken plugins at once, and two that offer one name, seen through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from site_kit import HEAD, INFO, Site, models_of, sound

from simscaleai_core.host.entry_points import GROUP

pytestmark = pytest.mark.slow  # every test starts processes

REASONS = {
    "badimport": "No module named 'not_there'",
    "badfile": "FileNotFoundError",
    "badapi": "it needs plugin API >=9",
    "badhook": "did you mean 'simscale_register_models'?",
    "badmark": "is not marked: put @hookimpl above it",
    "baddefault": "has no argument 'x'; it offers none",
    "acme-good": "use 'acme-good'",
}
TRAIN = ("train", "--max-steps", "2", "--num-workers", "0", "--checkpoint-dir", "c", "--plugin")


@pytest.fixture
def broken(tmp_path: Path) -> Site:
    """A folder with a sound plugin and eight broken ones."""
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    model = "simscaleai_plugin_bc.policy:BCPolicy"
    info = ", selects={'model': 'good'}"
    site.add("good", HEAD + INFO.format(info) + models_of("good", target=model))
    site.add("badimport", HEAD + "import not_there\n")
    site.add("badfile", HEAD + "open('/no/such/file')\n")
    site.add("badapi", sound("a", info=", requires_api='>=9'"))
    site.add("badhook", sound("b") + "@hookimpl\ndef simscale_register_modles():\n    return []\n")
    site.add("badmark", HEAD + INFO.format("") + "def simscale_register_models():\n    return []\n")
    site.add(
        "baddefault",
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_register_models(x=1):\n    return []\n",
    )
    site.add("good", sound("other"), distribution="acme-good")
    site.add("exits", "import os\nos._exit(9)\n")
    return site


def simscale(site: Site, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    installed = {p.name for p in metadata.entry_points(group=GROUP)}
    environ = {
        **os.environ,
        "PYTHONPATH": str(site.folder),
        "SIMSCALE_PLUGINS": ",".join(f"-{name}" for name in sorted(installed)),
    }
    command = [sys.executable, "-m", "simscaleai_core", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )


def test_a_run_that_needs_none_of_them_works_and_is_not_told_of_them(
    broken: Site, tmp_path: Path
) -> None:
    done = simscale(broken, *TRAIN, "good", "--no-plugin", "exits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in REASONS:
        assert f"plugin {name!r}" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_misses_something_is_told_one_line_each(broken: Site, tmp_path: Path) -> None:
    arguments = ("--model", "nowhere", "--no-plugin", "exits")
    done = simscale(broken, *TRAIN, "good", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    for name, reason in REASONS.items():
        if name != "acme-good":  # it works, under its distribution's name
            (line,) = [t for t in done.stderr.splitlines() if f"plugin {name!r}" in t]
            assert reason in line and "may have offered it" in line
    assert "Traceback" not in done.stderr


def test_the_doctor_names_them_all(broken: Site, tmp_path: Path) -> None:
    done = simscale(broken, "plugins", "doctor", "--json", "--no-plugin", "exits", cwd=tmp_path)
    assert done.returncode == 1
    faults = {f["plugin"]: f for f in json.loads(done.stdout)["faults"]}
    assert set(faults) == set(REASONS)
    for name, reason in REASONS.items():
        assert reason in faults[name]["fault"]
        assert faults[name]["remedy"]
    listed = simscale(broken, "plugins", "list", "--json", "--no-plugin", "exits", cwd=tmp_path)
    states = {p["name"]: p["state"] for p in json.loads(listed.stdout)["plugins"]}
    assert states["exits"] == "blocked"


def test_without_blocking_it_the_process_is_gone(broken: Site, tmp_path: Path) -> None:
    """Negative control: the plugin really ends the process when it is imported."""
    assert simscale(broken, "models", cwd=tmp_path).returncode == 9


def test_the_doctor_looks_deeper_when_asked(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    site.add("lazy", HEAD + INFO.format("") + models_of("lost", target="no_such_module:X"))
    site.add("heavy", HEAD + "import numpy\n" + INFO.format(""))
    shallow = simscale(site, "plugins", "doctor", "--json", cwd=tmp_path)
    (heavy,) = json.loads(shallow.stdout)["faults"]
    assert heavy["plugin"] == "heavy" and "loading it imports numpy" in heavy["fault"]
    deep = simscale(site, "plugins", "doctor", "lazy", "--deep", "--json", cwd=tmp_path)
    (lost,) = json.loads(deep.stdout)["faults"]
    assert "cannot be imported from no_such_module:X" in lost["fault"] and deep.returncode == 1
    alone = simscale(site, "plugins", "doctor", "lazy", "--json", cwd=tmp_path)
    assert alone.returncode == 0


def test_two_plugins_that_offer_one_model(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    for name in ("act", "vlb"):
        info = INFO.format(", selects={'model': 'vlx'}")
        target = f"fake_simscaleai_plugin_{name}.model:Policy"
        site.add(name, HEAD + info + models_of("vlx", target=target))
        module = site.folder / f"fake_simscaleai_plugin_{name}" / "model.py"
        base = "from simscaleai_plugin_bc.policy import BCPolicy"
        module.write_text(f"{base}\n\nclass Policy(BCPolicy):\n    pass\n")
    unused = simscale(site, "models", cwd=tmp_path)
    assert unused.returncode == 0 and not unused.stderr
    ambiguous = simscale(site, *TRAIN[:-1], "--model", "vlx", cwd=tmp_path)
    assert ambiguous.returncode == 2
    assert "--model act/vlx" in ambiguous.stderr and "--model vlb/vlx" in ambiguous.stderr
    decided = simscale(site, *TRAIN, "act", cwd=tmp_path)
    assert decided.returncode == 0, decided.stderr
    other = ("--model", "vlb/vlx", "--resume", "c/final.pt")
    resumed = simscale(site, *TRAIN, "vlb", *other, cwd=tmp_path)
    assert resumed.returncode == 2, resumed.stderr
    assert "act/vlx" in resumed.stderr and "vlb/vlx" in resumed.stderr


RAISING = """
import torch


class Policy(torch.nn.Module):
    def __init__(self, WHERE=0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4))
        if "WHERE" == "init":
            raise RuntimeError("no memory for it")

    def forward(self, batch):
        return {"loss": torch.stack([self.weight, batch["no such key"]]).sum()}
"""


@pytest.mark.parametrize(("where", "error"), [("init", "no memory"), ("forward", "no such key")])
def test_a_model_that_raises_is_named(tmp_path: Path, where: str, error: str) -> None:
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    package = "fake_simscaleai_plugin_faulty"
    info = INFO.format(", selects={'model': 'faulty'}")
    site.add("faulty", HEAD + info + models_of("faulty", target=f"{package}.model:Policy"))
    (site.folder / package / "model.py").write_text(RAISING.replace("WHERE", where))
    done = simscale(site, *TRAIN, "faulty", cwd=tmp_path)
    assert done.returncode == 1 and error in done.stderr
    note = "raised in the code of plugin 'faulty' (simscaleai-plugin-faulty 1.0)"
    assert done.stderr.count(note) == 1
