"""Download of part of the paper's data set from the Hugging Face Hub; needs the extra ``hf``.

The data set is gated: accept its terms once on its page, and log in to the Hub with a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wss.errors import ConfigError, OutputError, TraceError
from wss.escaping import is_plain_name
from wss.traces.importers.paper_json import MODEL_FOLDERS

REPOSITORY = "core12345/MoE_expert_selection_trace"


def _hub() -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError("trace fetch: needs huggingface_hub; install wss with the extra 'hf'") from None
    return huggingface_hub


def choose(
    files: list[str], model: str | None, benchmark: str | None, subject: str | None, count: int | None
) -> list[str]:
    """Return the *files* of the data set that are selected by benchmark, subject and count; *count* of each subject.

    *model* is the name of a preset or of the model's folder.

    Raises
    ------
    TraceError
        If there is none; the message lists what there is.
    """
    folders = {preset: folder for folder, preset in MODEL_FOLDERS.items()}
    wanted = (folders.get(model or "", model), benchmark, subject)
    found: dict[tuple[str, ...], list[str]] = {}
    for name in files:
        parts = name.split("/")
        is_request = len(parts) == 5 and all(map(is_plain_name, parts)) and parts[4].endswith(".json")
        if is_request and parts[4][:-5].isdigit():
            found.setdefault(tuple(parts[1:4]), []).append(name)
    left = found
    for place, (what, want) in enumerate(zip(("model", "benchmark", "subject"), wanted, strict=True)):
        here = {key: names for key, names in left.items() if want is None or key[place] == want}
        if not here:
            there = ", ".join(sorted({key[place] for key in left})[:20]) or "nothing"
            raise TraceError(f"trace fetch: the data set has no {what} '{want}'; it has {there}")
        left = here
    return [
        name
        for key in sorted(left)
        for name in sorted(left[key], key=lambda name: int(name.rsplit("/", 1)[1][:-5]))[:count]
    ]


def fetch(
    out: Path,
    *,
    model: str | None,
    benchmark: str | None,
    subject: str | None,
    count: int | None,
    revision: str = "main",
    on_file: Callable[[int, int], None] | None = None,
) -> int:
    """Download the selected files into the folder *out*, in the data set's layout; existing files are skipped.

    Raises
    ------
    ConfigError
        If huggingface_hub is not installed, the terms are not accepted, or the Hub cannot be reached.
    TraceError
        If no file is selected.
    OutputError
        If *out* cannot be written.
    """
    hub = _hub()
    with _one_line():
        names: list[str] = hub.HfApi().list_repo_files(REPOSITORY, repo_type="dataset", revision=revision)
    chosen = choose(names, model, benchmark, subject, count)
    for done, name in enumerate(chosen):
        if not (out / name).is_file():  # the Hub's client resumes downloads and moves only complete files
            try:
                with _one_line():
                    hub.hf_hub_download(REPOSITORY, name, repo_type="dataset", revision=revision, local_dir=str(out))
            except OSError as error:
                raise OutputError(
                    f"{out / name}: cannot be written ({error.strerror or error}); make room and run again"
                ) from error
        if on_file is not None:
            on_file(done + 1, len(chosen))
    return len(chosen)


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn the errors of the Hub's client into one line each; errors of writing files pass through."""
    try:
        yield
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        said = " ".join(str(error).split())[:200]
        if "GatedRepoError" in names or " 401 " in f" {said} " or " 403 " in f" {said} ":
            raise ConfigError(
                f"trace fetch: {REPOSITORY} is gated and you have no access; accept its terms on its page, then log in "
                "with `hf auth login`"
            ) from None
        if "RepositoryNotFoundError" in names or "RevisionNotFoundError" in names:
            raise ConfigError(
                f"trace fetch: {REPOSITORY} or its revision is not there ({said}); check --revision"
            ) from None
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise
        raise ConfigError(
            f"trace fetch: the hub cannot be reached ({type(error).__name__}: {said}); run again to resume"
        ) from None
