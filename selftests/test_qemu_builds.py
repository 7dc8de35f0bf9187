# SPDX-License-Identifier: GPL-2.0
"""The CPU model in builds of QEMU that it does not know: it finds its way, or refuses with a sentence."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import boot, paths, values

QEMU = Path(shutil.which("qemu-system-x86_64"))
MIB = 1 << 20


def readelf(*options: str) -> str:
    return subprocess.run(["readelf", "-W", *options, QEMU], check=True, stdout=subprocess.PIPE, text=True).stdout


def offset(symbol: str) -> int:
    """Where a function lies in the file."""
    address = int(re.search(rf"([0-9a-f]+) +\d+ FUNC .* {symbol}$", readelf("--dyn-syms"), re.M)[1], 16)
    for start, virtual, size in re.findall(r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+)", readelf("--segments")):
        if int(virtual, 16) <= address < int(virtual, 16) + int(size, 16):
            return int(start, 16) + address - int(virtual, 16)
    raise AssertionError(f"{symbol} is in no segment")


def changed(code: bytearray, symbol: str, old: bytes, new: bytes) -> None:
    """Change the last of these bytes in a function's first 60."""
    at = offset(symbol)
    found = code.rfind(old, at, at + 60)
    if found < 0:
        pytest.skip(f"this build's compiler made something else of {symbol}")
    code[found : found + len(old)] = new


def identity() -> str:
    return re.search(r"Build ID: (\w+)", readelf("--notes"))[1]


def load(qemu: Path, scratch: Path) -> tuple[str, str]:
    """The first line of the CPU model's log, and what QEMU says when it ends by itself."""
    for name, size in (("ram", 64 * MIB), ("link", 65536)):
        with (scratch / name).open("wb") as file:
            file.truncate(size)
    log = scratch / "cpu.log"
    plugin = (
        f"file={paths.CPU_MODEL},ram={scratch}/ram,low={64 * MIB},link={scratch}/link,log={log},"
        f"rmp_base={32 * MIB:#x},rmp_end={33 * MIB - 1:#x}"
    )
    memory = f"memory-backend-file,id=ram,size=64M,mem-path={scratch}/ram,share=on"
    command = [qemu, "-S", "-accel", "tcg", "-machine", "q35,memory-backend=ram", "-object", memory, "-m", "64M"]
    command += ["-nodefaults", "-display", "none", "-plugin", plugin]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        end = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < end and not (log.exists() and log.read_text()):
            time.sleep(0.05)
        process.kill()
        said = process.stdout.read()
    return (log.read_text().partition("\n")[0] if log.exists() else ""), said


def build(scratch: Path, code: bytearray) -> Path:
    qemu = scratch / "qemu-system-x86_64"
    qemu.write_bytes(code)
    os.chmod(qemu, 0o755)
    return qemu


def test_the_build_that_is_installed(tmp_path):
    log, said = load(QEMU, tmp_path)
    assert f"build {identity()}, " in log, (log, said)


def test_another_build_of_the_series_is_taken(tmp_path):
    code = bytearray(QEMU.read_bytes())
    code[code.index(bytes.fromhex(identity()))] ^= 0xFF
    log, said = load(build(tmp_path, code), tmp_path)
    assert "not one that was tried; its functions show where things are" in log, (log, said)


CRASH = "this build of QEMU is not understood: one of its functions crashed when it was tried out"
# A function, what is changed in it, and what is said of that.
BROKEN = {
    "it crashes": ("helper_stgi", "f30f1efa", "cccccccc", CRASH),
    "it sets a flag in another word": ("helper_stgi", "898734010000", "898738010000", CRASH),
    "it contradicts another one": (
        "helper_fldcw",
        "6689b7e6020000",
        "6689b7ea020000",
        "this build of QEMU is not understood: helper_fninit does not agree with helper_fldcw",
    ),
    "it reads another field than is known": (
        "helper_rdpkru",
        "8b87202f0000",
        "8b87242f0000",
        "is known to have Pkru at 0x2f20, and its functions show 0x2f24",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_build_that_is_not_understood_is_refused(what, tmp_path):
    function, old, new, sentence = BROKEN[what]
    code = bytearray(QEMU.read_bytes())
    changed(code, function, bytes.fromhex(old), bytes.fromhex(new))
    log, said = load(build(tmp_path, code), tmp_path)
    assert sentence in said and not log, (log, said)


@pytest.mark.parametrize("suite", ["forky", "sid"])
def test_the_builds_of_other_suites(suite, long, monkeypatch, note):
    """Linux has SNP in the QEMU that another suite of Debian's has, and OVMF as an SNP guest comes to its shell."""
    if not long:
        pytest.skip("in make test-long")
    subprocess.run([paths.TOP / "scripts/other-qemu", suite], check=True)
    monkeypatch.setenv("PATH", f"{paths.CACHE / f'qemu-{suite}' / 'bin'}:{os.environ['PATH']}")
    version = subprocess.run(["qemu-system-x86_64", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    if "version 11.1." not in version:
        pytest.skip(f"{suite} has another series: {version}")
    files = {"guest/OVMF.fd": paths.OVMF}
    result = boot("guest.sh", "ovmf:1", driver="intree", guest=True, files=files, limit=300)
    assert result.status == 0 and result.rmp["assigned"] == 0, result.lines
    assert "AMD-Vi: IOMMU SNP support enabled" in result.console and "SEV-SNP API:" in result.console
    (booted,) = values(result, "booted")
    assert booted.split()[2:] == ["host-qmp-quit"] and booted.split()[1] != "never", result.lines
    (said,) = [line for line in (result.run / "cpu.log").read_text().splitlines() if "build " in line]
    assert identity() not in said
    note(f"{suite}: {version.splitlines()[0]}; {said}; boot and guest took {result.seconds:.0f} s")
