"""The account of each HBM: experts, copies of remote experts and activation buffers, within its capacity.

The paper's own simulator has no such limit (`wss.engine.paper`).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from wss.errors import CapacityError
from wss.hardware import Wafer
from wss.models import ModelShape
from wss.models.precision import AnyPrecision, weight_bits
from wss.records import FloatArray, IntArray
from wss.units import show


class HbmBudget:
    """What lies in the HBM of each die. Experts and copies have one size, so they are counted; buffers are bytes.

    Parameters
    ----------
    capacity
        Bytes of each die for all of it.
    experts
        Bytes of the placed experts of all layers, run or not, [dies].
    expert_bytes
        Bytes of one expert, times the number of layers that a sampled layer stands for.
    copy_reserve
        Bytes of each die that are set aside for copies; None if copies and buffers share what experts leave.

    Attributes
    ----------
    copies
        Number of copies, [dies].
    buffers
        Bytes of activation buffers of the layer run, [dies]; zero between layer runs.
    """

    def __init__(
        self, capacity: float | FloatArray, experts: FloatArray, expert_bytes: float, copy_reserve: float | None = None
    ) -> None:
        self.expert_bytes = expert_bytes
        self._capacity, self._copy_reserve = capacity, copy_reserve
        self._beside_experts: FloatArray = capacity - experts
        self.copies: IntArray = np.zeros(len(experts), np.int64)
        self.buffers: FloatArray = np.zeros(len(experts))

    @property
    def beside_experts(self) -> FloatArray:
        """Bytes that experts, placed and incoming, leave, [dies]."""
        return self._beside_experts

    @property
    def experts(self) -> FloatArray:
        """Bytes of experts, placed and incoming, [dies]."""
        experts: FloatArray = self._capacity - self._beside_experts
        return experts

    @property
    def used(self) -> FloatArray:
        """Bytes of experts, copies and buffers, [dies]."""
        used: FloatArray = self.experts + self.copies * self.expert_bytes + self.buffers
        return used

    def reserve_experts(self, number: IntArray) -> None:
        """Reserve bytes for *number* experts on each die, [dies], or release them where *number* is negative."""
        self._beside_experts = self._beside_experts - number * self.expert_bytes

    def fitting_experts(self, spare: float) -> FloatArray:
        """Return how many more experts fit if *spare* bytes stay free, [dies]; copies give way to experts."""
        fitting: FloatArray = np.floor((self._beside_experts - spare) / self.expert_bytes)
        return fitting

    def fitting_copies(self) -> IntArray:
        """Return how many copies fit in all beside experts and buffers, [dies]; negative where buffers do not fit."""
        free = self._beside_experts - self.buffers
        if self._copy_reserve is not None:
            free = np.where(free >= 0, self._copy_reserve, free)
        fitting: IntArray = np.floor(free / self.expert_bytes).astype(np.int64)
        return fitting


def bytes_of_experts(
    policy: str, placed: IntArray, model: ModelShape, precision: AnyPrecision, wafer: Wafer
) -> FloatArray:
    """Return the bytes of *placed* experts of *policy*, [layers, experts, dies] of all layers, on each die, [dies].

    Raises
    ------
    CapacityError
        If they do not fit.
    """
    expert_bytes = model.expert_bytes(precision)
    need: FloatArray = placed.sum(axis=(0, 1)) * expert_bytes
    short = float((need - wafer.usable_hbm).max())
    if short <= 0:
        return need
    total, usable = float(need.sum()), wafer.num_dies * wafer.usable_hbm
    fitting = [
        name
        for name in wafer.spec.die.flops
        if need.max() * model.expert_bytes(name) / expert_bytes <= wafer.usable_hbm
    ]
    advice = f"precision {' or '.join(fitting)} fits, or" if fitting else "no precision of this die fits; give"
    a_die = int(wafer.usable_hbm // (len(model.moe_layers) * expert_bytes))  # experts per layer that fit
    dies = f"at least {-(-model.num_experts // a_die)} such dies" if a_die else "dies with more HBM"
    size = partial(show, dimension="size")
    raise CapacityError(
        f"{policy}: {model.name} in {precision} does not fit {wafer.spec.name}: its experts take "
        f"{size(float(need.max()))} on die {wafer.name(int(need.argmax()))}, {size(short)} more than the usable "
        f"{size(wafer.usable_hbm)} of its HBM (all dies: {size(total)} of {size(usable)}, at "
        f"{weight_bits(precision) / 8:g} B a weight); {advice} {dies}"
    )
