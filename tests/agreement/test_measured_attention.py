"""Attention beside measurements that no set was fitted to: lengths and head counts of other tables."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from kit import shared

from wss.hardware.kernels.attention import equal, gqa
from wss.hardware.kernels.device import DEVICES
from wss.hardware.kernels.prefill_attention import PREFILL_ATTENTION, prefill_attention_s


def columns(name: str) -> dict[str, np.ndarray]:
    """Return the columns of the table *name*, as numbers."""
    table = pq.read_table(shared("reference", "serving", "kernels", f"{name}.parquet"))
    return {column: np.asarray(table[column].to_pylist(), float) for column in table.column_names}


@pytest.mark.parametrize(("shortest", "longest", "limit"), [(16, 127, 0.08), (128, 100_000, 0.09)])
def test_prefill_of_short_and_long_sequences(shortest, longest, limit):
    """Sequences of 16 to 127 tokens are in no table that the set was fitted to."""
    rows = columns("h100_gqa_prefill")
    heads = gqa(rows["num_heads"], rows["num_key_value_heads"])
    calls = equal(rows["batch_size"], rows["isl"], rows["kv_before"])
    error = prefill_attention_s(PREFILL_ATTENTION["fa3"], DEVICES["H100-SXM"], calls, heads) / (rows["ms"] * 1e-3) - 1
    chosen = (rows["isl"] >= shortest) & (rows["isl"] <= longest)
    assert np.abs(error[chosen]).mean() < limit
