// SPDX-License-Identifier: GPL-2.0
/*
 * Put breakpoints over instructions that another CPU executes, and take them away again, as the
 * kernel does where it changes its own code: gone-breakpoint SECONDS. Prints how often it did, and
 * how often the other CPU went on meeting a breakpoint that was gone. All further CPUs are kept
 * busy, so that a CPU of an emulator loses its processor at any moment.
 */
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NOP 0x90
#define INT3 0xcc
#define RET 0xc3
#define PLACES 64

static volatile unsigned char *code;
static atomic_ulong traps;
static atomic_int over;

/* Execution goes on behind the breakpoint, where the next instruction is. */
static void on_trap(int signal)
{
	(void)signal;
	atomic_fetch_add(&traps, 1);
}

static void pin(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		err(1, "CPU %d", cpu);
}

static void *keep_busy(void *cpu)
{
	pin((long)cpu);
	while (!atomic_load(&over))
		;
	return NULL;
}

static void *execute(void *cpu)
{
	pin((long)cpu);
	while (!atomic_load(&over))
		((void (*)(void))code)();
	return NULL;
}

static void spin(unsigned long rounds)
{
	for (volatile unsigned long n = 0; n < rounds; n++)
		;
}

/* Whether more traps come than those that were on their way. */
static int goes_on(unsigned long before)
{
	spin(2000);
	if (atomic_load(&traps) - before < 2)
		return 0;
	usleep(20000);
	before = atomic_load(&traps);
	usleep(20000);
	return atomic_load(&traps) != before;
}

int main(int argc, char **argv)
{
	unsigned long rounds = 0, gone = 0, end;
	pthread_t thread;
	long cpu;

	if (argc != 2)
		errx(2, "usage: gone-breakpoint SECONDS");
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		err(1, "memory");
	memset((void *)code, NOP, PLACES);
	code[PLACES] = RET;
	signal(SIGTRAP, on_trap);
	for (cpu = sysconf(_SC_NPROCESSORS_ONLN) - 1; cpu > 0; cpu--)
		if (pthread_create(&thread, NULL, cpu == 1 ? execute : keep_busy, (void *)cpu))
			errx(1, "no thread");
	pin(0);
	for (end = time(NULL) + atoi(argv[1]); (unsigned long)time(NULL) < end; rounds++) {
		volatile unsigned char *place = &code[rounds % PLACES];
		unsigned long before;

		*place = INT3;
		spin(rounds % 300);
		*place = NOP;
		before = atomic_load(&traps);
		if (goes_on(before)) {
			gone++;
			/* QEMU throws the block away with the next store. */
			*place = NOP;
		}
	}
	atomic_store(&over, 1);
	pthread_join(thread, NULL);
	printf("rounds %lu traps %lu gone %lu\n", rounds, atomic_load(&traps), gone);
	return 0;
}
