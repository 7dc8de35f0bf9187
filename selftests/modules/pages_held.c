// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the pages that functions of ccp and snp_host have asked the page allocator for, and that nobody has given
 * back: those whose allocation has get_free_pages() called from there on its stack. The parameter `held` says how
 * many there are, and `calls` how many calls there were. To be loaded before those modules.
 */
#include <linux/gfp.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/spinlock.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#define MOST 4096
#define DEPTH 32
/* The code of get_free_pages(), which calls the allocator early. */
#define CODE_LEN 0x100

static const char *const names[] = { "ccp", "snp_host" };
static struct module *modules[ARRAY_SIZE(names)];

struct held {
	struct hlist_node node;
	struct page *page;
	unsigned int order;
};

static struct held room[MOST];
static HLIST_HEAD(unused);
static DEFINE_HASHTABLE(table, 10);
static DEFINE_RAW_SPINLOCK(lock);
static unsigned long held, calls, lost_count;
static struct tracepoint *on_alloc, *on_free;

static bool is_ours(unsigned long address)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(modules); n++) {
		struct module *module = READ_ONCE(modules[n]);

		if (module && within_module(address, module))
			return true;
	}
	return false;
}

static bool asked_for_by_us(void)
{
	unsigned long stack[DEPTH], allocator = (unsigned long)get_free_pages_noprof;
	unsigned int n, depth;

	/* Others do not pay for a stack trace. */
	if (!READ_ONCE(modules[0]) && !READ_ONCE(modules[1]))
		return false;
	depth = stack_trace_save(stack, DEPTH, 0);
	for (n = 1; n < depth; n++)
		if (stack[n - 1] - allocator < CODE_LEN)
			return is_ours(stack[n]);
	return false;
}

static void allocated(void *unused_data, struct page *page, unsigned int order, gfp_t gfp, int migratetype)
{
	struct held *entry = NULL;
	unsigned long flags;

	if (!page || !asked_for_by_us())
		return;
	raw_spin_lock_irqsave(&lock, flags);
	calls++;
	if (unused.first) {
		entry = hlist_entry(unused.first, struct held, node);
		hlist_del(&entry->node);
		entry->page = page;
		entry->order = order;
		hash_add(table, &entry->node, (unsigned long)page);
		held += 1UL << order;
	} else {
		lost_count++;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
}

static void freed(void *unused_data, struct page *page, unsigned int order)
{
	struct held *entry;
	struct hlist_node *next;
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	hash_for_each_possible_safe(table, entry, next, node, (unsigned long)page) {
		if (entry->page != page)
			continue;
		hash_del(&entry->node);
		hlist_add_head(&entry->node, &unused);
		held -= 1UL << entry->order;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
}

static int module_changes(struct notifier_block *block, unsigned long state, void *data)
{
	struct module *module = data;
	int n = match_string(names, ARRAY_SIZE(names), module->name);

	if (n < 0)
		return NOTIFY_DONE;
	if (state == MODULE_STATE_COMING)
		WRITE_ONCE(modules[n], module);
	/* Before the kernel unmaps it; its own last calls have been made by then. */
	else if (state == MODULE_STATE_GOING)
		WRITE_ONCE(modules[n], NULL);
	return NOTIFY_OK;
}

static struct notifier_block block = { .notifier_call = module_changes };

static int get_held(char *buffer, const struct kernel_param *param)
{
	if (lost_count)
		return -ENOSPC;
	return sysfs_emit(buffer, "%lu\n", READ_ONCE(held));
}

static const struct kernel_param_ops held_ops = { .get = get_held };
module_param_cb(held, &held_ops, NULL, 0444);
module_param(calls, ulong, 0444);

static void find(struct tracepoint *tp, void *unused_data)
{
	if (!strcmp(tp->name, "mm_page_alloc"))
		on_alloc = tp;
	else if (!strcmp(tp->name, "mm_page_free"))
		on_free = tp;
}

static int __init pages_held_init(void)
{
	unsigned int n;
	int err;

	for (n = 0; n < MOST; n++)
		hlist_add_head(&room[n].node, &unused);
	for_each_kernel_tracepoint(find, NULL);
	if (!on_alloc || !on_free)
		return -ENOENT;
	err = register_module_notifier(&block);
	if (err)
		return err;
	/* For as long as the machine runs: there is no way to unload this. */
	err = tracepoint_probe_register(on_alloc, allocated, NULL);
	return err ?: tracepoint_probe_register(on_free, freed, NULL);
}
module_init(pages_held_init);

MODULE_DESCRIPTION("Pages that ccp and snp_host have");
MODULE_LICENSE("GPL");
