# SPDX-License-Identifier: GPL-2.0
"""First launch: the stock kernel, kvm-amd and QEMU launch SNP guests with the right digests."""

import os
import subprocess

import pytest
from conftest import boot, first_launch, launch, paths, values


def demo(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [paths.TOP / "scripts/demo", "--launch-only", *arguments], capture_output=True, text=True, env=os.environ
    )


def test_digests_equal_sev_snp_measure(driver):
    result, launches = first_launch(driver)
    assert result.status == 0
    assert [item.name for item in launches] == ["1-vcpu", "4-vcpus", "kernel-hashes"]
    for item in launches:
        assert item.equal, str(item)


def test_snphost_is_content(driver):
    assert "@snphost ok" in first_launch(driver)[0].lines


def test_nothing_is_left(driver):
    result, _ = first_launch(driver)
    assert result.rmp["assigned"] == 0
    # The PSP saw nothing but commands: no doorbell while it was busy, no answer without an interrupt. That QEMU has
    # gone may stand in the trace already, or not.
    events = [entry["event"] for entry in result.trace if "event" in entry]
    assert [event for event in events if event != "disconnected"] == ["reset"] and len(events) <= 2, events


def test_guests_without_snp_are_measured(driver):
    """QEMU launches an SEV and an SEV-ES guest, and what was measured is what sev-snp-measure computes."""
    modes = {1: "sev", 5: "seves"}
    result = boot("sev-launch.sh", *map(str, modes), driver=driver, guest=True, files={"guest/OVMF.fd": paths.OVMF})
    assert result.status == 0 and result.rmp["assigned"] == 0, result.lines
    assert values(result, "launched") == [f"{policy} launch-secret 0" for policy in modes], result.lines
    done = [entry for entry in result.commands() if entry["status"] == 0]
    assert [entry["policy"] for entry in done if entry["cmd"] == "LAUNCH_START"] == list(modes)
    measured = [entry["digest"] for entry in done if entry["cmd"] == "LAUNCH_MEASURE"]
    assert measured == [launch.expected_without_snp(mode, paths.OVMF) for mode in modes.values()]


# What KVM says of each step of programs/sev-migrate.c: a length is asked for (INVALID_LEN, with the answer), and
# what nobody sealed is BAD_MEASUREMENT. The last number is a length or the guest's state.
SENT = [
    "secret EIO error=0xb",
    "launched 0 error=0 3",
    "report-length EIO error=0x4 208",
    "report 0 error=0 208",
    "session-length EIO error=0x4 128",
    "sending 0 error=0 4",
    "send-cancel 0 error=0",
    "stays 0 error=0 3",
    "session-length EIO error=0x4 128",
    "header-length EIO error=0x4 52",
    "send-finish 0 error=0",
    "sent 0 error=0 6",
]
RECEIVED = [
    "receiving 0 error=0 5",
    *["receive 0 error=0"] * 3,
    "changed EIO error=0xb",
    "receive-finish 0 error=0",
    "arrived 0 error=0 3",
]


@pytest.mark.parametrize("snp", [True, False], ids=["snp", "nosnp"])
def test_a_guest_without_snp_is_sent(driver, snp):
    """Signed report, refused secret and migration of an SEV guest by KVM's ioctls, from the platform to itself. With
    SNP the in-tree driver receives nothing: KVM sets the C-bit in RECEIVE_UPDATE_DATA's address, also where the kernel
    has no memory encryption, and RMPUPDATE finds no page there."""
    receives = driver == "ours" or not snp
    there = ["there"] if receives else []
    result = boot("sev-migrate.sh", *there, driver=driver, append="" if snp else "sev=nosnp")
    assert result.status == 0, result.lines
    assert not snp or result.rmp["assigned"] == 0, result.rmp
    steps = values(result, "migrate")
    received = [step for step in steps if step.split()[0] in {step.split()[0] for step in RECEIVED}]
    assert received == (RECEIVED if receives else []), result.lines
    assert [step for step in steps if step not in received] == SENT, result.lines
    assert values(result, "packet") == ["encrypted"] * 3, result.lines
    assert values(result, "memory") == (["the same"] if receives else []), result.lines
    (measured,) = [entry["digest"] for entry in result.commands() if entry["cmd"] == "LAUNCH_MEASURE"]
    assert values(result, "digest") == [f"{measured} nonce of anybody"], result.lines


def test_a_corrected_cpuid_table_comes_back(driver):
    """Firmware refuses the table and writes down what it would take; that is what the launcher gets to see."""
    result = boot("cpuid.sh", driver=driver, psp=["--refuse-cpuid", "0x8000001f"])
    assert result.status == 0 and result.rmp["assigned"] == 0, result.lines
    assert values(result, "cpuid") == ["EIO error=0x16 0x11 0 0x33"], result.lines
    updates = [entry["status_name"] for entry in result.commands() if entry["cmd"] == "SNP_LAUNCH_UPDATE"]
    # The page, then the page and the vCPU's state.
    assert updates == ["INVALID_PARAM", "SUCCESS", "SUCCESS"], updates


def test_window_is_held_while_snp_is_active():
    lines = first_launch("ours")[0].lines
    assert "@hotplug loaded refused Device or resource busy" in lines
    assert "@hotplug unloaded allowed" in lines


def test_kvm_amd_from_source():
    """kvm-amd.ko rebuilt from the kernel's own source, unchanged, is as good as Debian's."""
    subprocess.run([paths.TOP / "scripts/kvm-amd/build", "--plain"], check=True)
    rebuilt = (f"usr/lib/modules/{paths.RELEASE}/updates/kvm-amd.ko", paths.OUT / "kvm-amd/kvm-amd.ko")
    result, launches = first_launch("ours", more=(rebuilt,))
    assert "@module kvm_amd updates/kvm-amd.ko" in result.lines
    assert result.status == 0 and len(launches) == 3 and all(item.equal for item in launches), result.lines


def test_changed_firmware_changes_both_digests(tmp_path):
    """One flipped byte in OVMF: the model and sev-snp-measure both see it, and still agree."""
    image = bytearray(paths.OVMF.read_bytes())
    image[0x1000] ^= 1
    changed = tmp_path / "OVMF.fd"
    changed.write_bytes(image)
    out = demo("--driver", "ours", "--ovmf", str(changed)).stdout
    lines = [line for line in out.splitlines() if line.startswith("launch ")]
    assert len(lines) == 3 and all(line.endswith(" EQUAL") for line in lines), out
    good = {item.name: item.model for item in first_launch("ours")[1]}
    digests = {line.split()[1].rstrip(":"): line.split()[3] for line in lines}
    assert digests["1-vcpu"] != good["1-vcpu"] and digests["4-vcpus"] != good["4-vcpus"]
    # That guest has another firmware.
    assert digests["kernel-hashes"] == good["kernel-hashes"]


@pytest.mark.parametrize(
    "fault, said",
    [
        ("SNP_LAUNCH_FINISH:flip-digest", "launch 1-vcpu has the wrong digest"),
        ("SNP_INIT_EX:status=0x3", "SNP_INIT_EX"),
    ],
)
def test_demo_fails_with_a_clear_line(fault, said):
    run = demo("--driver", "ours", f"--psp=--fault={fault}")
    assert run.returncode == 1
    assert said in run.stdout + run.stderr, run.stdout + run.stderr
