"""Times of elementwise kernels: normalisation, rotary embedding, quantisation, top-k, residual, activation.

    time = kernels · launch + moved / (share · HBM)

Nothing is fitted: the launch and the share are SERVING's. 2.5 us is near what one-token kernels of vLLM take on an RTX
PRO 6000 (2.0 to 3.1 us). There is no table of such kernels for the H100. Data that a kernel just before left in the L2
are read faster than this says, so for small calls it is an upper estimate, and never faster than HBM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wss.hardware.kernels.device import Device
from wss.hardware.kernels.sizes import sizes
from wss.presets import Presets
from wss.records import FloatArray


@dataclass(frozen=True, kw_only=True)
class Elementwise:
    """A set of parameters of elementwise kernels.

    Attributes
    ----------
    launch_s
        Seconds to start one kernel.
    hbm_share
        Share of the HBM bandwidth at which data are read and written.
    source
        Where the figures are from.
    """

    launch_s: float
    hbm_share: float
    source: str = ""


def elementwise_s(params: Elementwise, device: Device, moved: npt.ArrayLike, kernels: npt.ArrayLike = 1) -> FloatArray:
    """Return the seconds of elementwise kernels, in the common shape of the sizes; 0 for calls that move nothing.

    Parameters
    ----------
    params, device
        A set of `ELEMENTWISE`, and the GPU or die.
    moved
        Bytes that all kernels of a call read and write together.
    kernels
        Number of kernels of a call.

    Raises
    ------
    ConfigError
        A size is negative, or not a number.
    """
    moved, kernels = sizes(moved=moved, kernels=kernels)
    time = kernels * params.launch_s + moved / (params.hbm_share * device.hbm)
    return np.where(moved > 0, time, 0.0)


ELEMENTWISE: Presets[Elementwise] = Presets(
    "ELEMENTWISE",
    {"serving": Elementwise(launch_s=2.5e-6, hbm_share=0.8, source="the specification of serving, section 2.3")},
)
"""Sets of parameters by name."""
