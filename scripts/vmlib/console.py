# SPDX-License-Identifier: GPL-2.0
"""What a kernel's messages say of its health."""

import re

# Reports of the kernel's own checks, and of the debug kernel's: WARN, BUG, oops, lockdep (whose
# reports begin with WARNING: or INFO:), KASAN, UBSAN, kmemleak, atomic sleep, hung tasks, RCU stalls,
# debug objects; and pages that the SNP code, or our driver, gave up.
_SPLAT = re.compile(
    r"WARNING:|BUG:|Oops|general protection fault|Call Trace|KASAN|UBSAN|ODEBUG:|unreferenced object"
    r"|non-static key|blocked for more than|detected stall|self-detected stall|unregister_netdevice|leaked"
    r"|Leaking PFN range|are lost until the machine restarts"
)
# What kmemleak finds again and again and is none of ours: functions on the stack of the allocation -> why.
_NO_LEAK = {
    ("alloc_rmp_segment_desc",): (
        "the kernel keeps its only pointer to it in a page from the page allocator, where kmemleak does not look"
    ),
    ("bitmap_zalloc", "kvm_x86_vendor_init"): (
        "kvm-amd forgets its two ASID bitmaps when SEV cannot be initialised: sev_hardware_setup() has no way back for "
        "them, sev_hardware_unsetup() leaves early"
    ),
}


def splats(console: str) -> list[str]:
    """Kernel messages that a healthy run does not have."""
    lines = console.splitlines()
    return [line for number, line in enumerate(lines) if _SPLAT.search(line) and not _is_no_leak(lines, number)]


def _is_no_leak(lines: list[str], number: int) -> bool:
    """Whether kmemleak's report that begins in this line is about something in _NO_LEAK."""
    if not lines[number].startswith("unreferenced object"):
        return False
    report = []
    for line in lines[number + 1 :]:
        if not line.startswith("  "):
            break
        report.append(line.strip().partition("+")[0])
    return any(set(functions) <= set(report) for functions in _NO_LEAK)
