// SPDX-License-Identifier: GPL-2.0
/*
 * Does one thing that an SNP processor refuses, in a thread that does not survive it, and says
 * whether it did. Where the page has neighbours the kernel's functions change the RMP, which split
 * the direct map first; elsewhere a raw RMPUPDATE does, and "large" is what a driver meets that
 * forgets about the direct map.
 *
 *   write     to a byte of somebody else's page, at `address`
 *   large     to a page of its own, through a 2 MiB mapping that covers a page which is given away
 *   stale     to a page of its own that it has written to and then given away
 *   alias     the same, by another address
 *   table     reads an address whose page table is in a page that is given away
 *   vmcb      VMRUN with a VMCB in a page that is given away
 *   hsave     VMRUN with VM_HSAVE_PA 0 (refused by nobody)
 *   psmash    PSMASH of a page of 2 MiB, and of what it leaves (refused with a code)
 *   overlap   RMPUPDATE of 4 KiB in a page of 2 MiB, and the reverse (the same)
 *   give      gives the page at `address` away, take: takes it back (refused by nobody)
 */
#include <linux/completion.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/vmalloc.h>
#include <asm/msr.h>
#include <asm/pgtable.h>
#include <asm/sev.h>

#define REGION_ORDER	(PMD_SHIFT - PAGE_SHIFT)
#define GPA		0x40000000
#define ASID		1

static char *what = "write";
module_param(what, charp, 0);

static ulong address;
module_param(address, ulong, 0);
MODULE_PARM_DESC(address, "physical address of the byte to write to");

static DECLARE_COMPLETION(survived);

struct update {
	u64 gpa;
	u8 assigned, large, immutable, reserved;
	u32 asid;
};

static u32 rmpupdate(phys_addr_t pa, bool assigned, bool large, u32 asid)
{
	struct update update = { .gpa = asid ? GPA : 0, .assigned = assigned, .large = large, .asid = asid };
	u32 code;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfe" : "=a" (code) : "a" (pa), "c" (&update) : "memory", "cc");
	return code;
}

static u32 psmash_raw(phys_addr_t pa)
{
	u32 code;

	asm volatile(".byte 0xf3, 0x0f, 0x01, 0xff" : "=a" (code) : "a" (pa) : "memory", "cc");
	return code;
}

static int write_thread(void *data)
{
	u8 *byte = data;
	u8 value = READ_ONCE(*byte);

	pr_info("tried: %s: read\n", what);
	WRITE_ONCE(*byte, value);
	complete(&survived);
	return 0;
}

static int read_thread(void *data)
{
	READ_ONCE(*(u8 *)data);
	complete(&survived);
	return 0;
}

static int vmrun_thread(void *data)
{
	phys_addr_t vmcb = virt_to_phys(data);
	u64 efer;

	rdmsrq(MSR_EFER, efer);
	wrmsrq(MSR_EFER, efer | EFER_SVME);
	local_irq_disable();
	/* An exit leaves interrupts of all kinds off. */
	asm volatile("vmrun %%rax\n\tstgi" : : "a" (vmcb) : "memory", "cc");
	local_irq_enable();
	wrmsrq(MSR_EFER, efer);
	complete(&survived);
	return 0;
}

/* Runs it on CPU 0, because that is where the test has SVM, and says how it went. */
static int attempt(int (*thread)(void *), void *data)
{
	struct task_struct *task = kthread_create(thread, data, "forbidden");

	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, 0);
	wake_up_process(task);
	pr_info("tried: %s: %s\n", what, wait_for_completion_timeout(&survived, 5 * HZ) ? "went through" : "refused");
	return 0;
}

static int write(void)
{
	void *byte = memremap(address, 1, MEMREMAP_WB);

	return byte ? attempt(write_thread, byte) : -ENXIO;
}

static int large(u8 *region)
{
	phys_addr_t given_away = virt_to_phys(region) + 3 * PAGE_SIZE;
	int error;

	pr_info("tried: give away %u\n", rmpupdate(given_away, true, false, 0));
	error = attempt(write_thread, region + 7 * PAGE_SIZE);
	pr_info("tried: take back %u\n", rmpupdate(given_away, false, false, 0));
	return error;
}

/* The page as the direct map has it. */
static u8 *given_away;

static int stale_thread(void *data)
{
	phys_addr_t pa = virt_to_phys(given_away);
	u8 *byte = data;

	/* The second time it is this CPU alone that has written to it. */
	for (int n = 0; n < 2; n++) {
		if (rmpupdate(pa, false, false, 0))
			return 0;
		WRITE_ONCE(*given_away, 1);
		WRITE_ONCE(*byte, 2);
		if (rmpupdate(pa, true, false, 0))
			return 0;
	}
	WRITE_ONCE(*byte, READ_ONCE(*byte) + 1);
	complete(&survived);
	return 0;
}

static int stale(u8 *region, bool by_alias)
{
	struct page *page = virt_to_page(region + 3 * PAGE_SIZE);
	u8 *byte;
	int error;

	/* The direct map is split for a neighbour. */
	error = rmp_make_private(page_to_pfn(page) + 1, 0, PG_LEVEL_4K, 0, false);
	if (error)
		return error;
	given_away = page_address(page);
	byte = by_alias ? vmap(&page, 1, VM_MAP, PAGE_KERNEL) : given_away;
	error = byte ? attempt(stale_thread, byte) : -ENOMEM;
	pr_info("tried: take back %u, %d\n", rmpupdate(virt_to_phys(given_away), false, false, 0),
		rmp_make_shared(page_to_pfn(page) + 1, PG_LEVEL_4K));
	pr_info("tried: there is %u\n", *given_away);
	return error;
}

static int stale_itself(u8 *region)
{
	return stale(region, false);
}

static int stale_alias(u8 *region)
{
	return stale(region, true);
}

static int table(void)
{
	/* In its middle are 2 MiB whose table has nothing else in it. */
	u8 *area = vmalloc(2 * PMD_SIZE);
	u8 *inside = (u8 *)round_up((ulong)area, PMD_SIZE);
	unsigned int level;
	u64 pfn;
	pte_t *pte;
	int error;

	if (!area)
		return -ENOMEM;
	pte = lookup_address((ulong)inside, &level);
	if (!pte || level != PG_LEVEL_4K) {
		vfree(area);
		return -ENXIO;
	}
	pfn = PHYS_PFN(virt_to_phys(pte));
	pr_info("tried: give away %d\n", rmp_make_private(pfn, 0, PG_LEVEL_4K, 0, false));
	error = attempt(read_thread, inside);
	pr_info("tried: take back %d\n", rmp_make_shared(pfn, PG_LEVEL_4K));
	vfree(area);
	return error;
}

static int vmcb(u8 *region)
{
	u8 *page = region + PAGE_SIZE, *host = region + 2 * PAGE_SIZE;
	int error;

	wrmsrq_on_cpu(0, MSR_VM_HSAVE_PA, virt_to_phys(host));
	pr_info("tried: give away %u\n", rmpupdate(virt_to_phys(page), true, false, 0));
	error = attempt(vmrun_thread, page);
	pr_info("tried: take back %u\n", rmpupdate(virt_to_phys(page), false, false, 0));
	wrmsrq_on_cpu(0, MSR_VM_HSAVE_PA, 0);
	return error;
}

static int hsave(u8 *region)
{
	u8 *page = region + PAGE_SIZE;
	int error = attempt(vmrun_thread, page);

	/* An empty VMCB: VMRUN says that it is invalid. */
	pr_info("tried: exit code %#llx\n", *(u64 *)(page + 0x70));
	return error;
}

static int psmash_twice(u8 *region)
{
	phys_addr_t pa = virt_to_phys(region);
	u32 kept = 0;

	pr_info("tried: give away %u\n", rmpupdate(pa, true, true, ASID));
	pr_info("tried: psmash inside %u\n", psmash_raw(pa + PAGE_SIZE));
	pr_info("tried: psmash %u\n", psmash_raw(pa));
	pr_info("tried: psmash again %u\n", psmash_raw(pa));
	for (int n = 0; n < PTRS_PER_PMD; n++)
		kept += rmpupdate(pa + n * PAGE_SIZE, false, false, 0) != 0;
	if (kept)
		pr_info("tried: pages that do not come back %u\n", kept);
	pr_info("tried: psmash of memory that is the host's %u\n", psmash_raw(pa));
	return 0;
}

static int overlap(u8 *region)
{
	phys_addr_t pa = virt_to_phys(region);
	u32 code[4];

	code[0] = rmpupdate(pa, true, true, ASID);
	code[1] = rmpupdate(pa + PAGE_SIZE, true, false, ASID);
	code[2] = rmpupdate(pa, false, true, 0);
	pr_info("tried: 2 MiB %u, 4 KiB in it %u, 2 MiB back %u\n", code[0], code[1], code[2]);
	code[0] = rmpupdate(pa + PAGE_SIZE, true, false, ASID);
	code[1] = rmpupdate(pa, true, true, ASID);
	code[2] = rmpupdate(pa + PAGE_SIZE, false, false, 0);
	code[3] = rmpupdate(pa + PAGE_SIZE, true, true, ASID);
	pr_info("tried: 4 KiB %u, 2 MiB around it %u, 4 KiB back %u, 2 MiB that start there %u\n",
		code[0], code[1], code[2], code[3]);
	return 0;
}

static int __init forbidden_init(void)
{
	static const struct {
		const char *name;
		int (*act)(u8 *region);
	} acts[] = {
		{ "large", large }, { "stale", stale_itself }, { "alias", stale_alias }, { "vmcb", vmcb }, { "hsave", hsave },
		{ "psmash", psmash_twice }, { "overlap", overlap },
	};
	u8 *region;

	if (!strcmp(what, "write"))
		return write();
	if (!strcmp(what, "table"))
		return table();
	if (!strcmp(what, "give")) {
		pr_info("tried: give %d\n", rmp_make_private(PHYS_PFN(address), 0, PG_LEVEL_4K, 0, false));
		return 0;
	}
	if (!strcmp(what, "take")) {
		pr_info("tried: take %d\n", rmp_make_shared(PHYS_PFN(address), PG_LEVEL_4K));
		return 0;
	}
	for (int n = 0; n < ARRAY_SIZE(acts); n++) {
		if (strcmp(what, acts[n].name))
			continue;
		/* Never freed: whoever was in its middle may have died there. */
		region = (u8 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO | __GFP_COMP, REGION_ORDER);
		return region ? acts[n].act(region) : -ENOMEM;
	}
	return -EINVAL;
}
module_init(forbidden_init);

static void __exit forbidden_exit(void) {}
module_exit(forbidden_exit);

MODULE_DESCRIPTION("Do what an SNP processor refuses");
MODULE_LICENSE("GPL");
