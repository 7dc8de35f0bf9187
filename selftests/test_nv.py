# SPDX-License-Identifier: GPL-2.0
"""Firmware's persistent state in a file: INIT_EX, parameter init_ex_path."""

import base64
import contextlib
import functools
import gzip
import itertools
import lzma
import re
import tempfile
from pathlib import Path

import pytest
from conftest import boot, module, values
from vmlib import kernels

LEN = 32 * 1024
DISK = ("drivers/block/loop", "fs/ext4/ext4", "fs/jbd2/jbd2", "fs/mbcache", "lib/crc/crc16")


def pairs(result, key: str) -> dict[str, str]:
    """What the scenario said of `key`, by its first word."""
    return dict(value.split(" ", 1) for value in values(result, key))


def starts(result) -> list[tuple[str, int]]:
    return [(entry["cmd"], entry["status"]) for entry in result.commands() if entry["cmd"] in ("INIT", "INIT_EX")]


def test_keys_outlive_the_driver():
    """What the file has is what firmware had last, after each command that changes it, and no write is made in vain."""
    result = boot("nv.sh", "life")
    assert result.status == 0, result.lines
    assert {name for name, _ in starts(result)} == {"INIT_EX"}
    # The damaged file is found once, and healed.
    assert [status for _, status in starts(result)].count(0x18) == 1
    assert set(pairs(result, "offers").values()) == {"Y Y"}
    files = {name: text.split() for name, text in pairs(result, "file").items()}
    assert all(text[:2] == [str(LEN), "600"] for text in files.values()), files
    # Nothing is left beside it.
    assert all(text[4:] == ["state"] for text in files.values()), files
    digests = {name: text[3] for name, text in files.items()}
    assert digests["first"] == digests["unloaded"] == digests["second"]
    assert digests["pdh-gen"] == digests["alone"]
    changes = [digests[name] for name in ("first", "pek-gen", "pdh-gen", "pek-gen-alone", "damaged", "reset")]
    assert all(before != after for before, after in itertools.pairwise(changes)), changes
    replaced = {name for name, text in files.items() if text[2] == "new"}
    assert replaced == {"first", "pek-gen", "pdh-gen", "pek-gen-alone", "damaged", "reset"}
    assert set(values(result, "command")[:3]) == {"pek-gen 0 error=0", "pdh-gen 0 error=0"}

    pdh = pairs(result, "pdh")
    assert all(text.startswith("0 error=0 ") and len(text) > 60 for text in pdh.values()), pdh
    assert pdh["first"] == pdh["second"] and pdh["third"] == pdh["fourth"] and pdh["reset"] == pdh["after-reset"]
    assert len({pdh[name] for name in ("first", "third", "fifth")}) == 3
    # Damage and a factory reset lead to the keys that this chip makes first.
    assert pdh["damaged"] == pdh["after-reset"] == pdh["first"]
    assert result.console.count("/nv/state does not exist and will be made: SEV gets new keys") == 1
    assert result.console.count("INIT_EX: the persistent SEV state failed its integrity check") == 1


def test_paths_that_name_no_such_file():
    """SEV stays off and says why, nothing is written there, and SNP works."""
    result = boot("nv.sh", "bad")
    assert result.status == 0, result.lines
    assert pairs(result, "offers") == dict.fromkeys(["fifo", "dir", "short", "long", "absent/state", "empty"], "Y Y")
    assert values(result, "command") == [
        "pek-gen EINVAL error=0xffffffff",
        "pek-gen EINVAL error=0xffffffff",
        "pek-gen EINVAL error=0xffffffff",
        "pek-gen EFBIG error=0xffffffff",
        "pek-gen 0 error=0",
        "pek-gen 0 error=0",
    ]
    files = {name: text.split()[0] for name, text in pairs(result, "file").items()}
    assert (files["short"], files["long"], files["absent/state"]) == ("32767", "32769", "none")
    # An empty file is filled.
    assert files["empty"] == str(LEN)
    for line, count in {
        r"SEV stays off: /nv/fifo of init_ex_path cannot be read \(EINVAL\): it has to be a regular file": 2,
        r"SEV stays off: /nv/dir of init_ex_path cannot be read \(EINVAL\)": 2,
        r"SEV stays off: init_ex_path names /nv/short, which has 32767 bytes, and firmware's state has 32768;": 2,
        r"SEV stays off: /nv/long of init_ex_path cannot be read \(EFBIG\)": 2,
        r"/nv/absent/state of init_ex_path cannot be written \(ENOENT\): SEV's newest keys are lost with the power": 3,
    }.items():
        assert len(re.findall(line, result.console)) == count, line


@contextlib.contextmanager
def disk_modules():
    """Those of the kernel for a disk: place in the machine -> file."""
    kernel, files = kernels.get("stock"), {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in (f"kernel/{name}.ko" for name in DISK):
            packed = kernel.modules / f"{name}.xz"
            unpacked = Path(scratch) / packed.stem
            unpacked.write_bytes(lzma.decompress(packed.read_bytes()))
            files[f"usr/lib/modules/{kernel.release}/{name}"] = unpacked
        yield files


@functools.cache
def stored():
    """The one machine with several file systems; one of them is on a disk."""
    with disk_modules() as files:
        result = boot("nv.sh", "store", files=files)
    assert result.status == 0, result.lines
    return result


def test_a_write_that_fails_is_no_failure_of_the_command():
    """Firmware has carried it out. The file gets what it lacks when it can be written again; a link to it stays one."""
    result = stored()
    files = {name: text.split() for name, text in pairs(result, "file").items()}
    assert values(result, "link") == [f"/nv/real/target {LEN} 600"]
    assert set(values(result, "command")) == {"pek-gen 0 error=0"}
    assert files["read-only"][3] == files["link"][3] != files["made-good"][3]
    pdh = pairs(result, "pdh")
    assert pdh["again"] == pdh["read-only"]
    assert files["made-good"][3] != files["newer"][3] == files["newest"][3]
    assert len(re.findall(r"/nv/link of init_ex_path cannot be written \(EROFS\)", result.console)) == 2
    # The command's own attempt, and the last one.
    assert len(re.findall(r"/nv/point of init_ex_path cannot be written \(EBUSY\)", result.console)) == 2


def test_a_loss_of_power():
    """When a command ends, the disk has its keys, under the name of the file alone. Until the disk has all of the new
    file that name is the old one's, so at every moment it has one of both."""
    disk = {name: text.split() for name, text in pairs(stored(), "disk").items()}
    names = {name: text[2:] for name, text in disk.items()}
    assert names == dict.fromkeys(("made", "changed"), ["lost+found", "state"])
    for name, (seen, on_disk, *_) in disk.items():
        assert seen == on_disk, name
    assert disk["made"][0] != disk["changed"][0]
    for name, text in pairs(stored(), "steps").items():
        *steps, file, directory = text.split()
        assert steps == [file, "renamed", directory], name


# Where the machine loses power while the file is replaced, and which file it has then.
STEPS = {
    "function=kernel_write": "old",
    "function=vfs_fsync": "old",
    "function=vfs_rename": "old",
    "function=vfs_fsync,nth=2": "either",
    "function=vfs_fsync,nth=2,returned=1": "new",
}


def test_a_machine_that_loses_power_at_a_step(long):
    """It comes back with the old keys or the new ones, and firmware takes them."""
    if not long:
        pytest.skip("only in test-long")
    with disk_modules() as files:
        files |= {"power_loss.ko": module("power_loss")}
        result = boot("nv.sh", "killed", *STEPS, files=files, disk=64, limit=400)
    assert result.status == 0, result.lines
    assert starts(result) == [("INIT_EX", 0)] * (1 + len(STEPS))
    assert pairs(result, "offers") == {str(n): "Y Y" for n in range(1 + len(STEPS))}
    found = {name: text.split() for name, text in pairs(result, "file").items()}
    pdh = pairs(result, "pdh")
    for n, (step, kept) in enumerate(STEPS.items(), 1):
        before, (size, mode, _, after, *names) = found[f"before-{n}"][3], found[f"left-{n}"]
        assert (size, mode) == (str(LEN), "600") and {*names} - {".state.new"} == {"lost+found", "state", "step"}, step
        assert kept in ("either", "old" if before == after else "new"), step
        assert (pdh[str(n)] == pdh[str(n - 1)]) == (before == after), step


def test_both_drivers_read_each_others_file(tmp_path):
    """A host that changes the driver keeps its keys, in both directions."""
    given, seen = {}, []
    for driver in ("ours", "intree", "ours"):
        result = boot("nv.sh", "keep", driver=driver, files=given)
        assert result.status == 0, result.lines
        [contents] = values(result, "contents")
        state = tmp_path / f"state{len(seen)}"
        state.write_bytes(gzip.decompress(base64.b64decode(contents)))
        assert state.stat().st_size == LEN
        given = {"nv/given": state}
        seen.append((pairs(result, "pdh")["keep"], state.read_bytes()))
        assert seen[-1][0].startswith("0 error=0 ")
    assert seen[0] == seen[1] == seen[2]
