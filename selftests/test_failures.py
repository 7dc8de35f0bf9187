# SPDX-License-Identifier: GPL-2.0
"""The page of public failures is what both drivers say today. failures.py makes it.

`make test` brings one of them about, `make test-long` all.
"""

import failures
import pytest
from conftest import paths

ALL = failures.failures()
SAMPLE = "The IOMMU is in passthrough mode"


def test_the_page_has_them_all():
    assert list(failures.sections(failures.PAGE.read_text())) == [failure.title for failure in ALL]
    assert len(ALL) >= 50


@pytest.mark.skipif(not paths.IS_CHOSEN, reason="the page has the words of the kernel that set-up chose")
def test_the_page_is_true(long):
    usual = {driver: failures.healthy(driver) for driver in failures.DRIVERS}
    page = failures.sections(failures.PAGE.read_text())
    stale = []
    chosen = [failure for failure in ALL if long or failure.title == SAMPLE]
    assert chosen
    for failure in chosen:
        said = {driver: failures.say(driver, failure, usual[driver]) for driver in failures.DRIVERS}
        if not said["ours"].lines or failures.section(failure, said) != page[failure.title]:
            stale.append(failures.section(failure, said))
    assert not stale, "to write them anew: selftests/failures.py\n" + "\n".join(stale)
