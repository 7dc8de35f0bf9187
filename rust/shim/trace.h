/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The trace events of ccp.ko. rust/ccp/trace.rs says when each occurs.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ccp

#if !defined(CCP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define CCP_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(ccp_command_start,
	TP_PROTO(u32 id, const char *name, u32 name_len, u64 buffer),
	TP_ARGS(id, name, name_len, buffer),
	TP_STRUCT__entry(
		__field(u32, id)
		__string_len(name, name, name_len)
		__field(u64, buffer)
	),
	TP_fast_assign(
		__entry->id = id;
		__assign_str(name);
		__entry->buffer = buffer;
	),
	TP_printk("id=%#x name=%s buffer=%#llx", __entry->id, __get_str(name), __entry->buffer)
);

TRACE_EVENT(ccp_command_done,
	TP_PROTO(u32 id, const char *name, u32 name_len, int error, u32 status, u64 us),
	TP_ARGS(id, name, name_len, error, status, us),
	TP_STRUCT__entry(
		__field(u32, id)
		__string_len(name, name, name_len)
		__field(int, error)
		__field(u32, status)
		__field(u64, us)
	),
	TP_fast_assign(
		__entry->id = id;
		__assign_str(name);
		__entry->error = error;
		__entry->status = status;
		__entry->us = us;
	),
	TP_printk("id=%#x name=%s error=%d status=%#x us=%llu", __entry->id, __get_str(name),
		  __entry->error, __entry->status, __entry->us)
);

TRACE_EVENT(ccp_pages,
	TP_PROTO(u64 pfn, u64 count, const char *owner, u32 owner_len, u32 asid, u64 gpa),
	TP_ARGS(pfn, count, owner, owner_len, asid, gpa),
	TP_STRUCT__entry(
		__field(u64, pfn)
		__field(u64, count)
		__string_len(owner, owner, owner_len)
		__field(u32, asid)
		__field(u64, gpa)
	),
	TP_fast_assign(
		__entry->pfn = pfn;
		__entry->count = count;
		__assign_str(owner);
		__entry->asid = asid;
		__entry->gpa = gpa;
	),
	TP_printk("pfn=%#llx count=%llu owner=%s asid=%u gpa=%#llx", __entry->pfn, __entry->count,
		  __get_str(owner), __entry->asid, __entry->gpa)
);

TRACE_EVENT(ccp_state,
	TP_PROTO(const char *snp, u32 snp_len, const char *sev, u32 sev_len),
	TP_ARGS(snp, snp_len, sev, sev_len),
	TP_STRUCT__entry(
		__string_len(snp, snp, snp_len)
		__string_len(sev, sev, sev_len)
	),
	TP_fast_assign(
		__assign_str(snp);
		__assign_str(sev);
	),
	TP_printk("snp=%s sev=%s", __get_str(snp), __get_str(sev))
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
