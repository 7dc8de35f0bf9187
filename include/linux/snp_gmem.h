/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ccp.ko: memory of SNP guests, for kvm-amd.ko.
 *
 * The driver changes the entries of guest pages in the RMP, has firmware launch them, and takes them back. A page
 * whose return is not proved gets a reference of the driver's own that nobody drops: it may be freed as any other
 * page, and does not reach the allocator. /sys/kernel/ccp/lost_pages counts such pages, and the log says why.
 *
 * Frame numbers are those of 4 KiB pages, host (pfn) and guest (gfn). A level is PG_LEVEL_4K or PG_LEVEL_2M.
 * Nothing here takes a lock of KVM's. What talks to firmware takes the driver's command lock, which comes after all
 * locks of KVM's, and waits for the command in flight. The caller keeps a reference to the pages during a call.
 *
 * What else kvm-amd needs for guest memory are older exports: snp_reclaim_pages() takes pages back from firmware by
 * the same rules, sev_do_cmd(SEV_CMD_SNP_DECOMMISSION) ends a guest. gmem_invalidate_range has no counterpart here:
 * the pages that leave a guest's mappings stay the guest's in the RMP until snp_gmem_make_shared().
 */
#ifndef _LINUX_SNP_GMEM_H
#define _LINUX_SNP_GMEM_H

#include <linux/types.h>

struct file;

/*
 * Make pages a guest's: npages from pfn on become assigned to asid, at gfn and following, not validated. npages is
 * a multiple of the level's 1 or 512, and pfn and gfn are aligned to that.
 *
 * A page that is assigned already has to be this guest's, at this address, in an entry that is not smaller; then
 * nothing is done to it. All pages or none: what this call has assigned before a failure is shared again.
 *
 * Context: sleeps. For gmem_make_private: the folio's lock may be held.
 * Returns 0; -EEXIST if a page is somebody else's; -EINVAL for arguments; -ENODEV if this is no SNP host; -EIO if
 * the RMP cannot be looked at; -EFAULT if it refuses the change.
 */
int snp_gmem_make_private(u64 pfn, u64 gfn, u64 npages, int level, u32 asid);

/*
 * Make pages the host's again, whatever they were, and drop what the caches hold of them. A page in the middle of a
 * 2 MiB entry is split from it first.
 *
 * Context: sleeps. For gmem_make_shared (free_folio) and for conversion in place: somebody holds a reference.
 * Returns how many of the pages are lost; the caller must not touch those any more.
 */
u64 snp_gmem_make_shared(u64 pfn, u64 npages);

/*
 * The largest level at which a private page may be mapped: that of its entry in the RMP, PG_LEVEL_4K if it has none
 * or it is not assigned.
 *
 * Context: any. For gmem_max_mapping_level, with mmu_lock held.
 */
int snp_gmem_max_level(u64 pfn);

/* A page of a guest that is being launched. */
struct snp_gmem_launch {
	u64 gctx_paddr;		/* the guest's context, as in SNP_LAUNCH_UPDATE */
	u64 pfn;
	u64 gfn;
	/* Where its contents are copied from: a page that the caller has pinned. SNP_GMEM_IN_PLACE: they are in place. */
	u64 source_pfn;
	u32 asid;
	u32 type;		/* SNP_PAGE_TYPE_* of linux/psp-sev.h */
};

#define SNP_GMEM_IN_PLACE	(~0ULL)

/*
 * Launch one page of 4 KiB that nobody has: fill it, assign it to the guest and issue SNP_LAUNCH_UPDATE. After a
 * failure it is the host's again. What firmware has corrected in a CPUID page is copied to the source then.
 *
 * sev is an open /dev/sev, by which the owner of the guest shows that he may. Firmware's status is stored to
 * *fw_error if it was asked.
 *
 * Context: sleeps.
 * Returns 0; -EBADF; -EAGAIN for a VMSA in a page at a multiple of 2 MiB, where another page would do (of the guest's
 * address that is -EINVAL); -EEXIST if the page is assigned already; -EFAULT if the page is lost; -EINVAL;
 * -EIO if firmware or the RMP refuses; else as sev_issue_cmd_external_user().
 */
int snp_gmem_launch(struct file *sev, const struct snp_gmem_launch *page, int *fw_error);

/*
 * Launch a page with a VMSA that user space has made. The driver checks a copy of it that user space cannot change:
 * VMPL is 0, SEV_FEATURES is sev_features, EFER has SVME, and what is reserved is zero.
 *
 * As snp_gmem_launch() otherwise; the type is SNP_PAGE_TYPE_VMSA and there is a source. -EINVAL if a check fails.
 */
int snp_gmem_launch_vmsa(struct file *sev, const struct snp_gmem_launch *page, u64 sev_features, int *fw_error);

/*
 * A CPU is being stopped. If the kernel panics and there are SNP guests, it waits here until the panicking CPU has
 * taken them from firmware, and writes its caches back, which firmware wants of every CPU then. Otherwise, and after
 * a minute in any case, nothing happens.
 *
 * Context: NMI or interrupts off, virtualization disabled. Takes no lock.
 */
void snp_gmem_cpu_stopped(void);

#endif /* _LINUX_SNP_GMEM_H */
