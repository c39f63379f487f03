"""Checks of the instructions: missing or blank. Contradictions are found among the duplicates."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.summary import DataSummary


def missing_instructions(data: DataSummary) -> Iterator[Finding]:
    """Find episodes without an instruction among others that have one."""
    missing = [e for e in data.episodes if not e.episode.instructions]
    num_with = len(data.episodes) - len(missing)
    for each in missing if num_with else ():
        yield Finding(
            code="missing-instruction",
            message=f"it has no instruction, {num_with} of {len(data.episodes)} episodes have one",
            path=each.path, episode=each.episode.name, number=len(missing),
        )  # fmt: skip


def blank_instructions(data: DataSummary) -> Iterator[Finding]:
    """Find instructions that say nothing."""
    for each in data.episodes:
        for text in each.episode.instructions:
            if not any(character.isalpha() for character in text):
                yield Finding(
                    code="blank-instruction",
                    message=f"its instruction is {text!r}",
                    path=each.path, episode=each.episode.name,
                )  # fmt: skip
                break
