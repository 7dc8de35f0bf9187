// SPDX-License-Identifier: GPL-2.0
/*
 * Run a command in which the Nth allocation fails: fail-nth N COMMAND [ARG...]
 *
 * Which allocations count is said in /sys/kernel/debug/{failslab,fail_page_alloc}; the kernel counts in
 * the task that runs the command, not in its children, and keeps the count over exec. Prints
 * "@fail-nth LEFT", 0 if the failure came, and ends with the command's status.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void arm(const char *nth)
{
	FILE *file = fopen("/proc/self/fail-nth", "w");

	if (!file || fputs(nth, file) < 0 || fclose(file))
		err(2, "/proc/self/fail-nth");
}

static int left_of(pid_t task)
{
	char name[64];
	FILE *file;
	int left;

	snprintf(name, sizeof(name), "/proc/%d/fail-nth", task);
	file = fopen(name, "r");
	if (!file || fscanf(file, "%d", &left) != 1)
		err(2, "%s", name);
	fclose(file);
	return left;
}

int main(int argc, char **argv)
{
	siginfo_t end;
	pid_t task;

	if (argc < 3)
		errx(2, "usage: fail-nth N COMMAND [ARG...]");
	task = fork();
	if (task < 0)
		err(2, "fork");
	if (!task) {
		arm(argv[1]);
		execvp(argv[2], argv + 2);
		err(127, "%s", argv[2]);
	}
	/* The task has ended but stays readable until it is waited for once more. */
	if (waitid(P_PID, task, &end, WEXITED | WNOWAIT))
		err(2, "waitid");
	printf("@fail-nth %d\n", left_of(task));
	return end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status;
}
