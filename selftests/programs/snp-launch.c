// SPDX-License-Identifier: GPL-2.0
/*
 * Launch the smallest SNP guest that KVM takes, one page and one vCPU, without QEMU.
 *
 * Prints a line per step: "@launch STEP ERRNO error=STATUS" (errno by name, 0 if all is well). Stops at
 * the first step that fails; closing the files then takes everything down. The guest is not entered.
 * With an argument ("keep") the guest stays until the program is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUEST_PAGE 0x1000
#define MEMORY (2UL << 20)

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

int main(int argc, char **)
{
	struct kvm_create_guest_memfd memory = { .size = MEMORY };
	struct kvm_userspace_memory_region2 region = { .flags = KVM_MEM_GUEST_MEMFD, .memory_size = MEMORY };
	struct kvm_memory_attributes private = { .size = MEMORY, .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE };
	/* The policy's reserved bit 17, which must be one, and SMT. */
	struct kvm_sev_snp_launch_start start = { .policy = 0x30000 };
	struct kvm_sev_snp_launch_update update = { .gfn_start = 1, .len = GUEST_PAGE, .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL };
	struct kvm_sev_snp_launch_finish finish = { 0 };
	struct kvm_sev_init init = { 0 };
	void *shared;
	int kvm;

	kvm = open("/dev/kvm", O_RDWR);
	step("open-kvm", kvm, 0);
	sev = open("/dev/sev", O_RDWR);
	step("open-sev", sev, 0);
	vm = ioctl(kvm, KVM_CREATE_VM, KVM_X86_SNP_VM);
	step("create-vm", vm, 0);
	issue("init2", KVM_SEV_INIT2, &init);
	step("create-irqchip", ioctl(vm, KVM_CREATE_IRQCHIP, 0), 0);

	shared = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	step("map", shared == MAP_FAILED ? -1 : 0, 0);
	memset(shared, 0x5a, 2 * GUEST_PAGE);
	region.userspace_addr = (uintptr_t)shared;
	region.guest_memfd = ioctl(vm, KVM_CREATE_GUEST_MEMFD, &memory);
	step("create-memory", region.guest_memfd, 0);
	step("set-memory", ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region), 0);
	step("make-private", ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &private), 0);
	step("create-vcpu", ioctl(vm, KVM_CREATE_VCPU, 0), 0);

	issue("start", KVM_SEV_SNP_LAUNCH_START, &start);
	update.uaddr = (uintptr_t)shared + GUEST_PAGE;
	issue("update", KVM_SEV_SNP_LAUNCH_UPDATE, &update);
	issue("finish", KVM_SEV_SNP_LAUNCH_FINISH, &finish);
	if (argc > 1)
		pause();
	return 0;
}
