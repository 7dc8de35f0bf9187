// SPDX-License-Identifier: GPL-2.0
/*
 * References to pages: inlines of linux/mm.h that the kernel's own Rust helpers lack.
 */
#include <linux/memory_hotplug.h>
#include <linux/mm.h>

#include "pages.h"

/*
 * Takes a reference to the page of this number (for a huge page: to the whole of it), so that the
 * allocator does not get it back. False if it is no RAM or free.
 */
bool ccp_hold_page(u64 pfn)
{
	struct page *page = pfn_to_online_page(pfn);

	return page && folio_try_get(page_folio(page));
}
