// SPDX-License-Identifier: GPL-2.0
/*
 * CPU 1 takes no interrupt any more, so that whoever calls all CPUs waits for it, and panics some seconds later.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>

static int deaf(void *unused)
{
	/* Whoever loads this module calls all CPUs, too. */
	msleep(1000);
	local_irq_disable();
	mdelay(8000);
	panic("CPU 1 was deaf\n");
	return 0;
}

static int __init deaf_init(void)
{
	struct task_struct *task = kthread_create_on_cpu(deaf, NULL, 1, "deaf/%u");

	if (IS_ERR(task))
		return PTR_ERR(task);
	wake_up_process(task);
	return 0;
}
module_init(deaf_init);

MODULE_DESCRIPTION("A CPU that others wait for, and that panics");
MODULE_LICENSE("GPL");
