// SPDX-License-Identifier: GPL-2.0
/*
 * A loss of power at a given point: the machine starts anew, and nothing is written to its disks,
 * when a function of the kernel is called for the nth time from now on, or returns.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/reboot.h>

static char *function;
module_param(function, charp, 0);
MODULE_PARM_DESC(function, "Function of the kernel");

static int nth = 1;
module_param(nth, int, 0);
MODULE_PARM_DESC(nth, "Which call of it (1: the next)");

static bool returned;
module_param(returned, bool, 0);
MODULE_PARM_DESC(returned, "When it returns (default: when it is called)");

static atomic_t calls;

static int probed(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	if (atomic_inc_return(&calls) == nth)
		emergency_restart();
	return 0;
}

static struct kretprobe probe;

static int __init power_loss_init(void)
{
	probe.kp.symbol_name = function;
	if (returned)
		probe.handler = probed;
	else
		probe.entry_handler = probed;
	return register_kretprobe(&probe);
}
module_init(power_loss_init);

static void __exit power_loss_exit(void)
{
	unregister_kretprobe(&probe);
}
module_exit(power_loss_exit);

MODULE_DESCRIPTION("A loss of power at a given point");
MODULE_LICENSE("GPL");
