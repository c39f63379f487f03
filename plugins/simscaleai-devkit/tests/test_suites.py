"""The suites as pytest classes, and the same checks from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import simscaleai_devkit
from simscaleai_devkit import LoggerSuite, NotApplicable, PluginSuite
from simscaleai_devkit.loggers.driver import Rows
from simscaleai_devkit.suite import is_slow, name_of, run_check
from simscaleai_devkit.support.process import modules_loaded_by, no_network, state_changes
from simscaleai_devkit.support.runs import logged_curves
from simscaleai_devkit.support.trees import edge_case_tree, tree_differences

SUITES = [n for n in simscaleai_devkit.__all__ if n.endswith("Suite")]


class TestJsonl(LoggerSuite):
    component = "builtin/jsonl"

    @classmethod
    def read_back(cls, folder: Path) -> Rows:
        return logged_curves(folder)


def _pytest(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "test_it.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_each_check_is_an_item_that_passes_fails_or_is_skipped_with_its_reason(
    tmp_path: Path,
) -> None:
    done = _pytest(
        tmp_path,
        """
        from simscaleai_devkit import LoggerSuite

        class Broken:
            def __init__(self, config, options=None): ...
            def start(self, facts, step): ...
            def log(self, metrics, step): print(metrics)
            def close(self, status): ...

        class TestBroken(LoggerSuite):
            component = Broken
            unsupported = {"two_at_once": "there is one screen"}
        """,
    )
    lines = done.stdout.splitlines()
    assert "PASSED test_it.py::TestBroken::test_calls_are_quick" in lines
    (failed,) = [line for line in lines if line.startswith("FAILED")]
    assert "test_is_silent_on_stdout - Failed: standard" in failed
    assert any(line.startswith("SKIPPED") and "there is one screen" in line for line in lines)
    assert any("has no read_back" in line for line in lines)
    assert "1 failed, 10 passed, 4 skipped" in lines[-1]
    assert (
        "standard output: expected nothing, got" in done.stdout and "Traceback" not in done.stdout
    )


def test_every_check_says_what_it_checks() -> None:
    for kind in SUITES:
        checks = getattr(simscaleai_devkit, kind).checks
        assert len({name_of(c) for c in checks}) == len(checks) >= 5
        assert not [name_of(c) for c in checks if not (c.__doc__ or "").strip()]


def test_what_is_unsupported_is_a_known_check_with_a_reason() -> None:
    with pytest.raises(TypeError, match=r"unknown check 'two_at_one'\. Did you mean 'two_at_once'"):
        type("Bad", (LoggerSuite,), {"unsupported": {"two_at_one": "no"}})
    with pytest.raises(TypeError, match="expected a reason"):
        type("Bad", (LoggerSuite,), {"unsupported": {"two_at_once": " "}})
    declared = type("Good", (LoggerSuite,), {"unsupported": {"two_at_once": "one screen"}})
    (check,) = [c for c in declared.checks if name_of(c) == "two_at_once"]
    with pytest.raises(NotApplicable, match="one screen"):
        run_check(declared, check)


class TestConsole(LoggerSuite):
    component = "builtin/console"


def test_a_suite_without_a_component_has_no_tests() -> None:
    assert not [n for n in dir(LoggerSuite) if n.startswith("test_")]
    assert [n for n in dir(TestConsole) if n.startswith("test_")]


def test_slow_checks_are_marked() -> None:
    for kind in SUITES:
        suite = type("Checked", (getattr(simscaleai_devkit, kind),), {"component": "builtin/x"})
        for check in suite.checks:
            test: Any = getattr(suite, f"test_{name_of(check)}")
            marks = [m.name for m in getattr(test, "pytestmark", [])]
            assert (marks == ["slow"]) == is_slow(check)


class TestBuiltin(PluginSuite):
    component = "builtin"


@pytest.mark.slow
def test_the_kit_needs_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from simscaleai_core.cli.app import run\n"
        "sys.exit(run(['plugins', 'check', 'builtin/console', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] == 0
    assert {c["component"] for c in found["checks"]} == {"builtin/console"}
    assert {c["status"] for c in found["checks"]} == {"passed", "skipped"}


def test_the_kit_loads_nothing_before_it_is_used() -> None:
    assert not {"torch", "pytest"} & modules_loaded_by("import simscaleai_devkit")


def test_the_command_names_what_failed(simscale_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from simscaleai_core.cli.console import ConsoleLogger

    def log(self: Any, metrics: Any, step: int) -> None:
        print(metrics)

    monkeypatch.setattr(ConsoleLogger, "log", log)
    done = simscale_cli("plugins", "check", "builtin/console", "--kind", "logger")
    assert done.status == 1
    assert "failed: builtin/console is_silent_on_stdout" in done.out
    assert "Print to standard error" in done.out
    assert "checking logger builtin/console" in done.err
    assert done.out.rstrip().endswith("1 failed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonesuch",), "unknown plugin 'nonesuch'"),
        (("builtin", "--kind", "modle"), "unknown kind 'modle'"),
        (("builtin", "--kind", "model"), "nothing to check"),
        (("builtin/none",), "nothing to check"),
        (("builtin", "--option", "x"), "expected name=value"),
    ],
)
def test_the_command_explains_mistakes(
    simscale_cli: Any, arguments: tuple[str, ...], said: str
) -> None:
    done = simscale_cli("plugins", "check", *arguments)
    assert done.status == 2
    assert said in done.err


def test_options_and_data_reach_the_component(simscale_cli: Any) -> None:
    done = simscale_cli("plugins", "check", "builtin/dummy", "--option", "num-samples=1", "--json")
    skipped = {c["check"]: c["message"] for c in done.json["checks"] if c["status"] == "skipped"}
    assert "single episode" in skipped["split_is_by_episode"]


def test_trees_are_compared_to_the_last_bit() -> None:
    tree = edge_case_tree()
    assert not tree_differences(tree, edge_case_tree())
    tree["numbers"] = (*tree["numbers"][:1], 0.0, *tree["numbers"][2:])
    assert tree_differences(tree, edge_case_tree()) == ["$.numbers[1]: 0.0 != -0.0"]
    tree["views"][0][0, 0] = -0.0
    assert len(tree_differences(tree, edge_case_tree())) > 1


def test_changes_of_the_process_are_named() -> None:
    before = {"the environment": {"A": "1"}, "torch's default dtype": "float32", "gone": 1}
    after = {"the environment": {"A": "2", "B": "1"}, "torch's default dtype": "float64"}
    assert state_changes(before, after) == [
        "the environment (A, B)", "torch's default dtype ('float32' became 'float64')",
    ]  # fmt: skip


def test_no_network_refuses_other_machines_only() -> None:
    import socket

    with no_network() as tried, pytest.raises(ConnectionError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    assert tried == ["192.0.2.1"]
    with socket.socket() as server, no_network():
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname(), timeout=5).close()
