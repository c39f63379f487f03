"""A configuration as flat hyperparameters."""

from __future__ import annotations

from simscaleai_core.config import TrainConfig
from simscaleai_core.hyperparameters import hyperparameters


def test_hyperparameters_are_flat_and_plain() -> None:
    config = TrainConfig(
        model_kwargs={"a": {"b": [1, 2]}, "c": None, "d": 1.5},
        options={"x": {"api_key": "k", "PASSWORD": "p", "max_tokens": 4, "tokenizer": "bytes"}},
    )
    found = hyperparameters(config)
    assert found["model_kwargs.a.b"] == "1, 2"
    assert found["model_kwargs.d"] == 1.5
    assert "model_kwargs.c" not in found and "wandb_run_name" not in found
    assert found["options.x.api_key"] == found["options.x.PASSWORD"] == "(hidden)"
    assert (found["options.x.max_tokens"], found["options.x.tokenizer"]) == (4, "bytes")
    assert found["loggers"] == "console, jsonl"
