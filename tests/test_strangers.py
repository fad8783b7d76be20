"""What comes from a stranger runs nothing, names no other file, and stays text."""

import subprocess

import wss
from wss.sweep.check import _commit

from kit import ROOT


def test_no_program_of_a_strangers_repository_runs(tmp_path, monkeypatch):
    package = tmp_path / ".venv" / "lib" / "wss" / "__init__.py"  # wss installed within the stranger's repository
    package.parent.mkdir(parents=True)
    package.write_text("")
    script = tmp_path / "e.sh"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/PWNED\ncat\n")
    script.chmod(0o755)
    git = ("git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b")
    (tmp_path / ".gitattributes").write_text("*.txt filter=own\n")
    (tmp_path / "a.txt").write_text("a")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["config", "core.fsmonitor", script]):
        subprocess.run([*git, *arguments], check=True)
    subprocess.run([*git, "config", "filter.own.clean", script], check=True)
    (tmp_path / "a.txt").write_text("b")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    here = _commit()
    monkeypatch.setattr(wss, "__file__", str(package))
    assert _commit() is None
    assert not (tmp_path / "PWNED").exists()
    assert (here is None) == (not (ROOT / ".git").exists())
