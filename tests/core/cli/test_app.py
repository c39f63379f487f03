"""The command line: one clear line and an exit status for every mistake."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import pytest
from training_kit import read

from simscaleai_core.cli.app import _global_options, run
from simscaleai_core.config import TrainConfig


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Commands set the environment for processes that they start; tests must not leak it."""
    monkeypatch.chdir(tmp_path)
    installed = {p.name for p in metadata.entry_points(group="simscaleai.plugins")}
    denied = ",".join(f"-{name}" for name in sorted(installed - {"bc"}))
    monkeypatch.setenv("SIMSCALE_PLUGINS", denied)
    monkeypatch.setenv("COLUMNS", "200")
    yield
    logging.getLogger("simscaleai").handlers = []


QUICK = ("train", "--max-steps", "4", "--model-kwargs.hidden-dim", "8", "--model-kwargs.n-layers",
         "1", "--device", "cpu", "--checkpoint-dir", "c", "--log-every", "2")  # fmt: skip


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    assert run(list(arguments)) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in captured.err
    return captured.err


def test_train_on_nothing_but_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(list(QUICK)) == 0
    assert read("c/final.pt")["step"] == 4
    assert "final_loss" in capsys.readouterr().out


def test_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["global_step"] == 4
    assert found["checkpoint"] == "c/final.pt"
    assert isinstance(found["final_loss"], float)


def test_json_has_null_where_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--json", "--eval-fraction", "0"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["best_eval_loss"] is None


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--max-steps", "1.5"], ["max-steps", "1.5"]),
        (["--max-steps", "ten"], ["max-steps", "ten"]),
        (["--max-steps", "0"], ["'max_steps'", "at least 1", "got 0"]),
        (["--lr", "nan"], ["'lr'", "finite"]),
        (["--lr", "-1"], ["lr"]),
        (["--lr", "fast"], ["lr", "fast"]),
        (["--max-stepps", "3"], ["max-stepps", "max-steps"]),
        (["--device", "tpu"], ["'device'", "'tpu'"]),
        (["--use-amp=maybe"], ["use-amp", "maybe"]),
        (["stray"], ["stray"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    text = _fails(capsys, "train", "--checkpoint-dir", "c", *arguments)
    assert not [p for p in parts if p not in text], text


def test_a_repeated_flag_takes_the_last_or_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status = run([*QUICK, "--seed", "1", "--seed", "2", "--json"])
    assert status == 2 or read("c/final.pt")["config"]["seed"] == 2


def test_unknown_names_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = _fails(capsys, *QUICK, "--model", "bcc")
    assert "unknown model 'bcc'. Installed: " in text and "Did you mean 'bc'?" in text
    text = _fails(capsys, *QUICK, "--plugin", "vlaa")
    assert "unknown plugin 'vlaa'" in text
    assert "unknown logger 'consol'" in _fails(capsys, *QUICK, "--logger", "consol")
    assert "has no option 'hiden_dim'" in _fails(capsys, *QUICK, "--model-kwargs.hiden-dim", "3")
    assert "nothing installed reads 'x.xyz'" in _fails(capsys, *QUICK, "--dataset", "x.xyz")


def test_unknown_commands_and_options_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "trian" in _fails(capsys, "trian")
    assert "bogus" in _fails(capsys, "plugins", "list", "--bogus")
    assert "simscale_on_step_end" in _fails(capsys, "hooks", "show", "simscale_on_stepend")


def test_a_plugin_that_is_asked_for_and_blocked(capsys: pytest.CaptureFixture[str]) -> None:
    text = _fails(capsys, *QUICK, "--plugin", "bc", "--no-plugin", "bc")
    assert "'bc' is asked for and kept out" in text


def test_plugin_fills_the_model_and_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--plugin", "bc", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--bc.hidden-dim" in out
    assert "Width of the hidden layers" in out
    arguments = ["--plugin", "bc", "--bc.hidden-dim", "16"]
    assert run([*QUICK[:3], *QUICK[7:], *arguments]) == 0
    tree = read("c/final.pt")
    assert tree["config"]["model_name"] == "bc/bc"
    assert tree["policy"]["hparams"]["hidden_dim"] == 16
    assert tree["config"]["plugins"] == ["bc"]


def test_every_field_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    out = capsys.readouterr().out
    names = [f.name for f in attrs.fields(TrainConfig) if f.name != "options"]
    assert not [n for n in names if f"--{n.replace('_', '-')}" not in out]


def test_flags_override_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        "max_steps = 9\nlr = 0.5\nseed = 7\nuse_amp = false\n[model_kwargs]\nn_layers = 2\n"
        'dropout = 0.1\n[bc]\nloss_type = "l1"\n'
    )
    assert run([*QUICK, "--config", "run.toml", "--lr", "0.25"]) == 0
    config = read("c/final.pt")["config"]
    assert (config["max_steps"], config["lr"], config["seed"]) == (4, 0.25, 7)
    assert config["model_kwargs"] == {"n_layers": 1, "dropout": 0.1, "hidden_dim": 8}
    assert config["options"] == {"bc": {"loss_type": "l1"}}
    assert config["use_amp"] is False


def test_faults_of_the_file_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text('max_step = 9\nlr = "fast"\nbatch_size = 2.5\n')
    text = _fails(capsys, *QUICK, "--config", "run.toml")
    assert "Did you mean 'max_steps'?" in text
    assert "expected float, got str 'fast'" in text
    assert "expected int, got float 2.5" in text
    assert "no.toml" in _fails(capsys, *QUICK, "--config", "no.toml")
    (tmp_path / "bad.toml").write_text("lr = = 3")
    assert "is not TOML" in _fails(capsys, *QUICK, "--config", "bad.toml")
    (tmp_path / "plugins.toml").write_text("plugins = 3")
    assert "'plugins'" in _fails(capsys, *QUICK, "--config", "plugins.toml")


def test_loggers_are_added_to_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--logger", "jsonl"]) == 0
    assert read("c/final.pt")["config"]["loggers"] == ["console", "jsonl"]


def test_resume_auto_continues_and_drift_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--save-every", "2"]) == 0
    assert run([*QUICK, "--resume", "c/step_2.pt"]) == 0
    text = _fails_any(capsys, *QUICK, "--resume", "c/step_2.pt", "--lr", "0.5")
    assert "lr was 0.0001, is 0.5" in text
    text = _fails_any(capsys, *QUICK, "--resume", "c/nothing.pt")
    assert "no checkpoint at c/nothing.pt" in text


def _fails_any(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == 2
    return capsys.readouterr().err


def test_a_last_save_that_fails_is_status_4(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c").write_text("in the way")
    assert "could not write c" in _fails(capsys, *QUICK, status=4)


def test_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "list", "--json"]) == 0
    listed = {p["name"]: p for p in json.loads(capsys.readouterr().out)["plugins"]}
    assert listed["bc"]["state"] == "discovered"
    assert listed["builtin"]["distribution"] == "simscaleai-core"
    assert run(["plugins", "list"]) == 0
    assert "simscaleai-plugin-bc" in capsys.readouterr().out
    assert run(["plugins", "info", "bc", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["state"] == "loaded"
    component = next(c for c in info["components"] if c["id"] == "bc/bc")
    options = {o["name"]: o for o in component["options"]}
    assert options["hidden_dim"]["default"] == "256"
    assert options["hidden_dim"]["doc"]
    assert run(["plugins", "info", "bc"]) == 0
    assert "hidden_dim" in capsys.readouterr().out
    assert run(["plugins", "doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []
    assert run(["plugins", "doctor"]) == 0
    assert "no fault" in capsys.readouterr().out
    assert "unknown plugin 'bcx'" in _fails(capsys, "plugins", "info", "bcx")


def test_no_plugins_leaves_the_core(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--no-plugins", "models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"models": []}


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    listed = [m["id"] for m in json.loads(capsys.readouterr().out)["models"]]
    assert "bc/bc" in listed and listed == sorted(listed)


def test_hooks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hooks", "list", "--json"]) == 0
    names = [h["name"] for h in json.loads(capsys.readouterr().out)["hooks"]]
    assert names[0] == "simscale_register_models"
    assert names[-1] == "simscale_on_run_end"
    assert run(["hooks", "list"]) == 0
    assert "simscale_on_step_end" in capsys.readouterr().out
    assert run(["hooks", "show", "simscale_on_step_end"]) == 0
    out = capsys.readouterr().out
    assert "simscale_on_step_end(run: Run, out: Mapping[str, Any])" in out
    assert "Called: each step, after the update" in out


def test_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--save-every", "2"]) == 0
    capsys.readouterr()
    assert run(["checkpoint", "list", "c", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["checkpoints"]
    files = [(r["file"], r["step"], r["state"]) for r in rows]
    assert ("step_2.pt", 2, "whole") in files
    assert ("final.pt", 4, "whole") in files
    assert run(["checkpoint", "show", "c/final.pt", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["step"] == 4
    assert shown["policy"]["component"] == "bc/bc"
    assert shown["config"]["max_steps"] == 4
    data = bytearray(Path("c/step_2.pt").read_bytes())
    data[100] ^= 1
    Path("c/step_2.pt").write_bytes(data)
    assert run(["checkpoint", "list", "c"]) == 0
    assert "the checksum does not match" in capsys.readouterr().out
    assert "is damaged" in _fails(capsys, "checkpoint", "show", "c/step_2.pt")
    assert "no checkpoint at" in _fails(capsys, "checkpoint", "show", "c/none.pt")
    assert "known kind" in _fails(capsys, "checkpoint", "show", "c/metrics.jsonl")


def test_listing_a_directory_that_is_not_there_is_a_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "nowhere" in _fails(capsys, "checkpoint", "list", "nowhere")


def test_showing_a_foreign_checkpoint_is_no_crash(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"epoch": 3, "model_state_dict": {"note": 1}}, "foreign.pt")
    assert run(["checkpoint", "show", "foreign.pt"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_traceback_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--traceback", "--model", "nope"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.rindex("error: unknown model 'nope'") > err.rindex("Traceback")


def test_blocking_reaches_processes_that_are_started(capsys: pytest.CaptureFixture[str]) -> None:
    before = os.environ["SIMSCALE_PLUGINS"]
    tokens, _ = _global_options(["--no-plugin", "a,b", "--no-plugin=c", "models"])
    assert tokens == ["models"]
    assert os.environ["SIMSCALE_PLUGINS"] == f"{before},-a,-b,-c"
    os.environ["SIMSCALE_PLUGINS"] = before


def test_the_choice_of_plugins_ends_with_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert run(["models", "--no-plugin", "a", "--plugin", "bc"]) == 0
    assert dict(os.environ) == before


def test_output_without_a_terminal_is_not_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that reads it must find each row on one line."""
    monkeypatch.delenv("COLUMNS")
    assert run(["hooks", "list"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    wrapped = [
        line
        for line in lines[1:]
        if "simscale_" not in line and set(line.strip()) - set("-\u2500 ")
    ]
    assert not wrapped


def test_brackets_are_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from simscaleai_core.cli.output import print_facts, print_table

    print_table([("float32 [B, D]", "[/x] [bold]")], headers=("a", "b"), title="[red]t")
    print_facts({"shape": "[steps]"})
    out = capsys.readouterr().out
    for text in ("float32 [B, D]", "[/x] [bold]", "[red]t", "[steps]"):
        assert text in out


def test_a_closed_pipe_is_no_crash(tmp_path: Path) -> None:
    code = "import sys; from simscaleai_core.cli.app import _global_options, run; sys.exit(run(['hooks', 'list']))"
    done = subprocess.run(
        f"{sys.executable} -c \"{code}\" | head -c 10", shell=True, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_exit_statuses_of_the_process() -> None:
    def status(*arguments: str) -> int:
        command = [sys.executable, "-m", "simscaleai_core", *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert status(*QUICK) == 0
    assert status(*QUICK, "--lr", "0") == 2
    assert status("no-such-command") == 2
