# SPDX-License-Identifier: GPL-2.0
"""A copy of the checkout in which bugs can be planted, below $CCP_CACHE/mutants: nothing else is touched."""

import os
import shutil
import signal
import subprocess

from . import paths

# What the copy's own cache directory has links to, because nothing there changes it.
SHARED = ("cargo", "kernel-release", "root", "target", "tools")


class SourceCopy:
    def __init__(self, name: str):
        self.work = paths.CACHE / "mutants" / name
        self.tree, self.cache = self.work / "tree", self.work / "cache"

    def refresh(self) -> list[str]:
        """The sources as they stand in the checkout; returns their names. A file has the time when it last changed in
        the copy (a bug that goes is a change, too), so that the build starts where the last one ended."""
        files = subprocess.run(
            [
                "git",
                "-c",
                f"safe.directory={paths.TOP}",
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ],
            cwd=paths.TOP,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        names = [os.fsdecode(name) for name in files.split(b"\0") if name]
        names = [name for name in names if (paths.TOP / name).exists()]
        shutil.rmtree(self.tree / "selftests", ignore_errors=True)  # a test that is gone must not stay behind
        self.tree.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                "rsync",
                "--links",
                "--perms",
                "--checksum",
                "--from0",
                "--files-from=-",
                f"{paths.TOP}/",
                f"{self.tree}/",
            ],
            check=True,
            input="".join(f"{name}\0" for name in names).encode(),
        )
        self.cache.mkdir(parents=True, exist_ok=True)
        for path in [paths.CACHE / name for name in SHARED] + list(paths.CACHE.glob("linux-*")):
            if path.exists() and not (self.cache / path.name).exists():
                (self.cache / path.name).symlink_to(path)
        return names

    def run(self, *command, limit: float) -> subprocess.CompletedProcess:
        """Run a command in the copy; one that does not end within `limit` seconds is killed with all that
        it started."""
        env = os.environ | {
            "CCP_CACHE": str(self.cache),
            "CARGO_TARGET_DIR": str(self.work / "target"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        process = subprocess.Popen(
            [str(c) for c in command],
            cwd=self.tree,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=limit)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGTERM)
            out, _ = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return subprocess.CompletedProcess(command, 124, f"{out}\nno end within {limit:.0f} s\n")
        return subprocess.CompletedProcess(command, process.returncode, out)
