"""A block of text that is redrawn in place on a terminal, and one plain line a turn everywhere else."""

from __future__ import annotations

import shutil
from typing import TextIO


class Screen:
    """Draws on ``stream``; what :meth:`say` printed stays above the block."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._in_place = stream.isatty()
        self._height = 0

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._clear()
        self._write(line + "\n")

    def draw(self, line: str, block: str) -> None:
        """Replace the block by ``line`` and ``block``; without a terminal print ``line`` only."""
        if not self._in_place:
            self._write(line + "\n")
            return
        size = shutil.get_terminal_size()
        rows = [line, *block.splitlines()][: max(1, size.lines - 1)]
        self._clear()
        self._write("".join(f"{row[: size.columns - 1]}\n" for row in rows))
        self._height = len(rows)

    def finish(self, block: str) -> None:
        """Replace the block by ``block``, whole, for good."""
        self._clear()
        self._write(block + "\n")

    def _clear(self) -> None:
        if self._height:
            self._write(f"\x1b[{self._height}F\x1b[J")
            self._height = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
