// SPDX-License-Identifier: GPL-2.0
/*
 * Launch the smallest SNP guest that KVM takes, one page and one vCPU, without QEMU.
 *
 * The guest is not entered. With an argument ("keep") it stays until the program is killed.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "launch.h"

#define GUEST_PAGE 0x1000
#define MEMORY (2UL << 20)

int main(int argc, char **)
{
	struct kvm_create_guest_memfd memory = { .size = MEMORY };
	struct kvm_userspace_memory_region2 region = { .flags = KVM_MEM_GUEST_MEMFD, .memory_size = MEMORY };
	struct kvm_memory_attributes private = { .size = MEMORY, .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE };
	/* The policy's reserved bit 17, which must be one, and SMT. */
	struct kvm_sev_snp_launch_start start = { .policy = 0x30000 };
	struct kvm_sev_snp_launch_update update = { .gfn_start = 1, .len = GUEST_PAGE, .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL };
	struct kvm_sev_snp_launch_finish finish = { 0 };
	void *shared;

	create_vm(KVM_X86_SNP_VM);
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
