/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The trace event of snp_host.ko: the hotplug window has changed.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM snp_host

#if !defined(SNP_HOST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define SNP_HOST_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(snp_host_window,
	TP_PROTO(const char *state, u32 state_len),
	TP_ARGS(state, state_len),
	TP_STRUCT__entry(
		__string_len(state, state, state_len)
	),
	TP_fast_assign(
		__assign_str(state);
	),
	TP_printk("state=%s", __get_str(state))
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE snp_host_trace
#include <trace/define_trace.h>
