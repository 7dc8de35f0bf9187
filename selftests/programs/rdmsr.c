// SPDX-License-Identifier: GPL-2.0
/*
 * Print an MSR of every online CPU: rdmsr NUMBER gives lines "CPU VALUE", with "none" for a value that
 * cannot be read. Needs the msr module.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[64];

	if (argc != 2)
		errx(2, "usage: rdmsr NUMBER");
	for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); cpu++) {
		uint64_t value;
		int fd;

		snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (pread(fd, &value, sizeof(value), strtoul(argv[1], NULL, 0)) == sizeof(value))
			printf("%d %#lx\n", cpu, value);
		else
			printf("%d none\n", cpu);
		close(fd);
	}
	return 0;
}
