# SPDX-License-Identifier: GPL-2.0
"""The CPUs that have SNP_EN stay the CPUs there are, whatever happened before: life_cycle.py has the cells.

`make test` runs a sample with every value of every dimension, `make test-long` the whole table.
"""

import functools

import life_cycle
import pytest


@functools.cache
def rows(driver: str, long: bool) -> list[life_cycle.Row]:
    out = []
    for row in life_cycle.run(life_cycle.cells(driver) if long else life_cycle.sample(driver)):
        out.append(row)
        print(row.line(), flush=True)
    return out


def test_ours_keeps_the_guarantee(long):
    bad = {row.cell.name: row.complaints() for row in rows("ours", long) if row.complaints()}
    assert not bad, "\n".join(f"{name}\n    " + "\n    ".join(wrong) for name, wrong in bad.items())


def test_both_kinds_of_outcome_occur(long):
    """The rule above would hold on a machine on which nothing ever happens."""
    outcomes = {(row.must_hold(), row.up(), bool(row.before.snp_en)) for row in rows("ours", long)}
    assert outcomes >= {(True, True, True), (True, False, True), (False, False, False), (False, False, True)}


def test_in_tree_loses_it(long):
    """Without the window a CPU that comes later runs without SNP_EN while SNP is up: the rule notices."""
    assert any(
        "run without SNP_EN while SNP is up" in complaint
        for row in rows("intree", long)
        for complaint in row.complaints()
    )


@pytest.mark.parametrize("driver", ["ours", "intree"])
def test_documentation_shows_it(driver, long):
    documented = life_cycle.table(driver).read_text().splitlines()
    missing = [row.line() for row in rows(driver, long) if row.line() not in documented]
    assert not missing, "to write the tables anew: selftests/life_cycle.py\n" + "\n".join(missing)
