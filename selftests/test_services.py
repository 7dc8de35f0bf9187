# SPDX-License-Identifier: GPL-2.0
"""What the PSP does beside SEV: SFS, the TEE, platform access and its doorbell. The in-tree driver and ours do the same
to other people's eyes: to user space, to Debian's amdtee, and to a module that calls the exports."""

import contextlib
import functools
import hashlib
import struct
import tempfile
from pathlib import Path

import pytest
from conftest import boot, module, values

# What the feature register has: SEV, and the TEE and SFS besides.
SEV, TEE, SFS = 1, 1 << 1, 1 << 3
GENOA, TURIN = "--device=14CA", "--device=17D8"


def package(part: int, version: int, contents: bytes) -> bytes:
    """What the model's vendor packs: firmware of a part, or an application."""
    head = b"ccprspkg" + struct.pack("<3I12x", part, version, len(contents))
    return head + hashlib.sha256(head + contents).digest() + contents


def spoiled(contents: bytes) -> bytes:
    return contents[:-1] + bytes([contents[-1] ^ 1])


# Behind the page of the request.
ROOM = (2 << 20) - 4096
HEAD = len(package(0, 0, b""))
PACKAGES = {
    "newer": package(1, 0x101, b"contents"),
    "older": package(1, 0x100, b"contents"),
    "newest": package(1, 0x102, b"contents"),
    "spoiled": spoiled(package(1, 0x103, b"contents")),
    "text": b"This is no package.\n",
    "other-part": package(9, 0x103, b"contents"),
    "longest": package(2, 0x201, (bytes(range(251)) * (ROOM // 250))[: ROOM - HEAD]),
    "too-long": package(2, 0x202, bytes(ROOM - HEAD + 1)),
}
# UUIDs of one digit.
APPLICATIONS = {1: package(7, 0x33, b"code" * 2000), 2: spoiled(package(7, 0x34, b"code")), 3: b"no application"}


def uuid(digit: int) -> str:
    return "-".join(f"{digit:x}" * length for length in (8, 4, 4, 16))


@contextlib.contextmanager
def firmware():
    """Packages and applications, by their places in the machine."""
    with tempfile.TemporaryDirectory() as scratch:
        files = {f"amd/{name}": contents for name, contents in PACKAGES.items()}
        files |= {f"amdtee/{uuid(digit)}.bin": contents for digit, contents in APPLICATIONS.items()}
        inside = {}
        for name, contents in files.items():
            file = Path(scratch) / name.replace("/", "-")
            file.write_bytes(contents)
            inside[f"usr/lib/firmware/{name}"] = file
        yield inside


@functools.cache
def run(
    driver: str,
    psp: tuple[str, ...],
    *parts: str,
    others: tuple[tuple[str, ...], ...] = (),
    expects: tuple[str, ...] = (),
    allows: tuple[str, ...] = (),
):
    with firmware() as files:
        files |= {"services_test.ko": module("services_test")}
        result = boot(
            "services.sh", *parts, driver=driver, psp=list(psp), other_psps=list(map(list, others)), files=files,
            expects=expects, allows=allows, limit=240,
        )  # fmt: skip
    assert result.status == 0, result.lines
    return result


def genoa(driver: str):
    # The in-tree driver keeps SFS's memory from the allocator when SNP is shut down, and goes on using it.
    allows = ("Leaking PFN range",) if driver == "intree" else ()
    return run(driver, (GENOA, f"--capability={SEV | TEE | SFS | 0x80:x}"), "sfs", "tee", allows=allows)


def rows(result, key: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in values(result, key))


def exports_of(result) -> dict[str, str]:
    """None of it an answer that was there before."""
    said = rows(result, "export")
    assert len(said) == len(values(result, "export")), values(result, "export")
    return said


NOTHING = "0" * 40
SILENT = "0xdead 0xbeef " + NOTHING


def versions(first: int, second: int) -> str:
    return f"0 0 0 {struct.pack('<5I', 1, first, 2, second, 0xC7C7C7C7).hex()}"


# Call -> errno, status, extended status, the first bytes of the answer: what both drivers give.
SFS_CALLS = {
    "versions": versions(0x100, 0x200),
    "versions-read-only": versions(0x100, 0x200),
    "versions-null": f"EFAULT {SILENT}",
    "versions-cut": f"EFAULT {SILENT}",
    "versions-kernel": f"EFAULT {SILENT}",
    "update-null": f"EFAULT {SILENT}",
    # The name has no end.
    "update-cut": f"EINVAL {SILENT}",
    "unknown-number": f"EINVAL {SILENT}",
    "wrong-size": f"EINVAL {SILENT}",
    "update": f"EINVAL {SILENT}",
    "update-newer": f"0 0 0 {NOTHING}",
    "update-older": f"EIO 0x1 0x7 {NOTHING}",
    "update-newest": f"0 0 0 {NOTHING}",
    "update-spoiled": f"EIO 0x3072 0x5 {NOTHING}",
    "update-text": f"EIO 0x6 0x4 {NOTHING}",
    "update-other-part": f"EIO 0x6 0x6 {NOTHING}",
    "update-longest": f"0 0 0 {NOTHING}",
    "update-too-long": f"E2BIG {SILENT}",
    "update-missing": f"ENOENT {SILENT}",
    "update-../amd/newest": f"ENOENT {SILENT}",
    "update-empty": f"ENOENT {SILENT}",
    "versions-then": versions(0x102, 0x201),
    "versions-late": versions(0x102, 0x201),
    "update-silent": f"ETIMEDOUT {SILENT}",
    "versions-busy": f"EBUSY {SILENT}",
    "versions-again": versions(0x102, 0x201),
    "versions-up": versions(0x102, 0x201),
    "update-up": f"0 0 0 {NOTHING}",
    "versions-after-up": versions(0x102, 0x201),
    "versions-up-again": versions(0x102, 0x201),
    "update-up-again": f"0 0 0 {NOTHING}",
    "versions-after-up-again": versions(0x102, 0x201),
}


def test_sfs():
    ours = rows(genoa("ours"), "sfs")
    assert {call: ours[call] for call in SFS_CALLS} == SFS_CALLS
    for status in ("0x1", "0x6", "0x3072", "0xffff"):
        assert ours[f"update-{status}"].startswith(f"EIO {status} ")
        assert ours[f"versions-{status}"].startswith(f"EIO {status} ")


def test_sfs_as_in_tree():
    """But for memory that the in-tree driver does not name when SNP is started for the second time."""
    intree, ours = (rows(genoa(driver), "sfs") for driver in ("intree", "ours"))
    again = {call: intree.pop(call) for call in ("versions-up-again", "update-up-again")}
    assert all(answer.startswith("EIO 0x1 0x8 ") for answer in again.values())
    assert intree == {call: answer for call, answer in ours.items() if call not in again}


def test_nodes():
    for driver in ("intree", "ours"):
        result = genoa(driver)
        assert values(result, "node") == ["600 character special file"] * 2
        assert values(result, "open") == values(result, "loaded")
        assert values(result, "gone") == [""]
    assert values(genoa("ours"), "lost") == ["0"]


def test_sfs_needs_its_bit():
    assert all(line.split(" ")[1:] == [""] for line in values(broken(), "sfs-node"))


def test_tee_as_in_tree():
    """Debian's amdtee, which is not ours, and its clients."""
    intree, ours = ([values(genoa(driver), key) for key in ("tee", "export")] for driver in ("intree", "ours"))
    assert ours == intree


def test_tee():
    clients, exports = rows(genoa("ours"), "tee"), exports_of(genoa("ours"))
    assert clients["sum-1"] == "0 0 4 42 0x33" and clients["reverse-1"] == "0 0 4 desserts"
    assert clients["function-1"] == "0 0xffff000a 4"
    assert (clients["close-1"], clients["closed-1"]) == ("0", "EINVAL")
    # A spoiled application, none, and no file. The last one of the first is that of the fault.
    assert clients["open-2"] == "0 0xffff000f 3" and clients["open-3"] == "0 0xffff0005 3"
    assert clients["open-4"].startswith("ENOMEM ")
    assert clients["open-1"].startswith("0 0x16 ")
    assert exports["tee-status"] == "0" and exports["platform-access-status"] == "-19"
    assert exports["tee-unmap"] == "0 0xffff0008" and exports["tee-longest"] == "0 0xffff000a"
    for bad in ("null-buffer", "empty", "too-long"):
        assert exports[f"tee-{bad}"] == "-22 0x5555"
    assert exports["crowd"] == "40" and "crowd-member" not in exports
    asked = [entry["text"] for entry in genoa("ours").trace if entry.get("event") == "service"]
    assert asked[0] == "TEE_RING_INIT" and asked[-1] == "TEE_RING_DESTROY"


def access(driver: str):
    """Milan."""
    lost = (" 1 lost so far",) if driver == "ours" else ()
    return run(driver, (), "access", expects=lost)


def test_platform_access_as_in_tree():
    intree, ours = (values(access(driver), "export") for driver in ("intree", "ours"))
    assert ours == intree


def test_platform_access():
    exports = exports_of(access("ours"))
    assert exports["tee-status"] == "-19" and exports["platform-access-status"] == "0"
    good = exports["message-good"].split()
    assert good[:3] == ["0", "0xc", "0x0"] and int(good[3], 0) and good[4] == "0x12345678"
    assert exports["message-wrong-size"].split()[:3] == ["-5", "0x10", "0x6"]
    assert exports["message-unknown"].split()[:3] == ["-5", "0xc", "0x6"]
    assert exports["HSTI_QUERY:status=2-message-good"].split()[:3] == ["-5", "0xc", "0x2"]
    assert exports["HSTI_QUERY:late=300-message-good"] == exports["message-good"]
    assert exports["HSTI_QUERY:silent-message-good"].split()[0] == "-110"
    assert exports["HSTI_QUERY:silent-message-wrong-size"].split()[0] == "-16"
    assert exports["cleared-message-good"] == exports["message-good"]
    assert exports["doorbell"] == "0 0x5555" and exports["DOORBELL:status=5-doorbell"] == "-5 0x5"
    assert exports["DOORBELL:silent-doorbell"] == "-110 0x5555"
    assert exports["DOORBELL:silent-doorbell-without-result"] == "-16"
    assert exports["cleared-doorbell"] == "0 0x5555"


def test_the_master_serves():
    """And nobody in its place."""
    result = run("ours", (), "two", others=((),))
    exports = exports_of(result)
    for when in ("both", "without-61", "again"):
        assert exports[f"{when}-message-good"].split()[0] == "0", when
    assert exports["without-61-platform-access-status"] == "0"
    assert exports["without-41-platform-access-status"] == "-19"
    assert exports["without-41-message-good"].split()[0] == "-19"
    traces = (result.trace, *result.other_traces)
    served = [[entry["text"] for entry in trace if entry.get("event") == "service"] for trace in traces]
    # Three times one that is good and one that has the wrong size.
    assert served[0].count("HSTI_QUERY") == 6 and served[1:] == [[]]


def broken():
    """A ring whose owner has not been told is lost: 8 pages each, and one for the command that names it."""
    lost = (r"\b8 page\(s\)", r"\b1 page\(s\)")
    return run("ours", (TURIN, f"--capability={SEV | TEE | 0x80:x}"), "broken", expects=lost)


def test_tee_trouble_is_its_own():
    result = broken()
    exports = exports_of(result)
    assert exports["left-tee-unmap"] == "0 0xffff0008"
    for fault in ("TEE_RING_INIT:status=6", "TEE_RING_INIT:silent"):
        assert exports[f"{fault}-tee-status"] == "-19"
    assert values(result, "amdtee") == ["No such device"] * 2
    assert exports["silent-tee-unmap"].startswith("-110") and exports["dead-tee-unmap"].startswith("-16")
    assert exports["again-tee-unmap"] == "0 0xffff0008"
    assert [line.split()[2] for line in values(result, "sev")] == ["0"] * 4
    for said, count in (
        ("the TEE does not take a ring for commands (EIO): amdtee does not load; SEV does not need it", 1),
        ("the TEE does not take a ring for commands (ETIMEDOUT): amdtee does not load; SEV does not need it", 1),
        ("the TEE did not answer command 0x7 within 10 s: it is not used any more until the PSP is bound again", 1),
    ):
        assert result.console.count(said) == count, said


def test_unbound_while_at_work():
    """Who unbinds the PSP waits for SFS; who waits for the TEE does not go on waiting."""
    result = run("ours", (GENOA, f"--capability={SEV | TEE | SFS | 0x80:x}"), "unbind")
    calls, exports = rows(result, "sfs"), exports_of(result)
    assert calls["update-unbound"] == f"0 0 0 {NOTHING}" and calls["versions-bound"] == versions(0x102, 0x200)
    waited = {who: int(tenths) for who, tenths in rows(result, "waited").items()}
    # A command of the TEE may take 10 s.
    assert 10 < waited["sfs"] < 100 and waited["tee"] < 30, waited
    assert exports["unbound-tee-unmap"].startswith("-19 ") and exports["bound-tee-unmap"] == "0 0xffff0008"
    assert values(result, "lost") == ["0"]


def test_sfs_where_firmware_cannot_clear_snp_en(long):
    """Its memory stays HV-Fixed, and is in the list of the next start all the same."""
    if not long:
        pytest.skip("only in test-long")
    psp = (GENOA, f"--capability={SEV | SFS | 0x80:x}", "--shutdown=legacy")
    result = run("ours", psp, "sfs", allows=("^RMP: ", r"are lost until the machine restarts"))
    calls = rows(result, "sfs")
    assert {call: calls[call] for call in SFS_CALLS} == SFS_CALLS


def hibernation(driver: str, *faults: str, **more):
    """The services that were asked of the PSP, and what the TEE's application answered."""
    with firmware() as files:
        psp = [GENOA, f"--capability={SEV | TEE | 0x80:x}", *faults]
        result = boot("sleep.sh", "disk", "before", driver=driver, psp=psp, files=files, disk=1024, limit=300, **more)
    started = {"ours": "N", "intree": "Y"}
    assert result.status == 0 and values(result, "snp") == [started[driver]], result.lines
    return result, [entry["text"] for entry in result.trace if entry.get("event") == "service"], rows(result, "tee")


@pytest.mark.parametrize("driver", ["ours", "intree"])
def test_the_tee_after_hibernation(driver, long):
    """It has started anew, and the kernel that has read the image has given it a ring of its own."""
    if driver == "intree" and not long:
        pytest.skip("only in test-long")
    _, asked, clients = hibernation(driver)
    for when in ("first", "before"):
        assert clients[f"{when}-sum-1"] == "0 0 4 42 0x33" and clients[f"{when}-reverse-1"] == "0 0 4 desserts", clients
    assert asked.count("TEE_RING_INIT") == 4, asked


def test_a_tee_that_takes_no_ring_after_hibernation(long):
    """SEV goes on."""
    if not long:
        pytest.skip("only in test-long")
    result, asked, clients = hibernation("ours", "--fault=TEE_RING_INIT@3:status=6", expects=(r"\b8 page\(s\)",))
    assert clients["first-sum-1"] == "0 0 4 42 0x33" and "before-sum-1" not in clients
    assert result.console.count("the TEE does not take a ring after hibernation (EIO)") == 1
    assert asked.count("TEE_RING_INIT") == 3, asked
