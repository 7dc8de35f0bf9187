// SPDX-License-Identifier: GPL-2.0
/*
 * Calls snp_host out of turn: to prepare CPUs without a hotplug window, and for a window. For a
 * kernel that may have none.
 */
#include <linux/module.h>
#include "../../include/linux/snp_host.h"

static int __init misuse_init(void)
{
	/* Looked up by name: the kernel's Module.symvers does not have them. */
	int (*prepare)(void) = symbol_get(snp_host_prepare);
	int (*window_open)(void) = symbol_get(snp_host_window_open);

	if (!prepare || !window_open)
		return -ENOENT;
	pr_info("misuse: prepare %d, open %d\n", prepare(), window_open());
	symbol_put(snp_host_window_open);
	symbol_put(snp_host_prepare);
	return 0;
}
module_init(misuse_init);

static void __exit misuse_exit(void) {}
module_exit(misuse_exit);

MODULE_DESCRIPTION("Call snp_host out of turn");
MODULE_LICENSE("GPL");
