"""Whether a run can be online: asked before the client is, which retries for a long time."""

from __future__ import annotations

import http.client
import netrc
import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import wandb


def client_settings() -> wandb.Settings:
    """Return the client's settings; its helper process is started if it is not running.

    The helper prints remarks on failed runs to standard output, which ``--json`` keeps for one JSON
    object; so it is given standard error instead.
    """
    with _stdout_as_stderr():
        return wandb.setup().settings


def obstacle(timeout_s: float) -> str | None:
    """Return why a run cannot be online, or None if nothing speaks against it.

    Args:
        timeout_s: Longest wait for an answer of the server [s].

    Returns:
        The reason, for a message.
    """
    settings = client_settings()
    if not _has_credentials(settings):
        return "no API key is configured"
    reason = _silence(settings.base_url, _proxies(settings), timeout_s)
    return f"{settings.base_url} cannot be reached ({reason})" if reason else None


def _has_credentials(settings: wandb.Settings) -> bool:
    if settings.api_key or os.environ.get("WANDB_API_KEY"):
        return True
    if settings.identity_token_file or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    given = os.environ.get("NETRC")
    paths = [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]
    host = urlsplit(settings.base_url).netloc
    return any(_knows(path, host) for path in paths)


def _knows(path: Path, host: str) -> bool:
    try:
        return netrc.netrc(str(path.expanduser())).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _proxies(settings: wandb.Settings) -> dict[str, str]:
    own = {"http": settings.http_proxy, "https": settings.https_proxy}
    return {**urllib.request.getproxies(), **{k: v for k, v in own.items() if v}}


def _silence(url: str, proxies: dict[str, str], timeout_s: float) -> str:
    """Return why a server did not answer, or nothing if it did, whatever the answer was."""
    reasons: list[str] = []
    # name resolution ignores timeouts, so it must not happen in the training thread
    probe = threading.Thread(
        target=lambda: reasons.append(_ask(url, proxies, timeout_s)), daemon=True
    )
    probe.start()
    probe.join(timeout_s)
    return reasons[0] if reasons else f"no answer within {timeout_s:g} s"


def _ask(url: str, proxies: dict[str, str], timeout_s: float) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(urllib.request.Request(url, method="HEAD"), timeout=timeout_s):  # noqa: S310 - the client accepts http and https only
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return ""  # a refusal is an answer
    except urllib.error.URLError as error:
        # a certificate that is unknown here may be known to the client
        return "" if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    except http.client.HTTPException:
        return ""


@contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    """Let processes that are started meanwhile inherit standard error as standard output."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
