// SPDX-License-Identifier: GPL-2.0
/*
 * Execute FXRSTOR on one CPU, for ever: fxrstor CPU. In QEMU that instruction changes a flag of the
 * first CPU from any other (qemu/ignne.rs of the CPU model), while guests come and go there.
 */
#include <err.h>
#include <sched.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	static char state[512] __attribute__((aligned(16)));
	cpu_set_t cpus;

	if (argc != 2)
		errx(2, "usage: fxrstor CPU");
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[1]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		err(1, "CPU %s", argv[1]);
	asm volatile("fxsave %0" : "=m"(state));
	for (;;)
		asm volatile("fxrstor %0" : : "m"(state));
}
