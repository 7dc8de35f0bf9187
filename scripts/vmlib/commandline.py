# SPDX-License-Identifier: GPL-2.0
"""A command line of qemu-system-x86_64: what machine it asks for, and the same for a machine on the software SNP
platform."""

import dataclasses
import json
import math
import re
from pathlib import Path

from .platform import ACCELERATOR, CPU_PROPERTIES, GIB, MIB, PROFILES

# Options that take no argument. All others take one (selftests/test_snp_qemu.py asks QEMU for each).
FLAGS = {
    "S", "daemonize", "enable-kvm", "enable-sync-profile", "full-screen", "h", "help", "jitdump", "mem-prealloc",
    "no-fd-bootchk", "no-reboot", "no-shutdown", "no-user-config", "nodefaults", "nographic", "only-migratable",
    "perfmap", "preconfig", "s", "snapshot", "usb", "version", "win2k-hack", "xen-attach", "xen-domid-restrict",
}  # fmt: skip
# CPUs of QEMU that have what SNP needs, and names for "as much as there is".
CPU_MODELS = re.compile(r"EPYC(?:-(Rome|Milan|Genoa|Turin))?(?:-v\d+)?$")
ANY_CPU = {"max", "base"}
SMALLEST = 512 * MIB
# pc_q35_init() of QEMU: with this much memory and more, RAM below 4 GiB ends at 2 GiB.
SPLIT = 0xB0000000
MAX_CPUS = 64
BACKENDS = ("memory-backend-ram", "memory-backend-memfd", "memory-backend-file")


class Refused(Exception):
    """The platform cannot serve this command line; one sentence."""


@dataclasses.dataclass
class Option:
    name: str | None  # without its dashes; None: an image, which stands alone
    value: str | None = None

    def words(self) -> list[str]:
        return [word for word in (self.name and f"-{self.name}", self.value) if word is not None]


def parse(arguments: list[str]) -> list[Option]:
    options, rest = [], iter(arguments)
    for word in rest:
        if not word.startswith("-") or word == "-":
            options.append(Option(None, word))
            continue
        name = word.removeprefix("-").removeprefix("-")
        value = None
        if name not in FLAGS and name != "snp-help" and not re.match(r"snp-[\w-]+=", name):
            value = next(rest, None)
            if value is None:
                raise Refused(f"{word} requires an argument")
        options.append(Option(name, value))
    return options


def split(options: list[Option]) -> tuple[list[str], list[Option]]:
    """The words of snp-qemu's own options, and QEMU's options."""
    ours = [option for option in options if (option.name or "").startswith("snp-")]
    words = [f"--{one.name}" + ("" if one.value is None else f"={one.value}") for one in ours]
    return words, [one for one in options if one not in ours]


class Properties(dict):
    """The properties in an option's value, in their order: key=value,… or JSON."""

    def __init__(self, text: str, implied: str):
        super().__init__()
        self._json = text.lstrip().startswith("{")
        if self._json:
            try:
                self.update(json.loads(text))
            except ValueError as error:
                raise Refused(f"{text} is no JSON: {error}") from None
            return
        # A comma in a value is doubled.
        for n, part in enumerate(re.split(r"(?<!,),(?=[^,]|$)", text.replace(",,", "\0"))):
            key, equals, value = part.replace("\0", ",").partition("=")
            if n == 0 and not equals:
                key, value, equals = implied, key, "="
            self[key] = value if equals else "on"

    def __str__(self) -> str:
        if self._json:
            return json.dumps(self)
        return ",".join(f"{key}={str(value).replace(',', ',,')}" for key, value in self.items())


def size(text: str | int, unit: int) -> int:
    """Bytes; a number without a suffix counts `unit`s."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([bkmgtBKMGT]?)", str(text))
    if not found:
        raise Refused(f"{text} is no size")
    factor = {"": unit, "b": 1, "k": 1 << 10, "m": MIB, "g": GIB, "t": GIB << 10}[found[2].lower()]
    return math.ceil(float(found[1]) * factor)


def makes_no_machine(options: list[Option]) -> bool:
    """Whether QEMU is only asked for something: its version, a list, what it can do."""
    for option in options:
        if option.name in ("h", "help", "version"):
            return True
        first, *others = (option.value or "").split(",")
        if option.name and (first in ("help", "?") or "help" in others):
            return True
        if option.name in ("M", "machine") and Properties(option.value, "type").get("type") in ("none", "x-remote"):
            return True
    return False


@dataclasses.dataclass
class Machine:
    """What a command line asks for, as far as the platform has to know it, and the rest of it."""

    options: list[Option]
    memory: int  # bytes
    low: int  # how many of them lie below 4 GiB
    iommu: bool  # it has an IOMMU of AMD's of its own
    threads: int = 1  # of a core
    generation: str | None = None  # that -cpu names, one of the platform's

    def arguments(self, ram: Path, model: str) -> list[str]:
        """The same, with RAM in a file and a CPU of the platform's."""
        backend = {"qom-type": "memory-backend-file", "mem-path": str(ram), "size": self.memory, "share": True}
        words, cpu, placed = [], f"{model},{CPU_PROPERTIES}", False
        for n, option in enumerate(self.options):
            match option.name:
                case "object":
                    wanted = Properties(option.value, "qom-type")
                    if wanted.get("qom-type") in BACKENDS:
                        placed = True
                        option = Option("object", json.dumps(backend | {"id": wanted["id"]}))
                case "drive":
                    # QEMU would make its device behind all others, where it must not be (Platform.qemu()).
                    wanted = Properties(option.value, "file")
                    if wanted.get("if") == "virtio":
                        wanted |= {"if": "none", "id": wanted.get("id", f"snp-drive-{n}")}
                        words += ["-device", f"virtio-blk-pci,drive={wanted['id']},bus=pcie.0"]
                        option = Option("drive", str(wanted))
                case "cpu":
                    name, comma, properties = option.value.partition(",")
                    cpu = f"{model if name in ANY_CPU else name}{comma}{properties},{CPU_PROPERTIES}"
                    continue
            words += option.words()
        if not placed:
            words += ["-object", json.dumps(backend | {"id": "snp-ram"}), "-machine", "memory-backend=snp-ram"]
        return ["-accel", ACCELERATOR, "-cpu", cpu, *words]


def machine(options: list[Option]) -> Machine:
    """What the options ask for. Those that say which accelerator and type of machine are the platform's to say."""
    kept, kind, accelerators, memory, backends, nodes = [], None, [], 128 * MIB, [], 0
    iommu, threads, generation = False, 1, None
    for option in options:
        match option.name:
            case "enable-kvm":
                accelerators.append("kvm")
                continue
            case "accel":
                accelerators.append(Properties(option.value, "accel")["accel"])
                continue
            case "M" | "machine":
                wanted = Properties(option.value, "type")
                kind = wanted.pop("type", kind)
                accelerators += wanted.pop("accel", "").split(":") if "accel" in wanted else []
                if {"confidential-guest-support", "memory-encryption"} & set(wanted):
                    raise Refused("the machine is a host for confidential guests; it cannot be such a guest itself")
                if not wanted:
                    continue
                option = Option("machine", str(wanted))
            case "cpu":
                name = option.value.split(",")[0]
                if name == "host":
                    raise Refused(
                        "-cpu host needs KVM, and the platform runs under TCG: leave it out, or say EPYC-Milan"
                    )
                if name not in ANY_CPU and not CPU_MODELS.match(name):
                    raise Refused(f"-cpu {name} lacks what SEV-SNP needs: leave it out, or say EPYC-Milan")
                if (named := CPU_MODELS.match(name)) and (named[1] or "").lower() in PROFILES:
                    generation = named[1].lower()
            case "m":
                wanted = Properties(option.value, "size")
                memory = size(wanted.get("size", "128M"), MIB)
                if size(wanted.get("maxmem", memory), MIB if "maxmem" in wanted else 1) > memory:
                    raise Refused("memory cannot be plugged in later, because the RMP would not cover it: no maxmem=")
            case "object":
                wanted = Properties(option.value, "qom-type")
                if wanted.get("qom-type") in BACKENDS:
                    backends.append(wanted)
            case "numa":
                nodes += Properties(option.value, "type").get("type") == "node"
            case "smp":
                wanted = Properties(option.value, "cpus")
                count = max(int(wanted.get(name) or 0) for name in ("cpus", "maxcpus"))
                threads = int(wanted.get("threads") or 1)
                if count > MAX_CPUS:
                    raise Refused(f"at most {MAX_CPUS} CPUs are supported, not {count}")
            case "device":
                driver = Properties(option.value, "driver").get("driver")
                if driver in ("intel-iommu", "virtio-iommu"):
                    raise Refused(f"{driver}: SEV-SNP needs an IOMMU of AMD's, which the platform brings")
                iommu |= driver == "amd-iommu"
            case "mem-path" | "readconfig" | "daemonize" | "incoming":
                why = {
                    "mem-path": "the platform keeps RAM in a file of its own",
                    "readconfig": "the platform has to know what the machine is: say it on the command line",
                    "daemonize": "start it in the background instead",
                    "incoming": "a machine on the platform cannot be migrated",
                }
                raise Refused(f"-{option.name} is not possible: {why[option.name]}")
        kept.append(option)
    if accelerators and "tcg" not in accelerators:
        raise Refused(
            f"the platform runs under TCG, not {accelerators[0]}: leave the accelerator out, or say -accel tcg"
        )
    if kind and not re.fullmatch(r"q35|pc-q35-[\d.]+", kind):
        raise Refused(f"machine type {kind} has no place for the PSP and its IOMMU: leave it out, or say q35")
    if len(backends) > 1 or nodes > 1:
        raise Refused("RAM in more than one piece (NUMA nodes) is not supported")
    if memory < SMALLEST:
        raise Refused(f"an SNP host needs {SMALLEST // MIB} MiB of memory at least: say so with -m, such as -m 2G")
    kept.insert(0, Option("machine", kind or "q35"))
    return Machine(kept, memory, memory if memory < SPLIT else 2 * GIB, iommu, threads, generation)
