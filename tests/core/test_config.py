"""TrainConfig: strict fields, each fault named."""

from __future__ import annotations

import attrs
import pytest

from simscaleai_core.cli.configuration import field_docs
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "bad", "rule"),
    [
        ("lr", 0.0, "above 0"),
        ("lr", float("nan"), "finite"),
        ("lr", float("inf"), "finite"),
        ("lr", -1.0, "above 0"),
        ("lr", "1e-3", "finite number"),
        ("lr", True, "finite number"),
        ("weight_decay", -1e-9, "at least 0"),
        ("grad_clip", -0.1, "at least 0"),
        ("batch_size", 0, "integer of at least 1"),
        ("batch_size", 2.0, "integer of at least 1"),
        ("batch_size", True, "integer"),
        ("max_steps", 0, "at least 1"),
        ("warmup_steps", -1, "at least 0"),
        ("save_every", -1, "at least 0"),
        ("log_every", 0, "at least 1"),
        ("num_workers", None, "integer"),
        ("use_amp", 1, "true or false"),
        ("use_amp", "false", "true or false"),
        ("amp_dtype", "bf16", "'bfloat16' or 'float16'"),
        ("device", "tpu", "'auto'"),
        ("backend", "mpi", "'nccl'"),
        ("eval_fraction", 1.0, "[0, 1)"),
        ("model_name", 3, "text"),
        ("resume_from", 3, "or nothing"),
        ("resume_from", "", "or nothing"),
        ("checkpoint_dir", "", "without NUL, got ''"),
        ("checkpoint_dir", "a\0b", "without NUL"),
        ("checkpoint_dir", "runs/" + 256 * "x", "at most 255 bytes"),
        ("checkpoint_dir", 128 * "\u00e4", "at most 255 bytes"),
        ("seed", 12345678901234567890123, "at most 18446744073709551615"),
        ("max_steps", 2**63, "at most 9223372036854775807"),
        ("num_workers", 1025, "at most 1024"),
        ("threads", 0, "at least 1"),
        ("threads", 1025, "at most 1024"),
        ("lr", 10**400, "finite"),
        ("loggers", "console", "a list of names"),
        ("loggers", ("",), "a list of names"),
        ("loggers", ("jsonl", "jsonl"), "each once"),
        ("eval_fns", ["a", "b", "a"], "each once"),
        ("extensions", ("ema", "ema"), "each once"),
        ("plugins", (3,), "a list of names"),
        ("options", [], "a table"),
        ("model_kwargs", {1: 2}, "a table"),
        ("keep_last", 0, "at least 1"),
        ("accumulate", 0, "at least 1"),
        ("seed", -1, "at least 0"),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, bad: object, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{field: bad})
    assert repr(field) in str(caught.value)
    assert rule in str(caught.value)


def test_a_path_is_taken_as_text(tmp_path) -> None:
    config = TrainConfig(dataset_path=tmp_path / "a.h5", checkpoint_dir=tmp_path)
    assert config.dataset_path == str(tmp_path / "a.h5")
    assert config.checkpoint_dir == str(tmp_path)


def test_it_is_frozen_and_keyword_only() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        TrainConfig("bc")  # type: ignore[misc]


def test_lists_become_tuples() -> None:
    assert TrainConfig(loggers=["jsonl"]).loggers == ("jsonl",)


def test_every_field_is_documented() -> None:
    docs = field_docs(TrainConfig)
    assert not [f.name for f in attrs.fields(TrainConfig) if not docs.get(f.name)]


def test_tables_of_two_configs_are_not_shared() -> None:
    first = TrainConfig()
    first.model_kwargs["a"] = 1  # type: ignore[index]
    assert TrainConfig().model_kwargs == {}
