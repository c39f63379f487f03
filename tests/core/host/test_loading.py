"""A plugin that is being written: ``--plugin ./file.py`` and ``--plugin package.module``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from simscaleai_core.cli.app import run
from simscaleai_core.errors import PluginError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.selection import select_plugins

PLUGIN = """
from simscaleai_core.plugin import ModelSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="being written", selects={"model": "draft"})


@hookimpl
def simscale_register_models():
    yield ModelSpec(name="draft", target="NAME:Draft", summary="a draft")


def __getattr__(name):
    if name != "Draft":
        raise AttributeError(name)
    import torch

    class Draft(torch.nn.Module):
        def __init__(self, scale=1.0):
            super().__init__()
            self.hparams = {"scale": scale}
            self.action = torch.nn.Parameter(torch.zeros(4))

        def forward(self, batch):
            return {"loss": (batch["actions"] - self.action).square().mean()}

        def predict(self, obs):
            return self.action

    Draft.__module__, Draft.__qualname__ = __name__, "Draft"
    globals()["Draft"] = Draft
    return Draft
"""


@pytest.fixture
def draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A file with a plugin under a name of the test's own, in the present directory."""
    path = tmp_path / f"draft_{abs(hash(request.node.name))}.py"
    path.write_text(PLUGIN.replace("NAME", path.stem))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("SIMSCALE_PLUGINS", "")
    monkeypatch.setenv("SIMSCALE_PLUGIN", "")
    return path


def test_a_file_trains_and_its_checkpoint_is_loaded(
    draft: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--max-steps", "3", "--num-workers", "0", "--checkpoint-dir", "c")
    assert run(["train", "--plugin", f"./{draft.name}", *arguments]) == 0
    capsys.readouterr()
    assert run(["models", "--json", "--plugin", f"./{draft.name}"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert listed == [{"id": f"{draft.stem}/draft", "summary": "a draft"}]

    from simscaleai_core import load_policy

    policy = load_policy("c/final.pt", Host(select_plugins([f"./{draft.name}"])))
    assert type(policy).__name__ == "Draft"


def test_a_module_by_its_dotted_name(draft: Path) -> None:
    package = draft.parent / f"package_{draft.stem}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(draft.read_text())
    sys.path.append(str(draft.parent))
    host = Host(select_plugins([f"{package.name}.plugin"]))
    assert host.component("model", "draft").id == "plugin/draft"


def test_the_environment_names_plugins_too(draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMSCALE_PLUGIN", str(draft))
    assert Host().component("model", "draft").plugin == draft.stem
    assert os.environ["SIMSCALE_PLUGINS"] == ""  # a file that is named is found all the same


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("nowhere.py", None, "there is no file"),
        ("json.py", "", "belongs to"),
        ("empty_draft.py", "", "the module has no PLUGIN"),
        ("broken_draft.py", "import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_file_that_is_no_plugin_is_one_clear_error(
    draft: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, part: str
) -> None:
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(PluginError, match=part):
        Host(select_plugins([f"./{name}"])).components  # noqa: B018 - loads
    assert run(["models", "--plugin", f"./{name}"]) == 3
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1 and part in text
