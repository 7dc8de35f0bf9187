# SPDX-License-Identifier: GPL-2.0
"""Pages that the RMP does not give to firmware: kept from the allocator, and others are tried."""

import re

from conftest import boot, values


def test_another_page_is_tried():
    result = boot("refused-pages.sh", expects=("are lost until",), allows=("Call Trace",))
    assert result.status == 0, result.lines
    calls = [line.split(" ", 2)[2] for line in result.lines if line.startswith("@ioctl snp-platform-status ")]
    assert [call.split()[0] for call in calls] == ["0", "EIO", "0"]
    assert values(result, "lost") == ["1", "4", "4"]
    said = re.findall(
        r"ccp: 1 page\(s\) from (0x\w+) on are lost .*: page (0x\w+) cannot be given to firmware", result.console
    )
    assert len(said) == len({address for address, _ in said}) == 4
    assert all(int(address, 16) >> 12 == int(pfn, 16) for address, pfn in said)
    # The kernel says so, too, with a call trace each; nothing else is wrong.
    assert result.console.count("RMPUPDATE failed") == 4
    assert result.lines.count("@launch start 0 error=0") == 1
