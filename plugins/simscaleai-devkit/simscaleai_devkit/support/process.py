"""Global state of a process, which loading or running a component must leave as it was.

Imports nothing heavy: a probe uses it in a process that must not have torch.
"""

from __future__ import annotations

import locale
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from simscaleai_devkit.checks import expect_none
from simscaleai_devkit.support.leaks import watched_leaks

_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP", "SIGCHLD")


def process_state() -> dict[str, Any]:
    """Return the state of this process as values that can be compared, by readable name."""
    root = logging.getLogger()
    state: dict[str, Any] = {
        "the environment": dict(os.environ),
        "the working directory": os.getcwd(),  # noqa: PTH109 - as the system gives it
        **random_states(),
        "the root logger": (root.level, [type(h).__name__ for h in root.handlers]),
        "the warning filters": len(warnings.filters),
        "sys.path": list(sys.path),
        "the number of threads": threading.active_count(),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the signal handlers": [
            str(signal.getsignal(getattr(signal, n))) for n in _SIGNALS if hasattr(signal, n)
        ],
        "sys.excepthook": _foreign(sys.excepthook),
    }
    for module, describe in (("numpy", _numpy_state), ("torch", _torch_state)):
        if module in sys.modules:
            state.update(describe(sys.modules[module]))
    return state


def _foreign(hook: Any) -> str:
    """Return a hook as text; Python's own and torch's, which joining ranks sets, are alike."""
    home = str(getattr(hook, "__module__", "")).partition(".")[0]
    return "Python's own" if home in {"sys", "torch"} else str(hook)


def random_states() -> dict[str, Any]:
    """Return the states of the global random generators as values that can be compared."""
    states: dict[str, Any] = {"the random state of Python": hash(random.getstate())}
    if "numpy" in sys.modules:
        _, keys, position, *_ = sys.modules["numpy"].random.get_state()
        states["the random state of NumPy"] = (hash(keys.tobytes()), position)
    if "torch" in sys.modules:
        state = sys.modules["torch"].get_rng_state()
        states["the random state of torch"] = hash(state.numpy().tobytes())
    return states


def _numpy_state(numpy: Any) -> dict[str, Any]:
    return {"NumPy's error handling": dict(numpy.geterr())}


def _torch_state(torch: Any) -> dict[str, Any]:
    cudnn = torch.backends.cudnn
    return {
        "torch's functions": _torch_functions(torch),
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's default device": str(torch.get_default_device()),
        "torch's number of threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's anomaly mode": torch.is_anomaly_enabled(),
        "torch's autocast": torch.is_autocast_enabled("cpu"),
        "the cudnn flags": (cudnn.benchmark, cudnn.deterministic, cudnn.enabled),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
    }


def _torch_functions(torch: Any) -> dict[str, Any]:
    """Return what stands by name in the place of torch's own functions, methods and layers.

    What torch puts there itself when it needs it is left out.
    """
    home = os.path.dirname(torch.__file__)  # noqa: PTH120 - as code names its file
    return {
        f"{place}.{name}": value
        for (place, name), (_, value) in _named_in(torch).items()
        if not _file_of(value).startswith(home)
    }


def _named_in(torch: Any) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Return torch's functions, methods and layers: place and name to owner and value."""
    layers = {n: v for n, v in vars(torch.nn).items() if isinstance(v, type)}
    owners = {
        "torch": torch,
        "torch.Tensor": torch.Tensor,
        "torch.nn.functional": torch.nn.functional,
        **{f"torch.nn.{n}": v for n, v in layers.items()},
    }
    return {
        (place, name): (owner, value)
        for place, owner in owners.items()
        for name, value in vars(owner).items()
        if isinstance(value, FunctionType)
    } | {("torch.nn", n): (torch.nn, v) for n, v in layers.items()}


def _file_of(value: Any) -> str:
    if isinstance(value, FunctionType):
        return value.__code__.co_filename
    return str(getattr(sys.modules.get(value.__module__), "__file__", ""))


@contextmanager
def settings_restored() -> Iterator[None]:
    """Put back after the body what it changed in torch and in the environment.

    A check begins with the settings of the process, whatever a component did in the one before.
    """
    import torch

    environment, functions, hook = dict(os.environ), _named_in(torch), sys.excepthook
    dtype, matmul = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        for name in [n for n in os.environ if n not in environment]:
            del os.environ[name]
        os.environ.update(environment)
        sys.excepthook = hook
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(matmul)
        replaced = _torch_functions(torch)
        for (place, name), (owner, value) in functions.items():
            if replaced.get(f"{place}.{name}", value) is not value:
                setattr(owner, name, value)


def state_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name what differs between two states; what only one of the two has is left out."""
    changes = []
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if old == new:
            continue
        if isinstance(old, Mapping):
            keys = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
            changes.append(f"{name} ({', '.join(keys)})")
        elif "random" in name:
            changes.append(name)
        else:
            changes.append(f"{name} ({old!r:.80} became {new!r:.80})")
    return sorted(changes)


def modules_loaded_by(code: str) -> set[str]:
    """Return the modules that a new process has loaded after running some code.

    Args:
        code: Python statements, such as ``"import my_plugin.options"``.

    Returns:
        The names in `sys.modules`.

    Example:
        >>> "json" in modules_loaded_by("import json")
        True
    """
    code = f"import sys\n{code}\nprint('\\n' + ' '.join(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return set(done.stdout.splitlines()[-1].split())


@contextmanager
def process_unchanged(
    fact: str,
    *,
    expected: str = "no change",
    remedy: str,
    ignore_random: bool = False,
    check_stdout: bool = False,
) -> Iterator[None]:
    """Fail a check if the body changes the state of this process, or leaves something running.

    Args:
        fact: What the process is compared after.
        expected: What was expected, in words.
        remedy: One thing to do, a sentence.
        ignore_random: Whether random states may change.
        check_stdout: Whether the body may write nothing to standard output.
    """
    before = process_state()
    with watched_leaks() as left, captured_stdout() as printed:
        yield
    changes = [*state_changes(before, process_state()), *left]
    changes = [c for c in changes if not (ignore_random and "random state" in c)]
    changes += ["standard output"] if check_stdout and printed() else []
    expect_none(changes, fact, expected=expected, remedy=remedy)


@contextmanager
def captured_stdout() -> Iterator[Callable[[], str]]:
    """Give what was written to standard output, by this process and those that it starts.

    Yields:
        A function that returns the text; call it after the body.
    """
    import tempfile

    sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        text: list[str] = []
        kept = os.dup(1)
        stream, sys.stdout = sys.stdout, os.fdopen(os.dup(file.fileno()), "w", encoding="utf-8")
        os.dup2(file.fileno(), 1)
        try:
            yield lambda: text[0]
        finally:
            sys.stdout.close()
            sys.stdout = stream
            os.dup2(kept, 1)
            os.close(kept)
            file.seek(0)
            text.append(file.read().decode(errors="replace"))


class NetworkUseError(ConnectionError):
    """A connection to another machine was refused."""


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse connections to other machines; local ones work.

    Yields:
        The addresses that were tried.
    """
    import socket

    tried: list[str] = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def refuse(address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and host not in {"127.0.0.1", "::1", "localhost"}:
            tried.append(str(host))
            raise NetworkUseError(f"no network in this check: {host}")

    def guarded(self: socket.socket, address: Any) -> None:
        refuse(address)
        connect(self, address)

    def resolved(host: Any, *rest: Any, **options: Any) -> Any:
        refuse((host if isinstance(host, str) else "",))
        return resolve(host, *rest, **options)

    socket.socket.connect = guarded  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = resolved
    try:
        yield tried
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.getaddrinfo = resolve


def expect_left_alone(call: Callable[[], object], fact: str, *, remedy: str) -> None:
    """Fail a check if a call changes the process, but for its random state and late imports."""
    with settings_restored():  # imports that come late are not its doing
        call()
    with process_unchanged(fact, remedy=remedy, ignore_random=True):
        call()
