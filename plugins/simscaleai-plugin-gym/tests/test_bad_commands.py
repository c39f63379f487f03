"""Command lines out of range: one line and exit status 2, before anything is loaded or run."""

import math

import pytest
from attrs import fields
from simscaleai_plugin_gym.evaluate.closed_loop import ClosedLoop
from simscaleai_plugin_gym.options import ClosedLoopOptions, check_output

from simscaleai_core.cli import app
from simscaleai_core.errors import ConfigError, SimScaleError
from simscaleai_core.host.configuration import structure

HUGE, LONG, NUL = str(10**30), "x" * 300, "a\0b"
COUNTS = ("0", "-1", HUGE, "nan", "", "x")
SECONDS = ("0", "-1", "nan", "inf", HUGE, "", "x")

RECORD = {
    **dict.fromkeys(("--episodes", "--workers", "--num-envs", "--max-steps"), COUNTS),
    **dict.fromkeys(("--max-attempts", "--images"), COUNTS),
    "--seed": ("-1", HUGE, "nan", ""),
    "--noise": ("-1", "nan", "inf", "-inf", HUGE, ""),
    "--env-timeout-s": SECONDS,
    "--env": ("", LONG, NUL, ":", "os:system", "no_such_module:Env-v0"),
    "--expert": ("", LONG, NUL, ":", "os:system", "shutil:rmtree", "./nowhere.py:go"),
    "--output": ("", ".", NUL, LONG, f"a/{LONG}", "/proc/x.h5", "file/x.h5"),
    "--cameras": ("", ",", NUL, LONG),
    "--env-kwargs.num-envs": ("3",),
    "--env-kwargs.host": ("x",),
    "--env-kwargs.env-timeout-s": ("x",),
}
VARIED = ("", "x", "0,,1", "0,0", "0.5", "-1", "nan", "1e999")
EVAL = {
    **dict.fromkeys(("--episodes", "--num-envs", "--max-steps", "--images"), COUNTS),
    **dict.fromkeys(("--execute", "--video-episodes"), COUNTS),
    "--seed": ("-1", HUGE, "nan", ""),
    "--ensemble": ("nan", "inf", HUGE, "x"),
    "--env-timeout-s": SECONDS,
    "--env": ("", " "),
    "--success": ("", NUL, ":", "os:system", "os:execl", "subprocess:run", "no_such_module:rule"),
    "--gate": ("", NUL, LONG, "success_rate>=nan", "success_rate>=1e999", "success_rate>=1.2.3"),
    "--output": ("", ".", NUL, LONG, f"a/{LONG}", "file/x.json"),
    "--video": ("file", NUL, LONG, "file/x"),
    "--vary": ("", NUL, LONG, "delay", "=1", "colour=1", *(f"delay={each}" for each in VARIED)),
    "--n-for": (
        "",
        NUL,
        LONG,
        *(f"difference{each}" for each in ("", ">=0", ">1", "<=0.1", ">=nan")),
    ),
    "--env-kwargs.vectorization": ("sync",),
}


def cases(table):
    return [(option, value) for option, values in table.items() for value in values]


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder and return its one line."""
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        assert app.run(words) == 2
        *progress, line = capsys.readouterr().err.splitlines()
        assert all(text.startswith("recording episodes") for text in progress)
        assert line.startswith("error: ")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        return line

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("option", "value"), cases(RECORD))
def test_record(refused, option, value):
    given = {"--env": "dot", "--episodes": "2", "--output": "out.h5", option: value}
    line = refused("record", *(word for pair in given.items() for word in pair))
    assert option.removeprefix("--").split(".")[0].replace("-", "_") in line.replace("-", "_")


@pytest.mark.slow
@pytest.mark.parametrize(("option", "value"), cases(EVAL))
def test_eval(refused, option, value):
    """The checkpoint is not even looked for."""
    given = {"--env": "dot", option: value}
    line = refused("eval", "missing.pt", *(word for pair in given.items() for word in pair))
    assert "missing.pt" not in line


def test_some_of_them(refused):
    """The tables below take longer."""
    record, evaluate = ["record", "--env", "dot", "--output", "x.h5"], ["eval", "missing.pt"]
    assert "images: expected at least 1, got 0" in refused(*record, "--images", "0")
    assert "'os:system' is of Python's sta" in refused(*record, "--expert", "os:system")
    assert "num_envs: expected at least 1, got 0" in refused(*evaluate, "--num-envs", "0")
    assert "images: expected at least 1, got 0" in refused(*evaluate, "--images", "0")
    assert "'os:system' is of Python's sta" in refused(*evaluate, "--success", "os:system")


def test_envs(refused):
    assert "Unknown option" in refused("envs", "--all")


CLOSED_LOOP = {
    "episodes": (0, -1, 10**30, math.nan, "x", None),
    "seed": (-1, 10**30, 1.5),
    "num_envs": (0, -1, 10**30),
    "vectorization": ("", "threads", 3),
    "max_steps": (0, -1, 10**30),
    "env_timeout_s": (0, -1.0, math.nan, math.inf, 1e30, "x"),
    "images": (0, -1, 10**30),
    "env_kwargs": ("x", 3, {"num_envs": 4}, {"host": "x"}),
    "frames": (-1, 10**30),
    "video": ("x", None),
    "success_map": ("x", None),
}


@pytest.mark.parametrize(("option", "value"), cases(CLOSED_LOOP))
def test_closed_loop(option, value):
    with pytest.raises(ConfigError, match=option):
        structure(ClosedLoopOptions, {option: value})


def test_no_option_is_forgotten():
    assert {field.name for field in fields(ClosedLoopOptions)} == set(CLOSED_LOOP)


def test_several_numbers_are_named_at_once(tmp_path):
    command = ["record", "--env", "dot", "--output", str(tmp_path / "x.h5")]
    assert app.run([*command, "--episodes", "0", "--images", "0", "--noise", "nan"]) == 2


def test_a_folder_that_may_not_be_written(tmp_path):
    (tmp_path / "there").mkdir()
    check_output("video", tmp_path / "there", is_folder=True)
    check_output("video", tmp_path / "new" / "er", is_folder=True)
    check_output("output", tmp_path / "new" / "x.json")
    with pytest.raises(ConfigError, match="expected a file name, got a directory"):
        check_output("output", tmp_path / "there")


@pytest.mark.slow
def test_a_device_that_is_not_there(tmp_path, monkeypatch):
    from torch.nn import Linear

    policy = Linear(1, 1)
    monkeypatch.setattr("simscaleai_core.host.registry.load_checkpoint", lambda path, _: {})
    monkeypatch.setattr("simscaleai_core.host.registry.read_policy", lambda *_, **__: policy)
    monkeypatch.chdir(tmp_path)
    for device in ("", "cuda:99", "kettle"):
        assert app.run(["eval", "x.pt", "--env", "dot", "--device", device]) == 2


def test_closed_loop_needs_an_environment():
    from types import SimpleNamespace

    with pytest.raises(SimScaleError, match="needs an environment"):
        ClosedLoop(SimpleNamespace(env=""), None)
