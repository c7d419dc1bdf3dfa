"""The fenced blocks of a Markdown page, and the commands in them.

What a block is, its fence says:

- no word: commands for a shell, or a tree of folders where the first line begins with ``NAME/``;
- ``python``: a script that runs by itself;
- ``text``: output, or anything else that nobody runs;
- two words, such as ``csv people.csv``: the contents of a file of that name.

Anything else is an error, so that no block is overlooked.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "Section", "read_commands", "read_sections"]

_FENCE = re.compile(r"(?P<indent> *)```(?P<info>.*)")
_FOLDER = re.compile(r"[\w.-]+/,?(\s|$)")
_LOOP = re.compile(r"for (?P<name>\w+) in (?P<values>[^;]+); do (?P<body>.+); done")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: Number of its fence in the page, from 1.
        kind: ``shell``, ``python``, ``text``, ``tree`` or ``file``.
        text: What is in it.
        name: File name of a ``file``.
    """

    line: int
    kind: str
    text: str
    name: str = ""


@dataclass(frozen=True)
class Section:
    """The blocks below one heading of level 2, which share a folder.

    Attributes:
        page: The page's path below the root of the repository.
        title: The heading.
        blocks: The blocks in order.
    """

    page: str
    title: str
    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        """Return the page and the heading, as the substitutions name them."""
        return f"{self.page}#{self.title}"


def read_sections(root: Path, page: str) -> list[Section]:
    """Read the sections of a page that have blocks."""
    title, found = "", {}
    fence: re.Match[str] | None = None
    for number, line in enumerate((root / page).read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.fullmatch(line)
        if fence is None and match:
            fence, start, lines = match, number, []
        elif fence is not None and match and not match["info"]:
            info = fence["info"].split()
            found.setdefault(title, []).append(_block(f"{page}:{start}", start, info, lines))
            fence = None
        elif fence is not None:
            lines.append(line.removeprefix(fence["indent"]))
        elif line.startswith("## "):
            title = line.removeprefix("## ").strip()
    if fence is not None:
        raise ValueError(f"{page}:{start}: the block has no end")
    return [Section(page, title, tuple(blocks)) for title, blocks in found.items()]


def _block(place: str, line: int, info: list[str], lines: list[str]) -> Block:
    text = "\n".join(lines) + "\n"
    if len(info) == 2:
        return Block(line, "file", text, info[1])
    if info in (["python"], ["text"]):
        return Block(line, info[0], text)
    if info:
        raise ValueError(f"{place}: a block marked {info} is not known here; see fenced_blocks.py")
    return Block(line, "tree" if _FOLDER.match(text) else "shell", text)


def read_commands(text: str) -> list[list[str]]:
    """Return the words of every command of a shell block; loops are unrolled, comments dropped."""
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        loop = _LOOP.match(line)
        bodies = [line]
        if loop:
            values = loop["values"].split()
            bodies = [re.sub(rf"\${loop['name']}\b", value, loop["body"]) for value in values]
        for body in bodies:
            words = shlex.split(body, comments=True)
            while "&&" in words:
                end = words.index("&&")
                commands.append(words[:end])
                words = words[end + 1 :]
            commands += [words] if words else []
    return commands
