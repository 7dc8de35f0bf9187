# SPDX-License-Identifier: GPL-2.0
"""The small C programs that scenarios use (selftests/programs), linked statically."""

import functools
import subprocess
from pathlib import Path

from . import paths

FLAGS = ["-static", "-O1", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]


@functools.cache
def build() -> list[Path]:
    out = paths.CACHE / "programs"
    out.mkdir(exist_ok=True)
    built = []
    with paths.making("programs"):
        sources = paths.TOP / "selftests/programs"
        shared = max(header.stat().st_mtime for header in sources.glob("*.h"))
        for source in sorted(sources.glob("*.c")):
            program = out / source.stem
            if not program.exists() or program.stat().st_mtime < max(shared, source.stat().st_mtime):
                partial = program.with_suffix(".new")
                subprocess.run(["gcc", *FLAGS, "-o", partial, source], check=True)
                partial.rename(program)
            built.append(program)
    return built
