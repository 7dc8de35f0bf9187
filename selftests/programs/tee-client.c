// SPDX-License-Identifier: GPL-2.0
/*
 * A client of /dev/tee0: tee-client DIGIT [FUNCTION]: opens a session with the application whose UUID has
 * that hexadecimal digit alone, and has it add two numbers, reverse bytes in shared memory, and do FUNCTION.
 * Lines "@tee WHAT …", with GlobalPlatform's codes.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tee.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int device;

static const char *result(int value)
{
	return value < 0 ? strerrorname_np(errno) : "0";
}

static struct {
	struct tee_ioctl_open_session_arg arg;
} session;

static struct {
	struct tee_ioctl_invoke_arg arg;
	struct tee_ioctl_param param;
} invoke;

static const char *do_invoke(unsigned int function)
{
	struct tee_ioctl_buf_data data = { .buf_ptr = (uintptr_t)&invoke, .buf_len = sizeof(invoke) };

	invoke.arg.func = function;
	invoke.arg.session = session.arg.session;
	invoke.arg.num_params = 1;
	invoke.arg.ret = 0xdead;
	return result(ioctl(device, TEE_IOC_INVOKE, &data));
}

int main(int argc, char **argv)
{
	struct tee_ioctl_buf_data data = { .buf_ptr = (uintptr_t)&session, .buf_len = sizeof(session) };
	struct tee_ioctl_shm_alloc_data memory = { .size = 0x3000 };
	struct tee_ioctl_close_session_arg close_arg;
	struct tee_ioctl_version_data version;
	const char *done;
	char *bytes;
	int shared;

	if (argc < 2)
		errx(2, "usage: tee-client DIGIT [FUNCTION]");
	device = open("/dev/tee0", O_RDWR);
	if (device < 0 || ioctl(device, TEE_IOC_VERSION, &version))
		err(2, "/dev/tee0");
	printf("@tee version %u %#x\n", version.impl_id, version.gen_caps);
	memset(session.arg.uuid, 0x11 * strtoul(argv[1], NULL, 16), sizeof(session.arg.uuid));
	done = result(ioctl(device, TEE_IOC_OPEN_SESSION, &data));
	printf("@tee open-%s %s %#x %u\n", argv[1], done, session.arg.ret, session.arg.ret_origin);
	if (strcmp(done, "0") || session.arg.ret)
		return 0;

	invoke.param = (struct tee_ioctl_param){ .attr = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, .a = 40, .b = 2 };
	done = do_invoke(0);
	printf("@tee sum-%s %s %#x %u %llu %#llx\n", argv[1], done, invoke.arg.ret, invoke.arg.ret_origin,
	       invoke.param.a, invoke.param.b);

	shared = ioctl(device, TEE_IOC_SHM_ALLOC, &memory);
	bytes = shared < 0 ? MAP_FAILED : mmap(NULL, 0x3000, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	if (bytes == MAP_FAILED) {
		printf("@tee memory-%s %s\n", argv[1], strerrorname_np(errno));
	} else {
		strcpy(bytes + 0xffc, "stressed");
		invoke.param = (struct tee_ioctl_param){ .attr = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
							 .a = 0xffc, .b = 8, .c = memory.id };
		done = do_invoke(1);
		printf("@tee reverse-%s %s %#x %u %s\n", argv[1], done, invoke.arg.ret, invoke.arg.ret_origin,
		       bytes + 0xffc);
		munmap(bytes, 0x3000);
		close(shared);
	}
	if (argc > 2) {
		invoke.param = (struct tee_ioctl_param){ .attr = TEE_IOCTL_PARAM_ATTR_TYPE_NONE };
		done = do_invoke(strtoul(argv[2], NULL, 0));
		printf("@tee function-%s %s %#x %u\n", argv[1], done, invoke.arg.ret, invoke.arg.ret_origin);
	}
	close_arg.session = session.arg.session;
	printf("@tee close-%s %s\n", argv[1], result(ioctl(device, TEE_IOC_CLOSE_SESSION, &close_arg)));
	printf("@tee closed-%s %s\n", argv[1], result(ioctl(device, TEE_IOC_CLOSE_SESSION, &close_arg)));
	return 0;
}
