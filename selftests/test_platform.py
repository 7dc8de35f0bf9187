# SPDX-License-Identifier: GPL-2.0
"""The software platform notices what a driver must not do, and is quiet about what it may."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import Config, Machine, boot, module, paths, values
from vmlib import health
from vmlib.machine import RMP_BASE, VmError


def tmr(machine: Machine) -> str:
    """Where the TMR is, a page of firmware's: INIT's buffer says so."""
    init = [entry for entry in machine.trace() if entry.get("cmd") == "INIT"]
    return f"{int.from_bytes(bytes.fromhex(init[-1]['buf'])[8:16], 'little'):#x}"


def reports(rmp: str) -> dict[str, list[str]]:
    """What the CPU model has reported, by when and after which write."""
    foreign = ("foreign-write",) * (rmp == "report")
    config = Config(driver="intree", rmp=rmp, files={"poke.ko": module("poke")}, expects=("rmp-write", *foreign))
    with Machine(config, "reports") as machine:
        result = machine.run(
            paths.VM_SCRIPTS / "reports.sh",
            [f"{RMP_BASE + 0x4000:#x}"],
            on_ask=lambda question: f"ok {tmr(machine)}" if question == "tmr" else None,
        )
    assert result.status == 0, result.lines
    said = {
        f"{when} {words[0]}": words[1:]
        for when in ("before", "after")
        for words in map(str.split, values(result, when))
    }
    # The last state is the run's, with addresses.
    assert {f"{r['report']}:cpu{r['cpu']}:{r['count']}" for r in result.rmp["reports"]} == set(said["after rmp"])
    wrong = [r for r in result.rmp["reports"] if r["report"] == "rmp-write"]
    assert all(r["address"] == f"{RMP_BASE + 0x4000:#x}" and int(r["pc"], 16) >> 47 == 0x1FFFF for r in wrong), wrong
    return said


@pytest.mark.parametrize("rmp", ["report", "off"])
def test_writes_that_a_processor_would_refuse_are_reported(rmp):
    said = reports(rmp)
    # The host owns all memory until SNP is initialised, and initialising it is no mistake.
    assert said["before rmp"] == said["after init"] == []
    kinds = [{report.split(":")[0] for report in said[f"after {what}"]} for what in ("tmr", "rmp")]
    foreign = {"foreign-write"} if rmp == "report" else set()
    assert kinds == [foreign, foreign | {"rmp-write"}]


# What selftests/modules/forbidden.c does: what it says, and the report that comes of it.
FORBIDDEN = {
    "psmash": (
        ["give away 0", "psmash inside 1", "psmash 0", "psmash again 1", "psmash of memory that is the host's 1"],
        None,
    ),
    # PSMASH is refused by order of the test: the large page stays, and no page of 4 KiB comes back.
    "psmash-refused": (
        [
            "give away 0",
            "psmash inside 2",
            "psmash 2",
            "psmash again 2",
            "pages that do not come back 512",
            "psmash of memory that is the host's 2",
        ],
        None,
    ),
    "overlap": (
        ["2 MiB 0, 4 KiB in it 4, 2 MiB back 0", "4 KiB 0, 2 MiB around it 4, 4 KiB back 0, 2 MiB that start there 1"],
        None,
    ),
    "write-tmr": (["write: read", "write: {}"], "foreign-write"),
    "write-iommu": (["write: read", "write: {}"], "foreign-write"),
    "write-semaphore": (["write: read", "write: {}"], "foreign-write"),
    "write-rmp": (["write: read", "write: {}"], "rmp-write"),
    "give-refused": (["give -14"], None),
    "give": (["give 0"], None),
    "take": (["take 0"], "guest-write"),
    "large": (["give away 0", "large: read", "large: {}", "take back 0"], "large-write"),
    # Its translations of before are in the TLB.
    "stale": (["stale: {}", "take back 0, 0", "there is 2"], "foreign-write"),
    "alias": (["alias: {}", "take back 0, 0", "there is 2"], "foreign-write"),
    "table": (["give away 0", "table: {}", "take back 0"], "table-walk"),
    "vmcb": (["give away 0", "vmcb: {}", "take back 0"], "foreign-vmcb"),
    "hsave": (["hsave: went through", "exit code 0xffffffffffffffff"], "host-area"),
}


def test_what_the_rmp_forbids_is_a_fault():
    """Writes, a page table, a VMCB: the kernel's own words, and its dump of the RMP's entry. Reads go through."""
    kinds = sorted({kind for _, kind in FORBIDDEN.values() if kind})
    own = (r"kernel: BUG: unable to handle page fault", "kernel: Oops", "general protection fault", "first #GP")
    # VMRUN of an empty VMCB ends before there is a guest.
    own += (r"CPU model: #VMEXIT at \w+ where no guest runs",)
    config = Config(
        driver="intree",
        files={"forbidden.ko": module("forbidden")},
        expects=(*own, *(rf"CPU model: CPU \d+: {kind}," for kind in kinds)),
    )
    with Machine(config, "forbidden") as machine:
        # The event log, and the page to which the IOMMU says that it has executed a command.
        buffers = {"iommu": 0, "semaphore": 2}
        answers = {what: lambda n=n: machine.rmp()["iommu_buffers"][n] for what, n in buffers.items()}
        answers["tmr"] = lambda: tmr(machine)
        result = machine.run(
            paths.VM_SCRIPTS / "forbidden.sh",
            [f"{RMP_BASE + 0x4000:#x}"],
            on_ask=lambda question: f"ok {answers[question]()}" if question in answers else None,
        )
    assert result.status == 0, result.lines
    expected = set()
    for what, (lines, report) in FORBIDDEN.items():
        assert values(result, what) == [line.format("refused") for line in lines], what
        expected |= {report} - {None}
        said = next(words for name, *words in map(str.split, values(result, "reports")) if name == what)
        assert {word.split(":")[0] for word in said} == expected, what
        console = result.console.partition(f"case {what} begins")[2].partition(f"case {what} ends")[0]
        faults = re.findall(r"#PF: error_code\((0x[0-9a-f]+)\) - (.*)", console)
        by_page_fault = report not in (None, "guest-write", "foreign-vmcb", "host-area")
        code = "0x80000001" if report == "table-walk" else "0x80000003"
        assert faults == ([(code, "RMP violation")] if by_page_fault else []), what
        assert ("general protection fault" in console) == (what == "vmcb"), what
        # A page that is the host's: all entries of its 2 MiB. For a table the entry is that of the page behind it.
        dump = (
            r"SEV-SNP: PFN 0x\w+ unassigned, dumping"
            if what in ("large", "table")
            else r"SEV-SNP: PFN 0x\w+, RMP entry: \[0x\w+[15d] - "
        )
        assert bool(re.search(dump, console)) == by_page_fault, what
    # A guest's write is a nested page fault with which KVM can do nothing: the guest tries again and again.
    assert [values(result, f"guest-{when}") for when in ("before", "given", "taken")] == [
        ["wrote"],
        ["stuck"],
        ["wrote"],
    ]


def test_a_tmr_that_has_a_new_owner_is_reported():
    """Nothing protects it without SNP. Firmware goes on using it, so it is soon the new owner who suffers."""
    overwritten = ("PSP model: memory of firmware overwritten, ",)
    config = Config(driver="intree", append="sev=nosnp", files={"poke.ko": module("poke")}, expects=overwritten)
    with Machine(config, "tmr") as machine:
        result = machine.run(
            paths.VM_SCRIPTS / "tmr.sh",
            ["write"],
            on_ask=lambda question: f"ok {tmr(machine)}" if question == "tmr" else None,
        )
        start = int(tmr(machine), 16)
    assert result.status == 0, result.lines
    events = [entry for entry in result.trace if entry.get("event") == "memory of firmware overwritten"]
    assert events and all(start <= int(event["address"], 16) < start + (1 << 20) for event in events), events
    # Not before the write: the INIT that the address is from comes first, and nothing is amiss for 50 commands.
    writes = [n for n, entry in enumerate(result.trace) if entry.get("event") == "memory of firmware overwritten"]
    commands = [n for n, entry in enumerate(result.trace) if entry.get("cmd") == "PLATFORM_STATUS"]
    assert sum(n < writes[0] for n in commands) >= 50, (writes, len(commands))


def test_a_tmr_that_firmware_still_has(driver):
    """SEV SHUTDOWN fails, and the in-tree driver frees the TMR all the same. Pages that are free are zeroed here, as a
    new owner might. Firmware goes on writing there, and the kernel may not live to the end of this."""
    intree = driver == "intree"
    config = Config(driver=driver, append="sev=nosnp init_on_free=1", allows=health.LEFT)
    with Machine(config, "tmr-kept") as machine:
        try:
            result = machine.run(paths.VM_SCRIPTS / "tmr.sh", ["refused"], judge=not intree)
            assert intree or result.status == 0, result.lines
        except VmError as error:
            assert intree, error
        trace = machine.trace()
    refused = [entry["status"] for entry in trace if entry.get("cmd") == "SHUTDOWN"]
    assert refused[0] == 1, refused
    assert intree == any(entry.get("event") == "memory of firmware overwritten" for entry in trace)


def image(file: Path, *arguments: str) -> dict[str, Path]:
    """An image of firmware, where drivers look for one."""
    subprocess.run([paths.TARGET / "sbin", file, *arguments], check=True)
    return {"usr/lib/firmware/amd/sev.fw": file}


def test_an_image_replaces_the_firmware(driver, tmp_path):
    """Both drivers find an image as they find AMD's, and go on with the firmware that it is."""
    newer = ["--api", "1.56.3", "--svn", "21"]
    result = boot("load.sh", driver=driver, files=image(tmp_path / "newer", *newer))
    assert result.status == 0 and values(result, "snp") == ["Y"], result.lines
    downloads = [entry for entry in result.commands() if entry["cmd"] == "DOWNLOAD_FIRMWARE"]
    assert [(entry["status_name"], entry["firmware"]) for entry in downloads] == [("SUCCESS", "1.56.3")], downloads
    # API version and build are bytes 0, 1 and 7 of what PLATFORM_STATUS answers.
    answers = [bytes.fromhex(entry["out"]) for entry in result.commands() if entry["cmd"] == "PLATFORM_STATUS"]
    assert [tuple(answers[n][at] for at in (0, 1, 7)) for n in (0, -1)] == [(1, 55, 21), (1, 56, 3)]
    assert "SEV firmware updated from 1.55.21 to 1.56.3" in result.console


def test_the_image_for_this_model_is_loaded_twice_over_old_firmware(driver, tmp_path):
    """Both drivers look for the same names in the same order. Firmware before 1.50 does not commit what it loads."""
    names = {"amd_sev_fam19h_model01h.sbin": "1.55.22", "amd_sev_fam19h_model0xh.sbin": "1.55.23", "sev.fw": "1.55.24"}
    files = {}
    for name, api in names.items():
        files[f"usr/lib/firmware/amd/{name}"] = tmp_path / name
        image(tmp_path / name, "--api", api)
    result = boot("load.sh", driver=driver, api="1.49.9", files=files)
    assert result.status == 0 and values(result, "snp") == ["Y"], result.lines
    downloads = [entry for entry in result.commands() if entry["cmd"] == "DOWNLOAD_FIRMWARE"]
    assert [(entry["status_name"], entry["firmware"]) for entry in downloads] == [("SUCCESS", "1.55.22")] * 2, downloads
    assert "SEV firmware updated from 1.49.9 to 1.55.22" in result.console


def test_an_image_from_before_what_is_committed_is_refused(driver, tmp_path):
    older = ["--api", "1.55.20"]
    result = boot(
        "load.sh", driver=driver, files=image(tmp_path / "older", *older), allows=("DOWNLOAD_FIRMWARE failed",)
    )
    assert result.status == 0 and values(result, "snp") == ["Y"], result.lines
    downloads = [entry for entry in result.commands() if entry["cmd"] == "DOWNLOAD_FIRMWARE"]
    assert [(entry["status_name"], entry["firmware"]) for entry in downloads] == [("BAD_VERSION", "1.55.20")], downloads


def test_in_tree_driver_after_a_legacy_shutdown():
    """Firmware gives the IOMMU's pages back as Linux expects it, so the driver shuts down cleanly and can be
    loaded again, with SNP_EN set all the time."""
    result = boot("reload.sh", "3", driver="intree", psp=["--shutdown=legacy"])
    assert result.status == 0, result.lines
    assert [value.split()[2] for value in values(result, "disabled")[1:-1]] == ["Y"] * 3
    assert "IOMMU shutdown failed" not in result.console and result.rmp["assigned"] == 0


def test_the_save_area_under_a_virtual_machine(driver):
    """The in-tree driver stops SNP for an ioctl and starts it anew for a guest, which leaves KVM's other guests with a
    host save area at address 0. Ours stops nothing."""
    intree = driver == "intree"
    result = boot("save-area.sh", driver=driver, expects=("host-area",) if intree else ())
    assert result.status == 0, result.lines
    assert values(result, "guest") == ["before wrote", "after wrote"]
    assert values(result, "snp") == [f"snp_en={'' if intree else '0,1'}"]
    assert ("host-area" in values(result, "reports")[0]) == intree
    started = [entry for entry in result.commands() if entry["cmd"] == "SNP_INIT_EX"]
    assert [entry["status"] for entry in started] == [0] * (2 if intree else 1)


def test_an_iommu_that_does_not_say_that_it_is_done():
    """Linux waits in vain, says so, and goes on; afterwards it is as before."""
    result = boot("completion-wait.sh")
    assert result.status == 0, result.lines
    before, silent, after = (int(line.split()[-1]) for line in values(result, "waits"))
    assert before == 0 and silent > 0 and after == silent, result.lines


def variant(*msrs: str, snp: str = "Y", **config):
    """Load the in-tree driver and kvm-amd on a variant of the platform."""
    result = boot("variant.sh", *msrs, driver="intree", limit=180, **config)
    assert result.status == 0, result.lines
    assert values(result, "snp") == [snp]
    return result


# CPUs and firmware; they know nothing of each other, so one machine can have both.
MACHINES = {
    "1-cpu": ({"cpus": 1}, "1.51.3"),
    "8-cpus": ({"cpus": 8}, "1.52.4"),
    "rmpread": ({"rmpread": True}, "1.58.4"),
    # Segments of 1 GiB: two. And one that is larger than memory, with RMPREAD.
    "segmented": ({"segments": 30}, "1.55.21"),
    "segmented-rmpread": ({"segments": 35, "rmpread": True}, "1.55.21"),
}
# SNP_INIT_EX from 1.52 on, FEATURE_INFO (and with it the x86 shutdown) from 1.55 on.
FIRMWARE = {
    "1.51.3": ["SNP_INIT"],
    "1.52.4": ["SNP_INIT_EX"],
    "1.55.21": ["SNP_FEATURE_INFO", "SNP_INIT_EX"],
    "1.58.4": ["SNP_FEATURE_INFO", "SNP_INIT_EX"],
}


@pytest.mark.parametrize("name", MACHINES)
def test_in_tree_driver_on_other_machines(name):
    cpu, api = MACHINES[name]
    result = variant(api=api, **cpu)
    assert not result.rmp["reports"] and result.rmp["assigned"] == 0
    assert ("Segmented RMP using" in result.console) == ("segments" in cpu)
    # 2 GiB of memory: with segments exactly that has entries.
    assert "segments" not in cpu or result.rmp["entries"] == 2 << 30 >> 12

    commands = [entry for entry in result.commands() if entry["cmd"] in ("SNP_INIT", "SNP_INIT_EX", "SNP_FEATURE_INFO")]
    assert [entry["cmd"] for entry in commands] == FIRMWARE[api] and all(entry["status"] == 0 for entry in commands)
    assert f"SEV-SNP API:{'.'.join(api.split('.')[:2])} " in result.console
    # Before 1.53 the IOMMU's pages are the host's before Linux takes them back. That stumbles only if one of them
    # is aligned to 2 MiB: then it looks at the entry first.
    assert "IOMMU shutdown failed" not in result.console or api in ("1.51.3", "1.52.4")
    assert result.rmp["cpus_with_snp_en"] == (
        [] if "SNP_FEATURE_INFO" in FIRMWARE[api] else list(range(cpu.get("cpus", 2)))
    )


def test_msrs_that_differ():
    """They read as they were told to, and SNP_INIT refuses and names the one."""
    result = variant(
        "0xc0010016",
        "0xc001001d",
        msr=["1:IORR_BASE0=0x1000", "1:TOP_MEM2=absent"],
        snp="N",
        expects=(r"first #GP\(0\), reason: msr",),
    )
    assert values(result, "msr") == ["0xc0010016 0 0 1 0x1000 ", "0xc001001d 0 0 1 none "]
    refused = [entry for entry in result.commands() if entry["cmd"] == "SNP_INIT_EX"]
    assert [(entry["status_name"], entry["wrong"]) for entry in refused] == [("INVALID_CONFIG", "IORR_BASE0")] * len(
        refused
    ) and refused


@pytest.mark.parametrize("checks", ["on", "off"])
def test_cpu_without_snp_en(checks):
    """SNP_EN is set on CPU 0 when Linux starts, which the in-tree driver takes for all. Firmware refuses; if it
    does not, the CPU model reports the CPU that is not protected."""
    result = variant(
        snp_en="0",
        psp=[f"--checks={checks}"],
        snp="N" if checks == "on" else "Y",
        expects=("CPU 1: no-snp-en",) * (checks == "off"),
    )
    reports = [(report["cpu"], report["report"]) for report in result.rmp["reports"]]
    assert reports == ([] if checks == "on" else [(1, "no-snp-en")])
    assert checks == "off" or "SYSCFG.SNP_EN clear" in {entry.get("wrong") for entry in result.commands()}


def test_breakpoints_that_are_gone():
    """No CPU executes one that another CPU has taken away, though QEMU would (Documentation/findings.md)."""
    result = boot("gone-breakpoint.sh", "10", driver="intree", cpus=4)
    [found] = [re.fullmatch(r"rounds (\d+) traps (\d+) gone (\d+)", line) for line in values(result, "breakpoints")]
    assert found
    rounds, traps, gone = map(int, found.groups())
    assert 0 < traps < rounds and gone == 0


@pytest.mark.parametrize("shutdown", ["x86", "legacy"])
def test_kexec(shutdown):
    """The next kernel finds CPUs and firmware as they were left, and initialises SNP again."""
    result = boot("kexec.sh", "next", driver="intree", shutdown=shutdown, kexec=True, limit=180)
    assert result.status == 0, result.lines
    left = "" if shutdown == "x86" else "0,1"
    assert values(result, "first") == ["found snp_en=", "loaded Y snp_en=0,1"]
    assert values(result, "second") == [f"found snp_en={left}", "loaded Y snp_en=0,1"]
    assert result.rmp["assigned"] == 0


def test_kdump():
    """A panic with SNP up: the driver shuts SNP down, and the crash kernel finds the dump."""
    result = boot(
        "kexec.sh",
        "crash",
        driver="intree",
        kexec=True,
        crashkernel=256,
        limit=180,
        # The trace is the panic's. The IOMMU's pages are reclaimed by nobody.
        expects=("Call Trace", "^RMP: 131 "),
    )
    assert result.status == 0
    assert values(result, "crashed") == ["found snp_en=", "vmcore", "iommu ivhd0"]
    assert [entry["cmd"] for entry in result.commands()][-1] == "SNP_SHUTDOWN_EX"
