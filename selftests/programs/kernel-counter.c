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

/* Linux lists its 200,000 symbols anew for every reader, so what has been found is kept until the machine restarts. */
static FILE *note(const char *symbol, const char *mode)
{
	char name[300];

	snprintf(name, sizeof(name), "/run/address-of-%s", symbol);
	return fopen(name, mode);
}

static unsigned long find(const char *symbol)
{
	int list = open("/proc/kallsyms", O_RDONLY);
	/* The part of a line that the last piece ended with, and the next piece. */
	static char buffer[1024 + 65536 + 1];
	char needle[300], *end, *line;
	size_t kept = 0;
	ssize_t got;

	if (list < 0)
		err(2, "/proc/kallsyms");
	snprintf(needle, sizeof(needle), " %s\n", symbol);
	while ((got = read(list, buffer + kept, sizeof(buffer) - 1 - kept)) > 0) {
		buffer[kept + got] = 0;
		end = strstr(buffer, needle);
		if (end) {
			for (line = end; line > buffer && line[-1] != '\n'; line--)
				;
			close(list);
			return strtoul(line, NULL, 16);
		}
		line = strrchr(buffer, '\n');
		line = line ? line + 1 : buffer;
		kept = strlen(line);
		if (kept > 1024)
			errx(2, "/proc/kallsyms has a line of more than 1024 characters");
		memmove(buffer, line, kept);
	}
	errx(2, "the kernel has no symbol %s", symbol);
}

static unsigned long address_of(const char *symbol)
{
	unsigned long address = 0;
	FILE *noted = note(symbol, "r");

	if (noted) {
		if (fscanf(noted, "%lx", &address) != 1)
			address = 0;
		fclose(noted);
	}
	if (address)
		return address;
	address = find(symbol);
	if (!address)
		errx(2, "the kernel hides its addresses");
	noted = note(symbol, "w");
	if (noted) {
		fprintf(noted, "%lx\n", address);
		fclose(noted);
	}
	return address;
}

int main(int argc, char **argv)
{
	unsigned long address;
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	int core, value;

	if (argc != 2)
		errx(2, "usage: kernel-counter SYMBOL | 0xADDRESS");
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
