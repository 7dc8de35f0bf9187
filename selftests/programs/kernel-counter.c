// SPDX-License-Identifier: GPL-2.0
/*
 * Print an int variable of the running kernel: kernel-counter SYMBOL | 0xADDRESS
 *
 * The address comes from /proc/kallsyms, the value from /proc/kcore, so that a test need not believe
 * what a driver says of itself.
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned long address_of(const char *symbol)
{
	FILE *list = fopen("/proc/kallsyms", "r");
	unsigned long address;
	char line[512], name[256];

	if (!list)
		err(2, "/proc/kallsyms");
	while (fgets(line, sizeof(line), list)) {
		if (sscanf(line, "%lx %*c %255s", &address, name) == 2 && !strcmp(name, symbol)) {
			fclose(list);
			if (!address)
				errx(2, "the kernel hides its addresses");
			return address;
		}
	}
	errx(2, "the kernel has no symbol %s", symbol);
}

int main(int argc, char **argv)
{
	unsigned long address;
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	int core, value;

	if (argc != 2)
		errx(2, "usage: kernel-counter SYMBOL | 0xADDRESS");
	/* Who asks often saves the kernel from listing all its symbols. */
	address = strncmp(argv[1], "0x", 2) ? address_of(argv[1]) : strtoul(argv[1], NULL, 16);
	core = open("/proc/kcore", O_RDONLY);
	if (core < 0 || pread(core, &header, sizeof(header), 0) != sizeof(header))
		err(2, "/proc/kcore");
	for (int i = 0; i < header.e_phnum; i++) {
		if (pread(core, &segment, sizeof(segment), header.e_phoff + i * sizeof(segment)) != sizeof(segment))
			err(2, "/proc/kcore");
		if (segment.p_type != PT_LOAD || address < segment.p_vaddr ||
		    address - segment.p_vaddr > segment.p_memsz - sizeof(value))
			continue;
		if (pread(core, &value, sizeof(value), segment.p_offset + address - segment.p_vaddr) != sizeof(value))
			err(2, "/proc/kcore");
		printf("%d\n", value);
		return 0;
	}
	errx(2, "/proc/kcore does not cover %s", argv[1]);
}
