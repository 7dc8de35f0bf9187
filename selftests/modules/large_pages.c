// SPDX-License-Identifier: GPL-2.0
/*
 * Takes the place of kvm-amd, for which the exports in linux/snp_gmem.h are. The parameter "step" takes "private":
 * 2 MiB become those of a guest that nobody runs, "middle": a page out of the middle is taken back, and "all".
 * Unloading frees them. Each result is a line "large: NAME RESULT". The kernel's own guest_memfd has no pages of that
 * size.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/psp-sev.h>
#include <linux/snp_gmem.h>
#include <asm/sev.h>

#define PAGES 512
#define MIDDLE 5
#define GFN 0x200
#define ASID 1

#define report(name, fmt, ...) pr_info("large: %s " fmt "\n", name, ##__VA_ARGS__)

static struct page *pages;

static ulong address;
module_param(address, ulong, 0444);
MODULE_PARM_DESC(address, "where the pages are");

static unsigned int assigned(void)
{
	unsigned int count = 0, n;
	bool is;
	int level;

	for (n = 0; n < PAGES; n++)
		count += !snp_lookup_rmpentry(page_to_pfn(pages) + n, &is, &level) && is;
	return count;
}

static int step(const char *name, const struct kernel_param *param)
{
	u64 pfn = page_to_pfn(pages), lost;
	int result;

	if (sysfs_streq(name, "private")) {
		result = snp_gmem_make_private(pfn, GFN, PAGES, PG_LEVEL_2M, ASID);
		report("private", "%d assigned %u level %d", result, assigned(), snp_gmem_max_level(pfn));
	} else if (sysfs_streq(name, "middle")) {
		lost = snp_gmem_make_shared(pfn + MIDDLE, 1);
		report("middle", "lost %llu assigned %u level %d", lost, assigned(), snp_gmem_max_level(pfn));
	} else if (sysfs_streq(name, "all")) {
		lost = snp_gmem_make_shared(pfn, PAGES);
		report("all", "lost %llu assigned %u", lost, assigned());
	} else {
		return -EINVAL;
	}
	return 0;
}

static const struct kernel_param_ops steps = { .set = step };
module_param_cb(step, &steps, NULL, 0200);

static int __init large_pages_init(void)
{
	struct sev_platform_init_args args = { .probe = true };

	if (sev_platform_init(&args))
		return -EIO;
	pages = alloc_pages(GFP_KERNEL | __GFP_COMP | __GFP_ZERO, 9);
	if (!pages)
		return -ENOMEM;
	address = __pa(page_address(pages));
	return 0;
}
module_init(large_pages_init);

static void __exit large_pages_exit(void)
{
	__free_pages(pages, 9);
	/* As long as nobody else has got the page, which takes some time. */
	report("freed", "references %d", page_ref_count(pages));
	sev_platform_shutdown();
}
module_exit(large_pages_exit);

MODULE_DESCRIPTION("Pages of 2 MiB for guests");
MODULE_LICENSE("GPL");
