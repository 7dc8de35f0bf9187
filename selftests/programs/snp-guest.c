// SPDX-License-Identifier: GPL-2.0
/*
 * Run a very small SNP guest, without QEMU and without firmware: snp-guest NAME
 *
 * The guests stand at the end of this file. Prints how each vCPU ended: "@guest NAME END", where
 * END is what KVM told user space: "hlt", "terminated SET:CODE" (asked for by the guest over the
 * GHCB), "shutdown", "memory-fault private|shared GPA", "failed ERRNO" or "exit NUMBER". A change
 * of a page's state that the guest asks for is made, and gives a line "@state NAME GPA
 * private|shared BYTE" with what the host sees in the page before. Of a guest that is there for its
 * exits, "@exits NAME NUMBER MICROSECONDS" says how long that many took.
 */
#include <cpuid.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 0x1000UL
#define MEMORY (2UL << 20)
#define MAX_VCPUS 4

/*
 * The guest's pages, the same as guest physical and virtual addresses; virtual addresses are private, those plus ALIAS
 * are shared. Up to STACK they are measured, of the others GHCB is shared, and the rest private and not validated.
 */
enum {
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, TABLES = 0x5000,
	CODE = 0x6000, STACK = 0x7000, GHCB = 0x20000, ALIAS = 0x100000
};

struct guest {
	char name[32];
	uint64_t entry;
	uint64_t vcpus;
	/* It has local APICs, in the kernel. */
	uint64_t interrupts;
	/* It does nothing but make so many exits. */
	uint64_t exits;
	/* It is a guest without SEV. */
	uint64_t plain;
	/* It gets certificates with a report. */
	uint64_t certificates;
};

/* From the section below: code, and the table of guests. */
extern const char guest_code[], guest_code_end[], guest_vc[];
extern const char interrupts_vc[], interrupts_int3[], interrupts_tick[], interrupts_request[], interrupts_answer[];
extern const struct guest guests[], guests_end[];

static const struct guest *guest;
static uint8_t *memory;
static int kvm, sev, vm, private_memory;

static int must(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
	return result;
}

static void launch(unsigned int id, void *data, const char *what)
{
	struct kvm_sev_cmd cmd = { .id = id, .data = (uintptr_t)data, .sev_fd = sev };

	if (ioctl(vm, KVM_MEMORY_ENCRYPT_OP, &cmd) < 0)
		err(1, "%s: firmware says %#x", what, cmd.error);
}

static void set_private(uint64_t gpa, uint64_t size, int private)
{
	struct kvm_memory_attributes attributes = {
		.address = gpa, .size = size, .attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};

	must(ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attributes), "memory attributes");
}

static void set_gate(uint64_t *idt, int vector, const char *handler)
{
	uint64_t address = CODE + (handler - guest_code);

	idt[2 * vector] = (address & 0xffff) | 8 << 16 | 0x8e0000000000 | (address >> 16) << 48;
}

/* One page table for 2 MiB: the lower half private, the upper half the same pages shared. */
static void write_tables(uint64_t c_bit)
{
	uint64_t *table[] = { (void *)(memory + PML4), (void *)(memory + PDPT), (void *)(memory + PD), (void *)(memory + PT) };
	uint64_t *gdt = (void *)(memory + TABLES), *idt = gdt + 32;

	table[0][0] = PDPT | 3 | c_bit;
	table[1][0] = PD | 3 | c_bit;
	table[2][0] = PT | 3 | c_bit;
	for (uint64_t n = 0; n < ALIAS / PAGE; n++) {
		table[3][n] = n * PAGE | 3 | c_bit;
		table[3][n + ALIAS / PAGE] = n * PAGE | 3;
	}
	gdt[1] = 0x00af9b000000ffff; /* code, 64 bits, selector 8 */
	set_gate(idt, 29, guest->interrupts ? interrupts_vc : guest_vc);
	set_gate(idt, 3, interrupts_int3);
	set_gate(idt, 0x20, interrupts_tick);
	set_gate(idt, 0x21, interrupts_request);
	set_gate(idt, 0x22, interrupts_answer);
}

static void set_registers(int vcpu, unsigned long number)
{
	struct kvm_segment data = { .limit = ~0u, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1 };
	struct kvm_regs regs = {
		.rip = CODE + guest->entry, .rsp = STACK + PAGE - number * 0x200, .rdi = number, .rflags = 2,
	};
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[200];
	} cpuid = { .head.nent = 200 };
	struct kvm_mp_state running = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_sregs sregs;

	must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "supported CPUID");
	must(ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "CPUID");
	must(ioctl(vcpu, KVM_GET_SREGS, &sregs), "get registers");
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cs = (struct kvm_segment){ .limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .g = 1, .l = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = TABLES, .limit = 15 };
	sregs.idt = (struct kvm_dtable){ .base = TABLES + 32 * 8, .limit = 0x23 * 16 - 1 };
	sregs.cr0 = 0x80000011; /* PG, ET, PE */
	sregs.cr3 = PML4;
	sregs.cr4 = 0x220; /* OSFXSR, PAE */
	sregs.efer = 0x500; /* LMA, LME */
	if (guest->interrupts)
		sregs.apic_base |= 0xc00; /* x2APIC */
	must(ioctl(vcpu, KVM_SET_SREGS, &sregs), "set registers");
	must(ioctl(vcpu, KVM_SET_REGS, &regs), "set registers");
	/* With an APIC, others than the first would wait for INIT. */
	if (guest->interrupts)
		must(ioctl(vcpu, KVM_SET_MP_STATE, &running), "start");
}

/*
 * A request to change a page's state: refused for what is not memory. Private pages that become
 * shared are given back, as QEMU does.
 */
static uint64_t change_state(uint64_t gpa, uint64_t pages, uint64_t attributes)
{
	int private = !!(attributes & KVM_MAP_GPA_RANGE_ENCRYPTED);

	if (gpa >= MEMORY || pages > (MEMORY - gpa) / PAGE)
		return EINVAL;
	if (strcmp(guest->name, "spin"))
		printf("@state %s %#lx %s %#x\n", guest->name, gpa, private ? "private" : "shared", memory[gpa]);
	set_private(gpa, pages * PAGE, private);
	if (!private)
		must(fallocate(private_memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, gpa, pages * PAGE), "give back");
	return 0;
}

/*
 * An extended guest request: one page of certificates, or why there are none. Who offers more is
 * told that we are busy.
 */
static uint64_t give_certificates(uint64_t gpa, __u64 *pages)
{
	/* The GHCB specification's table: GUID, offset and length of each, up to one of zeros. This is the VCEK's. */
	static const struct {
		struct {
			uint8_t guid[16];
			uint32_t offset, length;
		} entries[2];
		char certificate[4];
	} table = {
		.entries[0] = {
			{ 0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45,
			  0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd }, 48, 4,
		},
		.certificate = "VCEK",
	};

	if (gpa > MEMORY - PAGE)
		return EIO;
	if (!*pages) {
		*pages = 1;
		return ENOSPC;
	}
	if (*pages > 1)
		return EAGAIN;
	memcpy(memory + gpa, &table, sizeof(table));
	return 0;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ULL + now.tv_nsec / 1000;
}

static void *run(void *argument)
{
	int vcpu = (intptr_t)argument;
	size_t size = must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "size of run");
	struct kvm_run *state = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	if (state == MAP_FAILED)
		err(1, "map run");
	for (;;) {
		/* A memory fault is an error as well, EFAULT. */
		if (ioctl(vcpu, KVM_RUN, 0) < 0 && state->exit_reason != KVM_EXIT_MEMORY_FAULT) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			printf("@guest %s failed %s\n", guest->name, strerrorname_np(errno));
			return NULL;
		}
		switch (state->exit_reason) {
		case KVM_EXIT_HYPERCALL:
			state->hypercall.ret = change_state(state->hypercall.args[0], state->hypercall.args[1], state->hypercall.args[2]);
			continue;
		case KVM_EXIT_SNP_REQ_CERTS:
			state->snp_req_certs.ret = give_certificates(state->snp_req_certs.gpa, &state->snp_req_certs.npages);
			continue;
		case KVM_EXIT_HLT:
			printf("@guest %s hlt\n", guest->name);
			return NULL;
		case KVM_EXIT_SHUTDOWN:
			printf("@guest %s shutdown\n", guest->name);
			return NULL;
		case KVM_EXIT_SYSTEM_EVENT:
			if (state->system_event.type != KVM_SYSTEM_EVENT_SEV_TERM)
				break;
			printf("@guest %s terminated %#llx:%#llx\n", guest->name, state->system_event.data[0] >> 12 & 0xf,
			       state->system_event.data[0] >> 16 & 0xff);
			return NULL;
		case KVM_EXIT_MEMORY_FAULT:
			printf("@guest %s memory-fault %s %#llx\n", guest->name,
			       state->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE ? "private" : "shared", state->memory_fault.gpa);
			return NULL;
		}
		printf("@guest %s exit %u\n", guest->name, state->exit_reason);
		return NULL;
	}
}

static void create_vm(void)
{
	struct kvm_enable_cap hypercall = { .cap = KVM_CAP_EXIT_HYPERCALL, .args[0] = 1 << KVM_HC_MAP_GPA_RANGE };
	struct kvm_sev_init init = { 0 };

	kvm = must(open("/dev/kvm", O_RDWR), "/dev/kvm");
	vm = must(ioctl(kvm, KVM_CREATE_VM, guest->plain ? KVM_X86_DEFAULT_VM : KVM_X86_SNP_VM), "create VM");
	if (guest->plain)
		return;
	sev = must(open("/dev/sev", O_RDWR), "/dev/sev");
	launch(KVM_SEV_INIT2, &init, "init");
	must(ioctl(vm, KVM_ENABLE_CAP, &hypercall), "hypercalls");
	if (guest->certificates)
		launch(KVM_SEV_SNP_ENABLE_REQ_CERTS, NULL, "certificates");
}

static void create_memory(void)
{
	struct kvm_create_guest_memfd private = { .size = MEMORY };
	struct kvm_userspace_memory_region2 region = { .memory_size = MEMORY };
	unsigned int eax, ebx = 0, ecx, edx;

	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "memory");
	/* The C-bit. */
	__cpuid_count(0x8000001f, 0, eax, ebx, ecx, edx);
	write_tables(guest->plain ? 0 : 1UL << (ebx & 0x3f));
	memcpy(memory + CODE, guest_code, guest_code_end - guest_code);
	region.userspace_addr = (uintptr_t)memory;
	if (!guest->plain) {
		region.flags = KVM_MEM_GUEST_MEMFD;
		region.guest_memfd = private_memory = must(ioctl(vm, KVM_CREATE_GUEST_MEMFD, &private), "private memory");
	}
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region), "memory");
	if (guest->plain)
		return;
	set_private(0, MEMORY, 1);
	/* A GHCB for each vCPU that wants one. */
	set_private(GHCB, PAGE * (guest->interrupts ? guest->vcpus : 1), 0);
}

static void launch_snp(void)
{
	/* The policy's reserved bit 17, which must be one, and SMT. */
	struct kvm_sev_snp_launch_start start = { .policy = 0x30000 };
	struct kvm_sev_snp_launch_update update = { .gfn_start = 1, .len = STACK, .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL };
	struct kvm_sev_snp_launch_finish finish = { 0 };

	launch(KVM_SEV_SNP_LAUNCH_START, &start, "start");
	update.uaddr = (uintptr_t)memory + PAGE;
	launch(KVM_SEV_SNP_LAUNCH_UPDATE, &update, "update");
	/* The plain text was for the measurement only; from here on the host's copy is the shared one. */
	memset(memory, 0, MEMORY);
	launch(KVM_SEV_SNP_LAUNCH_FINISH, &finish, "finish");
}

int main(int argc, char **argv)
{
	int vcpu[MAX_VCPUS];
	pthread_t thread[MAX_VCPUS];
	uint64_t start;

	setlinebuf(stdout);
	for (guest = guests; guest < guests_end && (argc < 2 || strcmp(guest->name, argv[1])); guest++)
		;
	if (guest == guests_end)
		errx(2, "usage: snp-guest NAME");

	create_vm();
	create_memory();
	if (guest->interrupts)
		must(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "interrupt controllers");
	for (unsigned long n = 0; n < guest->vcpus; n++) {
		vcpu[n] = must(ioctl(vm, KVM_CREATE_VCPU, n), "create vCPU");
		set_registers(vcpu[n], n);
	}
	if (!guest->plain)
		launch_snp();

	start = now_us();
	for (unsigned long n = 0; n < guest->vcpus; n++)
		if ((errno = pthread_create(&thread[n], NULL, run, (void *)(intptr_t)vcpu[n])))
			err(1, "thread");
	for (unsigned long n = 0; n < guest->vcpus; n++)
		pthread_join(thread[n], NULL);
	if (guest->exits)
		printf("@exits %s %lu %lu\n", guest->name, guest->exits, now_us() - start);
	return 0;
}

/*
 * The guests: 64-bit code at CODE. Most end by "terminate", with what they have found as CODE: 1 is
 * what was to be found. A #VC ends them as well, with bits 11:8 of its error code as SET and bits
 * 7:0 as CODE.
 */
asm(
".macro validate page, valid\n"
"	mov $\\page, %eax\n"
"	xor %ecx, %ecx\n"
"	mov $\\valid, %edx\n"
"	pvalidate\n"
".endm\n"
/* Writes EDX:EAX to the GHCB's MSR, asks the hypervisor, and reads it. */
".macro ask\n"
"	mov $0xc0010130, %ecx\n"
"	wrmsr\n"
"	vmgexit\n"
"	rdmsr\n"
".endm\n"
/* The page's state, 1 private or 2 shared. The response has 15h, and a status in the upper half. */
".macro state page, to\n"
"	mov $(\\page | 0x14), %eax\n"
"	mov $(\\to << 20), %edx\n"
"	ask\n"
".endm\n"
".macro expect condition\n"
"	mov $2, %ebx\n"
"	j\\condition 1f\n"
"	jmp terminate\n"
"1:\n"
".endm\n"
".macro success\n"
"	mov $1, %ebx\n"
"	jmp terminate\n"
".endm\n"
/* A name in the table, with the number of vCPUs, and the code that they execute, with their numbers in EDI. */
".macro guest name, vcpus=1, interrupts=0, exits=0, plain=0, certificates=0\n"
"	.pushsection .rodata.guests, \"a\"\n"
"7:	.asciz \"\\name\"\n"
"	.org 7b + 32\n"
"	.quad 8f - guest_code, \\vcpus, \\interrupts, \\exits, \\plain, \\certificates\n"
"	.popsection\n"
"8:\n"
".endm\n"

"	.pushsection .rodata.guests, \"a\"\n"
"	.balign 8\n"
"	.globl guests\n"
"guests:\n"
"	.popsection\n"

"	.pushsection .rodata.guest_code, \"a\"\n"
"	.globl guest_code, guest_code_end, guest_vc\n"
"	.globl interrupts_vc, interrupts_int3, interrupts_tick, interrupts_request, interrupts_answer\n"
"guest_code:\n"
/* EBX: 7:0 CODE, 11:8 SET. */
"terminate:\n"
"	movzbl %bl, %eax\n"
"	shl $16, %eax\n"
"	and $0xf00, %ebx\n"
"	shl $4, %ebx\n"
"	or %ebx, %eax\n"
"	or $0x100, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	ud2\n"
"guest_vc:\n"
"	pop %rbx\n"
"	jmp terminate\n"

"	guest hlt\n"
"	hlt\n"
"	ud2\n"

"	guest terminate\n"
"	mov $0x342, %ebx\n"
"	jmp terminate\n"

"	guest cpuid\n"
"	cpuid\n"
"	ud2\n"

/* No page of the IDT: the exception becomes a double fault, and that a shutdown. */
"	guest shutdown\n"
"	push $0\n"
"	push $0\n"
"	lidt (%rsp)\n"
"	ud2\n"

"	guest unvalidated\n"
"	mov 0x10000, %rax\n"
"	ud2\n"

/* The first changes the page (CF is clear), the second does not (CF is set). */
"	guest validate\n"
"	validate 0x10000, 1\n"
"	expect nc\n"
"	test %eax, %eax\n"
"	expect z\n"
"	movb $0x77, 0x10000\n"
"	cmpb $0x77, 0x10000\n"
"	expect e\n"
"	validate 0x10000, 1\n"
"	expect c\n"
"	success\n"

"	guest rescind\n"
"	validate 0x10000, 1\n"
"	validate 0x10000, 0\n"
"	expect nc\n"
"	mov 0x10000, %rax\n"
"	ud2\n"

/* Private memory becomes shared, and private again. */
"	guest share\n"
"	validate 0x10000, 1\n"
"	movb $0x77, 0x10000\n"
"	validate 0x10000, 0\n"
"	state 0x10000, 2\n"
"	cmp $0x15, %eax\n"
"	expect e\n"
"	test %edx, %edx\n"
"	expect z\n"
"	cmpb $0, 0x110000\n"
"	expect e\n"
"	movb $0x5a, 0x110000\n"
"	state 0x10000, 1\n"
"	test %edx, %edx\n"
"	expect z\n"
"	validate 0x10000, 1\n"
"	expect nc\n"
"	movb $0x66, 0x10000\n"
"	cmpb $0x66, 0x10000\n"
"	expect e\n"
"	success\n"

/* A page that the hypervisor takes back behind the guest's back is not validated any more. */
"	guest state-behind-validation\n"
"	validate 0x10000, 1\n"
"	movb $0x77, 0x10000\n"
"	state 0x10000, 2\n"
"	state 0x10000, 1\n"
"	mov 0x10000, %rax\n"
"	ud2\n"

"	guest state-out-of-range\n"
"	state 0x7ffff000, 2\n"
"	test %edx, %edx\n"
"	expect nz\n"
"	success\n"

"	guest state-unknown\n"
"	state 0x10000, 7\n"
"	test %edx, %edx\n"
"	expect nz\n"
"	success\n"

"	guest private-access-to-shared\n"
"	mov 0x20000, %rax\n"
"	ud2\n"

"	guest shared-access-to-private\n"
"	mov 0x110000, %rax\n"
"	ud2\n"

/* A GHCB that is not registered: the hypervisor says so in it (2, 1). */
"	guest ghcb-not-registered\n"
"	mov $0x20000, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	cmpl $2, 0x120398\n"
"	expect e\n"
"	cmpl $1, 0x1203a0\n"
"	expect e\n"
"	success\n"

/* One that is registered, but of an unknown kind (2, 2), and one in which nothing is filled in (2, 4). */
"	guest ghcb-malformed\n"
"	mov $0x20012, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	cmp $0x20013, %eax\n"
"	expect e\n"
"	movl $1, 0x120ffc\n"
"	mov $0x20000, %eax\n"
"	ask\n"
"	cmpl $2, 0x1203a0\n"
"	expect e\n"
"	movl $0, 0x120ffc\n"
"	mov $0x20000, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	cmpl $2, 0x120398\n"
"	expect e\n"
"	cmpl $4, 0x1203a0\n"
"	expect e\n"
"	success\n"

/* One that is no memory at all: the guest just goes on. */
"	guest ghcb-nowhere\n"
"	mov $0x7ffff000, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	success\n"

/* VMPL 0 may give rights to VMPL 1, and not to itself. */
"	guest rmpadjust\n"
"	mov $0x6000, %eax\n"
"	xor %ecx, %ecx\n"
"	mov $0x101, %edx\n"
"	rmpadjust\n"
"	test %eax, %eax\n"
"	expect z\n"
"	mov $0x6000, %eax\n"
"	mov $0x100, %edx\n"
"	rmpadjust\n"
"	cmp $2, %eax\n"
"	expect e\n"
"	success\n"

/*
 * A second vCPU is given another VMSA, a page of the guest's own, and begins anew with what is in
 * it. (Its old one only waits.) Offsets are those of the VMSA, and of the GHCB: RAX 1f8h, exit code
 * 390h and information 398h, 3a0h, valid fields 3f0h.
 */
".macro vmsa offset, value\n"
"	mov $\\value, %rax\n"
"	mov %rax, 0x40000 + \\offset\n"
".endm\n"
".macro new_vmsa\n"
"	test %edi, %edi\n"
"	jz 1f\n"
"3:	pause\n"
"	jmp 3b\n"
"1:	validate 0x40000, 1\n"
"	mov $0x40000, %edi\n"
"	mov $512, %ecx\n"
"	xor %eax, %eax\n"
"	rep stosq\n"
"	vmsa 0x10, 0xffffffff0a9b0008\n" /* CS */
"	vmsa 0x20, 0xffffffff0c930000\n" /* SS */
"	vmsa 0x70, 0x00820000\n" /* LDTR */
"	vmsa 0x90, 0x008b0000\n" /* TR */
"	vmsa 0xd0, 0x1500\n" /* EFER: SVME, LMA, LME */
"	vmsa 0x148, 0x220\n" /* CR4: OSFXSR, PAE */
"	vmsa 0x150, 0x1000\n" /* CR3 */
"	vmsa 0x158, 0x80000011\n" /* CR0: PG, ET, PE */
"	vmsa 0x160, 0x400\n" /* DR7 */
"	vmsa 0x168, 0xffff0ff0\n" /* DR6 */
"	vmsa 0x170, 2\n" /* RFLAGS */
"	vmsa 0x178, (0x6000 + second_vcpu - guest_code)\n" /* RIP */
"	vmsa 0x268, 0x0007040600070406\n" /* PAT */
"	vmsa 0x3b0, 1\n" /* SEV_FEATURES: SNP */
"	vmsa 0x3e8, 1\n" /* XCR0 */
"	vmsa 0x408, 0x1f80\n" /* MXCSR */
"	vmsa 0x410, 0x37f\n" /* x87 control word */
".endm\n"
".macro ghcb offset, value\n"
"	mov $\\value, %rax\n"
"	mov %rax, 0x120000 + \\offset\n"
".endm\n"
".macro create_vcpu\n"
"	mov $0x20012, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	ghcb 0x1f8, 1\n" /* SEV_FEATURES */
"	ghcb 0x390, 0x80000013\n" /* AP creation: */
"	ghcb 0x398, 0x100000001\n" /* vCPU 1, now */
"	ghcb 0x3a0, 0x40000\n"
"	ghcb 0x3f0, 0x8000000000000000\n"
"	ghcb 0x3f8, 0x001c000000000000\n"
"	mov $0x20000, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	cmpl $0, 0x120398\n"
"	expect e\n"
"	hlt\n"
"	ud2\n"
".endm\n"

"	guest ap-creation, 2\n"
"	new_vmsa\n"
"	mov $0x40000, %eax\n"
"	xor %ecx, %ecx\n"
"	mov $0x10001, %edx\n"
"	rmpadjust\n"
"	test %eax, %eax\n"
"	expect z\n"
"	create_vcpu\n"
"second_vcpu:\n"
"	success\n"

/* The page looks like a VMSA, but RMPADJUST has not made one of it. */
"	guest ap-without-vmsa, 2\n"
"	new_vmsa\n"
"	create_vcpu\n"

/*
 * Extended guest requests (80000012h): the message at 21000h says that it asks for a report (5),
 * and nothing else, so firmware refuses it (16h). Answers are to be at 22000h, certificates at
 * 23000h. RBX of the GHCB, 318h, has the number of pages for those.
 */
".macro request_report certificates, pages, answer\n"
"	ghcb 0x1f8, \\certificates\n"
"	ghcb 0x318, \\pages\n"
"	ghcb 0x390, 0x80000012\n"
"	ghcb 0x398, 0x21000\n"
"	ghcb 0x3a0, 0x22000\n"
"	ghcb 0x3f0, 0x8000000000000000\n"
"	ghcb 0x3f8, 0x001c000800000000\n"
"	mov $0x20000, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	mov $\\answer, %rax\n"
"	cmp %rax, 0x1203a0\n"
"	expect e\n"
".endm\n"
".macro prepare_request\n"
"	state 0x21000, 2\n"
"	state 0x22000, 2\n"
"	state 0x23000, 2\n"
"	mov $0x20012, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	movb $5, 0x121034\n"
"	movq $1, 0x123000\n"
".endm\n"

"	guest certificates, certificates=1\n"
"	prepare_request\n"
"	request_report 0x23000, 0, 0x100000000\n" /* too few pages: how many there must be */
"	cmpl $1, 0x120318\n"
"	expect e\n"
"	request_report 0x23000, 2, 0x200000000\n" /* busy */
"	request_report 0x7ffff000, 1, 0xffffffff00000000\n" /* any other error */
"	cmpq $1, 0x123000\n"
"	expect e\n"
"	request_report 0x23000, 1, 0x16\n"
"	mov $0x4564e66463da758d, %rax\n"
"	cmp %rax, 0x123000\n"
"	expect e\n"
"	cmpl $0x4b454356, 0x123030\n"
"	expect e\n"
"	success\n"

/* A hypervisor that has none says so with an empty table. */
"	guest no-certificates\n"
"	prepare_request\n"
"	request_report 0x23000, 1, 0x16\n"
"	cmpq $0, 0x123000\n"
"	expect e\n"
"	success\n"

/* Goes on for ever: each vCPU changes the state of a page of its own. */
"	guest spin, 4\n"
"	mov %edi, %esi\n"
"	shl $12, %esi\n"
"	add $0x30000, %esi\n"
"2:	mov %esi, %eax\n"
"	xor %ecx, %ecx\n"
"	mov $1, %edx\n"
"	pvalidate\n"
"	movb $1, (%rsi)\n"
"	mov %esi, %eax\n"
"	or $0x14, %eax\n"
"	mov $(2 << 20), %edx\n"
"	ask\n"
"	mov %esi, %eax\n"
"	or $0x14, %eax\n"
"	mov $(1 << 20), %edx\n"
"	ask\n"
"	jmp 2b\n"

/*
 * Interrupts at every moment, 300 times: each vCPU sets its timer to some moment of the next 100
 * us, asks its neighbour for an answer (both by IPI), works on known registers with #VC and INT3
 * now and then, and sleeps until timer and answer have come. All MSRs of the APIC are #VCs, too. A
 * register that changes, or an interrupt that does not come, and this guest does not succeed.
 *
 * RBP: where the vCPU counts ticks, requests and answers. R14: its GHCB. R15: that as guest physical address.
 */
".set TICKS, 0\n"
".set ANSWERS, 8\n"
".set NEXT, 16\n"
".set PREVIOUS, 24\n"
".set BREAKPOINTS, 32\n"
/* Where all vCPUs meet: at the start and at the end. */
".set MEETING, 0x7000\n"
".macro write_msr number\n"
"	mov $\\number, %ecx\n"
"	wrmsr\n"
".endm\n"
/* Until all vCPUs have been here. */
".macro meet times\n"
"	lock incq MEETING\n"
"3:	pause\n"
"	mov %rsi, %rax\n"
"	imul $\\times, %rax\n"
"	cmp %rax, MEETING\n"
"	jb 3b\n"
".endm\n"
".macro wait_until counter, value\n"
"4:	cli\n"
"	cmp \\value, \\counter(%rbp)\n"
"	jae 5f\n"
"	sti\n"
"	hlt\n"
"	jmp 4b\n"
"5:	sti\n"
".endm\n"
/* RSI is the number of vCPUs. */
".macro work_with_interrupts vcpus\n"
"	mov $\\vcpus, %esi\n"
"	jmp interrupts\n"
".endm\n"

"	guest interrupts, 1, 1\n"
"	work_with_interrupts 1\n"
"	guest interrupts-4, 4, 1\n"
"	work_with_interrupts 4\n"

/* R14 and R15 as above. */
".macro use_ghcb\n"
"	mov %edi, %r15d\n"
"	shl $12, %r15d\n"
"	add $0x20000, %r15d\n"
"	lea 0x100000(%r15), %r14\n"
"	lea 0x12(%r15), %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	lea 0x13(%r15), %ebx\n"
"	cmp %ebx, %eax\n"
"	expect e\n"
"	mov %r15d, %eax\n"
"	write_msr 0xc0010130\n"
".endm\n"

"interrupts:\n"
"	sub $64, %rsp\n"
"	mov %rsp, %rbp\n"
"	movq $0, TICKS(%rbp)\n"
"	movq $0, ANSWERS(%rbp)\n"
"	movq $0, BREAKPOINTS(%rbp)\n"
"	lea 1(%rdi), %eax\n"
"	cmp %esi, %eax\n"
"	jb 1f\n"
"	xor %eax, %eax\n"
"1:	mov %rax, NEXT(%rbp)\n"
"	lea -1(%rdi), %eax\n"
"	test %edi, %edi\n"
"	jnz 1f\n"
"	lea -1(%rsi), %eax\n"
"1:	mov %rax, PREVIOUS(%rbp)\n"
"	use_ghcb\n"
/* APIC on; timer: by 1, once, vector 20h. */
"	mov $0x1ff, %eax\n"
"	write_msr 0x80f\n"
"	mov $0xb, %eax\n"
"	write_msr 0x83e\n"
"	mov $0x20, %eax\n"
"	write_msr 0x832\n"
"	sti\n"
"	meet 1\n"
"	xor %edi, %edi\n"
"1:	inc %rdi\n"
"	rdtsc\n"
"	imul $0x9e3779b1, %eax, %eax\n"
"	shr $15, %eax\n"
"	add $1000, %eax\n"
"	xor %edx, %edx\n"
"	write_msr 0x838\n"
"	mov $0x21, %eax\n"
"	mov NEXT(%rbp), %rdx\n"
"	write_msr 0x830\n"
"	mov $20, %ebx\n"
"	mov $0x1111111111111111, %r8\n"
"	lea (%r8, %r8), %r9\n"
"	movq %r8, %xmm0\n"
"	movq %r9, %xmm15\n"
"2:	lea (%r8, %r9), %r10\n"
"	push %r10\n"
"	cpuid\n"
"	cmp $0x5117, %eax\n"
"	pop %r11\n"
"	jne interrupts_failed\n"
"	movq %xmm0, %r12\n"
"	movq %xmm15, %r13\n"
"	add %r12, %r13\n"
"	cmp %r10, %r13\n"
"	jne interrupts_failed\n"
"	cmp %r11, %r13\n"
"	jne interrupts_failed\n"
"	.rept 10\n"
"	int3\n"
"	.endr\n"
"	dec %ebx\n"
"	jnz 2b\n"
"	imul $200, %rdi, %rax\n"
"	cmp %rax, BREAKPOINTS(%rbp)\n"
"	jne interrupts_failed\n"
"	wait_until TICKS, %rdi\n"
"	wait_until ANSWERS, %rdi\n"
"	cmp $300, %rdi\n"
"	jb 1b\n"
"	meet 2\n"
"	cli\n"
"	success\n"
"interrupts_failed:\n"
"	cli\n"
"	mov $2, %ebx\n"
"	jmp terminate\n"

/* An interrupt: EOI, and then perhaps an IPI. */
".macro interrupt vector=0, to=0\n"
"	push %rax\n"
"	push %rcx\n"
"	push %rdx\n"
"	xor %eax, %eax\n"
"	xor %edx, %edx\n"
"	write_msr 0x80b\n"
"	.if \\vector\n"
"	mov $\\vector, %eax\n"
"	mov \\to(%rbp), %rdx\n"
"	write_msr 0x830\n"
"	.endif\n"
"	pop %rdx\n"
"	pop %rcx\n"
"	pop %rax\n"
"	iretq\n"
".endm\n"
"interrupts_int3:\n"
"	incq BREAKPOINTS(%rbp)\n"
"	iretq\n"
"interrupts_tick:\n"
"	incq TICKS(%rbp)\n"
"	interrupt\n"
"interrupts_request:\n"
"	interrupt 0x22, PREVIOUS\n"
"interrupts_answer:\n"
"	incq ANSWERS(%rbp)\n"
"	interrupt\n"

/* #VC: CPUID, whose answer is 5117h without the hypervisor, and WRMSR, for which it is asked. */
"interrupts_vc:\n"
"	cmpl $0x72, (%rsp)\n"
"	jne 1f\n"
"	mov $0x5117, %eax\n"
"	jmp 2f\n"
"1:	cmpl $0x7c, (%rsp)\n"
"	jne guest_vc\n"
"	push %rbx\n"
"	mov %rax, 0x1f8(%r14)\n"
"	mov %rcx, 0x308(%r14)\n"
"	mov %rdx, 0x310(%r14)\n"
"	movq $0x7c, 0x390(%r14)\n"
"	movq $1, 0x398(%r14)\n"
"	movq $0, 0x3a0(%r14)\n"
"	mov $0x8000000000000000, %rbx\n"
"	mov %rbx, 0x3f0(%r14)\n"
"	mov $0x001c000600000000, %rbx\n"
"	mov %rbx, 0x3f8(%r14)\n"
"	vmgexit\n"
"	pop %rbx\n"
"	cmpl $0, 0x398(%r14)\n"
"	jne interrupts_failed\n"
"2:	add $8, %rsp\n"
"	addq $2, (%rsp)\n"
"	iretq\n"

/*
 * Exits, for scripts/bench: VMGEXITs that ask for the hypervisor's features (80h) over the GHCB's
 * MSR; ends of interrupts (there are none), which are a #VC and then a VMGEXIT with a GHCB; CPUID
 * without SEV.
 */
".set EXITS, 10000\n"
"	guest exits-vmgexit, exits=EXITS\n"
"	mov $EXITS, %edi\n"
"1:	mov $0x80, %eax\n"
"	xor %edx, %edx\n"
"	ask\n"
"	dec %edi\n"
"	jnz 1b\n"
"	success\n"

"	guest exits-vc, interrupts=1, exits=EXITS\n"
"	use_ghcb\n"
"	mov $EXITS, %edi\n"
"1:	xor %eax, %eax\n"
"	xor %edx, %edx\n"
"	write_msr 0x80b\n"
"	dec %edi\n"
"	jnz 1b\n"
"	success\n"

"	guest exits-plain, exits=EXITS, plain=1\n"
"	mov $EXITS, %edi\n"
"1:	xor %eax, %eax\n"
"	cpuid\n"
"	dec %edi\n"
"	jnz 1b\n"
"	hlt\n"

"guest_code_end:\n"
"	.popsection\n"
"	.pushsection .rodata.guests, \"a\"\n"
"	.globl guests_end\n"
"guests_end:\n"
"	.popsection\n"
);
