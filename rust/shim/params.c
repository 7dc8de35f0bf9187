// SPDX-License-Identifier: GPL-2.0
/*
 * Module parameters, with the names, types and modes of the in-tree driver; that driver has no
 * parameter "snp". The kernel's module! macro has neither strings nor parameters that are visible
 * in sysfs. rust/sys/params.rs reads them.
 */
#include <linux/module.h>

MODULE_VERSION(CCP_RS_VERSION);

int ccp_psp_cmd_timeout = 100;
module_param_named(psp_cmd_timeout, ccp_psp_cmd_timeout, int, 0644);
MODULE_PARM_DESC(psp_cmd_timeout, " how long a PSP command may take, in seconds (1 to 3600)");

int ccp_psp_probe_timeout = 5;
module_param_named(psp_probe_timeout, ccp_psp_probe_timeout, int, 0644);
MODULE_PARM_DESC(psp_probe_timeout, " how long the first PSP command may take, in seconds (1 to 3600)");

bool ccp_psp_init_on_probe = true;
module_param_named(psp_init_on_probe, ccp_psp_init_on_probe, bool, 0444);
MODULE_PARM_DESC(psp_init_on_probe, " initialise legacy SEV when kvm_amd is loaded, not with the first guest");

bool ccp_snp = true;
module_param_named(snp, ccp_snp, bool, 0444);
MODULE_PARM_DESC(snp, " initialise SNP when kvm_amd is loaded; without it CPU hotplug and suspend stay allowed");

char *ccp_init_ex_path;
module_param_named(init_ex_path, ccp_init_ex_path, charp, 0444);
MODULE_PARM_DESC(init_ex_path,
		 " file for the persistent state of SEV firmware (INIT_EX), instead of the PSP's own storage");

bool ccp_tio;
module_param_named(tio, ccp_tio, bool, 0444);
MODULE_PARM_DESC(tio, " SEV-TIO, which this driver does not have");
