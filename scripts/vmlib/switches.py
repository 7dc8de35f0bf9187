# SPDX-License-Identifier: GPL-2.0
"""What a machine has executed of modules with switches for planted bugs (selftests/mutate/mutants.c)."""

import json
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

MARK = re.compile(rb'mark = "([^"]+)"')
SOURCE = Path(__file__).resolve().parents[2] / "selftests/mutate/mutants.c"
MARK_LENGTH, PAGE = 32, 4096


def _places(ram: mmap.mmap, mark: bytes) -> Iterator[bytes]:
    """The masks in a machine's memory, of each of its kernels: behind a mark at the beginning of a page."""
    at = ram.find(mark)
    while at >= 0:
        if at % PAGE == 0:
            yield ram[at + MARK_LENGTH : at + PAGE]
        at = ram.find(mark, at + 1)


def record(ram: Path, seconds: float, directory: Path) -> None:
    """Write down which bugs' places a machine has executed, and for which test it ran. It has ended."""
    mark = MARK.search(SOURCE.read_bytes())[1].ljust(MARK_LENGTH, b"\0")
    with ram.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        masks = [int.from_bytes(mask, "little") for mask in _places(memory, mark)]
    reached = sorted({n for mask in masks for n in range(mask.bit_length()) if mask >> n & 1})
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{ram.parent.name}.json").write_text(
        json.dumps({"test": test, "seconds": seconds, "reached": reached})
    )
