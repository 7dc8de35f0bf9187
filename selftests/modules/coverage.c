// SPDX-License-Identifier: GPL-2.0
/*
 * Tells the plugin selftests/platform/coverage where our two modules lie, before the first of their
 * instructions is executed. Loaded by selftests/vm/init in machines that measure coverage.
 */
#include <linux/module.h>
#include <linux/notifier.h>

/* Numbers of the regions, as scripts/coverage knows them. */
static const char *const modules[] = { "snp_host", "ccp" };

/* A NOP to everybody but the plugin. */
static void tell(unsigned long region, const struct module_memory *memory, bool there)
{
	unsigned long size = there ? memory->size : 0;

	asm volatile("nopl 0x564f4343(%%rax)" : : "D"(region), "S"(memory->base), "d"(size));
}

static int on_module(struct notifier_block *nb, unsigned long state, void *data)
{
	struct module *mod = data;

	for (int i = 0; i < ARRAY_SIZE(modules); i++) {
		if (strcmp(mod->name, modules[i]))
			continue;
		tell(2 * i, &mod->mem[MOD_TEXT], state != MODULE_STATE_GOING);
		tell(2 * i + 1, &mod->mem[MOD_INIT_TEXT], state == MODULE_STATE_COMING);
	}
	return NOTIFY_DONE;
}

static struct notifier_block block = { .notifier_call = on_module };

static int __init coverage_init(void)
{
	return register_module_notifier(&block);
}
module_init(coverage_init);

MODULE_DESCRIPTION("Where the modules under test lie");
MODULE_LICENSE("GPL");
