# SPDX-License-Identifier: GPL-2.0
"""Whichever way SNP is left, with guests or without: no CPU loses SNP_EN under a guest, and the log says what stays.
leave.py has the cells.

`make test` runs a sample with every door, `make test-long` the whole table.
"""

import functools

import leave
import pytest


@functools.cache
def rows(driver: str, long: bool) -> list[leave.Row]:
    out = []
    for row in leave.run(leave.cells(driver) if long else leave.sample(driver)):
        out.append(row)
        print(row.line(), flush=True)
    return out


def test_ours_leaves_safely(long):
    bad = {row.cell.name: row.complaints() for row in rows("ours", long) if row.complaints()}
    assert not bad, "\n".join(f"{name}\n    " + "\n    ".join(wrong) for name, wrong in bad.items())


def test_all_outcomes_occur(long):
    """The rules above would hold on a machine on which nothing ever happens."""
    done = rows("ours", long)
    assert {bool(row.after.snp_en) for row in done} == {True, False}
    assert {row.cell.door for row in done} == set(leave.DOORS) and {row.cell.guest for row in done} == set(leave.GUESTS)
    assert len({row.said() for row in done}) >= 5


def test_in_tree_does_not_say_it(long):
    """Nobody is told of the guests whose memory stays: the rule notices."""
    told = [complaint for row in rows("intree", long) if row.cell.guest != "none" for complaint in row.complaints()]
    assert any("how many guests" in complaint for complaint in told), told


@pytest.mark.parametrize("driver", ["ours", "intree"])
def test_documentation_shows_it(driver, long):
    documented = leave.table(driver).read_text().splitlines()
    missing = [row.line() for row in rows(driver, long) if row.line() not in documented]
    assert not missing, "to write the tables anew: selftests/leave.py\n" + "\n".join(missing)
