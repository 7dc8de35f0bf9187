/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What a kvm-amd.ko with the patches of scripts/kvm-amd offers for SNP guests beyond linux/kvm.h. The numbers are
 * this project's: upstream has not fixed any. Documentation/kvm-amd.md has the rules.
 */
#ifndef _UAPI_LINUX_KVM_SNP_H
#define _UAPI_LINUX_KVM_SNP_H

#include <linux/types.h>

/*
 * KVM_GET_DEVICE_ATTR on /dev/kvm, group KVM_X86_GRP_SEV: which of these there are. ENXIO from another kvm-amd.
 */
#define KVM_X86_SEV_SNP_FEATURES	64

/* SNP_LAUNCH_UPDATE takes a page with the boot vCPU's VMSA. */
#define KVM_SNP_FEATURE_LAUNCH_VMSA	(1ULL << 0)
/* vCPUs may be created after SNP_LAUNCH_FINISH, and wait for the guest's AP_CREATE. */
#define KVM_SNP_FEATURE_LATE_VCPUS	(1ULL << 1)

/* SNP_LAUNCH_UPDATE: one page with a VMSA. */
#define KVM_SEV_SNP_PAGE_TYPE_VMSA	0x2

/* Userspace binds VMSAs to vCPUs. */
#define KVM_SNP_FEATURE_DIRECT_VMSA	(1ULL << 2)

/*
 * KVM_MEMORY_ENCRYPT_OP of a VM that has no vCPU yet: VMSAs are bound by userspace. data is 0.
 */
#define KVM_SEV_SNP_ENABLE_DIRECT_VMSA	0x53000

/*
 * KVM_MEMORY_ENCRYPT_OP of a vCPU, after SNP_LAUNCH_START and before SNP_LAUNCH_FINISH. data is the address of a
 * struct kvm_sev_snp_vcpu_state. The last one counts; what is not valid in it is not bound any more.
 */
#define KVM_SEV_SNP_SET_VCPU_STATE	0x53001
#define KVM_SEV_SNP_GET_VCPU_STATE	0x53002

#define KVM_SEV_SNP_VMSA_VALID		(1ULL << 0)
#define KVM_SEV_SNP_GHCB_VALID		(1ULL << 1)

struct kvm_sev_snp_vcpu_state {
	__u64 valid_fields;
	/* Of a page of guest_memfd that has been launched, not at a multiple of 2 MiB. */
	__u64 vmsa_gpa;
	/* Kept for GET, not looked at. */
	__u64 ghcb_gpa;
	__u64 pad[5];
};

#endif /* _UAPI_LINUX_KVM_SNP_H */
