"""The table of the project's own components, from which installation is suggested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simscaleai_plugin_gym.executors.choice import executors

from simscaleai_core.cli.known_components import COMPONENTS, hint_for, install_hint, own_plugin
from simscaleai_core.errors import CheckpointError, UnknownComponentError
from simscaleai_core.host.facade import Host

REPOSITORY = Path(__file__).parents[3]


def test_the_table_is_what_our_plugins_declare() -> None:
    host = Host()
    ours = [r for r in host.records if r.distribution.startswith("simscaleai-plugin-")]
    declared: dict[str, dict[str, set[str]]] = {}
    for component in [*host.components, *executors(host)]:
        if component.plugin in {r.name for r in ours}:
            names = declared.setdefault(component.kind, {}).setdefault(component.plugin, set())
            names.add(component.spec.name)
    assert ours
    assert declared == {
        kind: {plugin: set(names.split()) for plugin, names in plugins.items()}
        for kind, plugins in COMPONENTS.items()
    }


def test_only_ours_are_suggested_and_only_if_they_are_missing() -> None:
    assert own_plugin("logger", "wandb") == own_plugin("logger", "wandb/wandb") == "wandb"
    assert own_plugin("model", "acme/bc") == own_plugin("model", "wandb") == ""
    assert own_plugin("plugin", "Simscaleai_Plugin_VLA") == own_plugin("plugin", "vla") == "vla"
    assert own_plugin("plugin", "data") == "data", "it has commands alone"
    assert own_plugin("plugin", "evil; rm") == own_plugin("plugin", "core") == ""
    missing = UnknownComponentError("", kind="logger", name="wandb", candidates=[])
    caused = CheckpointError("", path="x")
    caused.__cause__ = missing
    assert hint_for(missing) == hint_for(caused) == "", "it is installed here"
    assert "pip install simscaleai-plugin-nothing" in install_hint("nothing")
    assert not hint_for(UnknownComponentError("", kind="logger", name="evil", candidates=[]))
    assert not hint_for(CheckpointError("", path="x"))


@pytest.fixture(scope="module")
def core_alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the core is installed, and none of the plugins.

    The site-packages of this one, linked entry by entry; ``python -S`` adds no other.
    """
    folder = tmp_path_factory.mktemp("site-packages")
    for place in map(Path, [p for p in sys.path if p.endswith("site-packages")]):
        for entry in place.iterdir():
            if not entry.name.startswith(("simscaleai", "__editable__")):
                link = folder / entry.name
                if not link.exists():
                    link.symlink_to(entry)
    (info,) = {
        e for p in sys.path for e in Path(p or ".").glob("simscaleai_core-*.dist-info")
    }  # fmt: skip
    (folder / info.name).symlink_to(info)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIMSCALE_", "PYTHON"))}
    return {**kept, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "plugin"),
    [
        (("--model", "vla"), "vla"),
        ((), "bc"),
        (("--precision", "amp"), "amp"),
        (("--strategy", "ddp"), "ddp"),
        (("--distributed",), "ddp"),
        (("--extension", "ema"), "extensions"),
        (("--checkpoint-backend", "safetensors"), "safetensors"),
        (("--logger", "wandb"), "wandb"),
        (("--use-wandb",), "wandb"),
        (("--eval-fn", "closed_loop"), "gym"),
        (("--dataset", "x.hdf5"), "hdf5"),
        (("--plugin", "tensorboard"), "tensorboard"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_missing_is_named_with_its_distribution(
    core_alone: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], plugin: str
) -> None:
    model = tmp_path / "mine.py"
    model.write_text(MODEL)
    own = () if plugin in {"bc", "vla"} else ("--plugin", "./mine.py")
    command = [sys.executable, "-S", "-m", "simscaleai_core", "train", "--max-steps", "2", *own]
    done = subprocess.run(
        [*command, *arguments], cwd=tmp_path, env=core_alone, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"pip install simscaleai-plugin-{plugin}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "checkpoints").exists()


MODEL = """
from simscaleai_core.plugin import ModelSpec, PluginInfo, provides

PLUGIN = PluginInfo(summary="mine", selects={"model": "mine"})
simscale_register_models = provides(ModelSpec(name="mine", target="mine:Mine"))


def __getattr__(name):
    if name != "Mine":
        raise AttributeError(name)
    import torch

    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.action = torch.nn.Parameter(torch.zeros(4))

        def forward(self, batch):
            return {"loss": (batch["actions"] - self.action).square().mean()}

    return Mine
"""
