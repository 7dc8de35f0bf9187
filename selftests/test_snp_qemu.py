# SPDX-License-Identifier: GPL-2.0
"""scripts/snp-qemu: the platform under other people's command lines."""

import contextlib
import fcntl
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import paths, script
from vmlib import commandline
from vmlib.commandline import MIB, Properties, Refused, machine, makes_no_machine, parse
from vmlib.platform import GIB

RAM = Path("/ram")
# virtme-ng's and libvirt's, shortened.
VIRTME = (
    "-machine accel=kvm:tcg -object memory-backend-memfd,id=mem,size=2G,share=on -machine memory-backend=mem -m 2G "
    "-machine q35 -smp 2 -kernel vmlinuz -append quiet"
)
LIBVIRT = (
    "-name guest=a,debug-threads=on -machine pc-q35-11.1,usb=off,memory-backend=pc.ram -accel tcg -cpu EPYC-Milan "
    '-m size=4194304k -object {"qom-type":"memory-backend-ram","id":"pc.ram","size":4294967296} -smp 2,sockets=2'
)


def words(line: str) -> list[str]:
    return machine(parse(line.split())).arguments(RAM, "EPYC-Milan")


def values(line: str, option: str) -> list[str]:
    rest = words(line)
    return [value for name, value in zip(rest, rest[1:]) if name == f"-{option}"]


@pytest.mark.parametrize(
    ("line", "memory", "machines", "backend"),
    [
        ("-m 512", 512 * MIB, ["q35", "memory-backend=snp-ram"], "snp-ram"),
        ("disk.img -m size=2G", 2 * GIB, ["q35", "memory-backend=snp-ram"], "snp-ram"),
        ("-m 1.5g -M q35,hpet=off", 1536 * MIB, ["q35", "hpet=off", "memory-backend=snp-ram"], "snp-ram"),
        (VIRTME, 2 * GIB, ["q35", "memory-backend=mem"], "mem"),
        (LIBVIRT, 4 * GIB, ["pc-q35-11.1", "usb=off,memory-backend=pc.ram"], "pc.ram"),
    ],
)
def test_memory_becomes_a_file_and_the_rest_stays(line, memory, machines, backend):
    rest = words(line)
    assert values(line, "machine") == machines and values(line, "accel") == ["tcg,thread=multi"]
    assert [json.loads(value) for value in values(line, "object")] == [
        {"qom-type": "memory-backend-file", "id": backend, "mem-path": "/ram", "size": memory, "share": True}
    ]
    ours = {"-machine", "-M", "-object", "-accel", "-enable-kvm", "-cpu"}
    before = [option.words() for option in parse(line.split()) if f"-{option.name}" not in ours]
    after = [option.words() for option in parse(rest) if f"-{option.name}" not in ours]
    assert before == after


def test_a_virtio_drive_is_a_device_on_the_first_bus():
    drives = "-drive if=virtio,file=a -drive file=b,,c,if=virtio,id=x -drive file=d,if=none,id=y -drive e"
    line = f"-m 1G {drives}"
    assert values(line, "drive") == [
        "if=none,file=a,id=snp-drive-2", "file=b,,c,if=none,id=x", "file=d,if=none,id=y", "e",
    ]  # fmt: skip
    assert values(line, "device") == [f"virtio-blk-pci,drive={name},bus=pcie.0" for name in ("snp-drive-2", "x")]


@pytest.mark.parametrize(
    ("line", "cpu"),
    [
        ("", "EPYC-Milan"),
        ("-cpu max,+x2apic", "EPYC-Milan,+x2apic"),
        ("-cpu EPYC-Turin-v2", "EPYC-Turin-v2"),
    ],
)
def test_the_cpu_is_one_of_amds(line, cpu):
    assert values(f"-m 1G {line}", "cpu") == [f"{cpu},{commandline.CPU_PROPERTIES}"]


@pytest.mark.parametrize(
    ("line", "generation", "threads"),
    [
        ("-smp 4", None, 1),
        ("-cpu EPYC-Rome -smp cpus=4,threads=1", None, 1),
        ("-cpu max -smp 4,cores=2,threads=2", None, 2),
        ("-cpu EPYC-Genoa-v1,+x2apic", "genoa", 1),
        ("-cpu EPYC-Turin", "turin", 1),
        ("-cpu EPYC-v4", None, 1),
    ],
)
def test_generation_and_threads_are_known(line, generation, threads):
    wanted = machine(parse(["-m", "1G", *line.split()]))
    assert (wanted.generation, wanted.threads) == (generation, threads)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-enable-kvm", "not kvm"),
        ("-accel kvm", "not kvm"),
        ("-machine q35,accel=kvm", "not kvm"),
        ("-machine pc", "machine type pc "),
        ("-M microvm", "machine type microvm "),
        ("-cpu host", "needs KVM"),
        ("-cpu Skylake-Server", "-cpu Skylake-Server lacks"),
        ("-cpu qemu64,+svm", "-cpu qemu64 lacks"),
        ("-m 256", "512 MiB of memory at least"),
        ("-m 1X", "1X is no size"),
        ("-m 1G,slots=1,maxmem=2G", "no maxmem="),
        ("-smp 65", "at most 64 CPUs"),
        ("-smp 2,maxcpus=65", "at most 64 CPUs"),
        ("-device intel-iommu", "intel-iommu: SEV-SNP needs"),
        ("-daemonize", "-daemonize is not possible"),
        ("-readconfig f", "-readconfig is not possible"),
        ("-mem-path f", "-mem-path is not possible"),
        ("-incoming defer", "-incoming is not possible"),
        ("-machine q35,confidential-guest-support=s", "cannot be such a guest"),
        ("-object memory-backend-ram,id=a,size=1G -object memory-backend-ram,id=b,size=1G", "more than one piece"),
        ("-numa node,memdev=a -numa node,memdev=b", "more than one piece"),
        ("-object {no", "is no JSON"),
        ("-m", "-m requires an argument"),
    ],
)
def test_what_cannot_be_served_is_refused(line, why):
    with pytest.raises(Refused, match=re.escape(why)) as refusal:
        machine(parse(["-m", "1G", *line.split()]))
    assert "\n" not in str(refusal.value)


def test_own_iommu_is_taken():
    assert not machine(parse(["-m", "1G"])).iommu
    assert machine(parse(["-m", "1G", "-device", "amd-iommu,dma-remap=on"])).iommu


def test_ram_below_4_gib_ends_where_qemu_has_it():
    def low(size: str) -> int:
        return machine(parse(["-m", size])).low

    assert low("2815M") == 2815 * MIB and low("2816M") == low("16G") == 2 * GIB


@pytest.mark.parametrize(
    ("memory", "high", "low"),
    [
        # 16 bytes for each page up to the end of RAM and 16 KiB, in 2 MiB.
        (GIB, (0x3FA00000, 0x40000000), (0x3FA00000, 0x40000000)),
        (2816 * MIB, (0x12EC00000, 0x130000000), (0x7EC00000, 0x80000000)),
        (16 * GIB, (0x47B600000, 0x480000000), (0x7B600000, 0x80000000)),
        (512 * GIB, (0x7FFF600000, 0x8080000000), None),
    ],
)
def test_the_rmp_is_at_the_end_of_ram(memory, high, low):
    place, below_4_gib = script("snp-qemu").rmp, machine(parse(["-m", f"{memory // MIB}M"])).low
    assert place(below_4_gib, memory, False) == range(*high)
    if low:
        assert place(below_4_gib, memory, True) == range(*low)
    else:
        with pytest.raises(Refused, match="524288 MiB of memory need an RMP that does not fit below 4 GiB"):
            place(below_4_gib, memory, True)


@pytest.mark.parametrize(
    "line", ["-version", "--help", "-machine help", "-cpu ?", "-device virtio-net,help", "-M none"]
)
def test_questions_are_qemus_own(line):
    assert makes_no_machine(parse(line.split()))
    assert not makes_no_machine(parse(["-append", "-version", "-name", "helper"]))


def test_our_own_options_may_stand_anywhere():
    line = "--snp-rmp report -m 1G --snp-psp --api=1.51.3 -append --snp-help --snp-rmp-at=low disk --snp-help"
    ours, qemus = commandline.split(parse(line.split()))
    assert ours == ["--snp-rmp=report", "--snp-psp=--api=1.51.3", "--snp-rmp-at=low", "--snp-help"]
    assert [option.words() for option in qemus] == [["-m", "1G"], ["-append", "--snp-help"], ["disk"]]


def test_properties_come_back_as_they_were():
    for text, whole in {"a,b=1,c=x,,y": "type=a,b=1,c=x,,y", "type=a,b=": "type=a,b=", '{"a": 1}': '{"a": 1}'}.items():
        assert str(Properties(text, "type")) == whole
    assert Properties("a,,b,c=1", "x") == {"x": "a,b", "c": "1"}


def test_qemu_agrees_on_which_options_take_no_argument(tmp_path):
    """If an option takes one, QEMU's -version behind it is that, and a bad device ends QEMU."""
    text = subprocess.run(["qemu-system-x86_64", "-help"], capture_output=True, text=True, check=True).stdout
    names = {
        name for line in re.findall(r"^--?\w.*", text, re.M) for name in re.findall(r"(?:^|or |/)--?([\w-]+)", line)
    }
    # Debian's QEMU lists Xen's options, and knows none of them.
    names = {name for name in names if not name.startswith("xen")}
    assert len(names) > 90

    def takes_none(name: str) -> bool:
        command = ["qemu-system-x86_64", "-machine", "none", "-display", "none", f"-{name}", "-version", "-device", "x"]
        # Some write a file of this name.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False
        )
        return "QEMU emulator version" in done.stdout or name in ("h", "help")

    assert {name for name in names if takes_none(name)} == commandline.FLAGS & names


def abandoned() -> set[str]:
    """Directories of machines that nobody has any more."""
    found = set()
    for path in Path("/dev/shm").glob("ccp-rs-*"):
        with contextlib.suppress(OSError):  # in use, or gone meanwhile
            lock = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.add(path.name)
            finally:
                os.close(lock)
    return found


def processes(of: Path) -> dict[int, str]:
    """Those that have this directory on their command line: number -> program."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_text().split("\0")
            if f"{of}/" in "\0".join(words[1:]):
                found[int(entry.name)] = Path(words[0]).name
    return found


def until(condition: Callable[[], bool], what: Callable[[], object], limit: float = 20) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("program", "number"), [("snp-qemu", signal.SIGKILL), ("snp-qemu", signal.SIGTERM), ("qemu", signal.SIGKILL)]
)
def test_killed_at_any_moment(program, number, long, tmp_path):
    """Several at once: no process stays, and no directory beyond the start of the next machine."""
    moments = random.Random(f"{program}{number}")
    words = "-m 512M -S -display none -serial none -monitor none".split()
    for batch in range(15 if long else 2):
        homes = [tmp_path / f"{batch}-{n}" for n in range(3)]
        running = [subprocess.Popen([paths.SNP_QEMU, f"--snp-logs={home}/", *words]) for home in homes]
        for home, machine in sorted(zip(homes, running, strict=True), key=lambda _: moments.random()):
            time.sleep(moments.uniform(0, 0.8))
            its = [pid for pid, name in processes(home).items() if name.startswith("qemu-system")]
            victim = its[0] if program == "qemu" and its else machine.pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, number)
        for machine in running:
            machine.wait(20)
        for home in homes:
            until(lambda home=home: not processes(home), lambda home=home: processes(home))
    subprocess.run([paths.SNP_QEMU, "-m", "512M", "-device", "nonsense"], capture_output=True, check=False)
    until(lambda: not abandoned(), abandoned)


def test_nothing_is_left(tmp_path):
    """Killed or refused: no process, no directory. And what QEMU was told."""
    refused = subprocess.run(
        [paths.SNP_QEMU, "-m", "1G", "-device", "nonsense"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1 and "nonsense" in refused.stderr
    bad = subprocess.run([paths.SNP_QEMU, "-m", "1G", "--snp-api", "x"], capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and "the PSP model did not start" in bad.stderr
    words = ["-m", "1G", "-nographic", "-S", "-serial", "none", "-monitor", "none", "-pidfile", tmp_path / "pid"]
    words += ["-qmp", f"unix:{tmp_path / 'qmp'},server=on,wait=off", "--snp-cpu", "rmp=report"]
    running = subprocess.Popen([paths.SNP_QEMU, *words])
    with socket.socket(socket.AF_UNIX) as connection:
        while connection.connect_ex(str(tmp_path / "qmp")):
            assert running.poll() is None
            time.sleep(0.1)
        # It greets when all is set up.
        assert b"QMP" in connection.recv(4096)
    qemu = int((tmp_path / "pid").read_text())
    told = Path(f"/proc/{qemu}/cmdline").read_text().split("\0")
    plugin = dict(word.split("=", 1) for word in told[told.index("-plugin") + 1].split(","))
    # 16 bytes for each page of 1 GiB and 16 KiB, in 2 MiB, at the end of RAM; what is given takes the default's place.
    assert (plugin["rmp_base"], plugin["rmp_end"]) == ("0x3fa00000", "0x3fffffff") and plugin["low"] == str(GIB)
    assert plugin["rmp"] == "report" and plugin["guest"] == "on" and "--snp-cpu" not in told
    running.terminate()
    assert running.wait(20) in (0, -signal.SIGTERM) and not Path(f"/proc/{qemu}").exists()
    until(lambda: not abandoned(), abandoned)
