"""What a rank has found that sees a run hang, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SHOWN = 8


def explained(hang: dict[str, Any], limit_s: float) -> str:
    """Return what hangs, in words: one line of all, and one of each rank.

    Args:
        hang: What the rank has found that noticed it.
        limit_s: Within which time it was to be noticed [s].
    """
    said = {int(rank): told for rank, told in hang["said"].items()}
    silent = {int(rank): age_s for rank, age_s in hang["silent"].items()}
    guilty = silent or {r: told["still_s"] for r, told in said.items() if not told["waits"]}
    verbs = {
        r: "has been gone for" if r in hang["dead"] else "has not answered for" for r in silent
    }
    steps = [told.get("step") or 0 for rank, told in said.items() if rank not in silent]
    others = f"; the others are at step {max(steps, default=0)}"
    each = [
        f"rank {rank} {verbs.get(rank, 'has done nothing for')} {seconds:.0f} s "
        f"({'last heard of at ' if rank in silent else ''}{_place(said[rank])}"
        f"{others if rank in silent else ''})"
        for rank, seconds in sorted(guilty.items())
    ]
    why = "; ".join(each) or "every rank waits for another"
    first = (
        f"the run hangs: {why}. Earlier checkpoints are untouched; continue with --resume auto. "
        f"If nothing was wrong, raise hang_timeout_s, which is {limit_s:g}."
    )
    answer = [f"rank {r}: {standing(s)}" for r, s in sorted(said.items()) if r not in silent]
    return "\n".join([first, *answer, *(f"rank {r}: has left the run" for r in hang["left"])])


def standing(said: dict[str, Any]) -> str:
    """Return where a rank stands that answers, in words."""
    what = "waits for other ranks" if said.get("waits") else "no sign of work"
    return f"{_place(said)}: {what} for {said.get('still_s', 0.0):.0f} s"


def _place(said: dict[str, Any]) -> str:
    step, phase, place = (said.get(name, "?") for name in ("step", "phase", "place"))
    return f"step {step}, {phase}, {place}"


def in_words(ranks: Sequence[int]) -> str:
    """Return the numbers of some ranks, the first eight of them.

    Example:
        >>> in_words([3]), in_words([0, 2])
        ('rank 3', 'ranks 0, 2')
    """
    shown = ", ".join(map(str, ranks[:_SHOWN]))
    more = f" and {len(ranks) - _SHOWN} more" if len(ranks) > _SHOWN else ""
    return f"rank {shown}{more}" if len(ranks) == 1 else f"ranks {shown}{more}"
