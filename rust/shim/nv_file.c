// SPDX-License-Identifier: GPL-2.0
/*
 * The file of init_ex_path: reading it, and replacing it so that after a loss of power there is
 * either the old file or the new one. In C because the ways to it are macros and inlines.
 *
 * A kernel thread does the work. So the path is one of init's mount namespace and root directory,
 * whoever has caused the access; permissions are root's; and a signal to the caller, which may be a
 * program on /dev/sev, does not end the access half-way. The caller sleeps until it is done.
 */
#include <linux/cleanup.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "nv_file.h"

/* Where kernel threads do not have a root directory of their own, theirs is init's. */
#ifdef scoped_with_init_fs
#define with_init_fs() scoped_with_init_fs()
#else
#define with_init_fs()
#endif

struct access {
	struct work_struct work;
	const char *path;
	void *to;
	const void *from;
	size_t len;
	ssize_t result;
};

static void close(struct file *file)
{
	/* A file that a kernel thread closes with fput() keeps its mount busy for a while. */
	__fput_sync(file);
}

static ssize_t read_regular(struct file *file, void *data, size_t len)
{
	loff_t pos = 0;

	if (!S_ISREG(file_inode(file)->i_mode))
		return -EINVAL;
	if (i_size_read(file_inode(file)) > len)
		return -EFBIG;
	return kernel_read(file, data, len, &pos);
}

static ssize_t read_file(const char *path, void *data, size_t len)
{
	/* O_NONBLOCK: the path may be that of a FIFO. */
	struct file *file = filp_open(path, O_RDONLY | O_NONBLOCK | O_LARGEFILE, 0);
	ssize_t result;

	if (IS_ERR(file))
		return PTR_ERR(file);
	result = read_regular(file, data, len);
	close(file);
	return result;
}

static int fill(struct file *file, const void *data, size_t len)
{
	loff_t pos = 0;
	ssize_t written = kernel_write(file, data, len, &pos);

	if (written < 0)
		return written;
	if (written != len)
		return -ENOSPC;
	return vfs_fsync(file, 0);
}

static int sync_directory(const struct path *dir)
{
	struct file *file = dentry_open(dir, O_RDONLY | O_DIRECTORY, current_cred());
	int err;

	if (IS_ERR(file))
		return PTR_ERR(file);
	err = vfs_fsync(file, 0);
	close(file);
	return err;
}

/* Renames a file within a directory; a file that has the new name goes. */
static int rename_within(const struct path *dir, const char *from, const char *to)
{
	struct renamedata rd = {
		.mnt_idmap = mnt_idmap(dir->mnt),
		.old_parent = dir->dentry,
		.new_parent = dir->dentry,
	};
	int err = mnt_want_write(dir->mnt);

	if (err)
		return err;
	err = start_renaming(&rd, 0, &QSTR(from), &QSTR(to));
	if (!err) {
		err = vfs_rename(&rd);
		end_renaming(&rd);
	}
	mnt_drop_write(dir->mnt);
	return err;
}

static int replace_in(const struct path *dir, const char *name, const void *data, size_t len)
{
	char *new __free(kfree) = kasprintf(GFP_KERNEL, ".%s.new", name);
	struct file *file;
	int err;

	if (!new)
		return -ENOMEM;
	/* What an earlier attempt left is overwritten. */
	file = file_open_root(dir, new, O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW | O_LARGEFILE, 0600);
	if (IS_ERR(file))
		return PTR_ERR(file);
	err = fill(file, data, len);
	close(file);
	if (err)
		return err;
	err = rename_within(dir, new, name);
	return err ?: sync_directory(dir);
}

/*
 * The path without symbolic links, so that what is replaced is the file and not a link to it. A file
 * that does not exist is made: a link may lead to where there is none.
 */
static char *resolved(const char *path, char *buffer, size_t len)
{
	struct file *file = filp_open(path, O_CREAT | O_WRONLY | O_NONBLOCK | O_LARGEFILE, 0600);
	char *result;

	if (IS_ERR(file))
		return ERR_CAST(file);
	result = d_path(&file->f_path, buffer, len);
	close(file);
	return result;
}

static int write_file(const char *path, const void *data, size_t len)
{
	char *buffer __free(kfree) = kmalloc(PATH_MAX, GFP_KERNEL);
	struct path dir;
	char *name;
	int err;

	if (!buffer)
		return -ENOMEM;
	path = resolved(path, buffer, PATH_MAX);
	if (IS_ERR(path))
		return PTR_ERR(path);
	name = strrchr(path, '/');
	if (!name)
		return -EINVAL;
	*name++ = '\0';
	err = kern_path(*path ? path : "/", LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &dir);
	if (err)
		return err;
	err = replace_in(&dir, name, data, len);
	path_put(&dir);
	return err;
}

static void carry_out(struct work_struct *work)
{
	struct access *access = container_of(work, struct access, work);

	with_init_fs() {
		if (access->to)
			access->result = read_file(access->path, access->to, access->len);
		else
			access->result = write_file(access->path, access->from, access->len);
	}
}

static ssize_t run(struct access *access)
{
	INIT_WORK_ONSTACK(&access->work, carry_out);
	queue_work(system_dfl_long_wq, &access->work);
	flush_work(&access->work);
	destroy_work_on_stack(&access->work);
	return access->result;
}

/*
 * Reads a regular file of at most len bytes. Returns how many it has, or an errno: -EINVAL if it is
 * no regular file, -EFBIG if it is longer.
 */
ssize_t ccp_nv_read(const char *path, void *data, size_t len)
{
	return run(&(struct access) { .path = path, .to = data, .len = len });
}

/*
 * Makes these bytes the contents of the file: a new file, mode 0600, takes its place. Returns 0 or
 * an errno; the file is the old one then. On disk in any case when this returns 0.
 */
int ccp_nv_write(const char *path, const void *data, size_t len)
{
	return run(&(struct access) { .path = path, .from = data, .len = len });
}
