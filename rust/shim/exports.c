// SPDX-License-Identifier: GPL-2.0
/*
 * The exports of ccp.ko, in the flavours of the in-tree driver. The prototypes are those of the
 * kernel's headers, the functions are in rust/ccp/kapi.rs.
 */
#include <linux/ccp.h>
#include <linux/export.h>
#include <linux/psp-platform-access.h>
#include <linux/psp-sev.h>
#include <linux/psp-tee.h>
#include <linux/snp_gmem.h>
#include <linux/snp_guests.h>

/* For kvm-amd. */
EXPORT_SYMBOL_GPL(sev_platform_init);
EXPORT_SYMBOL_GPL(sev_platform_shutdown);
EXPORT_SYMBOL_GPL(sev_platform_status);
EXPORT_SYMBOL_GPL(sev_do_cmd);
EXPORT_SYMBOL_GPL(sev_issue_cmd_external_user);
EXPORT_SYMBOL_GPL(sev_guest_activate);
EXPORT_SYMBOL_GPL(sev_guest_deactivate);
EXPORT_SYMBOL_GPL(sev_guest_decommission);
EXPORT_SYMBOL_GPL(sev_guest_df_flush);
EXPORT_SYMBOL_GPL(psp_copy_user_blob);
EXPORT_SYMBOL_GPL(snp_alloc_firmware_page);
EXPORT_SYMBOL_GPL(snp_free_firmware_page);
EXPORT_SYMBOL_GPL(snp_reclaim_pages);
EXPORT_SYMBOL_GPL(sev_is_snp_ciphertext_hiding_supported);
EXPORT_SYMBOL_GPL(sev_get_snp_policy_bits);
EXPORT_SYMBOL_FOR_MODULES(sev_firmware_supported_vm_types, "kvm-amd");

/* For a kvm-amd with hooks: rust/ccp/kapi/gmem.rs, guests.rs. */
EXPORT_SYMBOL_FOR_MODULES(snp_gmem_make_private, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(snp_gmem_make_shared, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(snp_gmem_max_level, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(snp_gmem_launch, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(snp_gmem_cpu_stopped, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(snp_gmem_launch_vmsa, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(snp_guests_register, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(snp_guests_unregister, "kvm-amd");

/* For amdtee. */
EXPORT_SYMBOL(psp_tee_process_cmd);
EXPORT_SYMBOL(psp_check_tee_status);

/* For drivers of devices behind the PSP. */
EXPORT_SYMBOL(psp_check_platform_access_status);
EXPORT_SYMBOL_GPL(psp_send_platform_access_msg);
EXPORT_SYMBOL_GPL(psp_ring_platform_doorbell);

/* For ccp-crypto. */
EXPORT_SYMBOL_GPL(ccp_present);
EXPORT_SYMBOL_GPL(ccp_version);
EXPORT_SYMBOL_GPL(ccp_enqueue_cmd);
