"""Reading ``.pt`` files (torch.save) without torch, and without running any code in them.

A ``.pt`` file is a zip archive with a pickle and, separately, the bytes of each tensor. The unpickler supports five
names: those that rebuild a tensor, its storages, and ordered dictionaries. Every other name becomes an inert `Opaque`,
which accepts any arguments and does nothing.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.reading import check_values, open_plain
from wss.traces.importers.unpacked import check_unpacked, whole_file

_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Opaque:
    """Any object in a pickle other than tensors and plain data."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


class _Storage:
    """The kind of a tensor's storage, by its torch name."""

    def __init__(self, name: str) -> None:
        self.name = name


def _tensor(storage: npt.NDArray[Any], offset: Any, size: Any, stride: Any, *_: Any) -> npt.NDArray[Any]:
    """Return a view of *storage* as a tensor of *size* and *stride* (in elements), checked to be within it."""
    offset, size, stride = int(offset), [int(n) for n in size], [int(n) for n in stride]
    if len(size) != len(stride) or offset < 0 or min([0, *size, *stride]) < 0:
        raise pickle.UnpicklingError(f"a tensor of size {size}, stride {stride} is impossible")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else offset - 1
    if last >= storage.size:
        raise pickle.UnpicklingError(f"a tensor of size {size} is larger than its storage")
    strides = [n * storage.itemsize for n in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


class _Unpickler(pickle.Unpickler):
    """Unpickler of *content*, the pickle of *archive*; all tensors together have at most *most* bytes."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, content: bytes, most: int) -> None:
        super().__init__(io.BytesIO(content))
        self._archive, self._folder, self._left = archive, folder, most
        self._storages: dict[str, npt.NDArray[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuilt
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.storage") and name in (*_DTYPES, "BFloat16Storage"):
            return _Storage(name)
        return Opaque

    def persistent_load(self, pid: Any) -> npt.NDArray[Any]:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _Storage)):
            raise pickle.UnpicklingError("a storage is not as torch writes it")
        key = f"{pid[1].name}/{pid[2]}"
        if key not in self._storages:
            self._storages[key] = self._storage(pid[1].name, f"{self._folder}/data/{pid[2]}")
        return self._storages[key]

    def _storage(self, kind: str, member: str) -> npt.NDArray[Any]:
        raw = self._archive.read(member)
        if kind == "BFloat16Storage":
            wide = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
            return wide.view(np.float32)
        return np.frombuffer(raw, _DTYPES[kind])

    def _rebuilt(self, *arguments: Any) -> npt.NDArray[Any]:
        """Return a separate tensor, if the file is large enough for it."""
        view = _tensor(*arguments)
        self._left -= view.nbytes
        if self._left < 0:
            raise pickle.UnpicklingError(f"a tensor of size {list(view.shape)} takes more than the file can hold")
        return view.copy()


def _check_pickle(content: bytes) -> None:
    """Check, before any object is made, that no text or memo index of a pickle is larger than the pickle."""
    for code, argument, _ in pickletools.genops(content):
        if code.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError("it numbers more values than it holds")


def load_pt(path: Path) -> Any:
    """Return the plain data of a ``.pt`` file, its tensors as numpy arrays.

    Raises
    ------
    TraceError
        If it is not such a file, or damaged.
    """
    with whole_file(path, ".pt", "torch.save"), open_plain(path) as file, zipfile.ZipFile(file) as archive:
        most = check_unpacked(archive)
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise TraceError(f"{path}: is not a .pt file (a zip archive with one data.pkl); save it with torch.save")
        content = archive.read(pickles[0])
        _check_pickle(content)
        value = _Unpickler(archive, pickles[0].removesuffix("/data.pkl"), content, most).load()
        check_values(value, len(content))
        return value
