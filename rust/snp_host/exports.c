// SPDX-License-Identifier: GPL-2.0
/* The exports of snp_host.ko; the functions are in host.rs. And its version. */
#include <linux/export.h>
#include <linux/module.h>
#include <linux/snp_host.h>

MODULE_VERSION(CCP_RS_VERSION);

EXPORT_SYMBOL_FOR_MODULES(snp_host_window_open, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_prepare, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_window_close, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_window_keep, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_snp_en_cpus, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_psp_owes, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_psp_owed, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_psp_answered, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_rmp_owner, "ccp");
EXPORT_SYMBOL_FOR_MODULES(snp_host_describe, "ccp");
