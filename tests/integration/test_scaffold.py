"""``plugins new``, a wheel, a fresh venv: every kind works before its author types a line."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from simscaleai_devkit.scaffold import KINDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LONG_S = 900
QUICK = ("--max-steps", 20, "--warmup-steps", 2, "--num-workers", 0)
TRAIN = ("train", "--plugin", "my-plugin")
WRITE_NPZ = """
import numpy as np
rng = np.random.default_rng(0)
state, actions = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
np.savez("data.npz", state=state, actions=actions, episode=np.repeat(np.arange(6), 10))
"""


@contextmanager
def plugin_in(python: Any, folder: Path) -> Iterator[Path]:
    """Build the wheel of a plugin, install it for the body, and take it out again."""
    dist = folder.parent / "dist"
    pip = ("-m", "pip", "--disable-pip-version-check")
    here = type(python)(Path(sys.executable))  # builds; the wheel alone goes into the venv
    here.run(*pip, "wheel", "-q", "--no-deps", "--wheel-dir", dist, folder, cwd=folder.parent)
    (wheel,) = dist.glob("*.whl")
    python.run(*pip, "install", "-q", "--no-deps", "--force-reinstall", wheel, cwd=folder.parent)
    try:
        yield wheel
    finally:
        python.run(*pip, "uninstall", "-q", "-y", "simscaleai-plugin-my-plugin", cwd=folder.parent)


def begin(python: Any, kind: str, tmp_path: Path) -> Path:
    """Write the plugin by the command of the installed wheel."""
    folder = tmp_path / "plugin"
    command = ("plugins", "new", "my-plugin", "--kind", kind, "--output", folder)
    assert "pytest" in python.simscale(*command, cwd=tmp_path).stdout
    return folder


def run_tests(python: Any, folder: Path, *more: object, status: int = 0) -> str:
    """Run the plugin's tests from elsewhere, so that they import what is installed."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    command = ("-m", "pytest", "-c", folder / "pyproject.toml", "-p", "no:cacheprovider", "-rf")
    done = python.run(
        *command, folder / "tests", *more, cwd=elsewhere, status=status, timeout_s=LONG_S
    )
    return str(done.stdout)


def use(python: Any, kind: str, cwd: Path) -> None:
    """Train with the plugin as its README says."""
    if kind == "env":
        record = ("record", "--env", "my-plugin", "--episodes", 10, "--output", "demos.h5")
        python.simscale(*record, cwd=cwd)
        data = ("--model", "bc", "--dataset", "demos.h5")
    elif kind == "dataset":
        python.run("-c", WRITE_NPZ, cwd=cwd)
        data = ("--dataset", "data.npz")
    else:
        data = ()
    assert python.simscale_json(*TRAIN, *QUICK, *data, cwd=cwd)["global_step"] == 20
    if kind == "env":
        played = ("eval", "checkpoints/final.pt", "--env", "my-plugin", "--episodes", 5)
        assert python.simscale_json(*played, cwd=cwd)["n_episodes"] == 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_works(for_authors: Any, kind: str, tmp_path: Path) -> None:
    folder = begin(for_authors, kind, tmp_path)
    with plugin_in(for_authors, folder) as wheel:
        with zipfile.ZipFile(wheel) as archive:
            files = archive.namelist()
        assert "simscaleai_plugin_my_plugin/py.typed" in files
        assert any(name.endswith("/licenses/LICENSE") for name in files)
        tops = {name.partition("/")[0] for name in files}
        assert {top for top in tops if not top.endswith(".dist-info")} == {
            "simscaleai_plugin_my_plugin"
        }
        assert " failed" not in run_tests(for_authors, folder)
        for_authors.run("-m", "mypy", cwd=folder, timeout_s=LONG_S)
        doctor = ("plugins", "doctor", "my-plugin", "--deep")
        assert for_authors.simscale_json(*doctor, cwd=tmp_path)["faults"] == []
        check = ("plugins", "check", "my-plugin", "--json")
        for_authors.simscale(*check, cwd=tmp_path, timeout_s=LONG_S)
        use(for_authors, kind, tmp_path)


@pytest.mark.parametrize(
    ("kind", "module", "sound", "defect", "test"),
    [
        ("model", "policy", "self._act(tensors).cpu()", "self._act(tensors)[..., :1].cpu()",
         "test_predict_shapes"),
        ("logger", "logger", "in metrics.items()", "in list(metrics.items())[1:]",
         "test_values_read_back"),
        ("optimizer", "optimizer", "sub_(state", "add_(state", "test_lowers_the_loss"),
        ("schedule", "schedule", "rate * self._factor", "self._factor", "test_rates_are_sane"),
        ("train-step", "train_step", "parameter.copy_(value)", "parameter.add_(0)",
         "test_veto_is_obeyed"),
        ("sampler", "sampler", "generator=draw", "out=None", "test_random_state_is_left_alone"),
        ("transform", "transform", "generator=draw", "out=None",
         "test_random_state_is_left_alone"),
        ("adapter", "adapter", "(any(fnmatchcase(name, pattern)", "(any(name == pattern",
         "test_something_is_trained"),
    ],
    ids=[
        "model-of-wrong-shape", "logger-that-drops-rows", "optimizer-that-climbs",
        "schedule-above-its-peak", "train-step-that-stays-away", "sampler-of-global-chance",
        "transform-of-global-chance", "adapter-that-freezes-all",
    ],
)  # fmt: skip
def test_a_defect_is_found(
    for_authors: Any, kind: str, module: str, sound: str, defect: str, test: str, tmp_path: Path
) -> None:
    """Negative control: the tests of the scaffold fail for a plugin with one fault."""
    folder = begin(for_authors, kind, tmp_path)
    path = folder / "simscaleai_plugin_my_plugin" / f"{module}.py"
    text = path.read_text()
    assert text.count(sound) == 1
    path.write_text(text.replace(sound, defect))
    with plugin_in(for_authors, folder):
        out = run_tests(for_authors, folder, "-k", test, status=1)
    assert f"::{test}" in out and "1 failed" in out
