"""The GPU of each row of a file of measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wss.errors import KernelError, did_you_mean
from wss.hardware import WAFERS
from wss.hardware.kernels import DEVICES, Device, of_die
from wss.records import IntArray
from wss.traces.columns import Columns, Text


def device_named(name: str, where: str) -> Device:
    """Return the device of that *name*, in any case and with or without ``-SXM``.

    Raises KernelError, whose line begins with *where*, if it is unknown.
    """
    wanted = _plain(name)
    for known, device in DEVICES.items():
        if wanted == _plain(known):
            return device
    raise KernelError(f"{where} {name[:60]!r} is not a known GPU; {did_you_mean(name, DEVICES)}")


def _plain(name: str) -> str:
    return name.upper().replace("_", "-").replace(" ", "-").removeprefix("NVIDIA-").removesuffix("-SXM")


def chosen_device(gpu: str | None, wafer: str | None) -> Device:
    """Return the GPU of that name, or a die of the *wafer* of that name; an H100 if neither is given.

    Raises KernelError if it is unknown, or both are given.
    """
    if gpu is not None and wafer is not None:
        raise KernelError("--gpu and --wafer: are both given; give one of the two")
    if wafer is None:
        return device_named("H100-SXM" if gpu is None else gpu, "--gpu")
    if wafer not in WAFERS:
        raise KernelError(f"--wafer {wafer[:60]!r} is not a known wafer; {did_you_mean(wafer, WAFERS)}")
    spec = WAFERS[wafer]
    return of_die(spec.die, f"a die of {wafer}", spec.link.bandwidth)


def with_devices(path: Path, columns: Columns, gpu: str | None) -> tuple[Columns, IntArray, str]:
    """Return the rows of the chosen GPU, or of all; their indices in the file, [rows]; and the choice, in words.

    The column ``gpu`` of the result holds names of `DEVICES`.

    Raises KernelError if a GPU is unknown, none is given, or the file has no rows of it.
    """
    asked = None if gpu is None else device_named(gpu, "--gpu")
    every = np.arange(columns.count)
    given = columns.texts["gpu"]
    if given.words == ("",):
        if asked is None:
            raise KernelError(f"{path}: has no column gpu; give --gpu, such as --gpu {next(iter(DEVICES))}")
        own = columns.with_texts(gpu=Text((asked.name,), given.codes))
        return own, every, f"{asked.name}, by --gpu: the file has no column gpu"
    names: dict[str, str] = {}
    faults: list[str] = []
    for word in given.words:
        try:
            names[word] = device_named(word, f"{path}: column gpu:").name
        except KernelError as error:
            faults += error.faults
    if asked is None:
        if faults:
            raise KernelError(*faults)
        own = columns.with_texts(gpu=given.renamed(names))
        return own, every, f"{', '.join(own.texts['gpu'].words)}, by the column gpu"
    mine = np.flatnonzero(np.array([names.get(word) == asked.name for word in given.words])[given.codes])
    if not len(mine):
        raise KernelError(f"{path}: has no rows of {asked.name}; its column gpu has {', '.join(given.words)[:200]}")
    text = Text((asked.name,), np.zeros(len(mine), np.int64))
    return columns.where(mine).with_texts(gpu=text), mine, f"{asked.name}: the rows that the column gpu gives it"
