/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CCP_TRACE_CALLS_H
#define CCP_TRACE_CALLS_H

#include <linux/types.h>

void ccp_trace_command_start(u32 id, const char *name, u32 name_len, u64 buffer);
void ccp_trace_command_done(u32 id, const char *name, u32 name_len, int error, u32 status, u64 us);
void ccp_trace_pages(u64 pfn, u64 count, const char *owner, u32 owner_len, u32 asid, u64 gpa);
void ccp_trace_state(const char *snp, u32 snp_len, const char *sev, u32 sev_len);
void snp_host_trace_window(const char *state, u32 state_len);

#endif
