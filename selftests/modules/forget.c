// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the in-tree driver, or the kernel for it, forget something: a function returns at once, a
 * command is never given and counts as done, or a page is not copied back.
 *
 *   function=NAME   on `cpu`, or on all; before=0: not before SNP_INIT, after=0: not from then on
 *   command=ID,…    of the PSP
 *   wbnoinvd=1      instead of returning at once the function executes WBNOINVD
 *   copy_back=0     what firmware has left in a launch page that it refuses does not reach its source
 */
#include <linux/kprobes.h>
#include <linux/mem_encrypt.h>
#include <linux/module.h>
#include <linux/psp-sev.h>
#include <linux/smp.h>
#include <asm/io.h>
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

static bool copy_back = true;
module_param(copy_back, bool, 0);

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

/* The launch page before firmware had it, which is what its source holds. */
static u8 source[PAGE_SIZE];

static void remember(struct sev_data_snp_launch_update *update)
{
	memcpy(source, __va(__sme_clr(update->address) & PAGE_MASK), PAGE_SIZE);
}

/* KVM has copied the page back, and calls this function next. */
static int after_copy(struct kprobe *probe, struct pt_regs *regs)
{
	memcpy(page_address((struct page *)regs->di), source, PAGE_SIZE);
	atomic_inc(&forgotten);
	return 0;
}

static int in_command(struct kprobe *probe, struct pt_regs *regs)
{
	if (regs->di == SEV_CMD_SNP_INIT || regs->di == SEV_CMD_SNP_INIT_EX)
		WRITE_ONCE(initialised, true);
	if (regs->di == SEV_CMD_SNP_LAUNCH_UPDATE && !copy_back)
		remember((struct sev_data_snp_launch_update *)regs->si);
	for (int n = 0; n < commands; n++)
		if (regs->di == command[n])
			return return_at_once(regs);
	return 0;
}

static struct kprobe function_probe = { .pre_handler = in_function };
static struct kprobe command_probe = { .symbol_name = "__sev_do_cmd_locked", .pre_handler = in_command };
static struct kprobe copy_probe = { .symbol_name = "set_page_dirty_lock", .pre_handler = after_copy };
static struct kprobe *probes[3];
static int used;

static int __init forget_init(void)
{
	probes[used++] = &command_probe;
	if (!copy_back)
		probes[used++] = &copy_probe;
	if (function) {
		function_probe.symbol_name = function;
		probes[used++] = &function_probe;
	}
	return register_kprobes(probes, used);
}
module_init(forget_init);

static void __exit forget_exit(void)
{
	unregister_kprobes(probes, used);
	pr_info("forgotten: %d times\n", atomic_read(&forgotten));
}
module_exit(forget_exit);

MODULE_DESCRIPTION("Make a driver forget something");
MODULE_LICENSE("GPL");
