# SPDX-License-Identifier: GPL-2.0
"""SNP guests run in the CPU model."""

import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from conftest import boot, launch, paths, values
from vmlib import attest, initramfs, programs

# What becomes of the vCPUs of the guests in programs/snp-guest.c: "terminated 0:0x1" is a guest
# that found what was to be found.
SMALL = {
    "hlt": "hlt",
    "terminate": "terminated 0x3:0x42",
    "cpuid": "terminated 0:0x72",
    "shutdown": "shutdown",
    "unvalidated": "terminated 0x4:0x4",
    "validate": "terminated 0:0x1",
    "rescind": "terminated 0x4:0x4",
    "share": "terminated 0:0x1",
    "state-behind-validation": "terminated 0x4:0x4",
    "state-out-of-range": "terminated 0:0x1",
    "state-unknown": "terminated 0:0x1",
    "private-access-to-shared": "memory-fault private 0x20000",
    "shared-access-to-private": "memory-fault shared 0x10000",
    "ghcb-not-registered": "terminated 0:0x1",
    "ghcb-malformed": "terminated 0:0x1",
    "ghcb-nowhere": "terminated 0:0x1",
    "rmpadjust": "terminated 0:0x1",
    "certificates": "terminated 0:0x1",
    "no-certificates": "terminated 0:0x1",
    "ap-creation": "hlt, terminated 0:0x1",
    # KVM_EXIT_FAIL_ENTRY.
    "ap-without-vmsa": "exit 9, hlt",
    "interrupts": "terminated 0:0x1",
    "interrupts-4": ", ".join(["terminated 0:0x1"] * 4),
}


def healthy(scenario: str, *arguments: str, **config):
    """Run a scenario that has to end well and to leave nothing behind."""
    result = boot(scenario, *arguments, **config)
    assert result.status == 0, result.lines
    assert result.rmp["assigned"] == 0, "pages of a guest that is gone"
    return result


def run(tmp_path, driver: str, *guests: str, **config):
    """Run the guests in one machine: (result, the words of each "@booted" line)."""
    files = {f"guest/{name}": file for name, file in launch.guest_files(tmp_path).items()}
    result = healthy("guest.sh", *guests, driver=driver, files=files, limit=300 * len(guests), **config)
    return result, [line.split() for line in values(result, "booted")]


def refusals(result) -> list[str]:
    """Why the CPU model has ended guests."""
    return re.findall(r"guest on CPU .*", (result.run / "cpu.log").read_text())


# How far guests get (what they print), and how they end: OVMF to its shell, as SNP, SEV and SEV-ES
# guest and without SEV; Linux, loaded by OVMF after a look at its hash, to user space, and off.
# SEV-ES has one vCPU: an AP that is slow to say that it waits (AP reset hold) loses the SIPI that
# comes before (KVM drops it), and OVMF waits for ever. So it looked in 2 of 17 boots with 4 vCPUs;
# the CPU model's README has more.
GUESTS = {f"{kind}:{vcpus}": ("Shell>", "host-qmp-quit") for kind in ("ovmf", "sev") for vcpus in (1, 4)} | {
    "sev_es:1": ("Shell>", "host-qmp-quit"),
    "plain:1": ("Shell>", "host-qmp-quit"),
    "linux:1": (f"guest user space: {paths.RELEASE}", "guest-shutdown"),
    "linux:4": (f"guest user space: {paths.RELEASE}", "guest-shutdown"),
}


# Those of `make test`: the others take long.
SHORT = ["ovmf:1", "plain:1"]


def test_guests_run(tmp_path, driver, request, note):
    """Ten times each in `make test-long`."""
    guests = [*GUESTS] * 10 if request.config.getoption("--long") else SHORT
    result, booted = run(tmp_path, driver, *guests, guest=True)
    assert [(name, *rest) for name, _, *rest in booted] == [(name, GUESTS[name][1]) for name in guests], result.lines
    assert [" ".join(line.split()) for line in values(result, "serial")] == [
        f"{name} {GUESTS[name][0]}" for name in guests
    ]
    for guest in sorted(set(guests)):
        note(f"{guest}, {driver}: {' '.join(str(int(tenths) / 10) for name, tenths, _ in booted if name == guest)} s")
    assert refusals(result) == []
    # What each side has in its TLB stays there over nearly all exits.
    counts = dict(re.findall(r"^count (\S+) (\d+)$", (result.run / "cpu.log").read_text(), re.MULTILINE))
    entries, *kept = (int(counts[name]) for name in ("guest_entry", "host_tlb_kept", "guest_tlb_kept"))
    assert all(entries * 0.5 < found < entries for found in kept), counts


def test_guests_are_refused_unless_asked_for(tmp_path):
    result, booted = run(tmp_path, "intree", "ovmf:1")
    assert booted == [["ovmf:1", "never", "host-qmp-quit"]]
    assert "guest execution: not modelled" in (result.run / "cpu.log").read_text()


def test_small_guests(driver):
    """Guests that do one thing each, some of them wrong: the hypervisor hears what it should, and the
    guest the rest."""
    result = healthy(
        "guest-small.sh",
        *SMALL,
        driver=driver,
        guest=True,
        limit=180,
        # That is the guest ap-without-vmsa.
        expects=("ends with VMEXIT_INVALID: the RMP does not know",),
    )
    ends = defaultdict(list)
    for name, end in (line.split(" ", 1) for line in values(result, "guest")):
        ends[name].append(end)
    assert {name: ", ".join(sorted(end)) for name, end in ends.items()} == SMALL
    assert values(result, "left") == [f"{name} 0" for name in SMALL]
    # The page as the host sees it: nothing of what was private, and what the guest wrote when it was shared.
    assert [line for line in values(result, "state") if line.startswith("share ")] == [
        "share 0x10000 shared 0",
        "share 0x10000 private 0x5a",
    ]
    # That is the guest ap-without-vmsa.
    (refusal,) = refusals(result)
    assert re.fullmatch(
        r"guest on CPU \d ends with VMEXIT_INVALID: the RMP does not know \S+ as a validated VMSA of this guest",
        refusal,
    )
    # Events have been interrupted by a fault, most of them of the guests with interrupts, and were
    # delivered all the same.
    assert "guest_exit_in_delivery" in (result.run / "cpu.log").read_text()


# Process 1 of a guest that takes its second CPU away and back.
OFFLINE_TWICE = """#!/busybox sh
/busybox mkdir -p /sys
/busybox mount -t sysfs sysfs /sys
for round in 1 2; do
	echo 0 >/sys/devices/system/cpu/cpu1/online
	echo 1 >/sys/devices/system/cpu/cpu1/online
	/busybox echo "round $round: CPUs $(/busybox cat /sys/devices/system/cpu/online)"
done
/busybox echo "guest user space: both rounds"
/busybox poweroff -f
"""


def test_offline_twice(tmp_path, long):
    """A defect of Linux 7.3.4 as SNP guest (Documentation/findings.md): the first time is well, the second ends it."""
    if not long:
        pytest.skip("shows a defect of the kernel in the guest; make test-long does")
    files = launch.guest_files(tmp_path)
    files["initrd"] = initramfs.guest(tmp_path / "offline", OFFLINE_TWICE, {})
    files["append"].write_text("console=ttyS0 loglevel=4 tsc=nowatchdog panic=-1")
    files = {f"guest/{name}": file for name, file in files.items()}
    result = healthy("guest.sh", "linux:2", driver="intree", files=files, guest=True, limit=400)
    assert values(result, "booted") == ["linux:2 never guest-reset"]
    serial = "\n".join(result.lines)
    assert "__sev_get_ghcb+" in serial and "vc_boot_ghcb+" in serial and "panic+" in serial


# Process 1 of a guest that goes on with another kernel, and of the other kernel.
KEXEC = """#!/busybox sh
/busybox mkdir -p /proc
/busybox mount -t proc proc /proc
if /busybox grep -q second /proc/cmdline; then
	/busybox echo "guest user space: the second kernel"
	/busybox poweroff -f
fi
/kexec-load next /vmlinuz /second "console=ttyS0 loglevel=4 tsc=nowatchdog second"
/busybox echo "loaded: $?"
/kexec-load go
"""


def program(name: str) -> Path:
    """A program of selftests/programs."""
    return next(built for built in programs.build() if built.name == name)


# Process 1 of a guest that asks for reports.
MESSAGES = """#!/busybox sh
/busybox mkdir -p /dev /sys
/busybox mount -t devtmpfs dev /dev
/busybox mount -t sysfs sysfs /sys
for module in configfs tsm_report sev-guest; do /busybox insmod /$module.ko; done
/busybox echo "guest user space: $(/guest-report 1 2 1 | /busybox tr '\\n' ,)" \
	"$(/busybox dmesg | /busybox grep -c 'Disabling VMPCK0 communication key')"
/busybox poweroff -f
"""


def test_message_version(tmp_path, long):
    """A defect of Linux 7.3.4 as SNP guest (Documentation/findings.md): a version that firmware does not know is the
    last that it is asked."""
    if not long:
        pytest.skip("shows a defect of the kernel in the guest; make test-long does")
    files = launch.guest_files(tmp_path)
    contents = attest.modules() | {"guest-report": program("guest-report")}
    files["initrd"] = initramfs.guest(tmp_path / "messages", MESSAGES, contents)
    files["append"].write_text("console=ttyS0 loglevel=4 tsc=nowatchdog")
    files = {f"guest/{name}": file for name, file in files.items()}
    result = healthy("guest.sh", "linux:1", driver="intree", files=files, guest=True, limit=400)
    # ioctl()'s errno and firmware's status: none, EIO and INVALID_PARAM, ENOTTY without asking firmware.
    asked = "report 1 0 0,report 2 5 0x16,report 1 25 0, 1"
    assert values(result, "serial") == [f"linux:1 guest user space: {asked}"]
    statuses = [command["status"] for command in result.commands() if command["cmd"] == "SNP_GUEST_REQUEST"]
    assert statuses == [0, 0x16]


def test_kexec_in_a_guest(tmp_path, long):
    """A defect of Linux 7.3.4 as SNP guest (Documentation/findings.md): a write to DR7 comes when there is no GHCB any
    more, and the guest does not leave the handler of #VC again."""
    if not long:
        pytest.skip("shows a defect of the kernel in the guest; make test-long does")
    files = launch.guest_files(tmp_path)
    second = initramfs.guest(tmp_path / "second", KEXEC, {})
    contents = {"vmlinuz": files["vmlinuz"], "second": second, "kexec-load": program("kexec-load")}
    files["initrd"] = initramfs.guest(tmp_path / "kexec", KEXEC, contents)
    files["append"].write_text("console=ttyS0 loglevel=6 tsc=nowatchdog panic=-1")
    files = {f"guest/{name}": file for name, file in files.items()}
    result = healthy("guest-kexec.sh", driver="intree", files=files, guest=True, limit=400)
    assert values(result, "started") == ["yes"] and not values(result, "second"), result.lines
    # The exception's own stack is in the kernel's mapping of each CPU's entry code.
    stacks = [int(address, 16) for line in values(result, "stacks") for address in line.split()]
    stays = Counter(address >> 12 for address in stacks if address >> 40 == 0xFFFFFE)
    assert stays.most_common(1)[0][1] >= 10, [hex(address) for address in stacks]
    # One comes while the kernel starts, and the other in machine_kexec().
    assert "count guest_vc.0x37 2\n" in (result.run / "cpu.log").read_text()


def test_killed_guests_leave_nothing(driver, request):
    """Guests and their QEMU are killed at random moments, launch included: no page stays assigned, and
    the next guest runs."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    count = 15 if request.config.getoption("--long") else 2
    # Of QEMU's seconds the first two or so are the launch.
    kills = [
        f"{kind}:{chance.uniform(0, limit):.2f}"
        for _ in range(count)
        for kind, limit in (("small", 1.5), ("qemu", 2), ("qemu", 10))
    ]
    files = {"guest/OVMF.fd": paths.OVMF}
    result = healthy("guest-kill.sh", *kills, driver=driver, guest=True, files=files, limit=200 + 30 * len(kills))
    assert values(result, "left") == [f"{kill} 0" for kill in kills]
    assert values(result, "guest") == ["terminate terminated 0x3:0x42"] * len(kills)
    assert [line.split()[::2] for line in values(result, "booted")] == [["ovmf:1", "host-qmp-quit"]]
    assert refusals(result) == []
