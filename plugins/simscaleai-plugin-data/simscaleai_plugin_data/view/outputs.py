"""What ``simscale data view`` writes: a page, and maybe a picture and a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from simscaleai_core.cli.output import progress
from simscaleai_core.data.source import EpisodeSource
from simscaleai_core.errors import ConfigError
from simscaleai_plugin_data.checking import check_sources
from simscaleai_plugin_data.joined import joined
from simscaleai_plugin_data.view.contents import read_contents
from simscaleai_plugin_data.view.kept import kept
from simscaleai_plugin_data.view.page import page
from simscaleai_plugin_data.view.picture import check_picture, draw_picture
from simscaleai_plugin_data.view.recording import check_recording, write_recording

if TYPE_CHECKING:
    from simscaleai_plugin_data.view.contents import Contents

_PAGES = (".html", ".htm")


@frozen(kw_only=True)
class Outputs:
    """The files to write."""

    page: Path
    """The HTML page."""
    picture: Path | None
    """The picture of the overview, if one is wanted."""
    recording: Path | None
    """The recording for Rerun, if one is wanted."""

    def check(self) -> None:
        """Check their names and what writes them, before the work whose result they are.

        Raises:
            ConfigError: If one of them cannot have its name.
        """
        if self.page.suffix.lower() not in _PAGES:
            raise ConfigError(
                f"no page can be {str(self.page)!r}: expected a name in {' or '.join(_PAGES)}."
            )
        if self.picture is not None:
            check_picture(self.picture)
        if self.recording is not None:
            check_recording(self.recording)

    def write(self, opened: Sequence[EpisodeSource], num_shown: int) -> list[str]:
        """Check demonstrations, read what is shown of them, and write the files.

        Args:
            opened: The demonstrations; those with the same keys are shown as one.
            num_shown: Episodes to show, and as many again with findings, at most.

        Returns:
            Names of the episodes that are shown.

        Raises:
            ConfigError: If a file cannot be written, or a picture or recording is wanted of sources
                with different keys.
        """
        opened = kept(opened)
        sources = joined(opened)
        if len(sources) > 1 and (self.picture or self.recording):
            raise ConfigError(
                "a picture or recording shows one set of keys: expected data with the same keys, "
                f"got {len(sources)} sorts of data. View each alone, or the page alone."
            )
        contents = _read(opened, sources, num_shown)
        with _writing(self.page):
            self.page.write_text(page(contents), encoding="utf-8")
        if self.picture is not None:
            with _writing(self.picture):
                draw_picture(contents[0], self.picture)
        if self.recording is not None:
            with _writing(self.recording):
                write_recording(sources[0], contents[0].episodes, self.recording)
        return [view.episode.name for each in contents for view in each.episodes]


def _read(
    opened: Sequence[EpisodeSource], sources: Sequence[EpisodeSource], num_shown: int
) -> list[Contents]:
    num_episodes = sum(len(source.episodes) for source in opened)
    with progress("checking episodes", num_episodes) as advance:
        checked = check_sources(opened, advance=advance)
    findings = [*checked.findings, *checked.facts]
    with progress("reading episodes", num_episodes) as advance:
        return [read_contents(source, findings, num_shown, advance) for source in sources]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{str(path)!r} cannot be written: {reason}.") from error
