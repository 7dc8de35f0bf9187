# SPDX-License-Identifier: GPL-2.0
"""A kernel in virtme-ng, as those who develop one run theirs: its root directory is the one that this runs in, with
memory on top of it."""

import dataclasses
import os
import select
import signal
import subprocess
import time
from pathlib import Path

from . import kernels

# Root's options as virtme-ng gives them, and a cache: without one each program reads its libraries anew.
OPTIONS = "version=9p2000.L,trans=virtio,access=any"
CACHED = f"{OPTIONS},cache=loose,msize=262144"
ROOTFLAGS = f"rootflags={CACHED}"
# The same for a kernel that has 9p in modules: virtme-ng's initramfs mounts the root directory then.
INITRAMFS = "/usr/lib/python3/dist-packages/virtme/mkinitramfs.py"
CACHES = f"s/{OPTIONS} /{CACHED} /"
# Of udev virtme-ng needs the names of its own ports, if it has a command to run, and of systemd's files none. The
# kernel makes the ports one after the other.
UDEV = "/usr/bin/udevadm"  # systemd-udevd is a link to it
PORTS = """#!/bin/sh
read -r parameters </proc/cmdline
case "$1 $parameters" in --daemon*virtme.exec*) ;; *) exit 0 ;; esac
mkdir -p /dev/virtio-ports
for _ in $(seq 100); do
	for port in /sys/class/virtio-ports/*; do
		read -r name <"$port/name" && ln -sf "../${port##*/}" "/dev/virtio-ports/$name"
	done
	[ ! -e /dev/virtio-ports/virtme.ret ] || [ ! -e /dev/virtio-ports/virtme.dev_stderr ] || break
	sleep 0.1
done
"""
# virtme-ng's first process in the machine is a shell script that starts some sixty programs. On an emulated CPU most of
# what a program takes is its dynamic linker, and busybox has none.
INIT = "/usr/lib/python3/dist-packages/virtme/guest/virtme-init"
PROGRAMS = "base64 chmod cp grep hostname install ip ln mkdir mount poweroff rm sed sync touch uname"
QUICKER = f"""
if [ -x /usr/bin/busybox ]; then
	has=" $(/usr/bin/busybox --list | tr '\\n' ' ') "
	for program in {PROGRAMS}; do
		case $has in *" $program "*) eval "$program() {{ /usr/bin/busybox $program "'"$@"; }}' ;; esac
	done
fi
"""
MASKS = f"""
mount --bind /bin/true /usr/bin/systemd-tmpfiles
mount -t tmpfs tmpfs /usr/lib/udev/rules.d
cat >/usr/lib/udev/rules.d/ports <<'END'
{PORTS}END
chmod 755 /usr/lib/udev/rules.d/ports
mount --bind /usr/lib/udev/rules.d/ports {UDEV}
sed '{CACHES}' {INITRAMFS} >/usr/lib/udev/rules.d/initramfs
mount --bind /usr/lib/udev/rules.d/initramfs {INITRAMFS}
cat >/usr/lib/udev/rules.d/quicker <<'END'
{QUICKER}END
sed '1r /usr/lib/udev/rules.d/quicker' {INIT} >/usr/lib/udev/rules.d/init
chmod 755 /usr/lib/udev/rules.d/init
mount --bind /usr/lib/udev/rules.d/init {INIT}
export PYTHONDONTWRITEBYTECODE=1
exec "$@"
"""


def parameters(more: str) -> str:
    """What the kernel is told."""
    return f"{ROOTFLAGS} {kernels.under_tcg()} {more}"


def command(image: Path, memory: str, cpus: int) -> list[str | Path]:
    """virtme-ng's, for a machine under TCG whose files come by 9p, from QEMU itself. virtiofsd is another process, of
    whose writes to guest memory TCG does not know: it executes what it has translated of a page that has had other code
    before."""
    return [
        "vng", "--run", image, "--disable-kvm", "--disable-microvm", "--force-9p", "--cpus", str(cpus),
        "--memory", memory, "--user", "root",
    ]  # fmt: skip


def masked(command: list[str | Path]) -> list[str | Path]:
    """The same, in a root directory without what udev and systemd would do for nobody, where we may make one: in a
    container it runs as it is."""
    for user in ([], ["--user", "--map-root-user"]):
        unshare = ["unshare", *user, "--mount", "--propagation", "unchanged"]
        if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return [*unshare, "sh", "-ec", MASKS, "sh", *command]
    return command


@dataclasses.dataclass
class Run:
    status: int  # of the command; 255 if the kernel ended before it
    output: str  # of the command
    console: str
    seconds: float
    silent: bool  # nothing came any more, and the kernel was ended


def run(image: Path, script: str, append: str, silence: float, log: Path) -> Run:
    """Boot a kernel and run a shell command in it, as root. A kernel that says nothing for `silence` seconds is ended:
    while it boots and tests it always has something to say. `log` has its messages as they come."""
    start = time.monotonic()
    vng = subprocess.Popen(
        masked([
            *command(image, "1280M", 2), "--verbose", "--qemu-opts=-cpu EPYC-Milan",
            "--append", parameters(append), "--", script,
        ]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    said = {vng.stdout.fileno(): b"", vng.stderr.fileno(): b""}
    open_files, silent = set(said), False
    while open_files and not silent:
        ready = select.select(open_files, [], [], silence)[0]
        silent = not ready
        for file in ready:
            data = os.read(file, 1 << 16)
            said[file] += data
            if file == vng.stderr.fileno():
                with log.open("ab") as messages:
                    messages.write(data)
            if not data:
                open_files.remove(file)
    # virtme-ng's own processes, too: it has put the file server into the background.
    os.killpg(vng.pid, signal.SIGKILL if silent else signal.SIGTERM)
    status = vng.wait()
    output, console = (text.decode(errors="replace").replace("\r\n", "\n") for text in said.values())
    return Run(status, output, console, time.monotonic() - start, silent)
