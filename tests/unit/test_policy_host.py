"""The policy host wraps policy code and nothing else: it is timed, and blamed, for its own calls alone."""

import time
from dataclasses import dataclass

import numpy as np
import pytest
from kit import pool_of
from kit.runs import SMALL

from wss.config import load
from wss.execution import run
from wss.memory.copies import ExpertCopies
from wss.policies import Caching, Policy
from wss.policies.allocation.basic import Home
from wss.serving.policy_host import PolicyHost


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@dataclass(frozen=True, kw_only=True)
class Slow(Caching):
    """Evicts the first copies, after 20 ms of computing."""

    def evict(self, pool, count):
        began = time.process_time()
        while time.process_time() - began < 0.02:
            pass
        return np.arange(count)


def test_a_call_is_timed_in_its_layer_run_and_the_placement_before_the_first():
    host = PolicyHost(Policy(name="mine", allocation=Home(), caching=Slow()))
    host.evict(pool_of([1, 2]), 1)
    for calls in (0, 1, 2):
        host.begin()
        for _ in range(calls):
            assert host.evict(pool_of([1, 2]), 1).tolist() == [0]
    cost = host.cost()
    assert cost["kernels"] == 3
    assert 0.02 <= cost["placement_cpu_s"] < 0.04
    assert 0.02 <= cost["median_cpu_s"] < 0.04 <= cost["largest_cpu_s"]
    assert list(cost["parts_median_cpu_s"]) == ["caching"]


def test_a_fault_of_the_simulators_own_bookkeeping_is_not_blamed_on_the_policy(small, monkeypatch):
    def fails(*_):
        raise IndexError("ours")

    monkeypatch.setattr(ExpertCopies, "admit", fails)
    with pytest.raises(IndexError, match="ours"):
        run(load(small, ["policies=[base]"]))


def test_the_simulators_own_bookkeeping_is_no_planning(small, monkeypatch):
    admit = ExpertCopies.admit

    def slow(*arguments):
        began = time.process_time()
        while time.process_time() - began < 0.02:
            pass
        return admit(*arguments)

    monkeypatch.setattr(ExpertCopies, "admit", slow)
    cost = run(load(small, ["policies=[base]"])).provenance["times"]["planning"]["base"]
    assert cost["median_cpu_s"] < 0.02
