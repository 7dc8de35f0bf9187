// SPDX-License-Identifier: GPL-2.0
/*
 * Writes one byte of physical memory, the value that it has. For tests of the CPU model's reports: on an
 * SNP host such a write can be a mistake that a processor answers with a fault.
 */
#include <linux/io.h>
#include <linux/module.h>

static ulong address;
module_param(address, ulong, 0);
MODULE_PARM_DESC(address, "physical address of the byte");

static int __init poke_init(void)
{
	/* RAM is mapped already and is found in the direct map. */
	u8 *byte = memremap(address, 1, MEMREMAP_WB);

	if (!byte)
		return -ENXIO;
	WRITE_ONCE(*byte, READ_ONCE(*byte));
	memunmap(byte);
	return 0;
}
module_init(poke_init);

static void __exit poke_exit(void) {}
module_exit(poke_exit);

MODULE_DESCRIPTION("Write a byte of physical memory");
MODULE_LICENSE("GPL");
