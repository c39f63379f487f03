"""What was found, as lines for people and as plain values for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from simscaleai_core.errors import DataError
from simscaleai_plugin_data.checking import Checked
from simscaleai_plugin_data.findings import Finding

_MOST = 8  # lines of one kind


def as_dict(name: str | list[str], checked: Checked) -> dict[str, Any]:
    """Return a check's result as plain values by name.

    Args:
        name: What was checked.
        checked: What was found.

    Returns:
        ``file``, ``ok`` (it can be trained on), numbers, ``findings`` and ``facts``.
    """
    severities = [found.severity for found in checked.findings]
    return {
        "file": name,
        "ok": not checked.is_broken,
        "num_episodes": checked.num_episodes,
        "num_timesteps": checked.num_timesteps,
        "num_errors": severities.count("error"),
        "num_warnings": severities.count("warning"),
        "findings": [found.as_dict() for found in checked.findings],
        "facts": [found.as_dict() for found in checked.facts],
    }


def lines_of(name: str, checked: Checked) -> Iterator[str]:
    """Yield a check's result for people, kind after kind.

    Args:
        name: What was checked.
        checked: What was found.

    Yields:
        Lines, without line breaks from the data.
    """
    findings, count = checked.findings, checked.num_episodes
    if findings:
        severities = [found.severity for found in findings]
        numbers = [_number(severities.count(s), s) for s in ("error", "warning") if s in severities]
        yield f"{_one_line(name)}: {', '.join(numbers)} in {_number(count, 'episode')}"
    else:
        yield f"{_one_line(name)}: ok, {_number(count, 'episode')}"
    several = len({found.path for found in (*findings, *checked.facts)}) > 1
    for _, group in groupby((*findings, *checked.facts), key=lambda found: found.code):
        yield from _lines(list(group), several)


def refuse_broken(checked: Checked) -> None:
    """Say in one line that data is broken, after the findings.

    Raises:
        DataError: If there are errors.
    """
    errors = [found for found in checked.findings if found.severity == "error"]
    if not errors:
        return
    first = errors[0]
    where = "" if first.episode is None else f" of {first.episode}"
    raise DataError(
        f"the data cannot be trained on: expected no errors, got {len(errors)}, first "
        f"{first.code!r}{where} @ {first.path}. Leave these episodes out: --exclude FILE.",
        path=first.path, episode=first.episode, key=first.key,
    )  # fmt: skip


def _lines(group: Sequence[Finding], several: bool) -> Iterator[str]:
    yield ""
    yield f"{group[0].severity}: {group[0].code}"
    for found in group[:_MOST]:
        place = [
            *([str(found.path)] if several else []),
            *([found.episode] if found.episode else []),
        ]
        yield "  " + _one_line(": ".join([*place, found.message]))
    if len(group) > _MOST:
        yield f"  and {len(group) - _MOST} more; --json lists them all"
    yield f"  Why it matters: {group[0].why}"
    yield f"  What to do: {group[0].remedy}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _one_line(text: str) -> str:
    return " ".join(text.split()) if "\n" in text or "\r" in text else text
