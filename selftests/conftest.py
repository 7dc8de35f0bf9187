# SPDX-License-Identifier: GPL-2.0
"""What the tests share: booting machines, and the demo's run for each driver, which is done once."""

import collections
import functools
import importlib.machinery
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from vmlib import kernels, launch, paths, suite, test_modules  # noqa: E402
from vmlib.machine import Config, Machine, boot, once_more  # noqa: E402, F401


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="whole matrices instead of samples")
    days = int(time.time()) // 86400
    parser.addoption("--turn", type=int, default=days, help="which part a sample is that changes from day to day")


# CPU time when a test began.
BEGUN = pytest.StashKey[float]()
# The files that take a minute or more, longest first.
MINUTES = [
    "hooked",
    "remedies",
    "platform",
    "guest",
    "fault_matrix",
    "allocations",
    "launch",
    "packages",
    "window",
    "sources",
    "compile_fail",
    "crash",
    "prepare",
    "snp_host",
    "messages",
    "services",
    "kexec",
    "hot_load",
    "hooked_debug",
    "leave",
    "runner",
    "faults",
    "host_check",
    "panic",
    "init",
]
LONGEST = [f"selftests/test_{name}.py" for name in MINUTES]


class LongestFirst(LoadFileScheduling):
    """Gives the workers the files that take longest first, so that in the end none is alone with one of them. xdist
    itself begins with those that have most tests."""

    def _assign_work_unit(self, node):
        first = min(self.workqueue, key=lambda file: LONGEST.index(file) if file in LONGEST else len(LONGEST))
        self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config, log):
    return LongestFirst(config, log)


def _skip_what_other_kernels_lack():
    """The kernel that set-up chose has all of it: a debug kernel, a kvm-amd with hooks (make test K=RELEASE)."""
    try:
        return (yield)
    except Exception as error:
        cause = error.__cause__ or error
        if paths.IS_CHOSEN or not isinstance(cause, kernels.NotBuilt):
            raise
        pytest.skip(str(cause))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup():
    return (yield from _skip_what_other_kernels_lack())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    return (yield from _skip_what_other_kernels_lack())


def owner_key(scratch: Path, name: str) -> tuple[Path, Path]:
    """A new key of the machine's owner and its certificate, by the commands of Documentation/installing.md."""
    key, certificate = scratch / "MOK.priv", scratch / "MOK.der"
    subprocess.run(
        ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500", "-subj", f"/CN={name}/",
         "-keyout", key, "-outform", "DER", "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


def script(name: str):
    """A program of scripts/ as a module."""
    loader = importlib.machinery.SourceFileLoader(f"script_{name}", str(paths.TOP / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def note(record_property):
    """Say something that stands in the summary, also if the test passes."""
    return functools.partial(record_property, "note")


def cpu_seconds() -> float:
    """What this process and those that it has waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    item.config.stash[BEGUN] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if call.when == "teardown":
        item.user_properties.append(("cpu", cpu_seconds() - item.config.stash[BEGUN]))
    return (yield)


def say_who_costs_most(terminalreporter):
    """CPU time by file, which depends less on what else the machine does than the time that passes."""
    files = collections.Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if getattr(report, "when", None) == "teardown":
            files[report.nodeid.split("::")[0]] += dict(report.user_properties)["cpu"]
    if not files:
        return
    terminalreporter.write_line(f"# {files.total():.0f} s of CPU time; of these")
    for file, seconds in files.most_common(25):
        terminalreporter.write_line(f"# {seconds:6.0f} s {file.removeprefix('selftests/')}")


def pytest_terminal_summary(terminalreporter):
    say_who_costs_most(terminalreporter)
    for reports in terminalreporter.stats.values():
        calls = (report for report in reports if getattr(report, "when", None) == "call")
        for name, value in (pair for report in calls for pair in report.user_properties):
            if name == "note":
                terminalreporter.write_line(f"# {value}")


def values(result, key: str) -> list[str]:
    """What the scenario said of `key`, a line each."""
    return [line.split(" ", 1)[1] for line in result.lines if line.startswith(f"@{key} ")]


def in_turn(scenario: str, cases: list[suite.Case], limit: float = 120, **config) -> dict[str, suite.Outcome]:
    """Cases that take the same machine, in one; by their names."""
    outcomes = suite.run(Config(**config), paths.VM_SCRIPTS / scenario, cases, limit, Path(scenario).stem)
    return {outcome.case.name: outcome for outcome in outcomes}


def module(name: str) -> Path:
    """A module of selftests/modules, built for the stock kernel."""
    return test_modules.build("stock") / f"{name}.ko"


@functools.cache
def first_launch(driver: str, kernel: str = "stock", cycles: int = 1, more: tuple[tuple[str, Path], ...] = ()):
    """The scenario of the demo, so many times in one machine: (result, launches). `more` are further
    files, (name inside, file outside)."""
    with tempfile.TemporaryDirectory() as scratch:
        files = launch.guest_files(Path(scratch))
        config = Config(
            driver=driver, kernel=kernel, files={f"guest/{name}": file for name, file in files.items()} | dict(more)
        )

        def run():
            with Machine(config, f"first-launch-{driver}-{kernel}") as machine:
                return machine.run(paths.VM_SCRIPTS / "first-launch.sh", [str(cycles)], limit=300 * cycles)

        result = once_more(run)
        return result, launch.launches(result, files)


@pytest.fixture
def long(request) -> bool:
    """Whole matrices instead of samples."""
    return request.config.getoption("--long")


@pytest.fixture
def turn(request) -> int:
    """Samples that change from day to day are those of this one."""
    return request.config.getoption("--turn")


@pytest.fixture(params=["intree", "ours"])
def driver(request):
    return request.param
