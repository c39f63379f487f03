"""Giving every rank the tree that rank 0 has read: of a tensor that is spread, its own part."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.checkpoint.spread import is_spread, part_of
from simscaleai_core.contracts import StateDict
from simscaleai_core.run.state import Run


def shared(run: Run, tree: StateDict | None) -> StateDict | None:
    """Return rank 0's tree, or its None, on every rank; each must call it.

    Spread is what has the place of a spread parameter in a state dict, or its name in ``states``;
    one whole tensor at a time is in memory on the other ranks.
    """
    weights = {name: t for name, t in run.policy.state_dict().items() if is_spread(t)}
    trained = [p for group in run.optimizer.param_groups for p in group["params"]]
    held, broadcast = dict[str, Tensor](), run.strategy.broadcast

    def alike(path: str, tensor: Tensor) -> Any:
        parts = path.split(".")
        names = (".".join(parts[i:]) for i in range(len(parts)))  # states.ema.shadow.NAME
        like = next((weights[name] for name in names if name in weights), None)
        if parts[1:3] == ["optimizer_state_dict", "state"]:
            like = trained[int(parts[3])]
        return like if is_spread(like) and like.shape == tensor.shape else None

    def hold(path: str, tensor: Tensor) -> Tensor:
        if alike(path, tensor) is None:
            return tensor
        held[path] = tensor
        return tensor.to("meta")

    def take(path: str, tensor: Tensor) -> Tensor:
        like = alike(path, tensor) if tensor.is_meta else None
        return tensor if like is None else part_of(broadcast(held.pop(path, None)), like)

    tree = broadcast(to_serialisable(tree, hold) if tree and weights else tree)
    return to_serialisable(tree, take) if tree and weights else tree
