// SPDX-License-Identifier: GPL-2.0
/*
 * Looks for pages in two hands: assigned in the RMP, and free. Says "hands: HELD FREE": the pages of RAM that are
 * assigned and have a reference, and those that have none. FREE has the driver's own block of several pages, too, of
 * which only the first has a reference, and so is the same number each time if no page is in two hands.
 */
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <asm/sev.h>

static int __init hands_init(void)
{
	unsigned long pfn, held = 0, free = 0;
	struct page *page;
	bool assigned;
	int level;

	for (pfn = 0; pfn < node_end_pfn(first_online_node); pfn++) {
		page = pfn_to_online_page(pfn);
		if (!page || snp_lookup_rmpentry(pfn, &assigned, &level) || !assigned)
			continue;
		/* A free page has no reference, be it with the allocator or in a CPU's list. */
		if (folio_ref_count(page_folio(page)))
			held++;
		else
			free++;
		cond_resched();
	}
	pr_info("hands: %lu %lu\n", held, free);
	return -EAGAIN;
}
module_init(hands_init);

MODULE_DESCRIPTION("Pages that are assigned in the RMP, and free");
MODULE_LICENSE("GPL");
