/* SPDX-License-Identifier: GPL-2.0 */
/*
 * snp_host.ko: the part of the driver that must outlive ccp.ko while SEV-SNP is enabled on this
 * host, or while a PSP owes an answer.
 *
 * SYSCFG.SNP_EN, once written, stays until reset or until the firmware clears it. For that time no
 * CPU may come or go: a CPU that runs without SNP_EN bypasses the RMP checks of all others. The
 * hotplug window is that time. While it is open this module holds exactly one
 * cpu_hotplug_disable(), refuses on- and offlining on the paths that do not look at it, refuses
 * suspend and hibernation, and cannot be unloaded. Documentation/window.md has the rules.
 *
 * A PSP that did not answer in time may still be working on the command, and may write to memory
 * that the command names. A reset of the PSP's registers hides that.
 *
 * All functions sleep. The caller serialises them with its command lock, which comes before every
 * lock taken here (cpu_hotplug_disable(), then cpus_read_lock()).
 */
#ifndef _LINUX_SNP_HOST_H
#define _LINUX_SNP_HOST_H

#include <linux/types.h>

/* Why a window may be closed, for snp_host_window_close(). Both are checked, not believed. */
enum snp_host_close {
	/* SNP_EN was never written, or the firmware cleared it (X86_SNP_SHUTDOWN). */
	SNP_HOST_CLOSE_SNP_OFF = 1,
	/* SNP_EN is set, but the firmware refused SNP_INIT definitely and its mailbox is alive. */
	SNP_HOST_CLOSE_INIT_REFUSED = 2,
};

/* Why a window stays open although the firmware is not in use. */
enum snp_host_keep {
	/* For snp_host_window_keep(). */
	SNP_HOST_KEEP_LEGACY_SHUTDOWN = 1,	/* SNP_SHUTDOWN_EX without X86_SNP_SHUTDOWN */
	SNP_HOST_KEEP_SHUTDOWN_FAILED = 2,	/* SNP_SHUTDOWN_EX was refused */
	SNP_HOST_KEEP_TIMEOUT = 3,		/* a command timed out */
	SNP_HOST_KEEP_MAILBOX_DEAD = 4,		/* the mailbox does not answer any more */
	SNP_HOST_KEEP_HARDWARE_ERROR = 5,	/* HWERROR_PLATFORM or HWERROR_UNSAFE */
	SNP_HOST_KEEP_RMP_INIT_FAILED = 6,	/* RMP_INITIALIZATION_FAILED */
	SNP_HOST_KEEP_UNDECIDED = 7,		/* an error path ended without a verdict */
	SNP_HOST_KEEP_FIRMWARE_RESET = 8,	/* the firmware was reset while SNP was initialised */
	/* snp_host finds these by itself. */
	SNP_HOST_KEEP_FOUND_AT_LOAD = 9,	/* SNP_EN was set when snp_host was loaded */
	SNP_HOST_KEEP_SOME_CPUS = 10,		/* some CPUs have SNP_EN, others do not */
	SNP_HOST_KEEP_STILL_ENABLED = 11,	/* to be closed as off, but CPUs have SNP_EN */
	SNP_HOST_KEEP_RMP_NOT_ZERO = 12,	/* SNP_INIT refused, entries of the RMP in use */
	SNP_HOST_KEEP_RMP_UNREADABLE = 13,	/* SNP_INIT refused, RMP could not be read */
};

/*
 * Open the window: disable CPU hotplug (unless the window is open already) and only then check
 * that every present CPU is online. Nothing is left behind on failure.
 *
 * Returns 0, -ENODEV if this kernel is no SNP host (or a kdump kernel), -EOPNOTSUPP if a present
 * CPU is offline, -ENOMEM.
 */
int snp_host_window_open(void);

/*
 * Prepare all CPUs for SNP_INIT: compare what firmware compares, check and (if no CPU has SNP_EN)
 * clear the RMP, then set SYSCFG.MFDM, SYSCFG.SNP_EN with VMPL_EN, and VM_HSAVE_PA = 0 on every
 * CPU, each in a round of its own and read back. To be called in an open window.
 *
 * Returns 0; -EOPNOTSUPP if this host cannot do SNP (registers that differ, an RMP that does not
 * cover all RAM) and -EBUSY if a CPU is using SVM, both with nothing written; -EIO if a CPU ignored
 * a write; -ENOMEM, -EPERM if no window is open. The log has the reason. The window is left open in
 * any case.
 */
int snp_host_prepare(void);

/*
 * Close the window if the reason holds: SNP_EN is read on every CPU, and for
 * SNP_HOST_CLOSE_INIT_REFUSED the whole RMP is read and must be zero. If no CPU has SNP_EN any more
 * the RMP is cleared and MFDM switched off first. A window that is closed already stays closed.
 *
 * Returns 0 if the window is closed, -EBUSY if it stays open (the reason is logged and shown in
 * /sys/kernel/snp_host/), -ENOMEM, -EINVAL.
 */
int snp_host_window_close(enum snp_host_close why);

/* Leave the window open, with the reason on record. */
void snp_host_window_keep(enum snp_host_keep why);

/*
 * Count the CPUs that have SNP_EN set. Works on any AMD machine, SNP host or not.
 *
 * Returns the count, or -ENOMEM.
 */
int snp_host_snp_en_cpus(void);

/*
 * Record that the PSP at a PCI address owes an answer to this command (its number, which is not 0).
 * The next user of the PSP must not issue another command before that answer has come. This module
 * cannot be unloaded as long as a PSP is on record.
 *
 * @psp: domain, bus, device and function as one number (rust/sys/pci_adapter.rs)
 *
 * Returns 0, or -ENOSPC if more PSPs owe answers than a machine has.
 */
int snp_host_psp_owes(unsigned long long psp, unsigned int command);

/* The command that the PSP owes an answer to; 0 if none. */
unsigned int snp_host_psp_owed(unsigned long long psp);

/* The answer of that PSP has come. */
void snp_host_psp_answered(unsigned long long psp);

/*
 * Whose a page is, as its own entry in the RMP has it: the ASID (0 is firmware) and the guest physical address in
 * bytes. Of a 2 MiB page only the first entry says so. To be asked of pages that are assigned, while SNP is in use.
 *
 * Returns 0, -EIO if there is no such entry or SNP is not enabled on this CPU, -ENOMEM, -EOPNOTSUPP.
 */
int snp_host_rmp_owner(u64 pfn, u32 *asid, u64 *gpa);

/*
 * Describe the hotplug window and the RMP for people, in lines of "NAME: WORDS"; a NUL is behind
 * the last one. Waits while CPUs and RMP are being prepared.
 *
 * Returns 0, -ENOSPC if the text does not fit, -ENOMEM.
 */
int snp_host_describe(char *text, size_t size);

#endif /* _LINUX_SNP_HOST_H */
