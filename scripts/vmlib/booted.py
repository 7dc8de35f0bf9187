# SPDX-License-Identifier: GPL-2.0
"""Machines of snp-host that start as real ones do: a disk by its boot loader, or a kernel with an initramfs. What is to
run in them comes on a disk of its own or in the initramfs, its output leaves by the second serial port, and its status
by the third: every kernel has drivers for those."""

import base64
import dataclasses
import io
import json
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import cpio, kernels, paths

# What an SNP host needs, for any shell.
LOAD = """
modprobe -q -a msr kvm_amd # msr is for snphost
[ -d /sys/module/kvm_amd ] || echo "snp-host: kvm_amd does not load" >&2
snp=N
{ read -r snp </sys/module/kvm_amd/parameters/sev_snp; } 2>/dev/null
[ "$snp" = Y ] || echo "snp-host: SNP is not initialised; console.log says why" >&2
"""
# QEMU's user network without a DHCP client, if there is a card: to load a driver takes a while.
NETWORK = """
for device in /sys/bus/pci/devices/*; do
	read -r vendor <"$device/vendor" && read -r id <"$device/device" || continue
	case $vendor$id in 0x1af40x1000 | 0x1af40x1041) modprobe -q virtio_net ;; esac
done
for device in /sys/bus/virtio/drivers/virtio_net/virtio*/net/*; do
	[ -d "$device" ] || continue
	ip link set "${device##*/}" up
	ip address add 10.0.2.15/24 dev "${device##*/}"
	ip route add default via 10.0.2.2
	{ echo nameserver 10.0.2.3 >/etc/resolv.conf; } 2>/dev/null
done
"""
RUN = f"""
stty -F /dev/ttyS1 raw
stty -F /dev/ttyS2 raw
exec 3>/dev/ttyS2 </dev/null >/dev/ttyS1 2>&1
export HOME=/root
{LOAD}
cd /root
"""
# What this machine needs to make one: program -> Debian's package.
TOOLS = {"ramdisk": {"busybox": "busybox-static", "cpio": "cpio", "depmod": "kmod"}, "disk": {"qemu-img": "qemu-utils"}}
# systemd takes units from whoever starts the machine (systemd.system-credentials(7), of version 256 and later).
NAME = "snp-host"
SCRIPT = f"/run/{NAME}/run"
# udev loads kvm_amd, and nobody waits for it: on an emulated CPU all else may be there before.
UNIT = f"""
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStartPre=-/usr/bin/udevadm settle --timeout=180
ExecStart=/bin/sh -ec 'tar -xf /dev/disk/by-id/virtio-{NAME} -C /; exec /bin/sh {SCRIPT}'
"""
WANTED = f"[Unit]\nWants={NAME}.service\n"
# The first process of an initramfs. Its own programs go before busybox's.
INIT = f"""#!/{NAME}/busybox sh
/{NAME}/busybox mkdir -p /proc /sys /dev /root /tmp /{NAME}/bin
/{NAME}/busybox --install -s /{NAME}/bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/{NAME}/bin:/{NAME}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
release=$(uname -r)
if [ -d /{NAME}/modules ]; then
	mkdir -p "/lib/modules/$release"
	mount --bind /{NAME}/modules "/lib/modules/$release"
fi
{NETWORK}
sh /{NAME}/run
poweroff -f
"""
SHELL = "setsid cttyhack sh"


@dataclasses.dataclass
class Wanted:
    """What the caller asks for."""

    script: list[str] | None  # the command; None: a shell on the terminal
    files: dict[str, Path]  # name in the machine -> file here
    kernel: Path | None
    initrd: Path | None
    modules: Path | None
    append: str


def named_files(pairs: Iterable[str]) -> dict[str, Path]:
    """What --file HERE:THERE names: name in the machine -> file here."""
    out = {}
    for pair in pairs:
        here, colon, there = pair.partition(":")
        if not colon or not there.startswith("/") or not Path(here).is_file():
            raise ValueError(f"--file {pair}: there must be a file, a colon, and where it goes in the machine")
        out[there] = Path(here)
    return out


def image_of(directory: Path) -> Path:
    """The kernel's image in the directory of a build."""
    image = directory / "arch/x86/boot/bzImage"
    return image if image.exists() else directory


def script(wanted: Wanted) -> str:
    if wanted.script is None:
        return f"{LOAD}\n{SHELL}\n"
    return f"{RUN}\n(exec {shlex.join(wanted.script)})\necho $? >&3\nexec >/dev/null 2>&1 3>&1\n"


def terminals(wanted: Wanted, out: Path) -> list[str]:
    """QEMU's options for console, output and status."""
    if wanted.script is None:
        return ["-nographic"]
    return [
        "-display", "none", "-vga", "none", "-monitor", "none", "-serial", f"file:{out}/console.log",
        "-chardev", "stdio,id=output,signal=off", "-serial", "chardev:output", "-serial", f"file:{status_file(out)}",
    ]  # fmt: skip


def status_file(out: Path) -> Path:
    return out / "status"


def disk(wanted: Wanted, image: Path, out: Path) -> list[str]:
    """QEMU's options for a machine that starts from a disk, of which nothing is changed."""
    info = subprocess.run(["qemu-img", "info", "--output=json", image], check=True, stdout=subprocess.PIPE, text=True)
    words = [
        "-drive", f"file={image},format={json.loads(info.stdout)['format']},if=none,id=root,snapshot=on",
        "-device", "virtio-blk-pci,drive=root,bus=pcie.0,bootindex=0",
    ]  # fmt: skip
    if wanted.kernel:
        words += _kernel(wanted, f"console=ttyS0 {kernels.under_tcg()} {wanted.append}")
        words += ["-initrd", str(wanted.initrd)] if wanted.initrd else []
    if wanted.script is None:
        return words
    archive = out / "files.tar"
    with tarfile.open(archive, "w") as tar:
        for name, content in _contents(wanted, {SCRIPT: f"{script(wanted)}systemctl poweroff --force\n"}):
            member = tarfile.TarInfo(name.lstrip("/"))
            member.size, member.mode = len(content[0]), content[1]
            tar.addfile(member, io.BytesIO(content[0]))
    units = {f"extra-unit.{NAME}.service": UNIT, "unit-dropin.multi-user.target": WANTED}
    for name, text in units.items():
        encoded = base64.b64encode(text.encode()).decode()
        words += ["-smbios", f"type=11,value=io.systemd.credential.binary:systemd.{name}={encoded}"]
    return [
        *words, "-drive", f"file={archive},format=raw,if=none,id=files,readonly=on",
        "-device", f"virtio-blk-pci,drive=files,bus=pcie.0,serial={NAME}",
    ]  # fmt: skip


def ramdisk(wanted: Wanted, out: Path) -> list[str]:
    """QEMU's options for a machine whose root directory is an initramfs."""
    stage = out / "layer"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    texts = {f"/{NAME}/init": INIT, f"/{NAME}/run": script(wanted)}
    for name, (content, mode) in _contents(wanted, texts):
        file = stage / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
    (stage / NAME / "init").chmod(0o755)
    shutil.copy("/usr/bin/busybox", stage / NAME / "busybox")
    if modules := wanted.modules:
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            place = cpio.add_modules(Path(scratch), modules, ("kvm-amd", "msr", "virtio_net"))
            cpio.depmod(Path(scratch), modules.name)
            place.rename(stage / NAME / "modules")
    layer = out / "layer.cpio"
    cpio.pack(stage, layer)
    shutil.rmtree(stage)
    with (out / "initrd").open("wb") as file:
        file.write(wanted.initrd.read_bytes())
        # The kernel skips zeroes, and wants the next archive at a multiple of 4.
        file.write(bytes(-file.tell() % 4))
        file.write(layer.read_bytes())
    layer.unlink()
    append = f"rdinit=/{NAME}/init console=ttyS0 panic=-1 {kernels.under_tcg()} {wanted.append}"
    return [*_kernel(wanted, append), "-initrd", f"{out}/initrd", "-no-reboot"]


def _kernel(wanted: Wanted, append: str) -> list[str]:
    return ["-kernel", str(image_of(wanted.kernel) if wanted.kernel else paths.KERNEL), "-append", append]


def _contents(wanted: Wanted, texts: dict[str, str]) -> Iterable[tuple[str, tuple[bytes, int]]]:
    """What the machine gets: name -> bytes and permissions."""
    for name, text in texts.items():
        yield name, (text.encode(), 0o644)
    for name, file in wanted.files.items():
        yield name, (file.read_bytes(), file.stat().st_mode & 0o777)
