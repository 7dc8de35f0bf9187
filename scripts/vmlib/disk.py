# SPDX-License-Identifier: GPL-2.0
"""A disk with Debian trixie on it, made of packages: GRUB for BIOS and UEFI, the kernel of the set-up, systemd,
libvirt and QEMU. No loop device is needed, and nothing is mounted."""

import filecmp
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import kernels, paths
from .debian import DebianError, bootstrap, run, tools

DISKS = paths.CACHE / "disk"
LABEL = "snp-root"
MIB = 1 << 20
# Where the partitions are, in MiB. All that is not the root file system's is small.
CORE, ESP, ROOT = range(1, 2), range(2, 34), range(34, 8 * 1024 - 1)
END = ROOT.stop + 1  # behind it the table's copy
SECTOR = 512
TOOLS = {"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "sfdisk": "fdisk", "mkfs.vfat": "dosfstools",
         "mcopy": "mtools"}  # fmt: skip
PACKAGES = [
    "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "initramfs-tools", "zstd", "ca-certificates", "procps",
    "pciutils", f"linux-image-{paths.RELEASE}", "grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", "grub2-common",
    "e2fsprogs", "kexec-tools",
    "libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients", "virtinst", "qemu-system-x86",
    "qemu-utils", "ovmf",
]  # fmt: skip
# GRUB begins with this. A core image goes on to normal mode by itself, which reads what Debian's update-grub writes,
# and the lists of the commands that are modules of their own; without them there is no load_env, and so no
# grub-reboot.
EARLY = f"""
search --no-floppy --label --set=root {LABEL}
set prefix=($root)/boot/grub
"""
# Debian's signed GRUB is in normal mode already.
EARLY_EFI = f"{EARLY}configfile $prefix/grub.cfg\n"
MODULES = "part_gpt ext2 search search_label normal test echo linux serial terminal"
# What a UEFI BIOS starts: Debian's signed shim and GRUB, with Secure Boot or without. Place on the ESP -> file.
ESP_FILES = {
    "EFI/BOOT/BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
    "EFI/BOOT/mmx64.efi": "usr/lib/shim/mmx64.efi.signed",
    "EFI/BOOT/grubx64.efi": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    "EFI/debian/grub.cfg": "boot/grub/early-efi.cfg",  # that GRUB looks there
}
CONSOLE = f"console=ttyS0 systemd.gpt_auto=no {kernels.UNDER_TCG} {kernels.lpj()}"
FILES = {
    "etc/hostname": "snp-host\n",
    "etc/hosts": "127.0.0.1 localhost snp-host\n",
    "etc/fstab": f"LABEL={LABEL} / ext4 errors=remount-ro 0 1\n",
    "etc/default/grub.d/snp-host.cfg": f'GRUB_TIMEOUT=0\nGRUB_TERMINAL=serial\nGRUB_CMDLINE_LINUX="{CONSOLE}"\n',
    "etc/systemd/network/all.network": "[Match]\nName=en*\n[Network]\nDHCP=yes\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",  # that of QEMU's user network
    # Until somebody runs update-grub, which writes one with the same words.
    "boot/grub/grub.cfg": f"serial\nterminal_input serial\nterminal_output serial\n"
    f"linux /vmlinuz root=LABEL={LABEL} ro {CONSOLE}\ninitrd /initrd.img\nboot\n",
}
# Debian's ovmf has no description of a UEFI for SNP, by which libvirt finds one: OVMF.fd is, if it is loaded as a ROM.
# virt-install takes no other way (virtinst's Guest.is_uefi knows flash, or the word "efi").
FIRMWARE = {
    "description": "OVMF without variables, for SEV-SNP",
    "interface-types": ["uefi"],
    "mapping": {"device": "memory", "filename": "/usr/share/ovmf/OVMF.fd"},
    "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
    "features": ["amd-sev-snp"],
    "tags": [],
}
FILES |= {"etc/qemu/firmware/30-sev-snp.json": json.dumps(FIRMWARE)}
# What an emulated CPU would take minutes for: an initramfs with drivers for everything.
FILES |= {"etc/initramfs-tools/conf.d/snp-host": "MODULES=list\n"}
FILES |= {"etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\nvirtio_scsi\nahci\nsd_mod\next4\n"}
# Runs in the new root in the end.
SETUP = rf"""
set -e
cd /tmp
passwd --delete root
systemctl enable systemd-networkd serial-getty@ttyS0.service
# What nobody waits for on an emulated CPU.
systemctl mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
	e2scrub_reap.service e2scrub_all.timer networking.service grub-common.service ldconfig.service
for platform in i386-pc x86_64-efi; do cp -r /usr/lib/grub/$platform /boot/grub/; done
grub-mkimage -O i386-pc -p /boot/grub -c early.cfg -o /boot/grub/core.img biosdisk {MODULES}
mv early-efi.cfg /boot/grub/
grub-editenv /boot/grub/grubenv create
rm -rf setup early.cfg /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*.log /etc/machine-id /var/lib/dbus/machine-id
touch /etc/machine-id
"""


def base(packages: tuple[str, ...] = (), say: Callable[[str], None] = print) -> Path:
    """The disk, in raw format, never written to; made if there is none like it yet."""
    recipe = f"{PACKAGES}{packages}{FILES}{EARLY}{EARLY_EFI}{MODULES}{ESP_FILES}{SETUP}{LABEL}{CORE}{ESP}{ROOT}"
    disk = DISKS / f"trixie-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.raw"
    with paths.making("disk"):
        # A new root directory has none of them, though the disk may be an old one.
        tools(TOOLS)
        if not disk.exists():
            say("disk: making a Debian trixie disk (about 5 minutes)")
            _make(disk, packages)
    return disk


def overlay(target: Path, files: dict[str, Path], packages: tuple[str, ...] = ()) -> Path:
    """A disk of its own with the same contents and `files` (name inside -> file here), in qcow2 format."""
    below = base(packages)
    changed = below
    with tempfile.TemporaryDirectory(dir=DISKS) as scratch:
        if files:
            changed = Path(scratch) / "disk"
            run("cp", "--sparse=always", "--reflink=auto", below, changed)
            _put(changed, files)
        # rebase compares, and puts into the new file what is different.
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", changed, "-F", "raw", target)
        run("qemu-img", "rebase", "-b", below, "-F", "raw", target)
    return target


def _put(disk: Path, files: dict[str, Path]) -> None:
    """Write files into the root file system, and look whether they are there."""
    where = f"{disk}?offset={ROOT.start * MIB}"
    orders = []
    for name, file in files.items():
        parents = [f"/{parent}" for parent in reversed(Path(name.lstrip("/")).parents) if str(parent) != "."]
        orders += [f'mkdir "{parent}"' for parent in parents]
        orders += [f'rm "{name}"', f'write "{file.resolve()}" "{name}"']
    # It complains of directories that are there already, and its status says nothing.
    run("debugfs", "-w", "-f", "/dev/stdin", where, input="\n".join(orders) + "\n")
    with tempfile.NamedTemporaryFile() as back:
        for name, file in files.items():
            run("debugfs", "-R", f'dump "{name}" {back.name}', where)
            if not filecmp.cmp(file, back.name, shallow=False):
                raise DebianError(f"{file} did not get to {name} on the disk")


def _make(disk: Path, packages: tuple[str, ...]) -> None:
    DISKS.mkdir(exist_ok=True)
    for old in DISKS.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    # All times are the kernel's, so that the same packages make the same disk.
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(int(paths.KERNEL.stat().st_mtime))}
    with tempfile.TemporaryDirectory(dir=DISKS) as scratch:
        root, new = Path(scratch) / "root", Path(scratch) / "disk"
        _debootstrap(root, packages, environment)
        time = f"@{environment['SOURCE_DATE_EPOCH']}"
        run("find", root, "-newermt", time, "-exec", "touch", "--no-dereference", "--date", time, "{}", "+")
        with new.open("wb") as file:
            file.truncate(END * MIB)
        table = "\n".join([
            "label: gpt", "label-id: 5eb0ba5e-0000-4000-8000-000000000000",
            *(f"start={part.start * MIB // SECTOR}, size={len(part) * MIB // SECTOR}, type={kind}, "
              f"uuid=5eb0ba5e-0000-4000-8000-00000000000{n}"
              for n, (part, kind) in enumerate(
                  [(CORE, "21686148-6449-6E6F-744E-656564454649"), (ESP, "uefi"), (ROOT, "linux")], 1)),
        ])  # fmt: skip
        run("sfdisk", "--quiet", new, input=table + "\n")
        _boot_sectors(new, root / "boot/grub")
        _esp(new, root)
        run(
            "mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-U", "5eb0ba5e-0000-4000-8000-000000000009", "-d", root,
            "-E", f"offset={ROOT.start * MIB},hash_seed=5eb0ba5e-0000-4000-8000-000000000009,lazy_itable_init=0",
            new, f"{len(ROOT)}M", env=environment | {"E2FSPROGS_FAKE_TIME": environment["SOURCE_DATE_EPOCH"]},
        )  # fmt: skip
        new.rename(disk)


def _debootstrap(root: Path, packages: tuple[str, ...], environment: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "files"
        for name, text in FILES.items():
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            (files / name).write_text(text)
        more = Path(scratch) / "more"
        more.mkdir()
        (more / "early.cfg").write_text(EARLY)
        (more / "early-efi.cfg").write_text(EARLY_EFI)
        (more / "setup").write_text(SETUP)
        hooks = [
            f"--setup-hook=cp -r {files}/. $1", f"--customize-hook=cp -r {files}/. $1",
            f"--customize-hook=cp {more}/* $1/tmp", "--customize-hook=chroot $1 sh /tmp/setup",
        ]  # fmt: skip
        bootstrap(root, "important", [*PACKAGES, *packages], hooks, environment)


def _boot_sectors(disk: Path, grub: Path) -> None:
    """GRUB for a BIOS: boot.img begins the disk and loads the first sector of core.img, which loads the rest. Both have
    to be told where that is (struct grub_pc_bios_boot_blocklist and GRUB_BOOT_MACHINE_KERNEL_SECTOR of GRUB's
    include/grub/i386/pc/boot.h); grub-install would do so, and wants a disk of the machine's own."""
    boot, core = bytearray((grub / "i386-pc/boot.img").read_bytes()), bytearray((grub / "core.img").read_bytes())
    first = CORE.start * MIB // SECTOR
    if len(core) > len(CORE) * MIB:
        raise DebianError(f"GRUB's core has {len(core)} bytes, and there is room for {len(CORE)} MiB")
    boot[0x5C : 0x5C + 8] = first.to_bytes(8, "little")
    core[SECTOR - 12 : SECTOR - 4] = (first + 1).to_bytes(8, "little")
    with disk.open("r+b") as file:
        file.write(boot[:440])  # behind it the partition table
        file.seek(CORE.start * MIB)
        file.write(core)


def _esp(disk: Path, root: Path) -> None:
    directories = {str(parent) for name in ESP_FILES for parent in Path(name).parents if str(parent) != "."}
    with tempfile.NamedTemporaryFile() as esp:
        esp.truncate(len(ESP) * MIB)
        run("mkfs.vfat", "--invariant", "-F", "16", "-n", "ESP", esp.name)
        run("mmd", "-i", esp.name, *(f"::/{name}" for name in sorted(directories)))
        for name, file in ESP_FILES.items():
            run("mcopy", "-i", esp.name, "-m", root / file, f"::/{name}")
        run("dd", f"if={esp.name}", f"of={disk}", "bs=1M", f"seek={ESP.start}", "conv=notrunc,sparse")
