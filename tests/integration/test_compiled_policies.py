"""Every policy of this project is traced without a break, for batches of any size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from simscaleai_core.cli.app import run

pytestmark = pytest.mark.slow

POLICIES = ("bc", "bc-chunk", "bc-gmm", "bc-rnn", "act", "diffusion", "flow", "vla")
MOST_GRAPHS = 4  # one; for any size; and for the shapes of text of which torch makes its own


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings with images and instructions."""
    path = tmp_path_factory.mktemp("recordings") / "reach.h5"
    command = ["record", "--env", "reach_language", "--episodes", "6", "--images", "32"]
    assert run([*command, "--output", str(path)]) == 0
    return path


@pytest.mark.parametrize("scope", ["policy", "step"])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_graph_breaks(
    recordings: Path, policy: str, scope: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.compiler.reset()
    command = ["train", "--dataset", str(recordings), "--model", policy, "--device", "cpu"]
    if policy == "vla":
        command += ["--model-kwargs.size", "debug"]
    elif policy == "bc":
        command += ["--model-kwargs.use-image", "true"]
    command += ["--max-steps", "8", "--batch-size", "10", "--accumulate", "4", "--eval-every", "4"]
    command += ["--extension", "compile", "--compile.backend", "eager", "--compile.fullgraph"]
    command += ["--compile.scope", scope, "--checkpoint-dir", str(tmp_path), "--num-workers", "0"]
    status, said = run(command), capsys.readouterr().err
    assert status == 0, said
    assert "graph break" not in said and "the limit" not in said
    told = [line for line in said.splitlines() if line.startswith("info: compiled")]
    assert 1 <= len(told) <= MOST_GRAPHS, told
