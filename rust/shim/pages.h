/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CCP_SHIM_PAGES_H
#define CCP_SHIM_PAGES_H

#include <linux/gfp_types.h>
#include <linux/types.h>

#ifdef __BINDGEN__
/* A macro with a cast, which bindgen does not take. For KUnit. */
const gfp_t ccp_gfp_comp = __GFP_COMP;
#endif

bool ccp_hold_page(u64 pfn);

#endif
