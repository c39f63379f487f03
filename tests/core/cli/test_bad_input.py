"""What users get wrong: one line each, in little time, and no silence where a number has no effect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import frozen
from torch.utils.data import DataLoader, TensorDataset

from simscaleai_core.cli.app import run
from simscaleai_core.cli.configuration import build_config, parse_literal, read_toml
from simscaleai_core.config import TrainConfig
from simscaleai_core.data.batches import split_batch
from simscaleai_core.data.feed import build_feed
from simscaleai_core.errors import ConfigError
from simscaleai_core.host import defaults
from simscaleai_core.host.configuration import structure
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import flag_of
from simscaleai_core.plugin import KINDS

HOST = Host()


@frozen
class Options:
    """Options of something."""

    width: int = 3


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a = " + "{b = " * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ("a" + ".a" * 50_000 + " = 1", "nested too deeply"),
        ("[" + "'a' . " * 50_000 + "a]", "nested too deeply"),
        ("model_name = [[1]]", "expected str, got list [[1]] @ $.model_name"),
        ("[model_name]\na = 1", "expected str, got dict"),
        ("seed = 12345678901234567890123", "too large: expected at most 64 bits"),
        ("seed = 1" + "0" * 5000, "too large: expected at most 64 bits"),
        ("[model_kwargs]\nx = [{y = 0x" + "f" * 17 + "}]", "too large: expected at most 64 bits"),
        ("lr = 1" + "0" * 18, ""),
        ("lr = 1e999", "finite"),
        ("#" * (2**20 + 1), "too large for a configuration"),
        ("extensions = ['ema', 'ema']", "each once"),
        ("checkpoint_dir = ''", "'checkpoint_dir'"),
        ("checkpoint_dir = 'a\\u0000b'".replace("'", '"'), "without NUL"),
    ],
    ids=["lists", "tables", "key", "header", "list", "table", "seed", "digits", "inner", "lr", "inf",
         "large", "twice", "empty", "nul"],
)  # fmt: skip
def test_a_file_is_refused_or_read_in_no_time(content: str, part: str) -> None:
    path = Path("run.toml")
    path.write_text(content)
    started = time.process_time()
    try:
        build_config(read_toml(path))
        found = ""
    except ConfigError as error:
        found = str(error)
    assert part in found and bool(part) == bool(found)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    "content",
    ["".join(f"field{i} = 1\n" for i in range(50_000)),
     "".join(f"[table{i}]\n" for i in range(50_000))],
    ids=["fields", "tables"],
)  # fmt: skip
def test_fifty_thousand_unknown_names_are_counted(
    content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.toml").write_text(content)
    started = time.process_time()
    assert run(["train", "--config", "run.toml"]) == 2
    assert time.process_time() - started < 10
    err = capsys.readouterr().err
    assert "... and 49980 more of the kind." in err
    assert len(err.splitlines()) < 30


def test_twenty_unknown_names_are_all_told() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({f"field{i}": 1 for i in range(20)})
    assert len(caught.value.problems) == 20


def test_integers_of_options_are_bounded_too() -> None:
    with pytest.raises(ConfigError, match=r"at most 64 bits, got one of 77 bits @ \$\.width"):
        structure(Options, {"width": 10**23})
    with pytest.raises(ConfigError, match="too large"):
        build_config({"lr": 10**400})
    with pytest.raises(ConfigError, match="too large"):
        parse_literal("9" * 5000)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--seed", "12345678901234567890123"], "$.seed"),
        (["--checkpoint-dir", ""], "'checkpoint_dir'"),
        (["--checkpoint-dir", "x" * 300], "'checkpoint_dir'"),
        (["--resume", ""], "'resume_from'"),
        (["--extension", "ema,ema"], "'extensions'"),
        (["--logger", "builtin/jsonl"], "'loggers' has one logger twice"),
        (["--accumulate", "33"], "accumulate=33 is more than the samples of a batch"),
        (["--model-kwargs.hidden-dim", str(2**62)], "too large for this machine"),
        (["--model-kwargs.x", "[" * 5000 + "]" * 5000], "nested too deeply"),
        (["--dataset", "x" * 300 + ".h5"], "'dataset_path'"),
    ],
    ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else "",
)
def test_a_flag_is_refused_in_one_line(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--device", "cpu", "--max-steps", "2", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == 1 and part in err
    assert not [p for p in Path().rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "command", ["plot {}", "checkpoint list {}", "checkpoint show {}.pt", "train --config {}"]
)
def test_a_name_that_is_too_long_is_no_crash(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command.format("x" * 300).split()) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"loggers": ("jsonl", "builtin/jsonl")}, "logger"),
        ({"loggers": ("builtin/console", "jsonl", "console")}, "logger"),
    ],
)
def test_a_component_under_two_names_is_refused(fields: dict[str, Any], kind: str) -> None:
    with pytest.raises(ConfigError, match=f"has one {kind} twice, as .* Name it once"):
        defaults.fill_defaults(TrainConfig(**fields), HOST)


def test_what_is_implied_is_not_added_again() -> None:
    config = TrainConfig(use_wandb=True, loggers=("wandb/wandb",), env="reach",
                         eval_fns=("gym/closed_loop",))  # fmt: skip
    filled = defaults.fill_defaults(config, HOST)
    assert filled.loggers == ("wandb/wandb",)
    assert filled.eval_fns == ("gym/closed_loop",)


def _warnings(caplog: pytest.LogCaptureFixture, act: Callable[[], object]) -> list[str]:
    logger = logging.getLogger("simscaleai")
    logger.handlers, logger.propagate = [caplog.handler], False
    act()
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize(("warmup", "told"), [(9, 0), (10, 1), (500, 1), (0, 0)])
def test_a_warm_up_that_takes_the_whole_run_is_said(
    caplog: pytest.LogCaptureFixture, warmup: int, told: int
) -> None:
    config = TrainConfig(warmup_steps=warmup, max_steps=10)
    found = _warnings(caplog, lambda: defaults.fill_defaults(config, HOST))
    assert len(found) == told
    assert all(f"warmup_steps={warmup} is not below max_steps=10" in text for text in found)


def _loader(samples: int, batch_size: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(samples, 2)), batch_size=batch_size, **options)


@pytest.mark.parametrize(("samples", "told"), [(31, 1), (32, 0), (33, 0)])
def test_a_batch_larger_than_the_data_is_said(
    caplog: pytest.LogCaptureFixture, samples: int, told: int
) -> None:
    found = _warnings(caplog, lambda: build_feed(_loader(samples, 32), seed=0))
    assert len(found) == told
    assert all("batch_size=32 is more than the data has" in text for text in found)


def test_more_parts_than_samples_are_refused() -> None:
    build_feed(_loader(40, 32), seed=0, accumulate=32)  # the short batch has fewer, and may
    with pytest.raises(ConfigError, match=r"accumulate=33 .* expected at most 32"):
        build_feed(_loader(40, 32), seed=0, accumulate=33)
    with pytest.raises(ConfigError, match=r"accumulate=11 .* expected at most 10"):
        build_feed(_loader(10, 32), seed=0, accumulate=11)


def test_cutting_a_short_batch_takes_no_longer_for_many_parts() -> None:
    pieces = split_batch({"x": torch.arange(3)}, 2**62)
    assert [piece["x"].tolist() for piece in pieces] == [[0], [1], [2]]


def test_the_advice_names_flags_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    page = capsys.readouterr().out
    assert not [kind for kind in KINDS if f"  {flag_of(kind)} " not in page.replace(",", " ")]
