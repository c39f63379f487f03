"""The policy from the command line: trained, resumed, and evaluated with no other option."""

from __future__ import annotations

import json

import pytest
import torch

from simscaleai_core import load_checkpoint, load_policy
from simscaleai_core.cli.app import run

FIXED = ["--plugin", "vla", "--vla.size", "debug", "--vla.action-horizon", "2",
         "--batch-size", "4", "--warmup-steps", "1", "--log-every", "1", "--num-workers", "0",
         "--eval-every", "0", "--device", "cpu"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_trains_on_the_dummy_data_and_resumes_exactly():
    varied = ["--vla.vary-words-after", "3", "--vla.word-insertion", "0.5"]
    fixed = ["train", *FIXED, *varied, "--dataset-kwargs.num-samples", "32", "--max-steps", "4"]
    assert run([*fixed, "--checkpoint-dir", "whole", "--save-every", "2"]) == 0
    resume = ["--resume", "whole/step_2.pt", "--checkpoint-dir", "parts"]
    assert run([*fixed, *resume, "--save-every", "2"]) == 0
    whole, parts = (load_checkpoint(f"{name}/final.pt") for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 4
    weights = whole["model_state_dict"]
    assert int(weights["vary.batches"]) == 3 and int(weights["image_normalizer.count"]) == 4
    assert all(torch.equal(value, parts["model_state_dict"][k]) for k, value in weights.items())
    policy = load_policy("parts/final.pt")
    assert len(policy.tokenizer.encode("pick up the red cube")) == 6


@pytest.mark.slow
def test_it_is_recorded_for_trained_and_evaluated(capsys):
    pytest.importorskip("simscaleai_plugin_sim")
    assert run(["record", "--env", "reach_language", "--episodes", "4", "--output", "r.h5"]) == 0
    assert run(["train", *FIXED, "--dataset", "r.h5", "--max-steps", "3"]) == 0
    capsys.readouterr()
    assert run(["eval", "checkpoints/final.pt", "--episodes", "2", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["n_episodes"] == 2 and results["seeds"] == [10000, 10001]
