"""Episodes as a recording that the Rerun viewer opens.

T: timesteps, D: dimensions of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from simscaleai_core.data.source import EpisodeSource, Key
from simscaleai_core.errors import ConfigError, DataError, PluginError
from simscaleai_plugin_data.view.frames import jpeg_of, picture
from simscaleai_plugin_data.view.overview import dimension_names, rows_of

if TYPE_CHECKING:
    from simscaleai_plugin_data.view.episodes import EpisodeView

_FRAMES_AT_ONCE = 32


def check_recording(path: Path) -> None:
    """Check that a recording can be written under this name.

    Raises:
        ConfigError: If its name ends in something else than .rrd.
    """
    if path.suffix.lower() != ".rrd":
        raise ConfigError(f"no recording can be {str(path)!r}: expected a name in .rrd.")
    _rerun()


def write_recording(source: EpisodeSource, episodes: Iterable[EpisodeView], path: Path) -> None:
    """Write some episodes, each with all of its frames, on the time lines timestep and time.

    Args:
        source: The demonstrations.
        episodes: The episodes; what was found in them is logged as text.
        path: The recording.
    """
    rr = _rerun()
    with rr.RecordingStream("simscale-data-view") as stream:
        stream.save(path)
        stream.send_recording_name(source.path.name)
        recorder = _Recorder(rr=rr, stream=stream, source=source)
        for view in episodes:
            recorder.write(view)
        stream.flush()
        stream.disconnect()


def _rerun() -> Any:
    try:
        return import_module("rerun")
    except ImportError as error:
        raise PluginError(
            "recordings need the Rerun SDK. "
            "Install it: pip install 'simscaleai-plugin-data[rerun]'.",
            plugin="rerun",
        ) from error


@frozen(kw_only=True)
class _Recorder:
    rr: Any
    stream: Any
    source: EpisodeSource

    def write(self, view: EpisodeView) -> None:
        """Write one episode below its name."""
        rr, place = self.rr, self.rr.escape_entity_path_part(view.episode.name)
        for text in view.episode.instructions:
            self.stream.log(f"{place}/instruction", rr.TextLog(text), static=True)
        for key in (*self.source.observations, self.source.actions):
            name = "/".join([place, *map(rr.escape_entity_path_part, key.name.split("/"))])
            with suppress(DataError):  # a finding of the check; the rest is shown all the same
                if key.kind == "low-dimensional":
                    self._write_numbers(view, key, name)
                else:
                    self._write_frames(view, key, name)
        for found in view.findings:
            level = {"error": "ERROR", "warning": "WARN", "info": "INFO"}[found.severity]
            log = rr.TextLog.columns(text=[f"{found.code}: {found.message}"], level=[level])
            times = self._times([found.timestep or 0])
            self.stream.send_columns(f"{place}/findings", times, log)

    def _write_numbers(self, view: EpisodeView, key: Key, name: str) -> None:
        rows = rows_of(self.source.read(view.number, key.name, 0, view.episode.length), key)
        names = [each or key.name for each in dimension_names(key)]
        self.stream.log(name, self.rr.SeriesLines(names=names), static=True)
        columns = self.rr.Scalars.columns(scalars=rows)
        self.stream.send_columns(name, self._times(range(len(rows))), columns)

    def _write_frames(self, view: EpisodeView, key: Key, name: str) -> None:
        length = view.episode.length
        for start in range(0, length, _FRAMES_AT_ONCE):
            steps = range(start, min(start + _FRAMES_AT_ONCE, length))
            frames = self.source.read(view.number, key.name, steps.start, steps.stop)
            if key.kind == "image":
                columns = self.rr.EncodedImage.columns(
                    blob=[jpeg_of(picture(frame)) for frame in frames],
                    media_type=["image/jpeg"] * len(frames),
                )
                self.stream.send_columns(name, self._times(steps), columns)
                continue
            for step, frame in zip(steps, frames, strict=True):
                self.stream.set_time("timestep", sequence=step)
                if self._fps:
                    self.stream.set_time("time", duration=step / self._fps)
                self.stream.log(name, self.rr.DepthImage(frame))

    def _times(self, steps: Sequence[int]) -> list[Any]:
        times = [self.rr.TimeColumn("timestep", sequence=steps)]
        if self._fps:
            times.append(self.rr.TimeColumn("time", duration=[s / self._fps for s in steps]))
        return times

    @property
    def _fps(self) -> float | None:
        return getattr(self.source, "fps", None)
