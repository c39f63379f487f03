"""Bytes of parameters, gradients and optimiser state per rank, beside those of one process.

A transformer of 20 million parameters is trained for three steps by the `Trainer`: in one process,
on ranks with the strategy ddp, and on ranks with the strategy fsdp, joined by gloo. After the
backward pass of the last step, every rank adds up what it holds of each.

    python benchmarks/sharding.py
    python benchmarks/sharding.py --ranks 2
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import rounds
import torch
from torch import Tensor, nn

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.checkpoint.spread import is_spread
from simscaleai_core.hookspecs import simscale_on_grads_ready
from simscaleai_core.run.state import Run

STEPS, BATCH_SIZE, LIMIT = 3, 8, 0.30
WIDTH, LAYERS, HEADS, TOKENS = 528, 6, 8, 4
STATE_DIM, ACTION_DIM = 20, 4
PARTS = ("parameters", "gradients", "optimiser state")


class Transformer(nn.Module):
    """Encoder layers over a few tokens that are made of the state."""

    block_classes = ("TransformerEncoderLayer",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read = nn.Linear(STATE_DIM, TOKENS * WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.write = nn.Linear(WIDTH, ACTION_DIM)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the squared error `[]` of a batch."""
        tokens = self.read(batch["observations"]["state"]).unflatten(-1, (TOKENS, WIDTH))
        error = self.write(self.layers(tokens).mean(1)) - batch["actions"]
        return {"loss": error.square().mean()}


class Held:
    """Adds up what this rank holds when the gradients of the last step are there."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}

    @simscale_on_grads_ready
    def add_up(self, run: Run) -> None:
        """Add up [bytes]."""
        if run.step == STEPS - 1:
            gradients = [p.grad for p in run.parameters if p.grad is not None]
            states = [v for s in run.optimizer.state.values() for v in s.values()]
            parts = (run.policy.parameters(), gradients, states)
            self.bytes = dict(zip(PARTS, map(bytes_of, parts), strict=True))


def bytes_of(tensors: Iterable[Any]) -> int:
    """Return what is stored of tensors on this rank, views of one memory once [bytes]."""
    found = (t.to_local() if is_spread(t) else t for t in tensors if isinstance(t, Tensor))
    storages = [t.untyped_storage() for t in found]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def measure(strategy: str, output: Path) -> None:
    """Be one rank of a run; write what it holds, and how many parameters there are."""
    torch.set_num_threads(1)
    rank, held = os.environ.get("RANK", "0"), Held()
    config = TrainConfig(
        max_steps=STEPS, warmup_steps=1, batch_size=BATCH_SIZE, strategy=strategy, backend="gloo",
        device="cpu", loggers=(), checkpoint_dir=str(output / strategy), save_every=0,
    )  # fmt: skip
    data = DummyTrajectoryDataset(256, obs_dim=STATE_DIM, action_dim=ACTION_DIM)
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH_SIZE)
    policy = Transformer()
    number = sum(p.numel() for p in policy.parameters())
    Trainer(policy, loader, config, listeners=[held]).train()
    content = json.dumps({**held.bytes, "number": number})
    (output / f"{strategy}-{rank}.json").write_text(content)


def run(strategy: str, ranks: int, folder: Path) -> list[dict[str, int]]:
    """Return what each rank of a run holds.

    Raises:
        RuntimeError: If the run fails.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    command = [
        sys.executable, *(launcher if ranks > 1 else []), __file__,
        "--rank-of", strategy, "--folder", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [json.loads((folder / f"{strategy}-{r}.json").read_text()) for r in range(ranks)]


def ratios(ranks: int) -> dict[str, float]:
    """Print what each strategy holds; return the fullest rank's share of one process's bytes."""
    found, base = {}, 0
    print("| strategy | ranks | parameters, MB | gradients, MB | optimiser state, MB | ratio |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for strategy, count in (("single", 1), ("ddp", ranks), ("fsdp", ranks)):
            held = run(strategy, count, Path(folder))
            largest = max(held, key=lambda one: sum(one[part] for part in PARTS))
            total = sum(largest[part] for part in PARTS)
            base = base or total
            found[strategy] = total / base
            shown = " | ".join(f"{largest[part] / 1e6:.1f}" for part in PARTS)
            print(f"| {strategy} | {count} | {shown} | {found[strategy]:.3f} |", flush=True)
    print(f"\n{held[0]['number'] / 1e6:.1f} million parameters")
    return found


def main() -> None:
    """Measure, and print the table and the target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=4, help="(default %(default)s)")
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        measure(options.rank_of, options.folder)
        return
    found = ratios(options.ranks)
    name = f"fsdp on {options.ranks} ranks, bytes to one process's"
    print(rounds.Target(name, found["fsdp"], LIMIT))
    facts = rounds.machine("torch", "simscaleai-core", "simscaleai-plugin-fsdp")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
