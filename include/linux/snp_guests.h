/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ccp.ko: what the driver asks of kvm-amd.ko about all SNP guests.
 *
 * Firmware that is replaced while guests live takes each of them over when it is asked for that guest's status. The
 * driver has no table of guests: KVM walks its own, under its own locks, and registers here for being asked to.
 */
#ifndef _LINUX_SNP_GUESTS_H
#define _LINUX_SNP_GUESTS_H

#include <linux/types.h>

/* What came of it. */
struct snp_guests_asked {
	u32 known;	/* guests whose status firmware has told, */
	u32 ended;	/* and guests that firmware has refused, which KVM has ended. */
};

struct snp_guests_ops {
	/*
	 * Issue SNP_GUEST_STATUS for each guest that has a context, whatever its state. A guest that firmware refuses
	 * is ended; the others go on. Nothing is ended for a command that was not issued or not answered.
	 *
	 * Context: sleeps. The driver holds no lock but that of the registration: all its exports may be called apart
	 * from those in this file.
	 * Returns 0, or what sev_do_cmd() returned for a command without an answer: the remaining guests are not asked
	 * then. -ENOMEM.
	 */
	int (*ask_all)(struct snp_guests_asked *asked);
};

/*
 * Context: sleeps. No lock that ask_all() takes is held.
 * Returns 0; -EBUSY if somebody is registered.
 */
int snp_guests_register(const struct snp_guests_ops *ops);

/* Waits for a call of ask_all() to end. Otherwise as above. */
void snp_guests_unregister(const struct snp_guests_ops *ops);

#endif /* _LINUX_SNP_GUESTS_H */
