# SPDX-License-Identifier: GPL-2.0
"""A kernel in virtme-ng, as those who develop one run theirs: its root directory is the one that this runs in, with
memory on top of it."""

import contextlib
import dataclasses
import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from . import cpio, kernels

# Root's options as virtme-ng gives them, and a cache: without one each program reads its libraries anew.
OPTIONS = "version=9p2000.L,trans=virtio,access=any"
CACHED = f"{OPTIONS},cache=loose,msize=262144"
ROOTFLAGS = f"rootflags={CACHED}"
# The same for a kernel that has 9p in modules: virtme-ng's initramfs mounts the root directory then.
INITRAMFS = "/usr/lib/python3/dist-packages/virtme/mkinitramfs.py"
# virtme-ng's first process in the machine is a shell script that starts some sixty programs. On an emulated CPU most of
# what a program takes is its dynamic linker, and busybox has none. Of udev the script needs the names of virtme-ng's
# own ports, if it has a command to run, and of systemd's files none. The kernel makes the ports one after the other.
INIT = "/usr/lib/python3/dist-packages/virtme/guest/virtme-init"
PROGRAMS = "base64 chmod cp install ip ln mkdir mktemp mount poweroff rm sed sync"
QUICKER = f"""
quick=command
if [ -x /usr/bin/busybox ]; then
	quick=/usr/bin/busybox
	has=" $(/usr/bin/busybox --list | tr '\\n' ' ') "
	for program in {PROGRAMS}; do
		case $has in *" $program "*) eval "$program() {{ /usr/bin/busybox $program "'"$@"; }}' ;; esac
	done
fi
function grep {{
	local words
	if [ "$#$1$2$4" = "4-q-E/proc/cmdline" ]; then
		read -r words </proc/cmdline && [[ $words =~ $3 ]]
	else
		$quick grep "$@"
	fi
}}
function hostname {{ echo "$1" >/proc/sys/kernel/hostname; }}
function touch {{
	local file
	for file; do : >>"$file"; done
}}
function name_ports {{
	local parameters port name
	read -r parameters </proc/cmdline
	case $parameters in *virtme.exec*) ;; *) return ;; esac
	mkdir -p /dev/virtio-ports
	for _ in {{1..100}}; do
		for port in /sys/class/virtio-ports/*; do
			read -r name <"$port/name" && ln -sf "../${{port##*/}}" "/dev/virtio-ports/$name"
		done
		[ ! -e /dev/virtio-ports/virtme.ret ] || [ ! -e /dev/virtio-ports/virtme.dev_stderr ] || break
		sleep 0.1
	done
}}
function udevd {{ name_ports; }}
function /lib/systemd/systemd-udevd {{ name_ports; }}
function /usr/lib/systemd/systemd-udevd {{ name_ports; }}
function udevadm {{ :; }}
function systemd-tmpfiles {{ :; }}
"""
# Arguments: what is to be seen in the place of which file, in pairs; --; the command. The files have no name beside
# that one, so that nobody has to take them away.
MASKS = """
while [ "$1" != -- ]; do
	mount --bind "$1" "$2"
	rm "$1"
	shift 2
done
shift
export PYTHONDONTWRITEBYTECODE=1
exec "$@"
"""
# What modprobe and virtme-ng's initramfs load in each machine.
MODULES = ("kvm-amd", "msr", "9p", "9pnet_virtio", "virtio_mmio", "overlay")


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


def quicker(place: Path, modules: Path | None) -> dict[Path, Path]:
    """What a machine is to see in the place of a file of this one, in files below `place`: virtme-ng's scripts without
    what would be done for nobody, and `modules` as they are after an emulated CPU has unpacked them."""
    texts = {}
    with contextlib.suppress(FileNotFoundError):
        first, rest = Path(INIT).read_text().split("\n", 1)
        texts[Path(INIT)] = f"{first}\n{QUICKER}{rest}".encode()
        texts[Path(INITRAMFS)] = Path(INITRAMFS).read_bytes().replace(*(f"{o} /".encode() for o in (OPTIONS, CACHED)))
    with contextlib.suppress(FileNotFoundError):
        depends = cpio.dependencies(modules) if modules else {}
        # A kernel may have some built in, or lack them.
        files = {file for name in MODULES for file in depends.get(name, ()) if file.suffix == ".xz"}
        texts |= {file: cpio.unpacked(file) for file in files}
    out = {}
    for number, (file, content) in enumerate(texts.items()):
        out[file] = place / str(number)
        out[file].write_bytes(content)
        out[file].chmod(file.stat().st_mode)
    return out


def masked(command: list[str | Path], place: Path, modules: Path | None = None) -> list[str | Path]:
    """The same, in a root directory with files that are quicker, where we may make one: in a container it runs as it
    is. `place` is a directory for these files, in which none is left when the command begins."""
    for user in ([], ["--user", "--map-root-user"]):
        unshare = ["unshare", *user, "--mount", "--propagation", "unchanged"]
        if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            pairs = [path for file, other in quicker(place, modules).items() for path in (other, file)]
            return [*unshare, "sh", "-ec", MASKS, "sh", *pairs, "--", *command]
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
    words = [
        *command(image, "1280M", 2), "--verbose", "--qemu-opts=-cpu EPYC-Milan", "--append", parameters(append), "--",
        script,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        vng = subprocess.Popen(
            masked(words, Path(place)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
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
