"""Check of how frames are stored: each by itself, or many in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.summary import DataSummary

_SLOW_S = 0.002
_MUCH_SLOWER = 5.0


def slow_frames(data: DataSummary) -> Iterator[Finding]:
    """Find cameras whose frames cannot be read without many others."""
    for path, costs in data.costs.items():
        for key, cost in costs.items():
            factor = cost.alone_s / max(cost.together_s, 1e-9)
            if cost.alone_s > _SLOW_S and factor > _MUCH_SLOWER:
                yield Finding(
                    code="slow-frames",
                    message=(
                        f"a frame of {key!r} takes {1000 * cost.alone_s:.1f} ms of processor time "
                        f"alone, {1000 * cost.together_s:.2f} ms with its neighbours. Repack: "
                        f"simscale data convert {quote(str(path))} --to hdf5 --output NEW.h5"
                    ),
                    path=path, key=key, number=cost.alone_s,
                )  # fmt: skip
