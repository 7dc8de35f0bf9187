# SPDX-License-Identifier: GPL-2.0
"""What the types of the driver must carry: mistakes of ownership and order do not compile.

Each file of compile-fail/ is a module that is put into a copy of the driver's sources, below the
source file that its "in:" line names, so that it sees what that file sees. It is compiled with the
compiler's flags of the last build of ccp.ko. With `--cfg refused` there must be exactly one error,
on the line marked "//~ CODE TEXT": CODE is the error code or lint ("-" for an error without), TEXT
stands in the compiler's message, with types by their bare names. Without it the file must compile, so
that the error is that of the mistake alone.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from vmlib import paths

SNIPPETS = sorted((paths.TOP / "selftests/compile-fail").glob("*.rs"))


def rustc(*arguments: str) -> list[str]:
    """The command that built ccp.ko, to check without code; to be run in the modules' directory."""
    saved = (paths.OUR_MODULES / "rust/ccp/.ccp.o.cmd").read_text().splitlines()[0].partition(" := ")[2]
    saved = re.sub(r"--out-dir \S+|--emit=\S+|\S+/ccp\.rs", "", saved)
    return ["bash", "-c", f'{saved} --emit=metadata --error-format=json "$@"', "bash", *arguments]


def errors(snippets: list[Path], scratch: Path, *arguments: str) -> list[dict]:
    """What the compiler says of the driver with these modules in it."""
    shutil.copytree(paths.TOP / "rust", scratch / "rust")
    for snippet in snippets:
        parent = scratch / "rust/ccp" / re.search(r"^//! in: (\S+)$", snippet.read_text(), re.M)[1]
        name = snippet.stem.replace("-", "_")
        with parent.open("a") as file:
            # What is unused or unreachable because of the other variant is no matter here.
            file.write(
                f'\n#[allow(dead_code, unused_variables, unused_mut, unused_imports)]\n#[path = "{snippet}"]\nmod '
                f"{name};\n"
            )
    run = subprocess.run(
        rustc("--out-dir", str(scratch), *arguments, str(scratch / "rust/ccp/ccp.rs")),
        cwd=paths.OUR_MODULES, capture_output=True, text=True,
        env=os.environ | {"RUSTC_BOOTSTRAP": "1", "CCP_BINDINGS": str(paths.OUR_MODULES / "rust/ccp_bindings.rs")},
    )  # fmt: skip
    said = [json.loads(line) for line in run.stderr.splitlines() if line.startswith("{")]
    found = [message for message in said if message["level"] == "error" and message["spans"]]
    assert bool(found) == bool(run.returncode), run.stderr
    return found


def rendered(found: list[dict]) -> str:
    return "\n".join(message["rendered"] for message in found) or "(no error)"


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda path: path.stem)
def test_refused(snippet, tmp_path):
    marks = [
        (number, *mark.groups())
        for number, line in enumerate(snippet.read_text().splitlines(), 1)
        if (mark := re.search(r"//~ (\S+) (.+)", line))
    ]
    assert len(marks) == 1, "one line is marked with //~"
    line, code, text = marks[0]
    found = errors([snippet], tmp_path, "--cfg", "refused")
    assert len(found) == 1, rendered(found)
    message = found[0]
    assert (message["code"] or {"code": "-"})["code"] == code, rendered(found)
    # The sources' own directory is left out of names.
    where = [(paths.TOP / span["file_name"], span["line_start"]) for span in message["spans"] if span["is_primary"]]
    assert where == [(snippet, line)], rendered(found)
    # How much of a type's path is shown depends on what other names there are.
    said = re.sub(r"\b([a-z_]\w*::)+", "", message["rendered"].replace(f"//~ {code} {text}", ""))
    assert text in said, rendered(found)


def test_without_the_mistake_they_compile(tmp_path):
    assert len(SNIPPETS) > 20
    found = errors(SNIPPETS, tmp_path)
    assert not found, rendered(found)
