// SPDX-License-Identifier: GPL-2.0
/*
 * Calls of /dev/sfs: sfs-ioctl NAME CALL [PACKAGE]. A line each: "@sfs NAME RESULT STATUS EXTENDED BYTES".
 *
 * Statuses are what the caller has put there if the driver wrote none; BYTES are the first of the
 * answer.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* include/uapi/linux/psp-sfs.h, which Debian does not install. */
struct versions {
	unsigned char blob[4096];
	uint32_t status, extended;
} __attribute__((packed));

struct update {
	char name[64];
	uint32_t status, extended;
} __attribute__((packed));

#define SFS_VERSIONS _IOWR('S', 1, struct versions)
#define SFS_UPDATE _IOWR('S', 2, struct update)

static struct versions versions = { .status = 0xdead, .extended = 0xbeef };
static struct update update = { .status = 0xdead, .extended = 0xbeef };

int main(int argc, char **argv)
{
	/* The last bytes of a page with nothing behind it. */
	char *edge = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t status = 0xdead, extended = 0xbeef;
	const char *call;
	int fd, result;

	if (argc < 3)
		errx(2, "usage: sfs-ioctl NAME CALL [PACKAGE]");
	call = argv[2];
	fd = open("/dev/sfs", strcmp(call, "versions-read-only") ? O_RDWR : O_RDONLY);
	if (fd < 0) {
		printf("@sfs %s open:%s\n", argv[1], strerrorname_np(errno));
		return 0;
	}
	if (edge == MAP_FAILED || munmap(edge + 0x1000, 0x1000))
		err(2, "mmap");
	memset(update.name, 'x', sizeof(update.name));
	if (argc > 3)
		strncpy(update.name, argv[3], sizeof(update.name));
	if (!strncmp(call, "versions", 8) && call[8] != '-') {
		result = ioctl(fd, SFS_VERSIONS, &versions);
	} else if (!strcmp(call, "versions-read-only")) {
		result = ioctl(fd, SFS_VERSIONS, &versions);
	} else if (!strcmp(call, "versions-null")) {
		result = ioctl(fd, SFS_VERSIONS, NULL);
	} else if (!strcmp(call, "versions-cut")) {
		/* The blob fits, the statuses do not. */
		result = ioctl(fd, SFS_VERSIONS, edge);
	} else if (!strcmp(call, "versions-kernel")) {
		result = ioctl(fd, SFS_VERSIONS, (void *)0xffff888000001000);
	} else if (!strcmp(call, "update")) {
		result = ioctl(fd, SFS_UPDATE, &update);
	} else if (!strcmp(call, "update-null")) {
		result = ioctl(fd, SFS_UPDATE, NULL);
	} else if (!strcmp(call, "update-cut")) {
		memcpy(edge + 0x1000 - 64, update.name, 64);
		result = ioctl(fd, SFS_UPDATE, edge + 0x1000 - 64);
	} else if (!strcmp(call, "unknown-number")) {
		result = ioctl(fd, _IOWR('S', 3, struct versions), &versions);
	} else if (!strcmp(call, "wrong-size")) {
		result = ioctl(fd, _IOWR('S', 1, char[8]), &versions);
	} else {
		errx(2, "no call %s", call);
	}
	if (!strncmp(call, "versions", 8)) {
		status = versions.status;
		extended = versions.extended;
	} else if (!strncmp(call, "update", 6)) {
		status = update.status;
		extended = update.extended;
	}
	printf("@sfs %s %s %#x %#x ", argv[1], result < 0 ? strerrorname_np(errno) : "0", status, extended);
	for (int i = 0; i < 20; i++)
		printf("%02x", versions.blob[i]);
	putchar('\n');
	return 0;
}
