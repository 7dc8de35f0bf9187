/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CCP_NV_FILE_H
#define CCP_NV_FILE_H

#include <linux/types.h>

ssize_t ccp_nv_read(const char *path, void *data, size_t len);
int ccp_nv_write(const char *path, const void *data, size_t len);

#endif
