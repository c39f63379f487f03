"""What one array of an episode holds: numbers, frames, depth, texts, or nothing that is read.

T: timesteps, H and W: pixels, C: channels.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
from attrs import evolve, frozen

from simscaleai_core.data.frames import frame_shape
from simscaleai_core.data.location import Location
from simscaleai_core.data.source import KeyKind
from simscaleai_plugin_hdf5.checks import read_errors_at
from simscaleai_plugin_hdf5.reading.allowance import Allowance
from simscaleai_plugin_hdf5.reading.blobs import Blobs, blobs_of, reader_of
from simscaleai_plugin_hdf5.reading.guard import kind_of_object, stored_in, type_name
from simscaleai_plugin_hdf5.reading.timesteps import Stored
from simscaleai_plugin_hdf5.stored import Encoding, kind_of_array

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_MIN_BLOB_BYTES = 64
"""A row of so many bytes may be a compressed frame."""


@frozen(kw_only=True)
class Form:
    """What a timestep of an array is: the same in every episode."""

    step: tuple[int, ...]
    """Its shape as stored."""
    dtype: str
    """Type of its values, as NumPy writes it."""
    kind: KeyKind | None
    """What it holds; None if it is not read."""
    shape: tuple[int, ...] = ()
    """Its shape as samples have it."""
    encoding: Encoding = "numbers"
    """How it is stored."""
    expected: str = "real numbers"
    """What should have been there, if it is not read."""
    found: str = ""
    """What is there, if it is not read."""
    is_text: bool = False
    """Whether it is a text, or bytes that no decoder is known for."""
    may_be_blob: bool = False
    """Whether it may be a compressed frame, which its first bytes tell."""


@frozen(kw_only=True, eq=False)
class Array:
    """One array of one episode."""

    stored: Stored
    """The open dataset."""
    length: int
    """Its timesteps."""
    form: Form
    """What it holds."""
    location: Location
    """Where it is, for messages."""


_NO_ARRAY = Form(
    step=(), dtype="", kind=None, expected="an array [T, ...]", found="a single or empty value"
)


def look_at(dataset: h5py.h5d.DatasetID, location: Location, allowance: Allowance) -> Array:
    """Look at an array without reading its numbers.

    Args:
        dataset: The open dataset.
        location: Where it is, for messages.
        allowance: What may still be read.

    Returns:
        What it holds.

    Raises:
        DataError: If it is not safe to read.
    """
    stored = stored_in(dataset, location, allowance.stored_bytes)
    if not stored.is_array:
        form = _NO_ARRAY
    else:
        with read_errors_at(location):
            form = _form(stored.shape[1:], stored.encoded_type)
    length = stored.shape[0] if stored.is_array else 0
    if form.may_be_blob and length:
        form = _with_first_bytes(form, stored, location)
    item_bytes = 1 if form.kind == "image" else 4
    in_memory = length * math.prod(form.shape) * item_bytes if form.kind else 0
    allowance.take(max(stored.num_bytes, in_memory))
    return Array(stored=stored, length=length, form=form, location=location)


def other_object(found: Any, location: Location) -> Array:
    """Return what stands for an object that is no dataset, which is not read.

    Args:
        found: The object.
        location: Where it is, for messages.
    """
    form = evolve(_NO_ARRAY, expected="a dataset", found=kind_of_object(found))
    stored = Stored(found, (), False, None, (), b"", 0)
    return Array(stored=stored, length=0, form=form, location=location)


@lru_cache(maxsize=1024)
def _form(step: tuple[int, ...], encoded_type: bytes) -> Form:
    try:
        dtype: np.dtype[np.generic] = h5py.h5t.decode(encoded_type).dtype
    except (TypeError, ValueError, RuntimeError) as error:
        found = f"a type without a NumPy equal ({error})"
        return Form(step=step, dtype="", kind=None, found=found)
    form = Form(step=step, dtype=dtype.str, kind=None)
    if dtype.kind not in "biuf":
        item = dtype.metadata.get("vlen") if dtype.metadata else None
        is_blob = dtype.kind in "SV" and dtype.names is None and dtype.subdtype is None
        return evolve(
            form,
            found=type_name(dtype),
            is_text=dtype.kind == "S" or item in (str, bytes),
            may_be_blob=not step and (is_blob or item in (str, bytes, np.dtype(np.uint8))),
        )
    if 0 in step:
        shown = ", ".join(map(str, ("T", *step)))
        return evolve(form, expected="at least one number per timestep", found=f"[{shown}]")
    blob = dtype == np.uint8 and len(step) == 1 and step[0] >= _MIN_BLOB_BYTES
    return evolve(_number_form(form, step, dtype), may_be_blob=blob)


def _number_form(form: Form, step: tuple[int, ...], dtype: np.dtype[np.generic]) -> Form:
    shape = (1, *step)
    kind = kind_of_array(shape, dtype)
    if kind is None:
        return evolve(
            form,
            expected="[T, D], a matrix per timestep, or images [T, H, W, C]",
            found=f"[{', '.join(map(str, ('T', *step)))}] {dtype}",
        )
    if kind == "low-dimensional":
        return evolve(form, kind=kind, shape=step or (1,))
    encoding: Encoding = "depth" if kind == "depth" else "frames"
    return evolve(form, kind=kind, shape=frame_shape(shape), encoding=encoding)


def _with_first_bytes(form: Form, stored: Stored, location: Location) -> Form:
    """Return the form of compressed frames, if the first timestep is one."""
    reader = reader_of(stored, location)
    if isinstance(reader, Blobs):
        first = next(reader.read_apart(0, 1))[0]
    else:
        first = blobs_of(reader.read(0, 1))[0]
    if not first.startswith(_SIGNATURES):
        return form
    return evolve(form, is_text=False, **_frame_form(first, location))


def _frame_form(raw: bytes, location: Location) -> dict[str, Any]:
    """Return what makes a form one of compressed frames, from the first of them."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw), formats=("JPEG", "PNG")) as image:
            mode, (width, height) = image.mode, image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise location.error(
            "JPEG or PNG frames", f"damage in the first ({error})", "Record the episode again"
        ) from error
    if mode[0] in "IF":
        expected = "frames of 8 bits per channel"
        return {"kind": None, "expected": expected, "found": f"PNG of mode {mode!r}"}
    shape = ({"L": 1, "RGBA": 4}.get(mode, 3), height, width)
    return {"kind": "image", "shape": shape, "encoding": "encoded"}
