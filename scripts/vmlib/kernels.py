# SPDX-License-Identifier: GPL-2.0
"""The kernels that a machine can boot: Debian's own, and the debug kernel (scripts/debug-kernel)."""

import dataclasses
from pathlib import Path

from . import paths, tsc

NAMES = ("stock", "debug")
# Parameters of a kernel under TCG. no_timer_check: on a busy machine too few timer interrupts may come in the time that
# the kernel counts them, and it panics. tsc=nowatchdog: the clocksource watchdog waits for another CPU with interrupts
# off, until a clock says that it has taken too long (watchdog_wait_seq in kernel/time/clocksource.c). As long as that
# clock is jiffies, which the waiting CPU itself would have to count, it waits for ever if it has interrupted its own
# CPU just before that sent an IPI: the other CPU's queue is not empty then, so the watchdog sends none. With several
# slow CPUs that happens; it was seen in guests with four. The other two save time: the kernel tests its ciphers, and
# goes around faults of CPUs that this one is not.
UNDER_TCG = "no_timer_check tsc=nowatchdog mitigations=off cryptomgr.notests"
HZ = 250  # Debian's; with another one delays are longer or shorter
ANY_KHZ = 2_600_000


def under_tcg() -> str:
    """The same, and how fast the clock and the delay loop run: on a busy machine the kernel may find wrong values, for
    the delays of a second CPU in particular, or calibrate for ever."""
    khz = tsc.khz()
    return f"{UNDER_TCG} tsc_early_khz={khz} {lpj(khz)}" if khz else f"{UNDER_TCG} {lpj()}"


def lpj(khz: int = ANY_KHZ) -> str:
    """The delay loop of all CPUs; without a value that of a command line which is written down for any machine."""
    return f"lpj={khz * 1000 // HZ}"


class NotBuilt(Exception):
    """The kernel asked for, or a module of it, is not there; says why, or how to get it."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    release: str
    image: Path
    # What QEMU starts: the image, or the ELF file out of it (PVH entry), which spares the emulated
    # CPU 2 s of unpacking.
    start: Path
    modules: Path  # its module directory
    ours: Path  # our modules, built for it
    memory: int  # MiB that its machines have, if nothing else is asked for
    patience: int  # how many times longer than on the stock kernel things may take


def get(name: str) -> Kernel:
    if name == "stock":
        return Kernel(
            paths.RELEASE, paths.KERNEL, paths.UNPACKED_KERNEL, paths.KERNEL_MODULES, paths.OUR_MODULES, 2048, 1
        )
    tree = paths.DEBUG_TREE.resolve()
    if not (tree / ".ready").exists():
        raise NotBuilt("the debug kernel is not built; run 'make debug-kernel'")
    release = (tree / "include/config/kernel.release").read_text().strip()
    modules = tree / "install/lib/modules" / release
    # KASAN and kmemleak go through all of memory. A little more than 1 GiB makes the RMP end at a
    # multiple of 2 MiB; where it does not, the kernel may have mapped the rest of the last 2 MiB as
    # one page already, and warns.
    return Kernel(release, modules / "vmlinuz", modules / "vmlinuz", modules, paths.OUR_DEBUG_MODULES, 1280, 4)
