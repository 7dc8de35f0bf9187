# SPDX-License-Identifier: GPL-2.0
"""Every command × every way in which firmware can fail it: bounded time, the right result for user
space, one message, no kernel warning, no page lost in silence, and the next load works or is refused
with a reason.

`make test` runs a sample with every command and every kind of fault in it, `make test-long` all cells.
"""

import dataclasses
import functools

import fault_matrix as matrix
import fault_rules as rules
import pytest
from driver_tables import tables
from vmlib.machine import VmError

CHECKED_KINDS = [kind.name for kind in matrix.KINDS]


def sample(cells: list[matrix.Cell]) -> list[matrix.Cell]:
    """Every command once, with the kinds of fault dealt out in turn, and every kind at least once. A PSP
    that does not answer costs a boot once firmware is up, so those kinds go to the very first command."""
    dealt = [kind for kind in matrix.KINDS if kind.name not in matrix.DEADLY and kind.name != "garbage"]
    commands = {}
    for cell in cells:
        commands.setdefault((cell.variant, cell.command), cell)
    chosen = [dataclasses.replace(cell, kind=dealt[n % len(dealt)]) for n, cell in enumerate(commands.values())]
    missing = [kind for kind in matrix.KINDS if not any(cell.kind == kind for cell in chosen)]
    return chosen + [next(cell for cell in cells if cell.kind == kind) for kind in missing]


@functools.cache
def results(long: bool, kernel: str = "stock") -> dict[matrix.Cell, list[str]]:
    """Cell -> what is wrong with it."""
    cells = matrix.all_cells()
    chosen = cells if long else sample(cells)
    out = {}
    try:
        for cell, outcome in matrix.run(chosen, kernel):
            healthy = matrix.healthy(cell.variant, kernel)["ask" if cell.phase == "ask" else "plain"]
            out[cell] = [f"{complaint}  [{outcome.run}]" for complaint in rules.complaints(cell, outcome, healthy)]
            print(f"{'not ok' if out[cell] else 'ok'} {cell.name} {outcome.seconds:.1f} s", flush=True)
    except VmError as error:
        # No machine boots any more. What was run counts all the same.
        out |= {cell: [f"not run: {error}"] for cell in chosen if cell not in out}
    return out


@pytest.mark.parametrize("variant", matrix.VARIANTS)
def test_healthy(variant):
    """What all cells are compared with: everything works, twice, and nothing is left."""
    for outcome in matrix.healthy(variant).values():
        assert not outcome.failure
        assert rules.view(outcome)["sev_snp"] == rules.view(outcome, again=True)["sev_snp"] == "Y"
        assert rules.view(outcome)["launch"] == "finish 0 0"
        assert rules.lost_pages(outcome.kernel) == 0


def test_rules_notice():
    """A run in which nothing goes wrong is no good outcome of a cell whose fault has any effect."""
    for cell in matrix.all_cells():
        healthy = matrix.healthy(cell.variant)["ask" if cell.phase == "ask" else "plain"]
        struck = dataclasses.replace(healthy, trace=[{"fault": [cell.fault]}])
        effect = (
            rules.changes(cell, rules.view(healthy))
            or rules.again(cell, rules.view(healthy, again=True))
            or rules.spoken(cell)
        )
        assert bool(rules.complaints(cell, struck, healthy)) == bool(effect), cell.name


# Firmware that is replaced while it runs: test_hot_load.py. Vulnerabilities: test_sysfs.py.
ELSEWHERE = {"SNP_DOWNLOAD_FIRMWARE_EX", "SNP_GUEST_STATUS", "SNP_VERIFY_MITIGATION"}


def test_every_command_is_in_the_matrix(long, note):
    cells = matrix.all_cells()
    assert {cell.command for cell in cells} >= tables().own_commands - ELSEWHERE
    done = results(long)
    assert {cell.command for cell in done} >= tables().own_commands - ELSEWHERE
    assert {cell.kind.name for cell in done} == set(CHECKED_KINDS)
    note(
        f"fault matrix: {len(cells)} cells ({len({(c.variant, c.phase, c.command) for c in cells})} commands and "
        f"phases, {len(matrix.KINDS)} kinds of fault), {len(done)} run"
    )


@pytest.mark.parametrize("kind", CHECKED_KINDS)
def test_cells(long, kind):
    mine = {cell: wrong for cell, wrong in results(long).items() if cell.kind.name == kind}
    assert mine
    bad = {cell.name: wrong for cell, wrong in mine.items() if wrong}
    assert not bad, f"{len(bad)} of {len(mine)} cells:\n" + "\n".join(
        f"{name}\n    " + "\n    ".join(wrong) for name, wrong in bad.items()
    )


def test_sample_on_the_debug_kernel(long):
    """lockdep, KASAN, UBSAN, kmemleak and the check for sleeping in atomic context watch the error paths."""
    if not long:
        pytest.skip("takes long; 'make test-long' does it")
    bad = {cell.name: wrong for cell, wrong in results(False, "debug").items() if wrong}
    assert not bad, "\n".join(f"{name}\n    " + "\n    ".join(wrong) for name, wrong in bad.items())
