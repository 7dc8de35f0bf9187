/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of the bindgen run in Kbuild: kernel headers that rust/bindings of the kernel does not
 * reach, and our own. What is taken from them is the allow list in Kbuild.
 */
#include <linux/amd-iommu.h>
#include <linux/ccp.h>
#include <linux/crash_dump.h>
#include <linux/panic_notifier.h>
#include <linux/psp.h>
#include <linux/psp-platform-access.h>
#include <linux/psp-sev.h>
#include <linux/psp-tee.h>
#include <linux/set_memory.h>
#include <uapi/linux/psp-sfs.h>
#include <asm/iommu.h>
#include <asm/kvm.h>
#include <asm/sev.h>

#include <linux/snp_gmem.h>
#include <linux/snp_guests.h>
#include <linux/snp_host.h>
#include "../rust/shim/nv_file.h"
#include "../rust/shim/pages.h"
#include "../rust/shim/trace_calls.h"
