// SPDX-License-Identifier: GPL-2.0
/*
 * The trace event of snp_host.ko, as a function (as in trace.c).
 */
#define CREATE_TRACE_POINTS
#include "snp_host_trace.h"

#include "trace_calls.h"

void snp_host_trace_window(const char *state, u32 state_len)
{
	trace_snp_host_window(state, state_len);
}
