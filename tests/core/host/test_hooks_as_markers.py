"""A hook marks a method or a provider of any name, and is fired with its types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from training_kit import train

from simscaleai_core.cli.app import run
from simscaleai_core.errors import ConfigError, PluginError
from simscaleai_core.hookspecs import (
    simscale_on_metrics,
    simscale_on_run_start,
    simscale_on_step_end,
)
from simscaleai_core.host.events import compile_events
from simscaleai_core.host.facade import Host
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import hookimpl, hookspec
from simscaleai_core.run.state import Run


class Counter:
    """Counts steps under names of its own, and takes what it needs."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @simscale_on_run_start
    def begin(self) -> None:
        self.heard.append("begin")

    @simscale_on_step_end
    def count(self, run: Run, out: Mapping[str, Any]) -> None:
        self.heard.append(f"step {run.step}: {'loss' in out}")

    @simscale_on_metrics
    def add(self, metrics: dict[str, float]) -> None:
        metrics["train/counted"] = float(len(self.heard))


class Louder(Counter):
    """Hears the start twice: with the method that it inherits, and with its own."""

    @simscale_on_run_start
    def shout(self, run: Run) -> None:
        self.heard.append(f"BEGIN {run.step}")


class Silenced(Counter):
    """Overrides a listener as if it were any method."""

    def count(self, run: Run, out: Mapping[str, Any]) -> None:
        """Do nothing."""


def test_methods_of_any_name_are_called(tmp_path: Path) -> None:
    counter = Louder()
    train(tmp_path / "run", host=Host(), listeners=(counter,), max_steps=2, log_every=1)
    assert sorted(counter.heard[:2]) == ["BEGIN 0", "begin"]
    assert counter.heard[2:] == ["step 1: True", "step 2: True"]


def test_the_fast_path_is_the_marked_method_itself() -> None:
    counter = Counter()
    assert compile_events([("x", counter)]).step_end == (counter.count,)


def test_an_override_that_is_not_marked_is_refused() -> None:
    with pytest.raises(PluginError, match="x: count is not marked, but what it overrides is"):
        compile_events([("x", Silenced())])


def test_what_a_marked_method_takes_is_checked_by_the_hook() -> None:
    class Faulty:
        @simscale_on_step_end  # type: ignore[arg-type]
        def hear(self, output: Any) -> None:
            """Take what the hook does not offer."""

    with pytest.raises(PluginError, match="on_step_end has no argument 'output'; it offers run, o"):
        compile_events([("x", Faulty())])


HOOKS = '''
from simscaleai_core.hookspecs import simscale_on_run_start
from simscaleai_core.plugin import hookspec


@hookspec
def grip_on_grasp(run, force_newton):
    """Called when the gripper closes."""
'''
PLUGIN = """
from attrs import frozen

from simscaleai_core.hookspecs import *
from simscaleai_core.plugin import *

PLUGIN = PluginInfo(summary="Grasps", selects={"extension": "ear"}, hookspecs="grip_hooks")


@simscale_register_extensions
def ears():
    yield ExtensionSpec(name="ear", target="grip:Ear", summary="Hears")


models = simscale_register_models(
    provides(ModelSpec(name="mine", target="json:JSONDecoder", summary="Mine"))
)


@simscale_migrate_checkpoint
def renamed(tree):
    return tree


class Ear:
    def __init__(self, config, options=None):
        pass

    @simscale_on_run_end
    def close(self, status):
        pass

    @hookimpl
    def simscale_on_run_setup(self):
        pass
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with a plugin in a file, whose functions and methods have names of their own."""
    (tmp_path / "grip_hooks.py").write_text(HOOKS)
    (tmp_path / "grip.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("grip", "grip_hooks"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    return Host(select_plugins([str(tmp_path / "grip.py")]))


def test_providers_of_any_name_are_asked(host: Host) -> None:
    assert host.component("extension", "ear").spec.summary == "Hears"
    assert host.component("model", "mine").spec.summary == "Mine"


def test_a_plugins_own_hook_is_marked_and_fired_with_its_arguments(
    host: Host, tmp_path: Path
) -> None:
    from grip_hooks import grip_on_grasp  # type: ignore[import-not-found]

    class Fires:
        @simscale_on_step_end
        def act(self, run: Run) -> None:
            answers.append(run.fire(grip_on_grasp, run, force_newton=2.0 * run.step))
            run.hook.grip_on_grasp(run=run, force_newton=0.5)  # type: ignore[attr-defined]

    class Hears:
        @grip_on_grasp
        def felt(self, force_newton: float) -> str:
            forces.append(force_newton)
            return "ouch"

    answers: list[Any] = []
    forces: list[float] = []
    train(tmp_path / "run", host=host, listeners=(Fires(), Hears()), max_steps=2)
    assert forces == [2.0, 0.5, 4.0, 0.5]
    assert answers == [["ouch"], ["ouch"]]


def test_a_hook_that_no_plugin_has_is_not_fired(tmp_path: Path) -> None:
    @hookspec
    def nobody_on_call(run: Run) -> None:
        """Called never."""

    class Fires:
        @hookimpl
        def simscale_on_step_end(self, run: Run) -> None:
            run.fire(nobody_on_call, run)

    with pytest.raises(ConfigError, match="unknown hook 'nobody_on_call': expected one of an "):
        train(tmp_path / "run", host=Host(), listeners=(Fires(),), max_steps=1)


def test_the_events_of_a_component_are_listed_whatever_its_methods_are_called(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plugins", "info", "grip", "--json", "--plugin", str(tmp_path / "grip.py")]) == 0
    (ear,) = [c for c in json.loads(capsys.readouterr().out)["components"] if "ear" in c["id"]]
    assert ear["listens_to"] == ["simscale_on_run_setup", "simscale_on_run_end"]
