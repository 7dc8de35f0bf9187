/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs that launch a guest share: a line per step, "@launch STEP ERRNO error=STATUS" (errno by
 * name, 0 if all is well), and the end at the first step that fails; closing the files then takes
 * everything down.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static int sev = -1, vm = -1;

static void step(const char *name, int result, unsigned int error)
{
	printf("@launch %s %s error=%#x\n", name, result < 0 ? strerrorname_np(errno) : "0", error);
	fflush(stdout);
	if (result < 0)
		exit(1);
}

static void issue(const char *name, unsigned int id, void *data)
{
	struct kvm_sev_cmd cmd = { .id = id, .data = (uintptr_t)data, .sev_fd = sev };
	int result = ioctl(vm, KVM_MEMORY_ENCRYPT_OP, &cmd);

	step(name, result, cmd.error);
}

/* A VM of this type, initialised for SEV. */
static void create_vm(int type)
{
	struct kvm_sev_init init = { 0 };
	int kvm = open("/dev/kvm", O_RDWR);

	step("open-kvm", kvm, 0);
	sev = open("/dev/sev", O_RDWR);
	step("open-sev", sev, 0);
	vm = ioctl(kvm, KVM_CREATE_VM, type);
	step("create-vm", vm, 0);
	issue("init2", KVM_SEV_INIT2, &init);
}
