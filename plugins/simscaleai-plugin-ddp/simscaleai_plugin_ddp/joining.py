"""Joining the group of all ranks, within a time and with a word on who is missing."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import time
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # not in __all__

from simscaleai_core.errors import SimScaleError
from simscaleai_plugin_ddp.options import DDPOptions

logger = logging.getLogger("simscaleai")

_ONE_HOST_S = 30.0
_LOOK_S = 0.1
_LONG_WAIT_S = 5.0
_SHOWN = 8
_GROUPS = itertools.count()  # groups that this process has joined one after another


def join(backend: str, options: DDPOptions) -> None:
    """Join the group, under keys of this attempt's own.

    torchrun's agent keeps one store over restarts, and torch 2.13 does not separate the attempts in
    it: a restarted rank would connect to the addresses of the dead ones.

    Args:
        backend: Backend of torch.distributed.
        options: How long to wait for the others, and later for each of their parts.

    Raises:
        SimScaleError: If a rank is missing, or there is no port to wait for the others.
    """  # noqa: DOC501 - built by _missing
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    limit_s = _limit_s(options, world_size)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    prefix = f"simscaleai/attempt_{attempt}/group_{next(_GROUPS)}"
    timeout = timedelta(seconds=options.timeout_s)
    try:
        store = PrefixStore(prefix, _open_store(rank, limit_s, timeout))
        _meet(store, rank, world_size, limit_s)
    except (OSError, dist.DistNetworkError) as error:  # it is rank 0's, unless torchrun keeps it
        raise _missing(rank, [0], world_size, limit_s) from error
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


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
    is_one_host = os.environ.get("LOCAL_WORLD_SIZE") == str(world_size)
    return options.join_timeout_s or (_ONE_HOST_S if is_one_host else options.timeout_s)


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


def _meet(store: PrefixStore, rank: int, world_size: int, limit_s: float) -> None:
    """Wait until every rank is here, in short sleeps: a signal must be able to end it."""
    store.set(f"here/{rank}", "")
    store.add("number", 1)
    started, has_said = time.monotonic(), False
    while store.add("number", 0) < world_size:
        time.sleep(_LOOK_S)
        waited_s = time.monotonic() - started
        if waited_s < (limit_s if has_said else min(_LONG_WAIT_S, limit_s)):
            continue
        missing = [other for other in range(world_size) if not store.check([f"here/{other}"])]
        if missing and waited_s >= limit_s:
            raise _missing(rank, missing, world_size, limit_s)
        if missing:
            logger.warning("rank %d waits for %s, up to %.0f s", rank, _words(missing), limit_s)
        has_said = True


def _missing(rank: int, missing: list[int], world_size: int, limit_s: float) -> SimScaleError:
    return SimScaleError(
        f"{_words(missing)} did not start: rank {rank} waited {limit_s:.0f} s for {world_size} "
        "ranks. See what the missing ones say; if they start slowly, set --ddp.join-timeout-s."
    )


def _words(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:_SHOWN]))
    more = f" and {len(ranks) - _SHOWN} more" if len(ranks) > _SHOWN else ""
    return f"rank {shown}{more}" if len(ranks) == 1 else f"ranks {shown}{more}"
