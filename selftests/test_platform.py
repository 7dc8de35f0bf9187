# SPDX-License-Identifier: GPL-2.0
"""The software platform notices what a driver must not do, and is quiet about what it may."""

import pytest
from conftest import Config, Machine, boot, module, paths, values
from vmlib.machine import RMP_BASE


def reports(rmp_check: bool) -> dict[str, list[str]]:
    """What the CPU model has reported, by when and after which write."""
    config = Config(driver="intree", rmp_check=rmp_check, files={"poke.ko": module("poke")})
    with Machine(config, "reports") as machine:

        def on_ask(question: str) -> str | None:
            if question != "tmr":
                return None
            init = [entry for entry in machine.trace() if entry.get("cmd") == "INIT"]
            return f"ok {int.from_bytes(bytes.fromhex(init[-1]['buf'])[8:16], 'little'):#x}"

        result = machine.run(paths.VM_SCRIPTS / "reports.sh", [f"{RMP_BASE + 0x4000:#x}"], on_ask=on_ask)
    assert result.status == 0, result.lines
    said = {f"{when} {words[0]}": words[1:] for when in ("before", "after") for words in map(str.split, values(result, when))}
    # The last state is the run's, with addresses.
    assert {f"{r['report']}:cpu{r['cpu']}:{r['count']}" for r in result.rmp["reports"]} == set(said["after rmp"])
    wrong = [r for r in result.rmp["reports"] if r["report"] == "rmp-write"]
    assert all(r["address"] == f"{RMP_BASE + 0x4000:#x}" and int(r["pc"], 16) >> 47 == 0x1FFFF for r in wrong), wrong
    return said


@pytest.mark.parametrize("rmp_check", [False, True])
def test_writes_that_a_processor_would_refuse_are_reported(rmp_check):
    said = reports(rmp_check)
    # The host owns all memory until SNP is initialised, and initialising it is no mistake.
    assert said["before rmp"] == said["after init"] == []
    kinds = [{report.split(":")[0] for report in said[f"after {what}"]} for what in ("tmr", "rmp")]
    foreign = {"foreign-write"} if rmp_check else set()
    assert kinds == [foreign, foreign | {"rmp-write"}]


def test_in_tree_driver_after_a_legacy_shutdown():
    """Firmware gives the IOMMU's pages back as Linux expects it, so the driver shuts down cleanly and can be
    loaded again, with SNP_EN set all the time."""
    result = boot("reload.sh", "3", driver="intree", psp=["--shutdown=legacy"])
    assert result.status == 0 and not result.splats(), result.splats()
    assert [value.split()[2] for value in values(result, "disabled")[1:-1]] == ["Y"] * 3
    assert "IOMMU shutdown failed" not in result.console and result.rmp["assigned"] == 0
