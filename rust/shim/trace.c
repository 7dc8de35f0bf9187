// SPDX-License-Identifier: GPL-2.0
/*
 * The trace events of ccp.ko, as functions: the kernel's Rust macro for trace events finds only
 * those of the kernel's own bindings. Strings come with their length, without a NUL.
 */
#define CREATE_TRACE_POINTS
#include "trace.h"

#include "trace_calls.h"

void ccp_trace_command_start(u32 id, const char *name, u32 name_len, u64 buffer)
{
	trace_ccp_command_start(id, name, name_len, buffer);
}

void ccp_trace_command_done(u32 id, const char *name, u32 name_len, int error, u32 status, u64 us)
{
	trace_ccp_command_done(id, name, name_len, error, status, us);
}

void ccp_trace_pages(u64 pfn, u64 count, const char *owner, u32 owner_len, u32 asid, u64 gpa)
{
	trace_ccp_pages(pfn, count, owner, owner_len, asid, gpa);
}

void ccp_trace_state(const char *snp, u32 snp_len, const char *sev, u32 sev_len)
{
	trace_ccp_state(snp, snp_len, sev, sev_len);
}
