// SPDX-License-Identifier: GPL-2.0
/*
 * Read the dump of a kernel that has panicked from its first to its last byte: vmcore MARKER
 *
 * In the crash kernel. Says "@vmcore" with: the bytes that could be read; those that the headers
 * promise; the bytes of RAM among them; the CPUs that have a note with their registers; the release
 * in the VMCOREINFO note; how many pages of the dump are filled with MARKER and newlines.
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096UL
#define CHUNK (1UL << 20)
#define KERNEL_MAP 0xffffffff80000000UL /* The kernel's own text is in the dump a second time. */

static void read_at(int fd, void *to, size_t len, off_t at)
{
	if (pread(fd, to, len, at) != (ssize_t)len)
		err(1, "%zu bytes at %#lx", len, (long)at);
}

/* The number of notes of that type; of the last one of that name its contents are left in *found. */
static unsigned int notes(char *all, size_t len, unsigned int type, const char *name, char **found)
{
	unsigned int count = 0;
	size_t at = 0;

	while (at + sizeof(Elf64_Nhdr) <= len) {
		Elf64_Nhdr *note = (void *)(all + at);
		char *its_name = all + at + sizeof(*note), *contents = its_name + (note->n_namesz + 3) / 4 * 4;

		if (!note->n_namesz)
			break;
		if (note->n_type == type && !strcmp(its_name, name)) {
			count++;
			*found = contents;
		}
		at = contents + (note->n_descsz + 3) / 4 * 4 - all;
	}
	return count;
}

int main(int argc, char **argv)
{
	char page[PAGE + 32], release[64] = "none", *cpu = NULL, *info = NULL, *chunk = malloc(CHUNK), *all_notes = NULL;
	size_t promised = 0, ram = 0, length = 0, marked = 0, notes_size = 0;
	unsigned int cpus, n;
	Elf64_Ehdr header;
	Elf64_Phdr *parts;
	ssize_t got;
	int fd;

	if (argc != 2 || !chunk)
		errx(2, "usage: vmcore MARKER");
	while (length < PAGE)
		length += snprintf(page + length, sizeof(page) - length, "%s\n", argv[1]);
	fd = open("/proc/vmcore", O_RDONLY);
	if (fd < 0)
		err(1, "/proc/vmcore");
	read_at(fd, &header, sizeof(header), 0);
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) || header.e_type != ET_CORE)
		errx(1, "no ELF core file");
	parts = calloc(header.e_phnum, sizeof(*parts));
	if (!parts)
		err(1, "parts");
	read_at(fd, parts, header.e_phnum * sizeof(*parts), header.e_phoff);
	for (n = 0; n < header.e_phnum; n++) {
		if (parts[n].p_offset + parts[n].p_filesz > promised)
			promised = parts[n].p_offset + parts[n].p_filesz;
		if (parts[n].p_type == PT_LOAD && parts[n].p_vaddr < KERNEL_MAP)
			ram += parts[n].p_filesz;
		if (parts[n].p_type == PT_NOTE && !all_notes) {
			notes_size = parts[n].p_filesz;
			all_notes = calloc(1, notes_size + 1);
			if (!all_notes)
				err(1, "notes");
			read_at(fd, all_notes, notes_size, parts[n].p_offset);
		}
	}
	cpus = notes(all_notes, notes_size, NT_PRSTATUS, "CORE", &cpu);
	if (notes(all_notes, notes_size, 0, "VMCOREINFO", &info))
		sscanf(info, "OSRELEASE=%63s", release);
	/* From the first byte to the last, as makedumpfile and cp do. */
	for (length = 0; (got = read(fd, chunk, CHUNK)) > 0; length += got)
		for (n = 0; n + PAGE <= (size_t)got; n += PAGE)
			marked += !memcmp(chunk + n, page, PAGE);
	if (got < 0)
		err(1, "after %zu bytes", length);
	printf("@vmcore read=%zu promised=%zu ram=%zu cpus=%u release=%s marked=%zu\n", length, promised, ram, cpus,
	       release, marked);
	return 0;
}
