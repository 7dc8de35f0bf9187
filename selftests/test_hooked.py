# SPDX-License-Identifier: GPL-2.0
"""A kvm-amd with our hooks: guests bring the boot vCPU's VMSA, vCPUs come after the launch, memory
is in the driver's hands."""

import random
import re

import pytest
from conftest import Config, Machine, boot, first_launch, module, paths, values
from vmlib import health, hooked
from vmlib.machine import VmError


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


def asked(*words: str, kernel: str = "stock", files=None, **config):
    """Three guests that run in circles; firmware is asked about all of them, with a fault: the result, and what each
    guest's launcher said by case."""
    files = hooked.files(kernel) if files is None else files
    result = boot("hooked.sh", "asked", *words, guest=True, kernel=kernel, files=files, limit=300, **config)
    assert result.status == 0, result.lines
    cases = {}
    for line in result.lines:
        if line.startswith("@case "):
            said = cases.setdefault(line.removeprefix("@case "), {"1": [], "2": [], "3": []})
        elif line.startswith("@guest "):
            _, number, text = line.split(" ", 2)
            said[number].append(text)
    return result, cases


GOES_ON = {"running", "vcpu 0 terminated 0:0x1", "ran 0,1"}
REFUSED_GUEST = "SNP_GUEST_STATUS@2x1:status=0x10"


def ends(said: list[str]) -> bool:
    """Whether the guest has run, and KVM_RUN ended with EIO."""
    return "running" in said and "vcpu 0 failed 5" in said and "ran 0" in said and not GOES_ON <= set(said)


def test_guest_that_firmware_refuses_ends_alone():
    """Firmware is asked about each guest, and the one that it refuses cannot go on; the two others do."""
    healthy = "SNP_GUEST_STATUS@9:status=0x10"
    result, cases = asked(healthy, REFUSED_GUEST)
    assert all(GOES_ON <= set(said) for said in cases[healthy].values()), cases
    first, second, third = cases[REFUSED_GUEST].values()
    assert GOES_ON <= set(first) and ends(second) and GOES_ON <= set(third), cases
    commands = [c for c in result.commands() if c["cmd"] == "SNP_GUEST_STATUS"]
    assert [c["status"] for c in commands] == [0, 0, 0, 0, 0x10, 0]
    told = re.findall(r"ccp: firmware has told the status of (\d) SNP guest\(s\), and refused (\d)", result.console)
    assert told == [("3", "0"), ("2", "1"), ("0", "0")]
    assert result.console.count("firmware refuses the guest with ASID") == 1
    assert values(result, "refreshed") == ["", "", ""] and values(result, "lost") == ["0"]
    assert [line.split()[-1] for line in values(result, "left")] == ["0", "0"] and result.rmp["assigned"] == 0


def test_firmware_that_is_silent_ends_no_guest():
    """Then nothing is known of any guest."""
    silent = "SNP_GUEST_STATUS@2:silent"
    # Firmware keeps what it has, and KVM remarks that it cannot end guests.
    result, cases = asked(silent, expects=("snp_decommission_context",), allows=health.LEFT)
    assert all(GOES_ON <= set(said) for said in cases[silent].values()), cases
    assert values(result, "refreshed") == ["Connection timed out", ""]
    told = "not all SNP guests could be asked for their status (ETIMEDOUT): 1 were, and KVM has ended 0"
    assert result.console.count(told) == 1 and "firmware refuses the guest" not in result.console


def test_stock_module_cannot_be_asked():
    files = hooked.launcher_files()
    result, _ = asked(files=files)
    assert values(result, "refreshed") == ["Operation not supported"]


ALL = "0,0x80000000"
# From which step of the launcher to which what is refused -> pages that are lost.
HANDS = {
    # Making private at launch: the first page, and one in the middle. Those before it come back.
    f"page-0,end,no-rmpupdate,{ALL}": 0,
    f"page-5,end,no-rmpupdate,{ALL}": 0,
    # Making private when the guest runs: VMSAs of others.
    f"run,end,no-rmpupdate,{ALL}": 0,
    # What firmware has of a guest: a page that it launches, and the guest's context.
    "page-5,end,fault,SNP_LAUNCH_UPDATE@1:status=0x16,SNP_PAGE_RECLAIM@1:status=0x1a": 1,
    "end,gone,fault,SNP_PAGE_RECLAIM@1:status=0x1a": 1,
    # Making shared, when memory is freed: all that the guest has.
    f"page-5,gone,no-rmpupdate,{ALL}": None,
    f"end,gone,no-rmpupdate,{ALL}": None,
}


PAGE = paths.TOP / "Documentation/kvm-amd.md"


def row(name: str, module: str, kept: int | None, twice: int | None, end: str) -> str:
    """A line of the table in Documentation: pages that stay assigned and are not free, and those that are."""
    since, until, what = name.split(",", 2)
    what = "RMPUPDATE" if what.startswith("no-rmpupdate") else re.sub(r"fault,|@1|status=", "", what).replace(",", ", ")
    counts = ["not counted" if count is None else str(count) for count in (kept, twice)]
    return f"| {what} | {since} to {until} | {module} | {' | '.join(counts)} | {end} |"


def test_no_page_is_in_two_hands(note):
    """Whatever is refused at whichever step, no page is free that the RMP assigns, and what is lost is counted."""
    files = hooked.files() | {"hands.ko": module("hands")}
    result = boot(
        "hooked.sh", "hands", *HANDS, guest=True, files=files, limit=400, expects=("are lost until",),
        allows=(*health.LEFT, "Call Trace"),
    )  # fmt: skip
    assert result.status == 0, result.lines
    found = {
        key: [int(line.split()[-1]) for line in values(result, key)] for key in ("assigned", "lost-by-now", "left")
    }
    (held_before, free_before), *hands = [map(int, line.split()) for line in values(result, "hands")]
    before = 0
    for n, (name, lost) in enumerate(HANDS.items()):
        now = found["lost-by-now"][n]
        # What the guest has beside what is lost already.
        expected = found["assigned"][n] - before if lost is None else lost
        assert now - before == expected and (lost is not None or expected > 3), (name, now, before, found)
        assert found["left"][n] == now, (name, found)
        held, free = hands[n]
        assert free == free_before and held - held_before == now, (name, held, free)
        line = row(name, "hooked", now - before, free - free_before, "goes on")
        note(line)
        assert line in PAGE.read_text(), line
        before = now
    assert set(values(result, "used")) == {"0"}


def under_stock(name: str) -> str:
    """The same with Debian's own kvm-amd, on a machine of its own: the line of the table."""
    files = hooked.launcher_files()
    config = Config(guest=True, files=files | {"hands.ko": module("hands")}, append="oops=panic")
    lines = []
    with Machine(config, "hands-stock") as machine:
        try:
            machine.run(paths.VM_SCRIPTS / "hooked.sh", ["hands", name], 120, on_line=lines.append, judge=False)
        except VmError as error:
            print(error)
        console = machine.console()
    assert "@module kvm_amd kernel/arch/x86/kvm/kvm-amd.ko" in lines, lines
    counts = [[*map(int, line.split()[1:])] for line in lines if line.startswith("@hands ")]
    kept, twice = (now - before for before, now in zip(*counts)) if len(counts) == 2 else (None, None)
    # The last line of an end in good health is @exit's.
    panicked = re.search(r"Kernel panic - not syncing: .*", console)
    end = "panics" if panicked else "warns" if "WARNING: " in console else "goes on"
    assert panicked or lines[-1] == "@exit 0", lines
    return row(name, "stock", kept, twice, end)


@pytest.mark.parametrize("name", HANDS)
def test_hands_with_the_stock_module(name, long, note):
    """What is refused above costs the stock module pages that somebody else has, or the host."""
    if not long:
        pytest.skip("in make test-long")
    line = under_stock(name)
    note(line)
    assert line in PAGE.read_text(), line


# Orders while 2 MiB are made private, a page in the middle is made shared, and then all -> what is said of these steps
# and of freeing, and the pages that are lost.
SPLIT = "middle lost 0 assigned 511 level 1"
LARGE = {
    "-:-:-": (["private 0 assigned 512 level 2", SPLIT, "all lost 0 assigned 0", "freed references 0"], 0),
    "no-rmpupdate,PAGES,0x200000:-:-": (
        ["private -14 assigned 0 level 1", "middle lost 0 assigned 0 level 1", "all lost 0 assigned 0",
         "freed references 0"], 0
    ),
    # The page cannot be split, but all of it can be taken back. What is lost stays so.
    "-:no-psmash,PAGES,0x200000:-": (
        ["private 0 assigned 512 level 2", "middle lost 1 assigned 512 level 2", "all lost 0 assigned 0",
         "freed references 1"], 1
    ),
    "-:no-psmash,PAGES,0x200000:no-rmpupdate,PAGES,0x200000": (
        ["private 0 assigned 512 level 2", "middle lost 1 assigned 512 level 2", "all lost 512 assigned 512",
         "freed references 512"], 512
    ),
    "-:no-rmpupdate,PAGE,4096:-": (
        ["private 0 assigned 512 level 2", "middle lost 1 assigned 512 level 1", "all lost 1 assigned 1",
         "freed references 1"], 1
    ),
    "-:-:no-rmpupdate,PAGE,8192": (
        ["private 0 assigned 512 level 2", SPLIT, "all lost 1 assigned 1", "freed references 1"], 1
    ),
}  # fmt: skip


def test_large_pages_that_cannot_be_split():
    """A page of 2 MiB is made private, one in its middle made shared, and then all of it, while PSMASH or RMPUPDATE is
    refused."""
    result = boot(
        "large-pages.sh", *LARGE, files={"kvm-amd.ko": module("kvm-amd")}, expects=("are lost until",),
        allows=(*health.LEFT, "Call Trace"),
    )  # fmt: skip
    assert result.status == 0, result.lines
    said, lost = values(result, "large"), [0, *map(int, values(result, "lost"))]
    for n, (orders, (lines, count)) in enumerate(LARGE.items()):
        assert said[4 * n : 4 * n + 4] == lines, (orders, said)
        assert lost[n + 1] - lost[n] == count, (orders, lost)


def test_qemu_and_its_digests():
    """Nothing changes for a VMM that knows nothing of it: the digests are those that sev-snp-measure computes."""
    more = tuple((name, file) for name, file in hooked.files().items() if name.endswith(".ko"))
    result, launches = first_launch("ours", more=more)
    assert "@module kvm_amd updates/kvm-amd.ko" in result.lines
    assert result.status == 0 and len(launches) == 3 and all(item.equal for item in launches), result.lines


def test_a_launch_costs_no_more(note):
    """Than with the stock module, in one machine; `make bench T=launch` has the times."""
    files = hooked.launcher_files()
    result = boot("launch-cost.sh", "1", "2", guest=True, files=files | {"hooked/kvm-amd.ko": hooked.kvm_amd()})
    assert result.status == 0, result.lines
    cost = hooked.launches(result.trace)
    assert [len(launches) for launches in cost.values()] == [2, 2]
    for stock, ours in zip(cost["stock"], cost["hooked"]):
        note(f"a launch: {len(ours.commands)} commands, {ours.counts}; stock {len(stock.commands)}, {stock.counts}")
        assert ours.commands == stock.commands
        assert all(ours.counts[key] <= stock.counts[key] for key in stock.counts), (ours, stock)
        assert stock.counts["rmpupdate"] > 10


def test_qemu_with_room_for_more_vcpus():
    """QEMU launches a guest of one vCPU that may get three more, and OVMF in it comes to its shell."""
    ours = {name: file for name, file in hooked.files().items() if name.endswith(".ko")}
    for more in ({}, ours):
        files = {"guest/OVMF.fd": paths.OVMF} | more
        result = boot("guest.sh", "ovmf:1,maxcpus=4", guest=True, files=files, limit=240)
        assert result.status == 0, result.lines
        (booted,) = values(result, "booted")
        assert booted.split()[1] != "never", result.lines
        assert [c["status"] for c in result.commands() if c["cmd"] == "SNP_LAUNCH_FINISH"] == [0]
        updates = [c for c in result.commands() if c["cmd"] == "SNP_LAUNCH_UPDATE" and c["page_type"] == "VMSA"]
        assert len(updates) == 1


def test_it_does_not_load_with_the_intree_driver():
    """The symbols that it misses are named."""
    result = boot("load.sh", driver="intree", files=hooked.files())
    missing = set(re.findall(r"kvm_amd: Unknown symbol (snp_gmem_\w+)", result.console))
    assert {"snp_gmem_make_private", "snp_gmem_make_shared", "snp_gmem_launch"} <= missing, result.console[-2000:]
