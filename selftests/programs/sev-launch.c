// SPDX-License-Identifier: GPL-2.0
/*
 * Begin to launch a plain SEV guest, as far as firmware's first command for it.
 *
 * Prints a line per step as snp-launch does: "@launch STEP ERRNO error=STATUS".
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
	if (result < 0)
		exit(1);
}

static void issue(const char *name, unsigned int id, void *data)
{
	struct kvm_sev_cmd cmd = { .id = id, .data = (uintptr_t)data, .sev_fd = sev };
	int result = ioctl(vm, KVM_MEMORY_ENCRYPT_OP, &cmd);

	step(name, result, cmd.error);
}

int main(void)
{
	struct kvm_sev_launch_start start = { 0 };
	struct kvm_sev_init init = { 0 };
	int kvm;

	kvm = open("/dev/kvm", O_RDWR);
	step("open-kvm", kvm, 0);
	sev = open("/dev/sev", O_RDWR);
	step("open-sev", sev, 0);
	vm = ioctl(kvm, KVM_CREATE_VM, KVM_X86_SEV_VM);
	step("create-vm", vm, 0);
	issue("init2", KVM_SEV_INIT2, &init);
	issue("start", KVM_SEV_LAUNCH_START, &start);
	return 0;
}
