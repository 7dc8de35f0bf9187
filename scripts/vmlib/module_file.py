# SPDX-License-Identifier: GPL-2.0
"""What a built module (.ko) says of itself: the messages that it prints, and its KUnit suites."""

import struct
import sys
from pathlib import Path
from typing import NamedTuple

# <linux/elf.h>
SHT_SYMTAB, SHT_RELA, SHT_NOBITS = 2, 4, 8
R_X86_64_64 = 1


class Place(NamedTuple):
    section: int
    offset: int


class ModuleFile:
    def __init__(self, path: Path):
        file = path.read_bytes()
        (headers,) = struct.unpack_from("<Q", file, 40)
        size, count, names = struct.unpack_from("<HHH", file, 58)
        # Elf64_Shdr: name, type, flags, addr, offset, size, link, info, addralign, entsize
        rows = [struct.unpack_from("<IIQQQQIIQQ", file, headers + n * size) for n in range(count)]
        self._sections = [b"" if row[1] == SHT_NOBITS else file[row[4] :][: row[5]] for row in rows]
        self._names = [self.text(Place(names, row[0])) for row in rows]
        (symtab,) = (n for n, row in enumerate(rows) if row[1] == SHT_SYMTAB)
        # Elf64_Sym: name, info, other, shndx, value, size
        self._symbols = [
            (self.text(Place(rows[symtab][6], symbol[0])), Place(*symbol[3:5]), symbol[5])
            for symbol in struct.iter_unpack("<IBBHQQ", self._sections[symtab])
        ]
        # Where the address of something stands -> what it is the address of, in order. In data addresses are whole; in
        # code they may be relative to the end of their own 4 bytes.
        pointers, self._code_points_to = {}, set()
        for n, row in enumerate(rows):
            if row[1] != SHT_RELA or self._names[row[7]].startswith(".debug"):
                continue
            for offset, info, addend in struct.iter_unpack("<QQq", self._sections[n]):
                _, symbol, _ = self._symbols[info >> 32]
                target = Place(symbol.section, symbol.offset + addend)
                if info & 0xFFFFFFFF == R_X86_64_64:
                    pointers[Place(row[7], offset)] = target
                elif "text" in self._names[row[7]]:
                    self._code_points_to |= {target, Place(target.section, target.offset + 4)}
        self._pointers = dict(sorted(pointers.items()))

    def text(self, place: Place) -> str:
        """The C string at a place."""
        section = self._sections[place.section]
        return section[place.offset : section.index(0, place.offset)].decode()

    def _targets(self, section: int, start: int = 0, size: int = sys.maxsize) -> list[Place]:
        """What the pointers in a part of a section point to, in order."""
        inside = (place for place in self._pointers if place.section == section and 0 <= place.offset - start < size)
        return [self._pointers[place] for place in inside]

    def messages(self) -> list[list[str]]:
        """The literal parts of each line that the module prints, in Rust (values stand between them): core::fmt gets
        an array of strings, and the last of a line ends in a newline."""
        rodata = self._names.index(".rodata")
        data, lines, parts, end = self._sections[rodata], [], [], None
        for place, target in self._pointers.items():
            if place.section != rodata or target.section != rodata or place.offset + 16 > len(data):
                continue
            if place != end or place in self._code_points_to:
                parts = []
            end = Place(rodata, place.offset + 16)
            (length,) = struct.unpack_from("<Q", data, place.offset + 8)
            parts.append(data[target.offset : target.offset + length].decode(errors="replace"))
            if parts[-1].endswith("\n"):
                lines.append([*parts[:-1], parts[-1].removesuffix("\n")])
                parts = []
        return lines

    def kunit_suites(self) -> dict[str, list[str]]:
        """Suite -> its tests. A struct kunit_suite begins with its name, and points to an array of struct kunit_case,
        which have a function and a name each."""
        arrays = {place: size for name, place, size in self._symbols if "TEST_CASES" in name}
        suites = {}
        for suite in self._targets(self._names.index(".kunit_test_suites")):
            array = next(target for target in self._targets(suite.section, suite.offset) if target in arrays)
            cases = self._targets(array.section, array.offset, arrays[array])
            names = [target for target in cases if not self._names[target.section].startswith(".text")]
            suites[self.text(suite)] = [self.text(name) for name in names]
        return suites
