"""README and docs as data: their blocks of code, their commands, and small copies of the files that they name."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from kit import ROOT
from wss.config import load

FENCE = re.compile(r"^( *)```(\w+)(?: (\S+))?\n(.*?)^\1```$", re.S | re.M)
INDENTED = re.compile(r"^    ((?:python|wss) .*)$", re.M)
INLINE = re.compile(r"`((?:python -m )?wss [^`]+)`")
FILE_NAME = re.compile(r"# (add to )?([\w./]+\.(?:py|yaml|toml))$", re.M)  # the first line of a block that is a file
OWN = ("README.md", "CONTRIBUTING.md")
SMALL = {"batch": 64, "steps": 1, "trace.synth.requests": 64}


def all_pages() -> list[Path]:
    """README, what stands beside it, the pages of the site, and the table of experiments."""
    pages = [path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "notebooks"} & {*path.parts}]
    beside = [ROOT / name for name in OWN if (ROOT / name).exists()]
    return [*beside, ROOT / "experiments" / "README.md", *sorted(pages)]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block. Its first line, or the word after its language, may name the file that it is."""

    language: str
    name: str
    text: str

    @property
    def file(self) -> str | None:
        first = FILE_NAME.match(self.text)
        return self.name or (first and first[2])

    def write(self) -> None:
        """Write the file that it is into the current folder; the block may be an addition to it."""
        if self.file is None:
            return
        path = Path(self.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if self.text.startswith("# add to ") else ""
        path.write_text(before + self.text, encoding="utf-8")

    @property
    def lines(self) -> list[str]:
        """Its commands, each on one line; empty lines and comments are left out."""
        lines = (line.strip().removeprefix("$ ") for line in self.text.replace("\\\n", " ").splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for indent, language, name, body in FENCE.findall(text):
        found.append(Block(language, name, re.sub(f"^{indent}", "", body, flags=re.M)))
    return found


def commands(page: Path) -> list[list[str]]:
    """The words of every wss command of a page: in blocks, in indented lines, and within sentences."""
    text = page.read_text(encoding="utf-8")
    shells = [line for block in blocks(page) if block.language in ("sh", "console") for line in block.lines]
    lines = [*shells, *INDENTED.findall(text), *(m.replace("\n", " ") for m in INLINE.findall(FENCE.sub("", text)))]
    found = []
    for line in lines:
        for part in re.split(r" && | > ", line):
            words = shlex.split(part, comments=True)
            if words[:3] == ["python", "-m", "wss"]:
                found.append(words[3:])
            elif words[:1] == ["wss"]:
                found.append(words[1:])
    return found


def small_files(to: Path) -> None:
    """Copy to *to* the configurations and sweeps that ship, with few layers, one step and a small batch."""
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content |= {"batch": 64, "steps": 1, "layers": list(load(path).model.moe_layers[:2])}
        _write(to / path.relative_to(ROOT), content)
    for path in sorted((ROOT / "experiments").glob("*/*")):
        if path.suffix == ".yaml" and path.stem != "claims":
            _write(to / path.relative_to(ROOT), _small_sweep(yaml.safe_load(path.read_text(encoding="utf-8"))))
        elif path.suffix == ".py":
            (to / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            (to / path.relative_to(ROOT)).symlink_to(path)
    (to / "traces").symlink_to(ROOT / "traces")


def _small_sweep(content: dict) -> dict:
    """The first value of each axis, or its first two labels; where a choice sets a size, a small one."""
    sets_layers = False
    for kind in ("grid", "vary"):
        axes = content.get(kind, {})
        for name, choices in list(axes.items())[: 1 if kind == "vary" else None]:
            if isinstance(choices, dict):
                kept = list(choices.items())[:2]
                sets_layers |= any("layers" in settings for _, settings in kept)
                axes[name] = {label: own | {key: SMALL[key] for key in SMALL if key in own} for label, own in kept}
            else:
                axes[name] = [SMALL.get(name, choices[0])]
        if kind == "vary" and axes:
            content[kind] = dict(list(axes.items())[:1])
    if isinstance(content["config"], dict):
        config = content["config"] | {key: SMALL[key] for key in ("batch", "steps") if key not in content["grid"]}
        if not sets_layers:
            config["layers"] = {"sample": 4}
        if isinstance(config.get("trace", {}).get("synth"), dict):
            config["trace"]["synth"]["requests"] = 64
        content["config"] = config
    return content


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
