// SPDX-License-Identifier: GPL-2.0
/*
 * Writes to physical memory: one byte, the value that it has, or zeros with `zeros` of them. For tests
 * of what the models report: a processor answers some such writes with a fault, others ruin what
 * firmware has there.
 */
#include <linux/io.h>
#include <linux/module.h>

static ulong address;
module_param(address, ulong, 0);
MODULE_PARM_DESC(address, "physical address of the byte");

static ulong zeros;
module_param(zeros, ulong, 0);

static int __init poke_init(void)
{
	/* RAM is mapped already and is found in the direct map. */
	u8 *byte = memremap(address, max(zeros, 1UL), MEMREMAP_WB);

	if (!byte)
		return -ENXIO;
	if (zeros)
		memset(byte, 0, zeros);
	else
		WRITE_ONCE(*byte, READ_ONCE(*byte));
	memunmap(byte);
	return 0;
}
module_init(poke_init);

static void __exit poke_exit(void) {}
module_exit(poke_exit);

MODULE_DESCRIPTION("Write to physical memory");
MODULE_LICENSE("GPL");
