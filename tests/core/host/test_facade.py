"""Discovery and isolation, against real distributions written to disk."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from site_kit import HEAD, INFO, Site, models_of, sound
from torch import nn
from training_kit import train

from simscaleai_core.cli.known_commands import command_offers
from simscaleai_core.cli.pages import commands, front_page
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import (
    ConfigError,
    PluginError,
    SimScaleError,
    UnknownComponentError,
)
from simscaleai_core.host.defaults import fill_defaults, used_plugins
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import hookimpl
from simscaleai_core.trainer import Trainer


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder in front of the path; plugins that are really installed are kept out."""
    installed = {p.name for p in metadata.entry_points(group="simscaleai.plugins")}
    monkeypatch.setenv("SIMSCALE_PLUGINS", ",".join(f"-{name}" for name in installed))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("SIMSCALE_PLUGINS_STRICT", raising=False)
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


def _states(host: Host) -> dict[str, str]:
    host.components  # noqa: B018 - loads
    return {r.name: r.state for r in host.records if r.state != "blocked"}


def _reason(host: Host, name: str) -> str:
    return next(r.reason for r in host.records if r.name == name)


def test_a_sound_plugin_is_found_without_importing_it(site: Site) -> None:
    site.add("good", sound("mine"))
    host = Host()
    assert [(r.name, r.state, r.version) for r in host.records if r.name == "good"] == [
        ("good", "discovered", "1.0")
    ]
    assert not [m for m in sys.modules if m.startswith("fake_")]
    assert host.component("model", "mine").id == "good/mine"
    assert host.record("simscaleai-plugin-good").import_ms > 0


def test_each_plugin_has_its_own_version_and_is_held_against_the_cores(site: Site) -> None:
    core = metadata.version("simscaleai-core")
    for name, version in (("first", "7.1"), ("second", "8.2")):
        site.add(name, sound(f"of-{name}"), version=version, requires=f"simscaleai-core>={core}")
    host = Host()
    found = {r.name: (r.version, r.state) for r in host.records if r.state != "blocked"}
    assert found["first"] == ("7.1", "discovered")
    assert found["second"] == ("8.2", "discovered")
    assert found["builtin"][0] == core


BROKEN = {
    "importing": ("import no_such_module_anywhere\n", "No module named 'no_such_module_anywhere'"),
    "library": ("raise OSError('libfoo.so.3: cannot open shared object')\n", "libfoo.so.3"),
    "exiting": ("import sys; sys.exit(3)\n", "SystemExit: 3"),
    "oldapi": (sound("x", info=", requires_api='>=99'"), "it needs plugin API >=99"),
    "unknownhook": (
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_register_model(): yield\n",
        "did you mean 'simscale_register_models'?",
    ),
    "undecorated": (
        HEAD + INFO.format("") + "def simscale_register_models(): yield\n",
        "simscale_register_models is not marked",
    ),
    "default": (
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_register_models(x=1): yield\n",
        "has no argument 'x'",
    ),
    "noinfo": (HEAD + models_of("x"), "no PLUGIN = PluginInfo"),
    "syntax": ("def broken(:\n", "SyntaxError"),
    "wrongrecord": (
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_register_models(): yield 3\n",
        "simscale_register_models gave 3: expected ModelSpec",
    ),
    "otherrecord": (
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_register_models():\n"
        "    yield LoggerSpec(name='x', target='a:b')\n",
        "expected ModelSpec",
    ),
    "badname": (sound("Bad Name"), "expected lower-case letters"),
    "badtarget": (
        HEAD + INFO.format("") + models_of("x", target="no_colon"),
        "package.module:attr",
    ),
    "badvariation": (
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_register_envs():\n"
        "    yield EnvSpec(name='x', target='a:b', variations={'Mass': 'factor'})\n",
        "EnvSpec.variations: expected lower-case letters",
    ),
    "nomeaning": (
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_register_envs():\n"
        "    yield EnvSpec(name='x', target='a:b', variations={'mass': 1.0})\n",
        "'variations' must be <class 'str'> (got 1.0",
    ),
    "twice": (sound("x", "x"), "declares 'x' twice"),
    "raising": (
        HEAD
        + INFO.format("")
        + "@hookimpl\ndef simscale_register_models():\n    raise KeyError('k')\n",
        "KeyError: 'k'",
    ),
    "event": (
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_on_run_start(run): pass\n",
        "an event and does nothing at module level",
    ),
    "hot": (
        HEAD + INFO.format("") + "@hookimpl\ndef simscale_transform_batch(batch): return batch\n",
        "an event and does nothing at module level",
    ),
    "badrange": (sound("x", info=", requires_api='newest'"), "not a version range"),
    "badkind": (sound("x", info=", selects={'modle': 'x'}"), "unknown kind 'modle'"),
}


def test_many_broken_plugins_at_once_leave_the_others_alone(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for name, (code, _) in BROKEN.items():
        site.add(name, code)
    site.add("agood", sound("first"))
    site.add("zgood", sound("last"))
    host = Host()
    with caplog.at_level(logging.WARNING, "simscaleai"):
        states = _states(host)
    assert states.pop("agood") == states.pop("zgood") == states.pop("builtin") == "loaded"
    assert set(states) == set(BROKEN)
    assert set(states.values()) <= {"failed", "incompatible"}
    assert {host.component("model", n).plugin for n in ("first", "last")} == {"agood", "zgood"}
    assert not caplog.text, "nobody has missed them yet"
    with pytest.raises(UnknownComponentError) as caught:
        host.component("model", "nowhere")
    for name, (_, text) in BROKEN.items():
        assert text in _reason(host, name), name
        assert f"plugin '{name}' (simscaleai-plugin-{name} 1.0)" in str(caught.value)


@pytest.mark.parametrize("name", ["importing", "exiting", "oldapi", "wrongrecord"])
def test_a_broken_plugin_that_was_asked_for_is_an_error(site: Site, name: str) -> None:
    code, text = BROKEN[name]
    site.add(name, code)
    with pytest.raises(PluginError) as caught:
        _states(Host(select_plugins([name])))
    assert text in str(caught.value)
    assert caught.value.plugin == name
    assert caught.value.exit_status == 3
    assert caught.value.distribution == f"simscaleai-plugin-{name} 1.0"


def test_strict_makes_any_fault_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("importing", BROKEN["importing"][0])
    monkeypatch.setenv("SIMSCALE_PLUGINS_STRICT", "1")
    with pytest.raises(PluginError, match="no_such_module_anywhere"):
        _states(Host())


def test_a_plugin_that_kills_the_process_can_be_blocked(site: Site) -> None:
    site.add("killer", "import os; os._exit(9)\n")
    site.add("good", sound("mine"))
    code = (
        f"import sys; sys.path.insert(0, {str(site.folder)!r})\n"
        "from simscaleai_core.cli.app import run\n"
        "sys.exit(run([*sys.argv[1:], 'models', '--json']))\n"
    )
    statuses, outputs = [], []
    for arguments in ([], ["--no-plugin", "killer"], ["--no-plugin=killer"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        statuses.append(done.returncode)
        outputs.append(done.stdout)
    assert statuses == [9, 0, 0]
    assert "good/mine" in outputs[1]
    states = _states(Host(select_plugins(blocked=["killer"])))
    assert "killer" not in states


def test_a_plugin_for_another_core_is_named(site: Site) -> None:
    site.add("future", sound("x"), requires="simscaleai_core>=99")
    site.add("fine", sound("y"), requires="simscaleai.core>=0.0.1")
    host = Host()
    assert _states(host)["future"] == "incompatible"
    assert "it needs simscaleai-core >=99, installed is" in _reason(host, "future")
    assert "fake_simscaleai_plugin_future.plugin" not in sys.modules
    assert _states(host)["fine"] == "loaded"


# --- names and conflicts --------------------------------------------------------------------


def test_two_distributions_with_one_entry_point_name(site: Site) -> None:
    site.add("vision", sound("one"), distribution="acme-vision", version="2.3")
    site.add("vision", sound("two"), distribution="simscaleai-plugin-vision")
    host = Host()
    assert {c.id for c in host.of_kind("model")} == {"vision/two", "acme-vision/one"}
    record = host.record("acme-vision")
    assert record.name == "acme-vision"
    assert "simscaleai-plugin-vision 1.0" in record.reason


def test_three_distributions_with_one_entry_point_name(site: Site) -> None:
    for letter in "abc":
        site.add("vision", sound(f"m{letter}"), distribution=f"{letter}-vision")
    host = Host()
    assert {c.spec.name for c in host.of_kind("model")} == {"ma", "mb", "mc"}
    assert len({r.name for r in host.records}) == len(host.records)


def test_two_plugins_offer_one_name(site: Site) -> None:
    site.add("one", sound("pi"), distribution="acme-one", version="2.3")
    site.add("two", sound("pi"))
    with pytest.raises(UnknownComponentError) as caught:
        Host().component("model", "pi")
    text = str(caught.value)
    assert "provided by 2 plugins" in text
    assert "--model one/pi  from acme-one 2.3" in text
    assert "--model two/pi  from simscaleai-plugin-two 1.0" in text
    assert caught.value.candidates == ("one/pi", "two/pi")
    assert Host().component("model", "two/pi").plugin == "two"


def test_a_required_plugin_wins_an_ambiguous_name(site: Site) -> None:
    site.add("one", sound("pi"), distribution="acme-one")
    site.add("two", sound("pi"))
    for asked in ("one", "acme-one"):
        assert Host(select_plugins([asked])).component("model", "pi").plugin == "one"
    with pytest.raises(UnknownComponentError):
        Host(select_plugins(["one", "two"])).component("model", "pi")


def test_the_cores_own_cannot_be_shadowed(site: Site) -> None:
    code = "@hookimpl\ndef simscale_register_loggers():\n"
    code += "    yield LoggerSpec(name='console', target='json:JSONDecoder')\n"
    site.add("rogue", HEAD + INFO.format("") + code)
    for selection in (None, select_plugins(["rogue"])):
        assert Host(selection).component("logger", "console").plugin == "builtin"
    assert Host().component("logger", "rogue/console").plugin == "rogue"


def test_a_plugin_may_not_call_itself_builtin(site: Site) -> None:
    site.add("builtin", sound("evil"), distribution="acme-evil")
    host = Host()
    names = [r.name for r in host.records]
    assert names.count("builtin") == 1, "two plugins would have the ids builtin/..."


def test_unknown_names_suggest_when_sure(site: Site) -> None:
    site.add("good", sound("diffusion"))
    site.add("broken", BROKEN["importing"][0])
    with pytest.raises(UnknownComponentError) as caught:
        Host().component("model", "difusion")
    assert "unknown model 'difusion'. Installed: diffusion." in str(caught.value)
    assert "Did you mean 'diffusion'?" in str(caught.value)
    assert "plugin 'broken' (simscaleai-plugin-broken 1.0)" in str(caught.value)
    with pytest.raises(UnknownComponentError) as caught:
        Host().component("model", "qqqqq")
    assert "Did you mean" not in str(caught.value)


def test_a_missing_plugin_is_named(site: Site) -> None:
    with pytest.raises(UnknownComponentError, match="unknown plugin 'evil; rm'"):
        _states(Host(select_plugins(["evil; rm"])))


def test_what_is_printed_on_import_goes_to_standard_error(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    provider = "@hookimpl\ndef simscale_register_models():\n    print('providing')\n"
    spec = "    yield ModelSpec(name='x', target='fake_simscaleai_plugin_loud.target:X')\n"
    site.add("loud", HEAD + "print('loading')\n" + INFO.format("") + provider + spec)
    target = site.folder / "fake_simscaleai_plugin_loud" / "target.py"
    target.write_text("print('importing')\nX = int\n")
    assert import_target(Host().component("model", "x")) is int
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.split() == ["loading", "providing", "importing"]


def test_a_target_that_cannot_be_imported_names_its_plugin(site: Site) -> None:
    for name, target in [("gone", "no_such.module:X"), ("attr", "json:NoSuchName"),
                         ("exits", "fake_simscaleai_plugin_exits.bad:X")]:  # fmt: skip
        site.add(name, HEAD + INFO.format("") + models_of(name, target=target))
    (site.folder / "fake_simscaleai_plugin_exits" / "bad.py").write_text("import sys; sys.exit(5)")
    host = Host()
    for name in ("gone", "attr", "exits"):
        with pytest.raises(PluginError, match=f"'{name}/{name}' .simscaleai-plugin-{name} 1.0"):
            import_target(host.component("model", name))


def test_the_order_does_not_depend_on_the_path(
    site: Site, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    site.add("beta", sound("b"))
    site.add("vision", sound("v"), distribution="zeta-vision")
    Site(other).add("alpha", sound("a"))
    Site(other).add("vision", sound("w"), distribution="acme-vision")
    found = []
    for folders in ([site.folder, other], [other, site.folder]):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [*map(str, folders), *sys.path])
            host = Host()
            found.append([(r.name, r.distribution) for r in host.records])
            found.append([c.id for c in host.components])
    assert found[0] == found[2]
    assert found[1] == found[3]
    assert found[0][0] == ("builtin", "simscaleai-core")


@pytest.mark.parametrize("name", ["My_Plugin", "my-plugin", "ACME.my--Plugin", "acme_my_plugin"])
def test_names_are_compared_as_packaging_does(site: Site, name: str) -> None:
    site.add("my-plugin", sound("pi"), distribution="Acme-My_Plugin")
    host = Host(select_plugins([name]))
    assert host.required == ["my-plugin"]
    assert host.record(name).distribution == "acme-my-plugin"
    assert (
        _states(Host(select_plugins(environ={"SIMSCALE_PLUGINS": name})))["my-plugin"] == "loaded"
    )
    for selection in (
        select_plugins(blocked=[name], environ={}),
        select_plugins(environ={"SIMSCALE_PLUGINS": f"-{name}"}),
    ):
        assert Host(selection).record("my-plugin").state == "blocked"
    with pytest.raises(SimScaleError, match=r"kept out|blocked"):
        Host(select_plugins([name], blocked=["MY_plugin", "acme.MY.plugin"])).components  # noqa: B018


def test_an_id_is_compared_as_packaging_does(site: Site) -> None:
    site.add("my_plugin", sound("pi"))
    for name in ("my_plugin/pi", "my-plugin/pi", "My.Plugin/pi"):
        assert Host().component("model", name).id == "my_plugin/pi"


def test_two_plugins_whose_names_packaging_takes_for_one(site: Site) -> None:
    site.add("my_vision", sound("a"), distribution="acme-vision")
    site.add("my-vision", sound("b"))
    host = Host()
    assert {c.id for c in host.of_kind("model")} == {"my-vision/b", "acme-vision/a"}


# --- what a default means --------------------------------------------------------------------


def _offering(**offered: str) -> str:
    code = HEAD + INFO.format("")
    for hook, spec in offered.items():
        code += f"simscale_register_{hook} = provides({spec})\n"
    return code


def test_a_default_means_ours_whoever_offers_its_name(site: Site) -> None:
    code = _offering(
        models="ModelSpec(name='bc', target='a:B')",
        loggers="LoggerSpec(name='console', target='a:B'), LoggerSpec(name='wandb', target='a:B')",
        checkpoint_backends="CheckpointBackendSpec(name='pt', target='a:B')",
        optimizers="OptimizerSpec(name='adamw', target='a:B')",
        eval_functions="EvalFunctionSpec(name='closed_loop', target='a:B')",
    )
    site.add("acme", code)
    for selection in (None, select_plugins(["acme"])):
        host = Host(selection)
        config = fill_defaults(TrainConfig(use_wandb=True, env="reach"), host)
        assert config.model_name == "bc/bc"
        assert config.loggers == ("console", "jsonl", "wandb/wandb")
        assert config.eval_fns == ("gym/closed_loop",)
        used = ("logger", "console"), ("checkpoint_backend", "pt"), ("optimizer", "adamw")
        assert {host.component(*each).plugin for each in used} == {"builtin"}
        assert used_plugins(config, host) == ["builtin"]
        typed = fill_defaults(TrainConfig(), host, given=["model_name"])
        assert typed.model_name == "bc", "it is for the user to decide"


def test_a_plugin_may_select_a_logger_that_is_called_like_another(site: Site) -> None:
    code = _offering(loggers="LoggerSpec(name='console', target='a:B')")
    site.add("acme", code.replace("'A plugin'", "'A plugin', selects={'logger': 'console'}"))
    config = fill_defaults(TrainConfig(), Host(select_plugins(["acme"])))
    assert config.loggers == ("console", "jsonl", "acme/console")


# --- selection ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        (None, {"one", "two"}),
        ("", set()),
        ("one", {"one"}),
        ("one,two", {"one", "two"}),
        (" one , two ", {"one", "two"}),
        ("-one", {"two"}),
        ("one,-one", set()),
        ("one,two,-two", {"one"}),
        ("simscaleai-plugin-two", {"two"}),
        ("-simscaleai-plugin-two", {"one"}),
        ("nothing", set()),
    ],
)
def test_simscale_plugins(site: Site, value: str | None, loaded: set[str]) -> None:
    site.add("one", sound("a"))
    site.add("two", sound("b"))
    environ = {} if value is None else {"SIMSCALE_PLUGINS": value}
    states = _states(Host(select_plugins(environ=environ)))
    assert {n for n in ("one", "two") if states.get(n) == "loaded"} == loaded
    assert states["builtin"] == "loaded"


def test_flags_and_environment_combine() -> None:
    selection = select_plugins(["a,b", "a"], blocked=["c, d"], environ={"SIMSCALE_PLUGINS": "-e"})
    assert selection.required == ("a", "b")
    assert selection.blocked == {"c", "d", "e"}
    assert select_plugins(none=True, environ={"SIMSCALE_PLUGINS": "x"}).blocks("x")


@pytest.mark.parametrize(
    "options", [{"blocked": ["a"]}, {"none": True}, {"environ": {"SIMSCALE_PLUGINS": "b"}}]
)
def test_asked_for_and_kept_out_is_a_contradiction(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'a' is asked for and kept out"):
        select_plugins(["a"], **{"environ": {}, **options})


def test_blocked_by_its_distribution_and_asked_for(site: Site) -> None:
    site.add("one", sound("a"))
    with pytest.raises(SimScaleError, match="blocked"):
        _states(Host(select_plugins(["one"], blocked=["simscaleai-plugin-one"])))


def test_commands_are_listed_without_import_and_can_be_blocked(site: Site) -> None:
    extra = "[simscaleai.commands]\nfly = fake_simscaleai_plugin_one.commands:app\n"
    site.add("one", "raise ImportError\n", extra=extra)
    listed = {p.name for p in command_offers(select_plugins())}
    assert "fly" in listed
    for blocked in ("one", "simscaleai-plugin-one"):
        points = command_offers(select_plugins(blocked=[blocked]))
        assert "fly" not in {p.name for p in points}


def test_a_plugins_command_is_listed_and_takes_no_name_of_ours(site: Site) -> None:
    lines = ("fly = fake_simscaleai_plugin_one.commands:app", "plugins = elsewhere:app")
    site.add("one", sound("a"), extra="\n".join(["[simscaleai.commands]", *lines, ""]))
    found = {command.name: command for command in commands()}
    assert found["plugins"].target == "simscaleai_core.cli.plugins:app"
    shown = front_page(["--help"]) or ""
    assert "From simscaleai-plugin-one; see simscale fly --help." in shown
    assert front_page(["fly", "--help"]) is None


def test_commands_follow_the_plugins_own_name(site: Site) -> None:
    """A distribution that is not called simscaleai-plugin-NAME is blocked by its plugin's name."""
    extra = "[simscaleai.commands]\nfly = fake_acme_flight.commands:app\n"
    site.add("flight", sound("x"), distribution="acme-flight", extra=extra)
    points = command_offers(select_plugins(blocked=["flight"]))
    assert "fly" not in {p.name for p in points}


# --- slots ----------------------------------------------------------------------------------


def _selecting(kind: str, name: str) -> str:
    code = HEAD + INFO.format(f", selects={{{kind!r}: {name!r}}}") + models_of("pi")
    code += "@hookimpl\ndef simscale_register_loggers():\n"
    return code + "    yield LoggerSpec(name='cloud', target='json:JSONDecoder')\n"


def test_a_required_plugin_fills_an_empty_slot(site: Site) -> None:
    site.add("one", _selecting("model", "pi"))
    host = Host(select_plugins(["one"]))
    assert fill_defaults(TrainConfig(), host).model_name == "one/pi"
    assert fill_defaults(TrainConfig(model_name="mine"), host).model_name == "mine"
    assert fill_defaults(TrainConfig(), host, given=["model_name"]).model_name == "bc"
    assert fill_defaults(TrainConfig(), Host()).model_name == "bc"  # installed is not active


def test_a_required_plugin_adds_its_logger_once(site: Site) -> None:
    site.add("one", _selecting("logger", "cloud"))
    host = Host(select_plugins(["one"]))
    assert fill_defaults(TrainConfig(), host).loggers == ("console", "jsonl", "one/cloud")
    config = TrainConfig(loggers=("cloud",))
    assert fill_defaults(config, host).loggers == ("cloud",)
    twice = fill_defaults(fill_defaults(TrainConfig(), host), host)
    assert twice.loggers == ("console", "jsonl", "one/cloud")


def test_two_plugins_for_one_slot_is_an_error(site: Site) -> None:
    site.add("one", _selecting("model", "pi"))
    site.add("two", _selecting("model", "pi"))
    with pytest.raises(ConfigError, match=r"one/pi, two/pi. Choose one with --model"):
        fill_defaults(TrainConfig(), Host(select_plugins(["one", "two"])))


def test_options_of_nothing_installed_are_refused(site: Site, tmp_path: Path) -> None:
    config = TrainConfig(options={"dumy": {"seed": 1}}, checkpoint_dir=str(tmp_path / "c"))
    with pytest.raises(ConfigError, match="options for 'dumy', which is no installed component"):
        Trainer(nn.Linear(1, 1), [], config, host=Host())


OWN_HOOKS = """
from simscaleai_core.plugin import hookspec


@hookspec
def PREFIX_on_grasp(run, strength):
    \"\"\"Called when the gripper closes.\"\"\"
"""


def _with_hooks(site: Site, *, prefix: str = "grasping") -> None:
    place = "fake_simscaleai_plugin_grasping"
    site.add("grasping", HEAD + INFO.format(f", hookspecs='{place}.hooks'"))
    (site.folder / place / "hooks.py").write_text(OWN_HOOKS.replace("PREFIX", prefix))


class Fires:
    """Fires the hook of a plugin after each step."""

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        run.hook.grasping_on_grasp(run=run, strength=run.step)


class Hears:
    """Implements it, with fewer arguments than there are."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    @hookimpl
    def grasping_on_grasp(self, strength: int) -> None:
        self.heard.append(strength)


def test_a_plugin_defines_and_fires_hooks_of_its_own(site: Site, tmp_path: Path) -> None:
    _with_hooks(site)
    listener = Hears()
    train(tmp_path / "run", host=Host(), listeners=(Fires(), listener), max_steps=3)
    assert listener.heard == [1, 2, 3]


def test_implementations_of_a_plugins_hooks_are_checked_as_the_cores_are(
    site: Site, tmp_path: Path
) -> None:
    _with_hooks(site)

    class Faulty:
        @hookimpl
        def grasping_on_grasp(self, force: int) -> None:
            """Take an argument that the hook does not offer."""

    with pytest.raises(PluginError, match="grasping_on_grasp has no argument 'force'; it offers"):
        train(tmp_path / "run", host=Host(), listeners=(Faulty(),))


def test_a_hook_of_a_plugin_bears_its_name(site: Site, tmp_path: Path) -> None:
    _with_hooks(site, prefix="simscale")
    with pytest.raises(PluginError, match="expected names that begin with 'grasping_'"):
        train(tmp_path / "run", host=Host())
