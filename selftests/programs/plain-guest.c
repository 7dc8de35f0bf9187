// SPDX-License-Identifier: GPL-2.0
/*
 * A guest without SEV that writes to one of its pages: plain-guest. Says where the page is ("@page
 * ADDRESS"), and after each line of input whether the guest could write to it within two seconds
 * ("@guest wrote", "@guest stuck").
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 0x1000
#define CODE PAGE
#define DATA (2 * PAGE)
#define MEMORY (4 * PAGE)

static void nothing(int signal) { (void)signal; }

static int check(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
	return result;
}

static uint64_t physical(void *address)
{
	int pagemap = check(open("/proc/self/pagemap", O_RDONLY), "pagemap");
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof(entry), (uintptr_t)address / PAGE * sizeof(entry)) != sizeof(entry))
		err(1, "pagemap");
	close(pagemap);
	return (entry & ((1ULL << 55) - 1)) * PAGE;
}

int main(void)
{
	/* mov %al, DATA; out %al, $1; jmp to the start */
	static const uint8_t code[] = { 0xa2, DATA & 0xff, DATA >> 8, 0xe6, 0x01, 0xeb, 0xf9 };
	uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY, .userspace_addr = (uintptr_t)memory };
	struct sigaction action = { .sa_handler = nothing };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	struct kvm_run *run;
	int kvm, vm, vcpu;
	char line[16];

	if (memory == MAP_FAILED)
		err(1, "mmap");
	/* The page must stay where it is, and must not be part of a larger one. */
	madvise(memory, MEMORY, MADV_NOHUGEPAGE);
	check(mlock(memory, MEMORY), "mlock");
	memcpy(memory + CODE, code, sizeof(code));
	check(sigaction(SIGALRM, &action, NULL), "sigaction");
	kvm = check(open("/dev/kvm", O_RDWR), "/dev/kvm");
	vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "mmap of the vCPU");
	check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	printf("@page %#llx\n", (unsigned long long)physical(memory + DATA));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int result;

		alarm(2);
		result = ioctl(vcpu, KVM_RUN, 0);
		alarm(0);
		if (result && errno != EINTR)
			err(1, "KVM_RUN");
		if (!result && run->exit_reason != KVM_EXIT_IO)
			errx(1, "exit %u", run->exit_reason);
		printf("@guest %s\n", result ? "stuck" : "wrote");
		fflush(stdout);
	}
	return 0;
}
