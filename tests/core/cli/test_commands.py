"""Commands of plugins: each name is one command's, whoever else offers it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App
from site_kit import Site, sound

from simscaleai_core.cli import checkpoint, hooks, pages, plugins
from simscaleai_core.cli.app import run
from simscaleai_core.cli.known_commands import (
    OWN_COMMANDS,
    command_offers,
    refused_commands,
)
from simscaleai_core.host.selection import select_plugins


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = [(app, {*app}) for app in (plugins.app, hooks.app, checkpoint.app)]
    yield Site(tmp_path)
    for app, names in before:  # they are the whole process's
        for name in {*app} - names:
            del app[name]
    for name in [n for n in sys.modules if n.startswith("fake_")]:
        del sys.modules[name]


def add(site: Site, name: str, *commands: str, code: str = "") -> None:
    """Install a plugin with commands that print who they are."""
    module = f"fake_simscaleai_plugin_{name}"
    lines = [f"{command} = {module}.commands:fly" for command in commands]
    site.add(name, sound(f"m-{name}"), extra="\n".join(["[simscaleai.commands]", *lines, ""]))
    own = code or f"def fly(*words: str):\n    '''Fly.'''\n    print('this is {name}', *words)\n"
    (site.folder / module / "commands.py").write_text(own)


def test_the_cores_own_commands_are_all_known() -> None:
    names = {command.name for command in pages._OWN_COMMANDS}
    assert set(OWN_COMMANDS) == {*names, "train"}
    apps: dict[str, App] = {
        "plugins": plugins.app, "hooks": hooks.app, "checkpoint": checkpoint.app
    }  # fmt: skip
    brought = {"check", "new"}  # by the devkit, if another test has called them
    for name, subcommands in OWN_COMMANDS.items():
        found = {n for n in apps.get(name, ()) if not n.startswith("-")} - brought
        assert found == set(subcommands), name


@pytest.mark.parametrize(
    "arguments",
    [["models"], ["plugins", "list"], ["plugins", "doctor"], ["hooks", "list"], ["eval"]],
)
def test_names_of_the_core_break_nothing(
    site: Site, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    own = ["train", *OWN_COMMANDS, "plugins.doctor", "plugins.list", "hooks.list", "eval"]
    add(site, "rogue", *dict.fromkeys(own), "--help", "a.b.c", "no.parent", "models.all", "fly")
    run([*arguments, *(["nothing.pt"] if arguments == ["eval"] else [])])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and "this is rogue" not in printed.out
    told = [line for line in printed.err.splitlines() if "is not used" in line]
    assert len(told) == (1 if ".".join(arguments) in own else 0) + (
        1 if len(arguments) == 2 and arguments[0] in own else 0
    )


def test_the_doctor_names_every_command_that_is_not_used(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    add(site, "rogue", "train", "plugins.doctor", "eval", "--x", "a.b.c", "no.parent", "models.all")
    add(site, "sound", "fly", "fly.high", "plugins.frob")
    assert run(["plugins", "doctor", "rogue", "--json"]) == 1
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert {f["plugin"] for f in faults} == {"rogue"}
    reasons = {f["fault"].split("'")[1]: f["fault"].rpartition("not used: ")[2] for f in faults}
    assert reasons == {
        "train": "the core has a command of this name, which is used",
        "plugins doctor": "the core has a command of this name, which is used",
        "eval": "simscaleai-plugin-gym has a command of this name too, which is used",
        "--x": "expected a name of letters, digits, '-' and '_', with one dot for a subcommand",
        "a b c": "expected a name of letters, digits, '-' and '_', with one dot for a subcommand",
        "no parent": "there is no command 'no' that it could belong to",
        "models all": "the command 'models' has no subcommands",
    }
    assert run(["plugins", "doctor", "sound"]) == 0


def test_two_plugins_with_one_command(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    add(site, "two", "fly")
    add(site, "one", "fly")
    for arguments, used, other in (
        (["fly"], "one", "two"),
        (["fly", "--plugin", "two"], "two", "one"),
        (["fly", "--no-plugin", "one"], "two", ""),
    ):
        assert run(arguments) == 0
        printed = capsys.readouterr()
        assert printed.out == f"this is {used}\n"
        assert printed.err.count("is not used") == bool(other)
        assert f"'fly' of simscaleai-plugin-{other}" in printed.err or not other
    (refused,) = refused_commands(select_plugins())
    assert refused.offer.distribution == "simscaleai-plugin-two"
    assert [o.distribution for o in command_offers(select_plugins()) if o.name == "fly"] == [
        "simscaleai-plugin-one"
    ]


@pytest.mark.parametrize(
    "code", ["import no_such_module\n", "raise SystemExit(9)\n", "other = 1\n"]
)
def test_a_command_that_cannot_be_imported_is_one_clear_error(
    site: Site, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    add(site, "gone", "sink", "plugins.sink", code=code)
    for arguments in (["sink"], ["sink", "--help"], ["plugins", "sink"]):
        assert run(arguments) == 3
        err = capsys.readouterr().err
        assert "simscaleai-plugin-gone cannot be imported from" in err
        assert "--no-plugin simscaleai-plugin-gone" in err and "Traceback" not in err
    assert run(["skin"]) == 2, "and it is imported by no other command, nor by a typing mistake"
    assert 'Unknown command "skin"' in capsys.readouterr().err
