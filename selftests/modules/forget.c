// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the in-tree driver, or the kernel for it, forget something: a function returns at once, or
 * a command is never given and counts as done.
 *
 *   function=NAME   on `cpu`, or on all; before=0: not before SNP_INIT, after=0: not from then on
 *   command=ID,…    of the PSP
 *   wbnoinvd=1      instead of returning at once the function executes WBNOINVD
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/psp-sev.h>
#include <linux/smp.h>
#include <asm/linkage.h>

static char *function;
module_param(function, charp, 0);

static int command[4], commands;
module_param_array(command, int, &commands, 0);

static int cpu = -1;
module_param(cpu, int, 0);

static bool before = true, after = true;
module_param(before, bool, 0);
MODULE_PARM_DESC(before, "before SNP_INIT");
module_param(after, bool, 0);
MODULE_PARM_DESC(after, "after SNP_INIT");

static bool wbnoinvd_instead;
module_param_named(wbnoinvd, wbnoinvd_instead, bool, 0);

static bool initialised;
static atomic_t forgotten = ATOMIC_INIT(0);

/* What ftrace jumps to: a caller's frame may not be taken away here. */
asm(".pushsection .text\n"
    "forget_return:\n\t"
    ANNOTATE_NOENDBR "\n\t"
    ASM_RET
    ".popsection\n");
void forget_return(void);

static int return_at_once(struct pt_regs *regs)
{
	atomic_inc(&forgotten);
	regs->ax = 0;
	instruction_pointer_set(regs, (unsigned long)forget_return);
	return 1;
}

static int in_function(struct kprobe *probe, struct pt_regs *regs)
{
	if ((cpu != -1 && cpu != smp_processor_id()) || !(READ_ONCE(initialised) ? after : before))
		return 0;
	if (wbnoinvd_instead)
		asm volatile(".byte 0xf3, 0x0f, 0x09" : : : "memory");
	return return_at_once(regs);
}

static int in_command(struct kprobe *probe, struct pt_regs *regs)
{
	if (regs->di == SEV_CMD_SNP_INIT || regs->di == SEV_CMD_SNP_INIT_EX)
		WRITE_ONCE(initialised, true);
	for (int n = 0; n < commands; n++)
		if (regs->di == command[n])
			return return_at_once(regs);
	return 0;
}

static struct kprobe function_probe = { .pre_handler = in_function };
static struct kprobe command_probe = { .symbol_name = "__sev_do_cmd_locked", .pre_handler = in_command };

static int __init forget_init(void)
{
	int error = register_kprobe(&command_probe);

	if (error || !function)
		return error;
	function_probe.symbol_name = function;
	error = register_kprobe(&function_probe);
	if (error)
		unregister_kprobe(&command_probe);
	return error;
}
module_init(forget_init);

static void __exit forget_exit(void)
{
	if (function)
		unregister_kprobe(&function_probe);
	unregister_kprobe(&command_probe);
	pr_info("forgotten: %d times\n", atomic_read(&forgotten));
}
module_exit(forget_exit);

MODULE_DESCRIPTION("Make a driver forget something");
MODULE_LICENSE("GPL");
