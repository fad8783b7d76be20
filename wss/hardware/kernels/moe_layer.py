"""Times of a whole MoE layer on one GPU: its experts' products, and the smaller kernels around them.

    time = fixed_s + activation_s + expert_gemm_s(gate and up) + expert_gemm_s(down)
    activation_s = (token_bytes · tokens · hidden + M · (routed_bytes · hidden + inner_bytes · intermediate)) / HBM

*fixed_s* is what routing, permutation, quantisation, activation and weighted sum take for a single token, and
*activation_s* is what they add for more. *tokens* are those that the layer routes, on all GPUs of the group; M is the
number of token-experts on this one. The three counts of bytes are fitted: seconds times the HBM's peak bandwidth. They
are more than what these kernels move, since none of them reaches the peak.

experiments/kernels/fit_experts.py fits the sets to H100 measurements; experiments/kernels/experts.md has the errors,
and what they are without each parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wss.errors import ConfigError
from wss.hardware.kernels.device import Device
from wss.hardware.kernels.experts import ExpertGemm, expert_gemm_s
from wss.hardware.kernels.sizes import sizes
from wss.hardware.kernels.tiling import Tiling
from wss.presets import Presets
from wss.records import FloatArray


@dataclass(frozen=True, kw_only=True)
class MoeLayer:
    """A set of parameters of MoE layers.

    Attributes
    ----------
    gemm
        The experts' products.
    fixed_s
        Seconds of all kernels around the products, for few tokens.
    token_bytes
        Bytes per element of hidden and token of the layer, at the HBM's peak bandwidth.
    routed_bytes, inner_bytes
        Bytes per element of hidden, and of intermediate, for each token-expert; likewise.
    source
        Library, software and GPU of the measurements that the set was fitted to.
    """

    gemm: ExpertGemm
    fixed_s: float
    token_bytes: float = 0.0
    routed_bytes: float = 0.0
    inner_bytes: float = 0.0
    source: str = ""


def activation_s(
    params: MoeLayer,
    device: Device,
    tokens: npt.ArrayLike,
    token_experts: npt.ArrayLike,
    hidden: npt.ArrayLike,
    intermediate: npt.ArrayLike,
) -> FloatArray:
    """Return the seconds that activations add to `MoeLayer.fixed_s`, in the common shape of the sizes.

    *tokens* are those of the whole layer, and *token_experts* are those of this device.
    """
    tokens, routed, hidden, intermediate = sizes(
        tokens=tokens, token_experts=token_experts, hidden=hidden, intermediate=intermediate
    )
    inner = params.routed_bytes * hidden + params.inner_bytes * intermediate
    result: FloatArray = (params.token_bytes * tokens * hidden + routed * inner) / device.hbm
    return result


def moe_layer_s(
    params: MoeLayer,
    device: Device,
    tokens: npt.ArrayLike,
    hidden: npt.ArrayLike,
    intermediate: npt.ArrayLike,
    layer_tokens: npt.ArrayLike,
    count: npt.ArrayLike = 1,
    matrices: int = 3,
) -> FloatArray:
    """Return the seconds of MoE layers on one device, [calls]; 0 for a layer without tokens.

    Parameters
    ----------
    params, device
        A set of `MOE_LAYERS`, and the GPU or die.
    tokens
        Tokens of each expert on this device, [calls, experts]; experts without tokens are in it as 0.
    hidden, intermediate
        Sizes of an expert, [calls] or one number.
    layer_tokens
        Tokens that the layer routes, on all devices, [calls] or one number.
    count
        Number of experts that each column of *tokens* stands for.
    matrices
        Matrices of an expert: 3, or 2 without a gate.

    Raises
    ------
    ConfigError
        A size is negative, or not a number; shapes differ; or the device has no peak for the set's precision.
    """
    if matrices not in (2, 3):
        raise ConfigError(f"matrices: {matrices} is not right; give 3, or 2 without a gate")
    tokens, count = sizes(tokens=tokens, count=count)
    hidden, intermediate, layer, _ = sizes(
        hidden=hidden, intermediate=intermediate, layer_tokens=layer_tokens, calls=np.zeros(len(tokens))
    )
    n, k = np.stack([(matrices - 1) * intermediate, hidden]), np.stack([hidden, intermediate])  # gate and up; down
    products = expert_gemm_s(params.gemm, device, tokens, n, k, count).sum(axis=0)
    around = activation_s(params, device, layer, np.einsum("ij,ij->i", tokens, count), hidden, intermediate)
    return np.where(layer > 0, params.fixed_s + around + products, 0.0)


CORNER = 2.0  # memory and compute overlap less than in dense products


def _tiling(peak: str, element_bytes: float, **shares: float) -> Tiling:
    return Tiling(peak=peak, element_bytes=element_bytes, corner=CORNER, **shares)


MOE_LAYERS: Presets[MoeLayer] = Presets(
    "MOE_LAYERS",
    {
        "moe_fp8_block": MoeLayer(
            gemm=ExpertGemm(
                tiling=_tiling("fp8", 1, peak_share=0.507, hbm_share=0.985, load_share=0.927), expert_s=0.115e-6
            ),
            fixed_s=22.8e-6,
            token_bytes=3.03,
            routed_bytes=34.9,
            source="FP8, scales of blocks: CUTLASS in TensorRT-LLM 1.3.0rc20 and vLLM 0.24.0; H100-SXM",
        ),
        "moe_fp8_block_b200": MoeLayer(
            gemm=ExpertGemm(tiling=_tiling("fp8", 1, peak_share=0.885, hbm_share=0.889, load_share=2.07)),
            fixed_s=33.3e-6,
            token_bytes=7.13,
            routed_bytes=18.5,
            source="a model of another form that was fitted to FP8 in blocks on a B200-SXM; not validated here",
        ),
        "moe_fp8_block_triton": MoeLayer(
            gemm=ExpertGemm(tiling=_tiling("fp8", 1, peak_share=0.505, hbm_share=0.964)),
            fixed_s=23.6e-6,
            inner_bytes=41.6,
            source="FP8, scales of blocks: Triton in sglang 0.5.14 and vLLM 0.24.0, all experts on one GPU; H100-SXM",
        ),
        "moe_fp8": MoeLayer(
            gemm=ExpertGemm(tiling=_tiling("fp8", 1, peak_share=1.0, hbm_share=0.935, load_share=1.07)),
            fixed_s=28.3e-6,
            token_bytes=7.44,
            routed_bytes=12.2,
            source="FP8, one scale a tensor: CUTLASS in TensorRT-LLM 1.3.0rc20; H100-SXM",
        ),
        "moe_bf16": MoeLayer(
            gemm=ExpertGemm(tiling=_tiling("bf16", 2, peak_share=1.0, hbm_share=0.957, load_share=1.08)),
            fixed_s=24.3e-6,
            token_bytes=3.69,
            routed_bytes=12.7,
            source="BF16: the fastest of TensorRT-LLM 1.3.0rc20, vLLM 0.24.0 and sglang 0.5.14; H100-SXM",
        ),
        "deepgemm_masked": MoeLayer(
            gemm=ExpertGemm(tiling=_tiling("fp8", 1, peak_share=0.709, hbm_share=0.857), expert_s=0.588e-6),
            fixed_s=19.7e-6,
            source="FP8, scales of blocks: DeepGEMM, masked (decode), experts only; sglang 0.5.10, H100-SXM",
        ),
        "deepgemm_contiguous": MoeLayer(
            gemm=ExpertGemm(tiling=_tiling("fp8", 1, peak_share=0.583, hbm_share=0.694)),
            fixed_s=223e-6,
            token_bytes=3.45,
            source="FP8, scales of blocks: DeepGEMM, contiguous (prefill, no CUDA graph), experts only; sglang 0.5.10",
        ),
    },
)
"""Sets of parameters by name."""
