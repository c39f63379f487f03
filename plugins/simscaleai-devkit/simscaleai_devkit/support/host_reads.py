"""Where code reads on the host what is computed on the device, which has to be waited for."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

_TORCH = str(Path(torch.__file__).parent)
_OPTIMISERS = str(Path(torch.__file__).parent / "optim")
_READS = {torch.ops.aten._local_scalar_dense.default}


class HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes where values are read that were computed from given tensors.

    On a CPU nothing has to be waited for; the same code on a GPU would stall it. What torch's own
    optimisers read is theirs.

    Args:
        tensors: What is on the device, such as a policy's parameters.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: list[str] = []
        """File and line of each read, in order."""
        self._on_device = WeakTensorKeyDictionary(dict.fromkeys(tensors, True))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note what it makes of what is on the device."""
        del types
        leaves = tree_leaves((args, kwargs or {}))
        is_on_device = any(isinstance(x, Tensor) and x in self._on_device for x in leaves)
        if is_on_device and func in _READS and (place := _place()):
            self.places.append(place)
        found = func(*args, **(kwargs or {}))
        if is_on_device:
            for value in tree_leaves(found):
                if isinstance(value, Tensor):
                    self._on_device[value] = True
        return found


def _place() -> str:
    """Return the file and line that reads, unless an optimiser of torch does."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OPTIMISERS):
            return ""
        if not file.startswith(_TORCH) and file != __file__:
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
