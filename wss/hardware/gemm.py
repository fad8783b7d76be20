"""How long a die computes on a task.

``ideal`` is the only model so far: FLOP over peak FLOP/s, no launch cost, no tile or wave quantisation. Published
measurements lie 1.2 to 2.7 times above such a plain roofline.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
GemmModel = Callable[[FloatArray, float, float], FloatArray]


def ideal(tokens: FloatArray, flop_per_token: float, peak: float) -> FloatArray:
    """Seconds that *tokens* [tasks] of one expert each take at *peak* FLOP/s, [tasks]."""
    return tokens * (flop_per_token / peak)


GEMMS: dict[str, GemmModel] = {"ideal": ideal}
