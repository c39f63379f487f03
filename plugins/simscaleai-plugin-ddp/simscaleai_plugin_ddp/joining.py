"""Joining the group of all ranks, within a time and with a word on who is missing."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # not in __all__

from simscaleai_core.checkpoint.lock import identity_of
from simscaleai_core.errors import SimScaleError
from simscaleai_plugin_ddp.hangs import in_words
from simscaleai_plugin_ddp.options import DDPOptions

logger = logging.getLogger("simscaleai")

_ONE_HOST_S = 30.0
_LOOK_S = 0.1
_LONG_WAIT_S = 5.0
_KEYS = "simscaleai"
_SEPARATE_STORES = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def meet(options: DDPOptions) -> tuple[PrefixStore, str]:
    """Wait until all ranks are here, and return a store under keys of this attempt's own.

    torchrun's agent keeps one store over restarts, and torch 2.13 does not separate the attempts in
    it: a restarted rank would connect to the addresses of the dead ones. Nor can the ranks count
    the attempts, of which the agent of a new node knows nothing. So rank 0 makes up a name for
    each, and tells it to everyone who asks.

    Args:
        options: How long to wait for the others, and later for each of their parts.

    Returns:
        The store, and what its keys begin with.

    Raises:
        SimScaleError: If a rank is missing, or there is no port to wait for the others.
    """  # noqa: DOC501 - built by _missing
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    limit_s = _limit_s(options, world_size)
    try:
        store = _open_store(rank, limit_s, timedelta(seconds=options.timeout_s))
        prefix = _wait_for_all(store, rank, world_size, limit_s)
    except (OSError, dist.DistNetworkError) as error:  # it is rank 0's, unless torchrun keeps it
        raise _missing(rank, [0], world_size, limit_s) from error
    return PrefixStore(prefix, store), prefix


def connect(timeout: timedelta) -> TCPStore:
    """Return a connection of its own to the store in which the ranks have met.

    Args:
        timeout: How long to wait for what is not there.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=timeout, wait_for_workers=False)


def _open_store(rank: int, limit_s: float, timeout: timedelta) -> TCPStore:
    keeps_it = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if not keeps_it:
        _reach(host, port, limit_s)
    try:
        return TCPStore(
            host,
            port,
            is_master=keeps_it,
            timeout=timeout,
            wait_for_workers=False,  # this would wait without a word on who is missing
            multi_tenant=True,
        )
    except dist.DistNetworkError as error:
        if not keeps_it:
            raise
        reason = str(error).splitlines()[0]
        raise SimScaleError(
            f"rank 0 cannot wait for the others at {host}:{port}: {reason}. Set another "
            "MASTER_PORT, or start with torchrun, which finds one."
        ) from error


def _limit_s(options: DDPOptions, world_size: int) -> float:
    usual_s = _ONE_HOST_S if _is_one_host(world_size) else options.timeout_s
    return options.join_timeout_s or usual_s


def _reach(host: str, port: int, limit_s: float) -> None:
    """Wait until the store is there: torch takes twice the time, and prints its own stack."""
    started = time.monotonic()
    while True:
        try:
            socket.create_connection((host, port), timeout=limit_s).close()
        except OSError:
            if time.monotonic() - started >= limit_s:
                raise
            time.sleep(_LOOK_S)
        else:
            return


def _wait_for_all(store: TCPStore, rank: int, world_size: int, limit_s: float) -> str:
    """Wait until every rank is here, in short sleeps: a signal must be able to end it."""
    me = uuid.uuid4().hex
    prefix = f"{_KEYS}/{me}" if rank == 0 else ""
    store.set(f"{_KEYS}/asks/{rank}", me)  # over what a rank of an earlier attempt has asked
    started, has_said, answered = time.monotonic(), False, dict[int, bytes]()
    while True:
        if rank == 0:
            _answer(store, prefix, world_size, answered)
        elif not prefix and store.check([f"{_KEYS}/answers/{me}"]):
            prefix = store.get(f"{_KEYS}/answers/{me}").decode()
        if prefix and _all_here(store, prefix, rank, world_size):
            return prefix
        time.sleep(_LOOK_S)
        waited_s = time.monotonic() - started
        if waited_s < (limit_s if has_said else min(_LONG_WAIT_S, limit_s)):
            continue
        others = range(world_size) if prefix else range(1)  # rank 0 has not answered
        missing = [n for n in others if not (prefix and store.check([f"{prefix}/here/{n}"]))]
        if missing and waited_s >= limit_s:
            raise _missing(rank, missing, world_size, limit_s)
        if missing:
            waiting = f"rank {rank} waits for {in_words(missing)}, up to {limit_s:.0f} s"
            logger.warning("%s.%s", waiting, _advice(world_size))
        has_said = True


def _answer(store: TCPStore, prefix: str, world_size: int, answered: dict[int, bytes]) -> None:
    """Tell who has asked anew what this attempt's keys begin with."""
    for rank in range(1, world_size):
        key = f"{_KEYS}/asks/{rank}"
        if store.check([f"{prefix}/here/{rank}"]) or not store.check([key]):
            continue
        if (asking := store.get(key)) != answered.get(rank):
            answered[rank] = asking
            store.set(f"{_KEYS}/answers/{asking.decode()}", prefix)


def _all_here(store: TCPStore, prefix: str, rank: int, world_size: int) -> bool:
    """Say that this rank is here, once, and return whether all are."""
    if not store.check([f"{prefix}/here/{rank}"]):
        store.set(f"{prefix}/here/{rank}", identity_of(os.getpid()))
        store.add(f"{prefix}/number", 1)
    return store.add(f"{prefix}/number", 0) >= world_size


def _missing(rank: int, missing: list[int], world_size: int, limit_s: float) -> SimScaleError:
    return SimScaleError(
        f"{in_words(missing)} did not start: rank {rank} waited {limit_s:.0f} s for {world_size} "
        "ranks. See what the missing ones say; if they start slowly, set --ddp.join-timeout-s."
        f"{_advice(world_size)}"
    )


def _advice(world_size: int) -> str:
    """Return what helps where torch 2.13 sends the ranks of two nodes to different stores."""
    # the agent of a node that was the first, and is not any more, goes on telling its own
    is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not is_agents or _is_one_host(world_size):
        return ""
    return f" If nodes have come or gone, start torchrun with {_SEPARATE_STORES}=1."


def _is_one_host(world_size: int) -> bool:
    is_loopback = os.environ["MASTER_ADDR"].startswith(("127.", "localhost", "::1"))
    here = os.environ.get("LOCAL_WORLD_SIZE", str(world_size) if is_loopback else "")
    return here == str(world_size)
