# SPDX-License-Identifier: GPL-2.0
"""The runner does not lie: machines that hang, panic or never boot end within their limit and fail."""

import os
import re
import time
from pathlib import Path

import pytest
from conftest import Config, boot, paths
from vmlib import suite, tsc
from vmlib.machine import Machine, NoResult, VmError


def test_status_is_the_scenarios():
    assert boot("runner.sh", "status", "7", driver="intree").status == 7


def test_a_kernel_knows_how_fast_its_clock_and_its_delays_are():
    """Two turns of the delay loop are one of BogoMIPS, on each CPU."""
    measured = [tsc.khz.__wrapped__() / 1000 for _ in range(2)]
    assert 500 < min(measured) and max(measured) < min(measured) * 1.001, measured
    console = boot("runner.sh", "status", "0", driver="intree").console
    (mhz,) = map(float, re.findall(r"tsc: Detected ([\d.]+) MHz processor", console))
    (one,) = map(float, re.findall(r"Calibrating delay loop .* ([\d.]+) BogoMIPS", console))
    cpus, total = re.search(r"Total of (\d+) processors activated \(([\d.]+) BogoMIPS\)", console).groups()
    assert mhz == pytest.approx(measured[0], rel=0.001) and one == pytest.approx(2 * mhz, rel=0.001)
    assert float(total) == pytest.approx(int(cpus) * one, rel=0.001) and int(cpus) > 1


def test_hang_ends_within_the_limit():
    start = time.monotonic()
    with pytest.raises(VmError) as error:
        boot("runner.sh", "hang", driver="intree", limit=40)
    # Twice, if a busy machine had not even got to the scenario in the first 40 s.
    assert time.monotonic() - start < 100
    for part in ("no end within 40 s", "end of the console", "Run /init", "about to hang"):
        assert part in str(error.value)


def test_panic_is_named():
    with pytest.raises(VmError, match="Kernel panic - not syncing: sysrq triggered crash"):
        boot("runner.sh", "panic", driver="intree")


def test_machine_that_never_boots(monkeypatch, tmp_path):
    broken = tmp_path / "vmlinux"
    kernel = bytearray(paths.UNPACKED_KERNEL.read_bytes())
    # Its second segment, in which it is entered; the headers in front of all stay.
    kernel[0x2400000:] = bytes(len(kernel) - 0x2400000)
    broken.write_bytes(kernel)
    monkeypatch.setattr(paths, "UNPACKED_KERNEL", broken)
    with pytest.raises(VmError, match="no end within|went away|QEMU ended"):
        boot("runner.sh", "status", "0", driver="intree", limit=20)


def test_cases_share_boots():
    """A case that hangs, kills or spoils its machine ends that boot, and the next goes on in another; what
    the kernel says fails the case it belongs to, and no other."""
    endings = ["fine", "warn", "panic", "fine", "hang", "fine", "spoil", "fine"]
    cases = [suite.Case(f"{n}-{ending}", ending) for n, ending in enumerate(endings)]
    outcomes = list(suite.run(Config(driver="intree"), paths.VM_SCRIPTS / "suite.sh", cases, 40, "suite"))
    assert [outcome.case for outcome in outcomes] == cases
    boots = list(dict.fromkeys(outcome.run for outcome in outcomes))
    assert [boots.index(outcome.run) for outcome in outcomes] == [0, 0, 0, 1, 1, 2, 2, 3]
    assert [outcome.values("did") for outcome in outcomes if outcome.case.words == "fine"] == [
        [f"{n}-fine"] for n in (0, 3, 5, 7)
    ]
    assert [outcome.case.words for outcome in outcomes if outcome.failure] == ["warn", "panic", "hang"]
    assert "sysrq triggered crash" in outcomes[2].failure and "no end within 40 s" in outcomes[4].failure
    assert [outcome.case.words for outcome in outcomes if any("planted" in line for line in outcome.findings())] == [
        "warn"
    ]


def test_no_result_is_run_once_more():
    """A breakpoint that TCG executed too late (vmlib.machine.NoResult) says nothing, but only once."""
    cases = [suite.Case("0", "fine"), suite.Case("1", "stale"), suite.Case("2", "fine")]
    outcomes = list(suite.run(Config(driver="intree"), paths.VM_SCRIPTS / "suite.sh", cases, 40, "suite"))
    assert [outcome.case for outcome in outcomes] == cases
    assert [bool(outcome.failure) for outcome in outcomes] == [False, True, False]
    assert len({outcome.run for outcome in outcomes}) == 3
    with pytest.raises(NoResult):
        boot("runner.sh", "stale", driver="intree")


def test_what_a_killed_runner_left_goes_away():
    """Memory, that is: a machine's RAM is a file in a directory on a tmpfs. Nobody takes away what is in use."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(Machine(Config(driver="intree")).fast).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    left = Path(os.read(reader, 4096).decode())
    assert left.name.startswith("ccp-rs-")
    with Machine(Config(driver="intree")) as machine:
        assert not left.exists()
        with Machine(Config(driver="intree")):
            assert machine.fast.exists()
    assert not machine.fast.exists()
