# SPDX-License-Identifier: GPL-2.0
"""The modules in C that tests load into a machine (selftests/modules)."""

import functools
import subprocess
from pathlib import Path

from . import kernels, paths


@functools.cache
def build(kernel: str) -> Path:
    """Build them for a kernel; returns the directory that they are in."""
    compiler = ["LLVM=1"] if kernel == "debug" else ["CC=x86_64-linux-gnu-gcc-14", "HOSTCC=x86_64-linux-gnu-gcc-14"]
    tree = paths.DEBUG_TREE if kernel == "debug" else paths.KERNEL_BUILD
    ours = kernels.get(kernel).ours
    out = paths.OUT / f"modules-test-{kernel}"
    out.mkdir(exist_ok=True)
    with paths.making(out.name):
        subprocess.run(
            [
                "make",
                "-s",
                "-C",
                tree,
                *compiler,
                f"M={paths.TOP / 'selftests/modules'}",
                f"MO={out}",
                f"KBUILD_EXTRA_SYMBOLS={ours / 'Module.symvers'}",
                "modules",
            ],  # fmt: skip
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return out
