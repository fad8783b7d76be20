"""Small traces, and the way to the shared real ones."""

import os
from pathlib import Path

import numpy as np
import pytest
from kit.traces import routing

from wss.models import ModelShape
from wss.traces import RequestRouting, TraceMeta

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the shared traces; they are not ours to ship."""
    folder = Path(os.environ.get("WSS_SHARED", ROOT.parent / "shared")) / "traces"
    if not folder.is_dir():
        pytest.skip(f"no shared traces at {folder}; set WSS_SHARED to the folder that holds traces/")
    return folder


@pytest.fixture
def meta() -> TraceMeta:
    return TraceMeta(
        model="org/tiny",
        benchmark="bench",
        subject="数学",
        moe_layers=(1, 3, 4),
        num_layers=5,
        num_experts=6,
        top_k=2,
        num_requests=3,
        source="made for a test",
        note="",
    )


@pytest.fixture
def tiny() -> ModelShape:
    return ModelShape(
        name="org/tiny",
        num_layers=5,
        moe_layers=(1, 3, 4),
        num_experts=6,
        top_k=2,
        hidden_size=8,
        moe_intermediate_size=8,
    )


def same(left: RequestRouting, right: RequestRouting) -> bool:
    return (
        (left.request, left.num_prefill) == (right.request, right.num_prefill)
        and left.experts.dtype == right.experts.dtype
        and np.array_equal(left.position, right.position)
        and np.array_equal(left.experts, right.experts)
    )


@pytest.fixture(scope="session")
def make_routing():
    return routing


@pytest.fixture(scope="session")
def same_request():
    return same
