"""Fetching the data set, against a stand-in of the hub's interface."""

import sys
import types
from pathlib import Path

import pytest

from wss.errors import ConfigError, OutputError, TraceError
from wss.traces.fetch import REPOSITORY, choose, fetch

FILES = [
    *(f"Qwen/Qwen3-235B-A22B-FP8/mmlu/anatomy/{n}.json" for n in (9, 10, 101)),
    *(f"Qwen/Qwen3-235B-A22B-FP8/mmlu/law/{n}.json" for n in (1, 2)),
    "Qwen/Qwen3-235B-A22B-FP8/mmlu/law.tar.gz",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct/hellaswag/test/5.json",
    "README.md",
]


class GatedRepoError(Exception):
    pass


@pytest.fixture
def hub(monkeypatch):
    """A hub that serves `FILES`, counts downloads, and fails as its `fails` says."""
    module = types.ModuleType("huggingface_hub")
    module.downloads, module.fails = [], {}

    class HfApi:
        def list_repo_files(self, repository, *, repo_type, revision):
            assert (repository, repo_type) == (REPOSITORY, "dataset")
            if "list" in module.fails:
                raise module.fails["list"]
            return FILES

    def hf_hub_download(repository, name, *, repo_type, revision, local_dir):
        if name in module.fails:
            raise module.fails.pop(name)
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
        module.downloads.append(name)
        return str(path)

    module.HfApi, module.hf_hub_download = HfApi, hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def ask(out, **changes):
    return fetch(out, **({"model": None, "benchmark": None, "subject": None, "count": None} | changes))


def test_a_subset_by_model_subject_and_count_in_order_of_numbers(hub, tmp_path):
    assert ask(tmp_path, model="qwen3_235b", subject="anatomy", count=2) == 2
    assert [name.rsplit("/", 1)[1] for name in hub.downloads] == ["9.json", "10.json"]
    assert ask(tmp_path) == 6
    assert len(hub.downloads) == 6, "what was there is not fetched again"


def test_a_fetch_that_broke_goes_on(hub, tmp_path):
    hub.fails[FILES[1]] = ConnectionError("reset")
    with pytest.raises(ConfigError, match="run again to resume"):
        ask(tmp_path)
    ask(tmp_path)
    assert sorted(hub.downloads) == sorted(name for name in FILES if name.endswith(".json"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GatedRepoError("403 Client Error"), "accept its terms on its page"),
        (ConnectionError("no route to host"), "cannot be reached"),
        (TimeoutError("timed out"), "cannot be reached"),
    ],
)
def test_no_access_and_no_network_are_said_plainly(hub, tmp_path, error, expected):
    hub.fails["list"] = error
    with pytest.raises(ConfigError, match=expected) as found:
        ask(tmp_path)
    assert "\n" not in found.value.faults[0]


def test_a_full_disk(hub, tmp_path):
    hub.fails[FILES[0]] = OSError(28, "No space left on device")
    with pytest.raises(OutputError, match="No space left on device"):
        ask(tmp_path)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("qwen", None, None), "no model 'qwen'; it has Llama-4-Maverick"),
        (("qwen3_235b", "gsm8k", None), "no benchmark 'gsm8k'; it has mmlu"),
        (("qwen3_235b", "mmlu", "art"), "no subject 'art'; it has anatomy, law"),
    ],
)
def test_what_is_not_there_is_named_beside_what_is(asked, expected):
    with pytest.raises(TraceError, match=expected):
        choose(FILES, *asked, None)


def test_without_the_extra_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="extra 'hf'"):
        ask(tmp_path)
