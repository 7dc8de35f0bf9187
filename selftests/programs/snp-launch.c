// SPDX-License-Identifier: GPL-2.0
/*
 * Launch the smallest SNP guest that KVM takes, one page and one vCPU, without QEMU.
 *
 * The guest is not entered. With "keep" it stays until the program is killed. With "asids" guests are begun
 * until one is refused, and stay until the program is killed. With "policy" it asks for a newer firmware
 * than there is, with "no-smt" for a machine without SMT, and with "id-block" it has an ID block that its
 * owner has not signed, which firmware refuses. With "cpuid" its page
 * is a CPUID table that firmware refuses (pspd --refuse-cpuid 0x8000001f) and corrects; a line
 * "@cpuid" says what the program gets to see of that: the functions' EAX in order.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "launch.h"

#define GUEST_PAGE 0x1000
#define MEMORY (2UL << 20)

/* struct snp_cpuid_table of arch/x86/include/asm/sev.h. */
struct cpuid_table {
	uint32_t count, reserved[3];
	struct {
		uint32_t eax_in, ecx_in;
		uint64_t xcr0_in, xss_in;
		uint32_t eax, ebx, ecx, edx;
		uint64_t reserved;
	} fn[64];
};

static const struct cpuid_table wrong = {
	.count = 3,
	.fn = {
		{ .eax_in = 1, .eax = 0x11 }, { .eax_in = 0x8000001f, .eax = 0x22 }, { .eax_in = 0x80000021, .eax = 0x33 },
	},
};

/* What firmware reads of them: the sizes are KVM's. */
static const unsigned char id_block[96], id_auth[4096];

/* Another process for each, so that a step that fails ends one of them. */
static void begin_guests(void)
{
	struct kvm_sev_snp_launch_start start = { .policy = 0x30000 };
	char ready;
	int ends[2];

	do {
		if (pipe(ends) < 0)
			exit(2);
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			create_vm(KVM_X86_SNP_VM);
			issue("start", KVM_SEV_SNP_LAUNCH_START, &start);
			if (write(ends[1], "", 1) != 1)
				exit(2);
			pause();
		}
		close(ends[1]);
	} while (read(ends[0], &ready, 1) == 1);
	printf("@launch refused 0 error=0\n");
	fflush(stdout);
	pause();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	struct cpuid_table *table;
	struct kvm_create_guest_memfd memory = { .size = MEMORY };
	struct kvm_userspace_memory_region2 region = { .flags = KVM_MEM_GUEST_MEMFD, .memory_size = MEMORY };
	struct kvm_memory_attributes private = { .size = MEMORY, .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE };
	/* The policy's reserved bit 17, which must be one, and SMT. */
	struct kvm_sev_snp_launch_start start = { .policy = 0x30000 };
	struct kvm_sev_snp_launch_update update = { .gfn_start = 1, .len = GUEST_PAGE, .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL };
	struct kvm_sev_snp_launch_finish finish = { 0 };
	void *shared;

	struct kvm_sev_snp_launch_finish signed_by_nobody = {
		.id_block_uaddr = (uintptr_t)id_block, .id_auth_uaddr = (uintptr_t)id_auth, .id_block_en = 1,
	};

	if (!strcmp(what, "asids"))
		begin_guests();
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

	if (!strcmp(what, "policy"))
		start.policy |= 0xff00;
	if (!strcmp(what, "no-smt"))
		start.policy &= ~(1UL << 16);
	issue("start", KVM_SEV_SNP_LAUNCH_START, &start);
	update.uaddr = (uintptr_t)shared + GUEST_PAGE;
	if (!strcmp(what, "cpuid")) {
		struct kvm_sev_cmd cmd = { .id = KVM_SEV_SNP_LAUNCH_UPDATE, .data = (uintptr_t)&update, .sev_fd = sev };

		table = memcpy((void *)update.uaddr, &wrong, sizeof(wrong));
		update.type = KVM_SEV_SNP_PAGE_TYPE_CPUID;
		if (ioctl(vm, KVM_MEMORY_ENCRYPT_OP, &cmd) < 0)
			printf("@cpuid %s error=%#x", strerrorname_np(errno), cmd.error);
		else
			printf("@cpuid taken");
		for (unsigned int n = 0; n < table->count; n++)
			printf(" %#x", table->fn[n].eax);
		printf("\n");
		/* Corrected as firmware wants it, it is taken. */
	}
	issue("update", KVM_SEV_SNP_LAUNCH_UPDATE, &update);
	issue("finish", KVM_SEV_SNP_LAUNCH_FINISH, strcmp(what, "id-block") ? &finish : &signed_by_nobody);
	if (!strcmp(what, "keep"))
		pause();
	return 0;
}
