# SPDX-License-Identifier: GPL-2.0
"""How fast this machine's TSC runs. TCG hands it on to what it emulates."""

import ctypes
import functools
import mmap
import platform
import time

# rdtsc; shl rdx, 32; or rax, rdx; ret
READ = bytes.fromhex("0f 31 48 c1 e2 20 48 09 d0 c3")
SECONDS = 0.02


@functools.cache
def khz() -> int | None:
    """In kHz, to some parts in 100000; nothing if this machine has none, or does not let us read it."""
    if platform.machine() != "x86_64":
        return None
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    code.write(READ)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    (start, first), (end, last) = _both(read), (time.sleep(SECONDS), _both(read))[1]
    return round((last - first) * 1_000_000 / (end - start))


def _both(read) -> tuple[float, int]:
    """The clock in ns and the TSC at one moment: of several tries the one that was interrupted least."""
    tries = [(time.monotonic_ns(), read(), time.monotonic_ns()) for _ in range(20)]
    before, ticks, after = min(tries, key=lambda row: row[2] - row[0])
    return (before + after) / 2, ticks
