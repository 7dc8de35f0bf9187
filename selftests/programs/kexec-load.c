// SPDX-License-Identifier: GPL-2.0
/*
 * Load a kernel that takes over without a reset, and go there:
 *
 *   kexec-load next KERNEL INITRD PARAMETERS	for kexec-load go
 *   kexec-load crash KERNEL INITRD PARAMETERS	for a panic; needs crashkernel=
 *   kexec-load go	devices are shut down as for a restart, then the loaded kernel starts
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int opened(const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err(2, "%s", file);
	return fd;
}

int main(int argc, char **argv)
{
	unsigned long flags;

	if (argc == 2 && !strcmp(argv[1], "go")) {
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
		err(1, "the loaded kernel does not start");
	}
	if (argc != 5 || (strcmp(argv[1], "next") && strcmp(argv[1], "crash")))
		errx(2, "usage: kexec-load next|crash KERNEL INITRD PARAMETERS, or kexec-load go");
	flags = strcmp(argv[1], "crash") ? 0 : KEXEC_FILE_ON_CRASH;
	if (syscall(SYS_kexec_file_load, opened(argv[2]), opened(argv[3]), strlen(argv[4]) + 1, argv[4], flags))
		err(1, "the kernel cannot be loaded");
	return 0;
}
