"""What the loop is handed besides the run itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from simscaleai_core.checkpoints import CheckpointStore
from simscaleai_core.contracts import EvalFunction
from simscaleai_core.feed import Feed
from simscaleai_core.loggers import LoggerGroup
from simscaleai_core.mechanisms import Events
from simscaleai_core.saver import Saver


@frozen(kw_only=True)
class Parts:
    """What the loop works with besides the run itself."""

    feed: Feed
    """Where batches come from."""
    store: CheckpointStore
    """Where checkpoints are."""
    saver: Saver
    """Writes them in the background."""
    logger: LoggerGroup
    """Where metrics go; on ranks other than 0, nowhere."""
    evals: Sequence[tuple[str, EvalFunction]]
    """Eval functions by name; the held-out loss first."""
    events: Events
    """Compiled listeners."""
    about: Mapping[str, Any]
    """What a checkpoint says of the policy and the data: plain values."""
