# SPDX-License-Identifier: GPL-2.0
"""scripts/snp-host: a command on an SNP host."""

import argparse
import contextlib
import gzip
import json
import os
import pty
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import paths, script
from test_snp_qemu import abandoned, until
from test_trace_events import drawn
from vmlib import initramfs, programs

SNP_HOST = paths.TOP / "scripts/snp-host"


def snp_host(*words, limit: float = 400) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in (SNP_HOST, *words)], capture_output=True, text=True, timeout=limit, check=False
    )


def test_shell():
    """On a terminal: a shell in the machine, with its status."""
    ours, theirs = pty.openpty()
    command = ["timeout", "--foreground", "300", SNP_HOST, "shell"]
    shell = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # nobody has the other side any more
        while data := os.read(ours, 4096):
            said += data
            if said.endswith(b"# "):
                os.write(ours, b"modprobe kvm_amd; echo snp-$(cat /sys/module/kvm_amd/parameters/sev_snp); exit\n")
    os.close(ours)
    assert shell.wait(60) == 0 and b"snp-Y\r" in said, said


# Says something on port 80, to connections that nobody has any more as well, until somebody thanks.
ANSWER = "until echo called | busybox nc -l -p 80 | grep -q thanks; do :; done"


class Caller(threading.Thread):
    """Asks a port of this machine until somebody behind it says something. QEMU answers for a machine that does not."""

    def __init__(self):
        super().__init__(daemon=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.said = b""
        self.start()

    def run(self):
        while not self.said:
            time.sleep(0.5)
            try:
                with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                    self.said = connection.recv(100)
                    connection.sendall(b"thanks\n")
            except OSError:
                pass  # not yet


@pytest.fixture
def installed() -> Iterator[Path]:
    """A directory that a user without privileges sees, with what `make platform-install` has put there."""
    place = Path(tempfile.mkdtemp(prefix="installed-"))
    place.chmod(0o755)
    install = [paths.TOP / "scripts/platform-install"]
    subprocess.run([*install, place], check=True, capture_output=True)
    yield place
    (place / "bin/other").touch()
    subprocess.run([*install, "--remove", place], check=True)
    assert [file.name for file in (place / "bin").iterdir()] == ["other"] and not list((place / "lib").iterdir())
    assert subprocess.run([*install, "--remove", place], capture_output=True, check=False).returncode == 1
    shutil.rmtree(place)


def test_installed_for_a_user_with_uefi_and_16_gib(installed, tmp_path):
    """The in-tree driver initialises SNP on memory above 4 GiB. Neither virtme-ng nor OVMF knows where it is. The
    user has no privileges, no checkout and no set-up, only the kernel that is installed."""
    home, there, caller = installed / "home", "/opt/there", Caller()
    out = home / "out"
    home.mkdir()
    os.chown(home, 65534, 65534)
    shutil.copy(paths.SNPHOST, installed)
    (installed / "here").write_text("from outside\n")
    done = subprocess.run(
        [
            "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i", f"HOME={home}",
            f"PATH={installed}/bin:{os.environ['PATH']}", "snp-host",
            "run", "--memory", "16G", "--cpus", "4", "--qemu", f"-bios {paths.OVMF}", "--out", out,
            "--file", f"{installed / 'here'}:{there}", "--junit", home / "junit.xml",
            "--forward", f"{caller.port}:80", "--", "sh", "-c",
            f"id -u; cat {there}; {ANSWER}; {installed}/snphost ok; grep MemTotal /proc/meminfo; ls /sys/firmware/efi;"
            "echo bad >&2; exit 3",
        ],
        cwd=home, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 3, (done.stderr, (out / "console.log").read_text()[-2000:])
    assert done.stdout.startswith("0\nfrom outside\n") and "runtime" in done.stdout
    assert done.stdout.endswith("bad\n") and done.stderr == "" and caller.said == b"called\n"
    assert "FAIL" not in done.stdout and "- SNP initialized" in done.stdout, done.stdout
    assert int(re.search(r"MemTotal: +(\d+) kB", done.stdout)[1]) > 15 << 20
    result = json.loads((out / "result.json").read_text())
    trace = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    assert result["status"] == 3 and result["snp_initialised"] is True
    assert result["psp_commands"] == sum("cmd" in entry for entry in trace) > 0
    assert [entry["status"] for entry in trace if entry.get("cmd") == "SNP_INIT_EX"] == [0]
    console = (out / "console.log").read_text()
    assert "SEV-SNP API:" in console and "snp-qemu:" not in console, "reports of the CPU model"
    assert "RMP table physical range [0x000000047b600000 - 0x000000047fffffff]" in console
    assert "end of the summary" in (out / "cpu.log").read_text()
    failure = xml.parse(home / "junit.xml").find("testcase/failure")
    assert failure.get("message") == f"status 3, logs: {out}"
    # As a list, in its order.
    said = snp_host("trace", out).stdout.splitlines()
    told = [match[1] for match in map(re.compile(r" *[\d.]+ +\d+ us  (\S+) +\S+").match, said) if match]
    assert told == [entry["cmd"] for entry in trace if "cmd" in entry]
    changed = sum(int(n) for line in said for n in re.findall(r"(\d+) RMPUPDATE", line))
    assert changed == max(entry["rmpupdate"] for entry in trace if "cmd" in entry) > 500
    # And as a picture.
    assert snp_host("trace", "--html", tmp_path / "page.html", out).returncode == 0
    rows = drawn((tmp_path / "page.html").read_text())
    assert len(rows["commands"]) == len(told) and len(rows["events"]) == sum("event" in entry for entry in trace)
    assert [bar[2] for bar in rows["SNP"]] == [bar[2] for bar in rows["SEV"]] == ["up", "down"]


def guest(n: int, cmd: str, **facts) -> dict:
    return {"t_us": n * 1000, "took_us": 5, "n": n, "cmd": cmd, "status": 0, "status_name": "SUCCESS", **facts}


def test_lives_of_guests_in_a_trace(tmp_path):
    """The second one has the context page of the first, and never runs; what is refused changes nothing."""
    (tmp_path / "trace.jsonl").write_text(
        "".join(
            json.dumps(entry) + "\n"
            for entry in (
                guest(1, "SNP_GCTX_CREATE", gctx="0x1000", rmpupdate=4, psmash=0),
                guest(2, "SNP_LAUNCH_FINISH", gctx="0x1000", status=9, status_name="INVALID_GUEST"),
                guest(3, "SNP_LAUNCH_FINISH", gctx="0x1000", digest="ab", rmpupdate=4, psmash=1),
                guest(4, "SNP_GUEST_REQUEST", gctx="0x1000", message="</script>"),
                guest(5, "SNP_DECOMMISSION", gctx="0x1000"),
                guest(6, "SNP_GCTX_CREATE", gctx="0x1000"),
                guest(8, "SNP_DECOMMISSION", gctx="0x1000"),
                {"event": "mark", "t_us": 9000, "text": "end", "rmpupdate": 7, "psmash": 1},
            )
        )
    )
    assert snp_host("trace", "--html", tmp_path / "page.html", tmp_path).returncode == 0
    rows = drawn((tmp_path / "page.html").read_text())
    lives = {
        name: [(start, end, text) for start, end, text, *_ in bars]
        for name, bars in rows.items()
        if name.startswith("guest")
    }
    request = (0.004, 0.004005, "SNP_GUEST_REQUEST")
    assert lives == {
        "guest 1": [(0.001, 0.003, "launch"), (0.003, 0.005, "runs"), request],
        "guest 2": [(0.006, 0.008, "launch")],
    }
    assert [bar[3] for bar in rows["commands"]] == ["", "bad", "", "", "", "", ""]
    assert [(start, end, text) for start, end, text, *_ in rows["RMP"]] == [
        (0.0, 0.001, "4 RMPUPDATE"), (0.002, 0.003, "1 PSMASH"), (0.008, 0.009, "3 RMPUPDATE")
    ]  # fmt: skip


def test_a_reset_in_a_trace(tmp_path):
    """Ends what there was; the first one, of power-on, ends nothing."""
    reset = {"event": "reset", "t_us": 0}
    entries = [
        reset, guest(1, "SNP_INIT_EX"), guest(2, "INIT"), guest(3, "SNP_GCTX_CREATE", gctx="0x1000"),
        reset | {"t_us": 4000}, guest(6, "SNP_INIT_EX"), guest(7, "SNP_GCTX_CREATE", gctx="0x1000"),
        guest(8, "SNP_DECOMMISSION", gctx="0x1000"),
    ]  # fmt: skip
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert snp_host("trace", "--html", tmp_path / "page.html", tmp_path).returncode == 0
    rows = {
        name: [(start, end, text) for start, end, text, *_ in bars]
        for name, bars in drawn((tmp_path / "page.html").read_text()).items()
    }
    assert rows["SNP"] == [(0.001, 0.004, "up"), (0.004, 0.006, "down"), (0.006, 0.008005, "up")]
    assert rows["SEV"] == [(0.002, 0.004, "up"), (0.004, 0.008005, "down")]
    assert rows["guest 1"] == [(0.003, 0.004, "launch")] and rows["guest 2"] == [(0.007, 0.008, "launch")]


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("", "is empty"), ("{", "is no trace")])
def test_no_trace(tmp_path, text, why):
    if text is not None:
        (tmp_path / "trace.jsonl").write_text(text)
    done = snp_host("trace", tmp_path)
    assert (done.returncode, done.stdout) == (1, "") and why in done.stderr


def test_modules_that_a_root_directory_lacks(tmp_path):
    """Those of the kernel that is taken if none is named, or --modules'; of another kernel only the latter."""
    snp_host = script("snp-host")
    own, other = paths.KERNEL_MODULES, tmp_path / "7.9.1"
    (tmp_path / "full/lib/modules" / own.name).mkdir(parents=True)
    rows = [
        (None, None, None, []),
        (tmp_path, None, None, [own]),
        (tmp_path / "full", None, None, []),
        (tmp_path, "bzImage", None, []),
        (tmp_path, "bzImage", other, [other]),
        (tmp_path / "full", "bzImage", other, [other]),
        (tmp_path / "full", "bzImage", own, []),
    ]
    for root, kernel, modules, missing in rows:
        asked = argparse.Namespace(root=root, kernel=kernel, modules=modules)
        assert snp_host.missing_modules(asked) == missing, asked


def test_options_for_failures_are_taken():
    """All faults together, and each other set of options by itself: models and QEMU start with them."""
    said = snp_host("faults").stdout
    sets = [shlex.split(line) for line in re.findall(r"^    (--.*)$", said, re.M)]
    options = [[o for name, o in zip(words[::2], words[1::2], strict=True) if name == "--snp"] for words in sets]
    together = sorted({o for one in options for o in one if o.startswith("fault=")})
    others = {tuple(o for o in one if not o.startswith("fault=")) for one in options} - {()}
    assert len(sets) > 30 and len(together) > 15 and len(others) > 6
    for one in [together, *others]:
        done = subprocess.run(
            [paths.SNP_QEMU, *(f"--snp-{o}" for o in one), *"-m 1G -S -display none -monitor stdio".split()],
            input="quit\n", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (one, done.stderr)


def test_an_initramfs(tmp_path):
    """All that the machine has is an archive that knows nothing of it, and that is compressed."""
    archive = initramfs.guest(tmp_path / "plain", "#!/bin/false", {"etc/mark": b"of the archive"})
    (tmp_path / "initrd").write_bytes(gzip.compress(archive.read_bytes()) + b"\0")
    (tmp_path / "here").write_text("echo of the caller\n")
    (tmp_path / "here").chmod(0o755)
    out, caller = tmp_path / "out", Caller()
    done = snp_host(
        "run", "--initrd", tmp_path / "initrd", "--memory", "40G", "--out", out, "--forward", f"{caller.port}:80",
        "--snp", "rmp-at=low",
        "--file", f"{tmp_path / 'here'}:/there", "--", "sh", "-c",
        f"cat /etc/mark; echo; sh /there; {ANSWER}; cat /sys/module/kvm_amd/parameters/sev_snp; exit 9",
    )  # fmt: skip
    console = (out / "console.log").read_text(errors="replace")
    assert done.returncode == 9, (done.stderr, console[-2000:])
    assert done.stdout == "of the archive\nof the caller\nY\n" and caller.said == b"called\n"
    assert json.loads((out / "result.json").read_text())["snp_initialised"] is True
    assert "RMP table physical range [0x0000000075600000 - 0x000000007fffffff]" in console
    assert "Kernel panic" not in console and (out / "qemu.log").read_text().count("snp-qemu:") == 0


def test_segments_above_4_gib(tmp_path):
    """Our driver clears a segmented RMP at the end of RAM, and firmware takes it."""
    done = snp_host(
        "run", "--memory", "5G", "--snp", "profile=turin", "--snp", "cpu=rmp_segment_shift=32", "--driver", "ccp-rs",
        "--out", tmp_path, "--", "cat", "/sys/module/kvm_amd/parameters/sev_snp",
    )  # fmt: skip
    console = (tmp_path / "console.log").read_text()
    assert (done.returncode, done.stdout) == (0, "Y\n"), (done.stderr, console[-2000:])
    assert re.findall(r"RMP segment (\d) .* covering \[0x100000000 - 0x([0-9a-f]+)\]", console) == [("1", "1bfffffff")]
    assert "RMP cleared: 28 MiB" in console and "snp-qemu:" not in console


def test_64_cpus(long, tmp_path):
    """SNP is up on all of them, and the kernel has nothing to report."""
    if not long:
        pytest.skip("two minutes on two cores; 'make test-long' does it")
    [program] = [program for program in programs.build() if program.name == "rdmsr"]
    command = "/run/rdmsr 0xc0010010; dmesg | grep -e lockup -e 'cut here' -e 'rcu.*stall'"
    machine = ["--cpus", "64", "--memory", "4G", "--append", "watchdog_thresh=60", "--file", f"{program}:/run/rdmsr"]
    done = snp_host("run", *machine, "--out", tmp_path, "--", "sh", "-c", command)
    syscfg = dict(map(str.split, done.stdout.splitlines()))
    assert done.returncode == 1 and syscfg.keys() == set(map(str, range(64))), done.stdout
    assert {int(value, 16) >> 24 & 1 for value in syscfg.values()} == {1}, "SNP_EN"


def test_a_machine_that_takes_too_long(tmp_path):
    done = snp_host("run", "--timeout", 3, "--out", tmp_path, "--", "true")
    assert done.returncode == 124 and "no end within 3 s" in done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["snp_initialised"] is False
    ps = subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True)
    assert str(tmp_path) not in ps.stdout


def marked(mark: str) -> dict[int, str]:
    """Processes that have this in their environment: number -> program."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_text().split("\0")
                # A script's interpreter comes before it.
                found[int(entry.name)] = Path(words["python" in words[0]]).name
    return found


def kill(mark: str, victim: str) -> bool:
    """Whether there is such a process; it is killed."""
    pids = [pid for pid, program in marked(mark).items() if program == victim]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


@pytest.mark.parametrize("victim", ["snp-host", "vng", "virtme-run", "snp-qemu", "qemu-system-x86_64", "pspd"])
def test_killed_at_any_moment(victim, long, tmp_path):
    """Each of the processes, several machines at once: the others end, and nothing is left beyond the start of the next
    machine."""
    if not long and victim not in ("snp-host", "pspd"):
        pytest.skip("one after the other in make test-long")
    # Other tests have the directory for temporary files, too.
    moments, temporary = random.Random(victim), tmp_path / "temporary"
    temporary.mkdir()
    marks = [f"SNP_HOST_TEST={victim}-{n}-{os.getpid()}" for n in range(6 if long else 2)]
    while marks:
        batch, marks = marks[:3], marks[3:]
        running = []
        for mark in batch:
            name, _, value = mark.partition("=")
            running.append(subprocess.Popen(
                [SNP_HOST, "run", "--out", tmp_path / value, "--", "sleep", "600"],
                env=os.environ | {name: value, "TMPDIR": str(temporary)},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            ))  # fmt: skip
        for mark in batch:
            until(lambda mark=mark: victim in marked(mark).values(), lambda mark=mark: marked(mark), 60)
            time.sleep(moments.uniform(0, 5))
            # virtme-ng has asked for QEMU's version before.
            until(lambda mark=mark: kill(mark, victim), lambda mark=mark: marked(mark), 60)
        for mark, machine in zip(batch, running, strict=True):
            _, said = machine.communicate(timeout=60)
            assert machine.returncode not in (0, 124), (mark, said)
            until(lambda mark=mark: not marked(mark), lambda mark=mark: marked(mark))
    subprocess.run([paths.SNP_QEMU, "-m", "512M", "-device", "nonsense"], capture_output=True, check=False)
    until(lambda: not abandoned(), abandoned)
    assert not os.listdir(temporary) and not [*tmp_path.glob("*/tmp/*")]


@pytest.mark.parametrize("root", [(), ("--initrd", "/etc/hostname")], ids=["directory", "initramfs"])
def test_a_machine_that_does_not_start(root, tmp_path):
    """The trace of another run in the same directory does not count."""
    (tmp_path / "trace.jsonl").write_text("{}")
    done = snp_host("run", *root, "--snp", "profile=rome", "--out", tmp_path, "--", "true")
    assert done.returncode not in (0, 124) and "the machine did not start" in done.stderr
    assert "invalid choice: 'rome'" in done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["run"], "there is no command"),
        (["run", "--file", "/nothing:/x", "--", "true"], "--file /nothing:/x: there must be"),
        (["run", "--driver", "ccp-rs", "--kernel", "/k", "--", "true"], "is built for Debian's kernel"),
        (["run", "--driver", "ccp-rs", "--root", "/etc/passwd", "--", "true"], "is built for Debian's kernel"),
        (["run", "--initrd", "/etc/passwd", "--root", "/", "--", "true"], "--initrd needs no root directory"),
        (["run", "--forward", "80", "--", "true"], "--forward 80: there must be two numbers"),
        (["run", "--root", "/nothing", "--", "true"], "/nothing: there is no such"),
        ([], "required: action"),
    ],
)
def test_what_is_refused(words, why):
    done = snp_host(*words)
    assert done.returncode not in (0, 124) and why in done.stderr
