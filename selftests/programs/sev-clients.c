// SPDX-License-Identifier: GPL-2.0
/*
 * sev-clients CLIENTS SECONDS: so many processes use the driver at once, each one thing after the other: calls of
 * /dev/sev, good and bad, launches of guests, parameters, files. Now and then one of them is killed, whatever it
 * is at, and another takes its place.
 *
 * "@did THING DONE FAILED LONGEST WHY": how often it was done, how often it did not end as it must, the longest time
 * that it took, in milliseconds, and how it ended instead. "@clients KILLED BUSY": processes that were killed, and
 * those among them that were at something.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/psp-sev.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 1000

static unsigned char blob[0x8000];
static int sev;

static int call(uint32_t cmd, void *data)
{
	struct sev_issue_cmd arg = { .cmd = cmd, .data = (uintptr_t)data };

	return ioctl(sev, SEV_ISSUE_CMD, &arg) ? errno : 0;
}

static int platform_status(void)
{
	return call(SEV_PLATFORM_STATUS, blob);
}

static int snp_platform_status(void)
{
	return call(SNP_PLATFORM_STATUS, blob);
}

static int get_id2(void)
{
	struct sev_user_data_get_id2 id = { .address = (uintptr_t)blob, .length = 0x80 };

	return call(SEV_GET_ID2, &id);
}

static int pdh(void)
{
	struct sev_user_data_pdh_cert_export export = {
		.pdh_cert_address = (uintptr_t)blob, .pdh_cert_len = 0x824,
		.cert_chain_address = (uintptr_t)blob + 0x1000, .cert_chain_len = 3 * 0x824,
	};

	return call(SEV_PDH_CERT_EXPORT, &export);
}

/* Firmware makes no keys while there is a guest of legacy SEV. */
static int unless_guests(int result)
{
	return result == EIO ? 0 : result;
}

static int pek_gen(void)
{
	return unless_guests(call(SEV_PEK_GEN, NULL));
}

static int pdh_gen(void)
{
	return unless_guests(call(SEV_PDH_GEN, NULL));
}

static int commit(void)
{
	return call(SNP_COMMIT, NULL);
}

static int bad_pointer(void)
{
	return call(SEV_PLATFORM_STATUS, (void *)0x10) == EFAULT ? 0 : EINVAL;
}

static int bad_command(void)
{
	return call(SEV_MAX, NULL) == EINVAL ? 0 : ENOMSG;
}

static int refused_by_firmware(void)
{
	struct sev_user_data_snp_config config = { .reported_tcb = ~0ull };

	return call(SNP_SET_CONFIG, &config) == EIO ? 0 : EINVAL;
}

static int set(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY), result;

	if (fd < 0)
		return errno;
	result = write(fd, value, strlen(value)) < 0 ? errno : 0;
	close(fd);
	return result;
}

static int parameter(void)
{
	char value[16];

	snprintf(value, sizeof(value), "%d", 300 + rand() % 300);
	return set("/sys/module/ccp/parameters/psp_cmd_timeout", value);
}

static int bad_parameter(void)
{
	return set("/sys/module/ccp/parameters/psp_cmd_timeout", "many") == EINVAL ? 0 : ENOMSG;
}

static int read_file(const char *file)
{
	int fd = open(file, O_RDONLY), result;

	if (fd < 0)
		return errno;
	result = read(fd, blob, sizeof(blob)) <= 0 ? errno : 0;
	close(fd);
	return result;
}

static int state(void)
{
	return read_file("/sys/kernel/debug/ccp/state");
}

static int window(void)
{
	return read_file("/sys/kernel/snp_host/state");
}

static int lost_pages(void)
{
	return read_file("/sys/kernel/ccp/lost_pages");
}

/* Another process launches a guest, and goes with this one. What does not go well is in its output. */
static int launch(const char *program)
{
	pid_t client = getpid(), pid = fork();
	int status;

	if (pid < 0)
		return errno;
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != client)
			_exit(0);
		execlp(program, program, NULL);
		_exit(2);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : ECHILD;
}

static int snp_guest(void)
{
	return launch("snp-launch");
}

static int sev_guest(void)
{
	return launch("sev-launch");
}

/*
 * No FACTORY_RESET: SEV would be stopped, and from then on started and stopped for each call that needs it, which takes
 * seconds on the debug kernel.
 */
static const struct {
	const char *name;
	int (*do_it)(void);
	int weight;
} things[] = {
	{ "platform-status", platform_status, 4 }, { "snp-platform-status", snp_platform_status, 4 },
	{ "get-id2", get_id2, 4 }, { "pdh", pdh, 2 }, { "pek-gen", pek_gen, 1 }, { "pdh-gen", pdh_gen, 1 },
	{ "commit", commit, 1 }, { "bad-pointer", bad_pointer, 2 },
	{ "bad-command", bad_command, 2 }, { "refused", refused_by_firmware, 2 }, { "parameter", parameter, 2 },
	{ "bad-parameter", bad_parameter, 1 }, { "state", state, 4 }, { "window", window, 2 },
	{ "lost-pages", lost_pages, 2 }, { "snp-guest", snp_guest, 3 }, { "sev-guest", sev_guest, 2 },
};
#define THINGS (sizeof(things) / sizeof(*things))

/* What all processes count. */
static struct {
	atomic_bool stop;
	struct {
		atomic_long done, failed, longest;
		atomic_int why;
	} of[THINGS];
	/* Whether this client is at something. */
	atomic_int busy[MOST];
} *shared;

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t choose(void)
{
	int sum = 0, at;

	for (size_t n = 0; n < THINGS; n++)
		sum += things[n].weight;
	at = rand() % sum;
	for (size_t n = 0;; n++) {
		at -= things[n].weight;
		if (at < 0)
			return n;
	}
}

static void client(int number)
{
	srand(getpid());
	sev = open("/dev/sev", O_RDWR);
	if (sev < 0)
		err(2, "/dev/sev");
	while (!atomic_load(&shared->stop)) {
		size_t n = choose();
		long took = milliseconds(), longest;
		int result;

		atomic_store(&shared->busy[number], 1);
		result = things[n].do_it();
		atomic_store(&shared->busy[number], 0);
		took = milliseconds() - took;
		atomic_fetch_add(&shared->of[n].done, 1);
		if (result) {
			atomic_fetch_add(&shared->of[n].failed, 1);
			atomic_store(&shared->of[n].why, result);
		}
		longest = atomic_load(&shared->of[n].longest);
		while (took > longest && !atomic_compare_exchange_weak(&shared->of[n].longest, &longest, took))
			;
	}
	_exit(0);
}

static pid_t start(int number)
{
	pid_t pid = fork();

	if (pid < 0)
		err(2, "fork");
	if (!pid)
		client(number);
	return pid;
}

int main(int argc, char **argv)
{
	int clients = argc > 2 ? atoi(argv[1]) : 0, killed = 0, busy = 0;
	pid_t pids[MOST];
	long until;

	if (clients < 1 || clients > MOST)
		errx(2, "usage: sev-clients CLIENTS SECONDS");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		err(2, "mmap");
	for (int n = 0; n < clients; n++)
		pids[n] = start(n);
	until = milliseconds() + 1000 * atol(argv[2]);
	while (milliseconds() < until) {
		int n = rand() % clients, status;

		usleep(50000);
		kill(pids[n], SIGKILL);
		if (waitpid(pids[n], &status, 0) != pids[n] || !WIFSIGNALED(status))
			errx(1, "client %d ended by itself, with status %#x", n, status);
		killed++;
		busy += atomic_exchange(&shared->busy[n], 0);
		pids[n] = start(n);
	}
	atomic_store(&shared->stop, 1);
	for (int n = 0; n < clients; n++)
		waitpid(pids[n], NULL, 0);
	for (size_t n = 0; n < THINGS; n++)
		printf("@did %s %ld %ld %ld %s\n", things[n].name, shared->of[n].done, shared->of[n].failed,
		       shared->of[n].longest, strerrorname_np(shared->of[n].why));
	printf("@clients %d %d\n", killed, busy);
	return 0;
}
