# SPDX-License-Identifier: GPL-2.0
"""One machine: the PSP model, QEMU with the CPU model, and the scenario that runs in it."""

import dataclasses
import json
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from . import health, initramfs, kernels, paths, switches, test_modules, virtme
from .channel import Channel
from .platform import (
    ACCELERATOR, CPU_PROPERTIES, FASTER, MIB, PROFILES, ModelError, Platform, directory, rmp_size
)  # fmt: skip
from .runs import new_run

# RAM up to this size lies below 4 GiB in one piece on q35, so that offset and address are the same.
MAX_MEMORY_MIB = 2048
RMP_BASE = 0x38000000


class VmError(Exception):
    """The machine did not do what it was to do; says what happened, with the end of the console."""


class NoResult(VmError):
    """The machine failed for a reason that is TCG's, about once in 200 boots on a busy machine: it hung before
    the scenario began, or a CPU executed a breakpoint that another one had already replaced (the kernel
    patches its own text when modules come and go; nothing of ours puts breakpoints there)."""


def once_more[T](run: Callable[[], T]) -> T:
    """`run()`, and again if that had no result."""
    try:
        return run()
    except NoResult as error:
        print(f"# once more: {error}", flush=True)
        return run()


@dataclasses.dataclass
class Config:
    driver: str = "ours"  # or "intree"
    kernel: str = "stock"  # or "debug"
    platform: bool = True  # False: a machine without PSP, IOMMU and SNP
    cpu_model: bool = True  # False: the platform's machine, but its CPUs are TCG's alone (scripts/bench)
    profile: str = "milan"  # a generation of processors: one of PROFILES
    cpus: int = 2
    threads: int = 1  # of a core
    more_cpus: int = 0  # slots for CPUs that are plugged in while it runs
    memory: int | None = None  # MiB, if not the kernel's usual
    psp: list[str] = dataclasses.field(default_factory=list)  # more arguments of pspd
    other_psps: list[list[str]] = dataclasses.field(default_factory=list)  # the same for each further PSP
    cpu: list[str] = dataclasses.field(default_factory=list)  # more arguments of the CPU model
    rmp: str = "enforce"  # what the RMP forbids is refused; "report": only reported; "off": neither
    guest: bool = False  # the CPU model runs SEV-ES and SNP guests
    api: str = ""  # version of the PSP's firmware, such as "1.51.3"
    shutdown: str = ""  # "legacy" or "x86": whether firmware can clear SNP_EN
    segments: int = 0  # segmented RMP: logarithm of the segments' size, 30 at least
    rmpread: bool = False  # the CPUs have RMPREAD
    snp_en: str = ""  # CPUs that power on with SNP_EN set: "on", or such as "0-1+3"
    msr: list[str] = dataclasses.field(default_factory=list)  # CPU:MSR=VALUE, see platform/cpu/README.md
    kexec: bool = False  # have a kernel in the machine that can follow the first (next_kernel in vm/lib.sh)
    crashkernel: int = 0  # MiB set aside for a kernel that follows a panic (crash_kernel in vm/lib.sh)
    sleeps: bool = False  # it can come back from suspend to RAM
    disk: int = 0  # MiB of a disk (virtio_blk); the machine then boots again at each reset, until "@ask last-boot"
    append: str = ""  # more kernel parameters
    expects: tuple[str, ...] = ()  # findings that the run must have (vmlib/health.py)
    allows: tuple[str, ...] = ()  # and those that it may have
    files: dict[str, Path] = dataclasses.field(default_factory=dict)  # name inside -> file outside

    def psp_arguments(self) -> list[str]:
        """What makes the PSP model this PSP."""
        return [
            *([f"--api={self.api}"] if self.api else []),
            *([f"--shutdown={self.shutdown}"] if self.shutdown else []),
            *self.psp,
        ]

    def cpu_arguments(self) -> list[str]:
        """What makes the CPU model these CPUs."""
        switches = {"guest": self.guest, "rmpread": self.rmpread}
        return [
            f"rmp={self.rmp}", *(f"{name}=on" for name, on in switches.items() if on),
            *([f"rmp_segment_shift={self.segments}"] if self.segments else []),
            *([f"snp_en={self.snp_en}"] if self.snp_en else []),
            *(f"msr={msr}" for msr in self.msr), *self.cpu,
        ]  # fmt: skip


@dataclasses.dataclass
class Result:
    status: int
    lines: list[str]
    console: str
    trace: list[dict]
    other_traces: list[list[dict]]  # of the further PSPs
    rmp: dict  # what a scan of the whole RMP found after the end; empty without the CPU model
    seconds: float
    cpu_seconds: float  # user and system time of QEMU, and of the scans that the scenario asked for
    run: Path
    findings: list[str]  # what a healthy run does not have
    wrong: list[str]  # those that the configuration does not name, and what it names in vain

    def commands(self) -> list[dict]:
        return [entry for entry in self.trace if "cmd" in entry]


def _cpu_seconds() -> float:
    """What all processes have used that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Machine:
    """Use as a context manager; leaves console.log, result.log, trace.jsonl, pspd.log and cpu.log
    in its run directory."""

    def __init__(self, config: Config, name: str = "vm"):
        self._coverage_dir = os.environ.get("CCP_COVERAGE") if config.driver == "ours" else None
        for file in ((paths.PSPD, paths.CPU_MODEL) if config.platform else ()) + (
            (paths.COVERAGE,) if self._coverage_dir else ()
        ):
            if not file.exists():
                raise VmError(f"{file.name} is not built; run 'make platform'")
        try:
            self.kernel = kernels.get(config.kernel)
        except kernels.NotBuilt as error:
            raise VmError(str(error)) from error
        self.memory = config.memory or self.kernel.memory
        if self.memory > MAX_MEMORY_MIB:
            raise VmError(f"at most {MAX_MEMORY_MIB} MiB of memory are supported, not {self.memory}")
        missing = (
            []
            if config.driver == "intree"
            else [name for name in ("snp_host.ko", "ccp.ko") if not (self.kernel.ours / name).exists()]
        )
        if missing:
            raise VmError(
                f"{self.kernel.ours} has no {' and no '.join(missing)}; run 'make modules KERNEL={config.kernel}'"
            )
        # Modules with switches for planted bugs (scripts/mutate).
        module = self.kernel.ours / "mutants.ko"
        self._switches = module if config.driver == "ours" and module.exists() else None
        self.config = config
        self.run_dir = new_run(name)
        # RAM, and the archives that are loaded into it, live on a tmpfs.
        self.fast, self._lock = directory()
        size = self.memory * MIB
        self._models = Platform(
            files=self.fast, logs=self.run_dir, memory=size, low=size,
            rmp=range(RMP_BASE, RMP_BASE + rmp_size(size)),
            psps=[config.psp_arguments(), *config.other_psps] if config.platform else [],
            cpu=config.cpu_arguments() if config.cpu_model else None,
            profile=config.profile, smt=config.threads > 1,
        )  # fmt: skip
        self.ram = self._models.ram
        self._modelled = config.platform and config.cpu_model
        self._vm = None
        self._channel = None
        self._since = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self._vm and self._vm.poll() is None:
            self._vm.kill()
            self._vm.wait()
        self._models.stop()
        if self._channel:
            self._channel.close()
        if self._switches and self._vm and (reached := os.environ.get("CCP_REACHED")):
            switches.record(self.ram, time.monotonic() - self._since, Path(reached))
        shutil.rmtree(self.fast, ignore_errors=True)
        os.close(self._lock)

    def _start_psps(self) -> None:
        try:
            self._models.start()
        except ModelError as error:
            raise VmError(str(error)) from None

    def _platform(self) -> list[str]:
        """QEMU's arguments for the SNP platform: CPU and its model, IOMMU, PSP."""
        cpu = PROFILES[self.config.profile].cpu
        if not self.config.platform:
            return ["-accel", "tcg,thread=multi", "-cpu", f"{cpu},{FASTER}"]
        return ["-accel", ACCELERATOR, "-cpu", f"{cpu},{CPU_PROPERTIES}", *self._models.qemu()]

    def _coverage(self) -> list[str]:
        """QEMU's arguments for writing down which code of our modules is executed (scripts/coverage)."""
        if not self._coverage_dir:
            return []
        return ["-plugin", f"file={paths.COVERAGE},out={self._coverage_dir}/{self.run_dir.name}.{self.config.kernel}"]

    def _memory(self, name: str) -> str:
        return f"memory-backend-file,id={name},size={self.memory}M,mem-path={self.ram},share=on"

    def _append(self) -> str:
        if not self.config.platform:
            return f"{kernels.under_tcg()} {self.config.append}".strip()
        # initcall_blacklist: to check the certificates of Debian's keys takes a tenth of a boot, and our modules are
        # not signed. The kernel clears pages before somebody gets them, which a driver must not rely on.
        slow = f"{kernels.under_tcg()} initcall_blacklist=load_system_certificate_list init_on_alloc=0"
        crash = f"crashkernel={self.config.crashkernel}M " if self.config.crashkernel else ""
        return f"{slow} {crash}{self.config.append}".strip()

    def _qemu(self, initrd: Path, serial: list[str]) -> list[str]:
        return [
            "qemu-system-x86_64", *self._platform(), *self._coverage(), "-machine", "q35,memory-backend=ram",
            "-object", self._memory("ram"), "-m", f"{self.memory}M", "-smp", self._smp(),
            "-nodefaults", "-display", "none", *self._disk(), "-qmp", f"unix:{self.fast / 'qmp'},server=on,wait=off",
            *serial,
            "-kernel", str(self._image()), "-initrd", str(initrd),
            # Scenarios mark the log where a case begins; by default the kernel drops all but 10 such lines in 5 s.
            "-append", f"console=ttyS0 panic=-1 printk.devkmsg=on {self._append()}".strip(),
        ]  # fmt: skip

    def _disk(self) -> list[str]:
        """QEMU's arguments for a disk that outlives a reset, or for no reset at all."""
        if not self.config.disk:
            return ["-no-reboot"]
        disk = self.fast / "disk"
        with disk.open("wb") as file:
            file.truncate(self.config.disk * MIB)
        drive = f"file={disk},format=raw,if=none,id=disk"
        return ["-drive", drive, "-device", "virtio-blk-pci,drive=disk,bus=pcie.0"]

    def _image(self) -> Path:
        """The kernel in the form that starts fastest, if it starts once: at each reset, that of a machine that wakes up
        among them, QEMU writes what was in an ELF file anew."""
        return self.kernel.image if self.config.sleeps or self.config.disk else self.kernel.start

    def _smp(self) -> str:
        c = self.config
        return f"{c.cpus},maxcpus={c.cpus + c.more_cpus},threads={c.threads}"

    def _initrd(self, scenario: Path, arguments: list[str]) -> Path:
        stage = self.fast / "layer"
        stage.mkdir()
        (self.fast / "arguments").write_text(" ".join(arguments) + "\n")
        files = self.config.files | {"vm/scenario": scenario, "vm/arguments": self.fast / "arguments"}
        if self._coverage_dir:
            files["vm/coverage.ko"] = test_modules.build(self.config.kernel) / "coverage.ko"
        if self._switches:
            (self.fast / "mutant").write_text(f"on={os.environ.get('CCP_MUTANT', 0)}\n")
            files |= {"vm/mutants.ko": self._switches, "vm/mutant": self.fast / "mutant"}
        initrd = self.fast / "initrd"
        if self.config.kexec:
            following = self.fast / "initrd-following"
            stage_of_it = self.fast / "layer-following"
            stage_of_it.mkdir()
            initramfs.concatenate(
                [initramfs.small(), initramfs.layer(stage_of_it, self.kernel, self.config.driver, files)], following
            )
            files = files | {"boot/vmlinuz": self.kernel.image, "boot/initrd": following}
        # QEMU is large: a scenario that has nothing to run in it does without, a person's own script may want it.
        runs_guests = (
            any(name.startswith("guest/") for name in files)
            or scenario.parent != paths.VM_SCRIPTS
            or scenario.name == "shell.sh"
        )
        programs = initramfs.base() if runs_guests else initramfs.small()
        disk = ["virtio_blk"] if self.config.disk else []
        layer = initramfs.layer(stage, self.kernel, self.config.driver, files, disk)
        initramfs.concatenate([programs, layer], initrd)
        return initrd

    def shell(self) -> int:
        """A root shell on the terminal until it is left."""
        self._vm = self._shell_in_root() if self.config.kernel == "stock" else self._shell_in_initramfs()
        return self._vm.wait()

    def _shell_in_initramfs(self) -> subprocess.Popen:
        """Busybox and what scenarios have; the debug kernel has no drivers for more."""
        self._start_psps()
        serial = ["-serial", "mon:stdio", "-serial", "null"]
        return subprocess.Popen(self._qemu(self._initrd(paths.VM_SCRIPTS / "shell.sh", []), serial))

    def _shell_in_root(self) -> subprocess.Popen:
        """The root directory by way of virtme-ng and snp-qemu."""
        models = [
            f"--snp-logs={self.run_dir}", *(f"--snp-psp={word}" for word in self.config.psp_arguments()),
            *(f"--snp-cpu={word}" for word in self.config.cpu_arguments()),
        ]  # fmt: skip
        command = [
            *virtme.command(self.kernel.image, f"{self.memory}M", self.config.cpus),
            "--qemu", str(paths.SNP_QEMU), f"--qemu-opts={shlex.join(models)}",
            "--append",
            f"{virtme.ROOTFLAGS} {self._append()} ccp_rs_driver={self.config.driver} ccp_rs_cache={paths.CACHE}",
        ]  # fmt: skip
        # The machine's root is this root directory: its shell reads this file, virtme-init wants /etc/lvm.
        Path("/etc/lvm").mkdir(exist_ok=True)
        Path("/root/.bashrc").write_text(f". {paths.VM_SCRIPTS / 'shell.rc'}\n")
        return subprocess.Popen([str(word) for word in command], cwd="/tmp")

    def run(
        self,
        scenario: Path,
        arguments: list[str] = (),
        limit: float = 120,
        on_line: Callable[[str], None] | None = None,
        on_ask: Callable[[str], str | None] | None = None,
        judge: bool = True,
        then: float | None = None,
    ) -> Result:
        """Boot, run `scenario` (a shell script of selftests/vm) and wait for the end, at most `limit`
        seconds (those of the stock kernel). `on_line` gets each line of its output as it comes.

        A run that was not healthy is an error, unless somebody else is to `judge` (Result.wrong).

        A line "@ask QUESTION" is answered. `on_ask` may do that, and then the limit, or `then`, counts anew from
        there; by default "scan" is answered with the number of pages that are assigned in the RMP,
        "reports" with the CPU model's reports so far (KIND:cpuN:COUNT), "snp-state" with the CPUs that have
        SNP_EN as the CPU model sees them and the number of entries of the RMP that are not zero, "plug-cpu"
        plugs a CPU in, "last-boot" lets a machine with a disk end with its next reset, and everything else is an
        order for the PSP model (pspd --help)."""
        try:
            result = self._run(scenario, arguments, limit, on_line, on_ask, then or limit)
        except NoResult:
            raise
        except VmError as error:
            if judge and (wrong := self.wrong_until_its_end()):
                raise self._unhealthy([*wrong, f"and then: {error}"]) from None
            raise
        if judge and result.wrong:
            raise self._unhealthy([*result.wrong, f"logs: {result.run}"])
        return result

    def _unhealthy(self, why: list[str]) -> health.Unhealthy:
        text = "\n".join(why)
        (self.run_dir / "failure").write_text(f"{text}\n")
        return health.Unhealthy(text)

    def _run(
        self,
        scenario: Path,
        arguments: list[str],
        limit: float,
        on_line: Callable[[str], None] | None,
        on_ask: Callable[[str], str | None] | None,
        then: float,
    ) -> Result:
        limit *= self.kernel.patience
        self._channel = Channel(self.fast / "channel", self.run_dir / "result.log")
        initrd = self._initrd(scenario, list(arguments))
        if self.config.platform:
            self._start_psps()
        command = self._qemu(initrd, ["-serial", f"file:{self.run_dir / 'console.log'}", *self._channel.qemu()])
        (self.run_dir / "command").write_text("\n".join(command) + "\n")
        start = asked = time.monotonic()
        cpu_start = _cpu_seconds()
        with (self.run_dir / "qemu.log").open("w") as log:
            self._vm = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        lines = []
        while True:
            # Looked at first: what is in the channel after the end has all been said.
            code = self._vm.poll()
            for line in self._channel.lines(0 if code is not None else 0.1):
                lines.append(line)
                if on_line:
                    on_line(line)
                if line.startswith("@ask "):
                    question = line.removeprefix("@ask ")
                    answer = on_ask(question) if on_ask else None
                    if answer is not None:
                        asked, limit = time.monotonic(), then * self.kernel.patience
                    self._channel.answer(self._answer(question) if answer is None else answer)
            if code is not None:
                break
            if time.monotonic() - asked > limit:
                raise self._failure(f"no end within {limit:.0f} s")
        if code:
            qemu = (self.run_dir / "qemu.log").read_text().strip().splitlines()
            raise self._failure(f"QEMU ended with status {code}: {qemu[-1] if qemu else 'no message'}")
        if not lines or not (end := re.fullmatch(r"@exit (\d+)", lines[-1])):
            panic = re.search(r"Kernel panic - .*", self.console())
            raise self._failure(panic[0] if panic else "the machine went away before the scenario ended")
        seconds, cpu_seconds = time.monotonic() - start, _cpu_seconds() - cpu_start
        rmp = self.rmp()
        other_traces = [self.trace(n) for n in self.psps()[1:]]
        findings = self.evidence().findings()
        return Result(
            int(end[1]), lines[:-1], self.console(), self.trace(), other_traces, rmp, seconds, cpu_seconds,
            self.run_dir, findings, self._judge(findings),
        )  # fmt: skip

    def wrong_until_its_end(self) -> list[str]:
        """What is wrong with a machine that ended before the scenario, as it may have been meant to. What is left of it
        in the RMP is no sign."""
        try:
            evidence = self.evidence()
        except VmError:
            return []  # There was no machine yet.
        evidence.kernel, evidence.left = health.until_its_end(evidence.kernel), 0
        return self._judge(evidence.findings())

    def _judge(self, findings: list[str]) -> list[str]:
        return health.judge(findings, self.config.expects, self.config.allows)

    def evidence(self) -> health.Evidence:
        """What speaks for or against the health of the run so far."""
        evidence = self.models()
        evidence.kernel = self.console()
        evidence.trace = [entry for n in self.psps() for entry in self.trace(n)]
        return evidence

    def models(self) -> health.Evidence:
        """The models' part of that."""
        rmp = self.rmp()
        return health.Evidence(
            reports=rmp.get("reports", []),
            notes=self._lines("cpu.log"),
            complaints=[line for n in self.psps() for line in self._lines(f"pspd{self._models.suffix(n)}.log")],
            left=rmp.get("assigned", 0),
        )

    def _lines(self, name: str) -> list[str]:
        file = self.run_dir / name
        return file.read_text(errors="replace").splitlines() if file.exists() else []

    def psps(self) -> range:
        """Their numbers."""
        return range(len(self._models.psps))

    def trace(self, n: int = 0) -> list[dict]:
        """What the n-th PSP model has written so far."""
        file = self._models.trace_file(n)
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def order(self, order: str, n: int = 0) -> str:
        """Give the n-th PSP model an order (pspd --help); returns its answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(self._models.control(n)))
                connection.sendall(f"{order}\n".encode())
                return connection.makefile().readline().strip() or "error the PSP model went away"
        except OSError as error:
            return f"error the PSP model cannot be reached: {error}"

    def reports(self) -> list[dict]:
        """What the CPU model has reported so far, by CPU and kind."""
        return self._scan()["reports"] if self._modelled else []

    def rmp(self) -> dict:
        """What a scan of the whole RMP finds now."""
        return self._scan() if self._modelled else {}

    def _answer(self, question: str) -> str:
        match question:
            case "scan":
                return f"ok {self._scan()['assigned']}"
            case "reports":
                return " ".join(["ok", *(f"{r['report']}:cpu{r['cpu']}:{r['count']}" for r in self.reports())])
            case "snp-state":
                scan = self._scan()
                return f"ok snp_en={','.join(map(str, scan['cpus_with_snp_en']))} nonzero={scan['nonzero']}"
            case "last-boot":
                self._qmp("set-action", reboot="shutdown")
                return "ok"
            case "plug-cpu":
                return self._plug_cpu()
            case "stacks":
                # Of a CPU that runs a guest they are the guest's.
                text = self._qmp("human-monitor-command", **{"command-line": "info registers -a"})
                return " ".join(["ok", *re.findall(r"\bRSP=(\w+)", text)])
            case order:
                return self.order(order)

    def _plug_cpu(self) -> str:
        """Plug a CPU into the first slot that is free."""
        free = [slot for slot in self._qmp("query-hotpluggable-cpus") if "qom-path" not in slot]
        if not free:
            return "error there is no slot for another CPU (Config.more_cpus)"
        slot = min(free, key=lambda slot: [slot["props"][level] for level in ("socket-id", "core-id", "thread-id")])
        self._qmp("device_add", driver=slot["type"], **slot["props"])
        return "ok"

    def _qmp(self, command: str, **arguments):
        """QEMU's answer to a command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.fast / "qmp"))
            stream = connection.makefile("rw")
            stream.readline()  # the greeting
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
            if "error" in answer:
                raise VmError(f"QEMU refuses {command}: {answer['error']['desc']}")
            return answer["return"]

    def console(self) -> str:
        console = self.run_dir / "console.log"
        return console.read_text(errors="replace") if console.exists() else ""

    def _scan(self) -> dict:
        try:
            return self._models.scan()
        except ModelError as error:
            raise self._failure(str(error)) from None

    def _failure(self, reason: str) -> VmError:
        tail = "\n".join("  | " + line for line in self.console().splitlines()[-25:])
        result = self.run_dir / "result.log"
        output = result.read_text(errors="replace").splitlines()[-10:] if result.exists() else []
        scenario = "".join(f"\n  > {line}" for line in output)
        (self.run_dir / "failure").write_text(f"{reason}\n")
        kind = NoResult if not output or "Oops: int3" in self.console() else VmError
        return kind(
            f"{reason}\nlogs: {self.run_dir}\nend of the console:\n{tail or '  (nothing)'}\nend of the scenario's "
            f"output:{scenario or ' (nothing)'}"
        )


def boot(scenario: str, *arguments: str, limit: float = 120, **config) -> Result:
    """Run a scenario of selftests/vm in a machine of its own; `config` as in Config."""

    def run() -> Result:
        with Machine(Config(**config), Path(scenario).stem) as machine:
            return machine.run(paths.VM_SCRIPTS / scenario, arguments, limit)

    return once_more(run)
