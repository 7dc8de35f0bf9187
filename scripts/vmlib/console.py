# SPDX-License-Identifier: GPL-2.0
"""What a kernel's messages say of its health."""

import re

# Reports of the kernel's own checks, and of the debug kernel's: WARN, BUG, oops, lockdep (whose
# reports begin with WARNING: or INFO:), KASAN, UBSAN, kmemleak, atomic sleep, hung tasks, RCU stalls,
# debug objects; and pages that the SNP code gave up.
_SPLAT = re.compile(
    r"WARNING:|BUG:|Oops|general protection fault|Call Trace|KASAN|UBSAN|ODEBUG:|suspected memory leak"
    r"|unreferenced object|non-static key|blocked for more than|detected stall|self-detected stall"
    r"|unregister_netdevice|leaked"
)
# The kernel's announcements that it has a check.
_HARMLESS = re.compile(r"kasan: KernelAddressSanitizer initialized|kmemleak: Kernel memory leak detector initialized")


def splats(console: str) -> list[str]:
    """Kernel messages that a healthy run does not have."""
    return [line for line in console.splitlines() if _SPLAT.search(line) and not _HARMLESS.search(line)]
