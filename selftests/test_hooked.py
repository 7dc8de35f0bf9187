# SPDX-License-Identifier: GPL-2.0
"""A kvm-amd with our hooks: guests bring the boot vCPU's VMSA, vCPUs come after the launch, memory
is in the driver's hands."""

import random
import re

import pytest
from conftest import boot, first_launch, values
from test_panic import panic
from vmlib import hooked


def run(what: str, *words: str, kernel: str = "stock", **config):
    """Run the launcher in one machine: the result, and what it said in each case."""
    files = hooked.files(kernel)
    result = boot("hooked.sh", what, *words, guest=True, kernel=kernel, files=files, limit=300, **config)
    assert result.status == 0, result.lines
    assert result.rmp["assigned"] == 0
    assert values(result, "module")[-1] == "kvm_amd updates/kvm-amd.ko"
    assert values(result, "lost") == ["0"] and all(line.endswith(" 0") for line in values(result, "left"))
    cases = {}
    for line in result.lines:
        if line.startswith("@case "):
            said = cases.setdefault(line.removeprefix("@case "), [])
        elif cases:
            said.append(line)
    return result, cases


def word(lines: list[str], key: str) -> str:
    """What was said of `key`, once."""
    (value,) = [line.removeprefix(f"@{key} ") for line in lines if line.startswith(f"@{key} ")]
    return value


def measured(result) -> list[str]:
    """The digests of all launches that were finished."""
    return [c["digest"] for c in result.commands() if c["cmd"] == "SNP_LAUNCH_FINISH" and c["status"] == 0]


def everybody(count: int) -> str:
    return ",".join(map(str, range(count)))


def test_digest_does_not_depend_on_the_number_of_vcpus():
    """With a VMSA in the image one digest, which the image alone determines; without, another for each
    number. And all vCPUs run."""
    counts = (1, 2, 8, 64)
    without = [f"--no-vmsa,--vcpus,{count}" for count in (1, 2)]
    result, cases = run("run", *(f"--vcpus,{count}" for count in counts), *without)
    (of_the_file,) = [line.removeprefix("@digest ") for line in result.lines if line.startswith("@digest ")][:1]
    digests = measured(result)
    assert digests[: len(counts)] == [of_the_file] * len(counts)
    assert len(set(digests)) == 1 + len(without)
    for count in counts:
        said = cases[f"--vcpus,{count}"]
        assert word(said, "digest") == of_the_file
        assert "@vcpu 0 terminated 0:0x1" in said and word(said, "ran") == everybody(count), said
    for count, case in zip((1, 2), without):
        assert word(cases[case], "ran") == everybody(count), cases[case]
    # One VMSA for each launch with one in the image, and else one for each vCPU.
    updates = [c for c in result.commands() if c["cmd"] == "SNP_LAUNCH_UPDATE" and c["page_type"] == "VMSA"]
    assert len(updates) == len(counts) + 1 + 2
    assert {c["gpa"] for c in updates[: len(counts)]} != {c["gpa"] for c in updates[len(counts) :]}


def test_vcpus_come_after_the_launch():
    _, cases = run("run", "--vcpus,1,--late,3", "--vcpus,2,--late,30", "--vcpus,1,--finish-twice")
    for case, count in (("--vcpus,1,--late,3", 4), ("--vcpus,2,--late,30", 32), ("--vcpus,1,--finish-twice", 1)):
        assert "@vcpu 0 terminated 0:0x1" in cases[case] and word(cases[case], "ran") == everybody(count), cases[case]
    assert word(cases["--vcpus,1,--finish-twice"], "finish-twice") == "22"


def test_vmsas_are_bound():
    """In the mode in which user space binds VMSAs: bound vCPUs run at once, the others when the boot
    vCPU starts them."""
    result, cases = run(
        "run-3-vmsas", "--direct,--vcpus,4", "--direct,--vcpus,3,--late,1", "--direct,--vcpus,1,--late,3"
    )
    for case, said in cases.items():
        assert "@vcpu 0 terminated 0:0x1" in said and word(said, "ran") == everybody(4), (case, said)
    assert len(set(measured(result))) == 1 and measured(result)[0] == word(cases["--direct,--vcpus,4"], "digest")


def test_refusals():
    """What must not be launched is refused with the right errno, and the VM is usable afterwards."""
    result, cases = run("refusals")
    # A source that changes while it is copied: what was refused was not launched, and what was launched was right.
    refused, launched = map(int, word(cases.pop("changing-source"), "changing").split())
    assert refused and launched
    image = {digest for digest in measured(result)}
    assert len(image) == 2, "that of the image, and that with one page before it"
    assert len(cases) > 20
    for name, said in cases.items():
        refused, errno, expected = word(said, "refusal").split()
        assert (refused, errno) == (name, expected), said
        if not name.endswith("no-snp"):
            assert f"@after {name} terminated 0:0x1" in said, said


def test_random_calls(long, note):
    """The host stays well, whatever user space calls: on the stock kernel a sample, on the debug
    kernel in `make test-long`."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    kernel, calls = ("debug", 10000) if long else ("stock", 2000)
    result = boot(
        "hooked.sh", "random", f"{calls},{seed}", guest=True, kernel=kernel, files=hooked.files(kernel), limit=900
    )
    assert result.status == 0, result.lines
    done, succeeded, launched = map(int, *[line.split() for line in values(result, "random")])
    note(f"random calls: {done}, of which {succeeded} succeeded; {launched} guests launched")
    assert done >= calls and succeeded > done / 20 and launched
    assert values(result, "left") == [f"{calls},{seed} 0"] and values(result, "lost") == ["0"]


REFUSED = "SNP_LAUNCH_UPDATE@{}x1:status=0x16"
KEPT = "SNP_PAGE_RECLAIM@1x1:status=0x1a"
# What firmware does -> how many pages that costs. The image has ten pages, the last is the VMSA.
FAULTS = {
    REFUSED.format(1): 0,
    REFUSED.format(5): 0,
    REFUSED.format(9): 0,
    f"{REFUSED.format(1)}+{KEPT}": 1,
    f"{REFUSED.format(5)}+{KEPT}": 1,
    f"{REFUSED.format(9)}+{KEPT}": 1,
    "SNP_LAUNCH_FINISH@1x1:status=0xa": 0,
}


def test_what_firmware_keeps_is_lost_and_nothing_else():
    """A page that is not launched comes back, or is counted and kept: the RMP has no page that the allocator has."""
    result = boot(
        "hooked.sh", "faults", *FAULTS, guest=True, files=hooked.files(), limit=300, expects=("are lost until",)
    )
    assert result.status == 0, result.lines
    lost = [int(count) for count in values(result, "lost-by-now")]
    assert [now - before for before, now in zip([0, *lost], lost)] == [*FAULTS.values()], result.lines
    assert not values(result, "through")
    # They stay where they were, and are all that stays.
    left = [int(line.split()[-1]) for line in values(result, "left")]
    assert left == lost, result.lines


def test_qemu_and_its_digests():
    """Nothing changes for a VMM that knows nothing of it: the digests are those that sev-snp-measure computes."""
    more = tuple((name, file) for name, file in hooked.files().items() if name.endswith(".ko"))
    result, launches = first_launch("ours", more=more)
    assert "@module kvm_amd updates/kvm-amd.ko" in result.lines
    assert result.status == 0 and len(launches) == 3 and all(item.equal for item in launches), result.lines


def cost(case: str, files) -> tuple[list[str], dict[str, int]]:
    """Commands that a launch takes, and RMPUPDATEs and the like, to the end of the guest."""
    result = boot("hooked.sh", "run", case, guest=True, files=files)
    assert result.status == 0, result.lines
    marks = [n for n, entry in enumerate(result.trace) if entry.get("event") == "mark" and entry["text"].endswith(case)]
    begin, end = marks
    counts = {key: result.trace[end][key] - result.trace[begin][key] for key in ("rmpupdate", "psmash", "wbinvd")}
    return [entry["cmd"] for entry in result.trace[begin:end] if "cmd" in entry], counts


def test_a_launch_costs_no_more(note):
    """Than with the stock module."""
    case, files = "--no-vmsa,--vcpus,2", hooked.files()
    stock = cost(case, {name: file for name, file in files.items() if not name.endswith(".ko")})
    ours = cost(case, files)
    note(f"a launch: {len(ours[0])} commands, {ours[1]}; stock {len(stock[0])} commands, {stock[1]}")
    assert ours[0] == stock[0]
    assert all(ours[1][key] <= stock[1][key] for key in stock[1]), (ours[1], stock[1])
    assert stock[1]["rmpupdate"] > 10


def test_it_does_not_load_with_the_intree_driver():
    """The symbols that it misses are named."""
    result = boot("load.sh", driver="intree", files=hooked.files())
    missing = set(re.findall(r"kvm_amd: Unknown symbol (snp_gmem_\w+)", result.console))
    assert {"snp_gmem_make_private", "snp_gmem_make_shared", "snp_gmem_launch"} <= missing, result.console[-2000:]


@pytest.mark.parametrize("shutdown", ["x86", "legacy"])
@pytest.mark.parametrize("guests", [1, 8])
def test_panic_with_guests(shutdown, guests):
    """Guests are ended, all CPUs write their caches back, and firmware is shut down for the kdump kernel."""
    _, commands, console, rmp = panic("guest", str(guests), shutdown=shutdown, files=hooked.files())
    told = [(c["cmd"], c["status"]) for c in commands if c["cmd"] != "SNP_PAGE_RECLAIM"]
    assert told == [
        *[("SNP_DECOMMISSION", 0)] * guests,
        ("SHUTDOWN", 0),
        ("SNP_SHUTDOWN_EX", 0xF),
        ("SNP_DF_FLUSH", 0),
        ("SNP_SHUTDOWN_EX", 0),
    ]
    assert len(re.findall(rf"ccp .*: {guests} SNP guest\(s\) ended for the panic\s*$", console, re.MULTILINE)) == 1
    if shutdown == "x86":
        assert rmp["cpus_with_snp_en"] == []
        assert console.count("SNP is shut down for the panic, SNP_EN is clear: a kdump kernel can use all memory") == 1
    else:
        assert console.count("SNP is shut down for the panic, but SNP_EN stays set") == 1


def test_panic_with_a_guest_and_the_stock_module():
    """It is said what cannot be done, and why."""
    _, _, console, _ = panic("guest", "1")
    assert console.count("1 SNP guest(s) cannot be ended for the panic: the other CPUs would have to") == 1
