/* Records what a process does to the files below $RECORD_ROOT, in order, into $RECORD_FILE.
 *
 * Preloaded before libc, so it sees the calls of LMDB itself. One record for each call that
 * succeeded: kind, flags, lengths of path and data, offset; then path and data. A write at the
 * path "…/marks" is a mark of the test: it is recorded like any other.
 *
 * $RECORD_REFUSE names a file: while it exists, writes below $RECORD_ROOT fail with EROFS, as
 * they do when the kernel has made a failing disk read-only under its users.
 *
 * `stop_at(n, 0)`: the process ends in place of its n-th call below $RECORD_ROOT that changes
 * something. `stop_at(n, 1)`: that one and those after it find the disk full, but for what removes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define STOPPED_STATUS 9

enum { WRITE = 1, SYNC = 2, TRUNCATE = 3, CREATE = 4, UNLINK = 5, RENAME = 6, MKDIR = 7, RMDIR = 8 };
enum { IS_SYNCED = 1 };

struct record {
    uint32_t kind, flags, path_bytes, pad;
    uint64_t offset, data_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -2;
static const char *root, *refuse;
static size_t root_bytes;

static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_ftruncate)(int, off_t);
static int (*real_open)(const char *, int, ...), (*real_openat)(int, const char *, int, ...);
static int (*real_unlink)(const char *), (*real_rename)(const char *, const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_mkdir)(const char *, mode_t), (*real_rmdir)(const char *);
static int (*real_renameat2)(int, const char *, int, const char *, unsigned);
static int (*real_posix_fallocate)(int, off_t, off_t);
static int calls, stop, is_full; /* of those below the root */

__attribute__((constructor)) static void begin(void)
{
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_unlinkat = dlsym(RTLD_NEXT, "unlinkat");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    real_rmdir = dlsym(RTLD_NEXT, "rmdir");
    real_renameat2 = dlsym(RTLD_NEXT, "renameat2");
    real_posix_fallocate = dlsym(RTLD_NEXT, "posix_fallocate64");
    const char *file = getenv("RECORD_FILE");
    root = getenv("RECORD_ROOT");
    refuse = getenv("RECORD_REFUSE");
    root_bytes = root ? strlen(root) : 0;
    out = file && root ? real_open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
}

/* The path relative to the root, or NULL when it is not below it. */
static const char *below(const char *path)
{
    if (!root || strncmp(path, root, root_bytes) || (path[root_bytes] && path[root_bytes] != '/'))
        return NULL;
    return path + root_bytes + (path[root_bytes] == '/');
}

static const char *of_fd(int fd, char *buffer, size_t size)
{
    char link[64];
    if (!root || fd == out)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, buffer, size - 1);
    if (got <= 0)
        return NULL;
    buffer[got] = 0;
    return below(buffer);
}

static void note(int kind, int flags, const char *path, uint64_t offset, const struct iovec *parts,
                 int count, uint64_t limit)
{
    if (out < 0)
        return;
    int saved = errno;
    struct record r = {kind, flags, strlen(path), 0, offset, limit};
    pthread_mutex_lock(&lock);
    real_write(out, &r, sizeof r);
    real_write(out, path, r.path_bytes);
    for (int i = 0; i < count && limit; i++) {
        uint64_t some = parts[i].iov_len < limit ? parts[i].iov_len : limit;
        real_write(out, parts[i].iov_base, some);
        limit -= some;
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
}

void stop_at(int call, int full)
{
    calls = 0;
    stop = call;
    is_full = full;
}
int calls_made(void)
{
    return calls;
}

/* Counts a call, and ends the process in place of it, or says that the disk is full. */
static int stopped(const char *path, int removes)
{
    if (!path || !stop || __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) < stop)
        return 0;
    if (!is_full)
        _exit(STOPPED_STATUS);
    if (removes)
        return 0;
    errno = ENOSPC;
    return 1;
}

static int refused(const char *path)
{
    if (stopped(path, 0))
        return 1;
    if (path && refuse && access(refuse, F_OK) == 0) {
        errno = EROFS;
        return 1;
    }
    return 0;
}

static void note_write(int fd, const char *path, uint64_t offset, const struct iovec *parts,
                       int count, ssize_t done)
{
    if (path && done > 0) {
        int synced = (fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC)) ? IS_SYNCED : 0;
        note(WRITE, synced, path, offset, parts, count, done);
    }
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    char buffer[4096];
    const char *path = of_fd(fd, buffer, sizeof buffer);
    if (refused(path))
        return -1;
    ssize_t done = real_pwrite(fd, data, size, offset);
    struct iovec part = {(void *)data, size};
    note_write(fd, path, offset, &part, 1, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    char buffer[4096];
    const char *path = of_fd(fd, buffer, sizeof buffer);
    if (refused(path))
        return -1;
    ssize_t done = real_pwritev(fd, parts, count, offset);
    note_write(fd, path, offset, parts, count, done);
    return done;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return pwritev64(fd, parts, count, offset);
}

static off_t position(int fd)
{
    if (fcntl(fd, F_GETFL) & O_APPEND) {
        struct stat found;
        return fstat(fd, &found) ? 0 : found.st_size;
    }
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    char buffer[4096];
    const char *path = of_fd(fd, buffer, sizeof buffer);
    if (refused(path))
        return -1;
    off_t offset = path ? position(fd) : 0;
    ssize_t done = real_writev(fd, parts, count);
    note_write(fd, path, offset, parts, count, done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    char buffer[4096];
    const char *path = of_fd(fd, buffer, sizeof buffer);
    if (refused(path))
        return -1;
    off_t offset = path ? position(fd) : 0;
    ssize_t done = real_write(fd, data, size);
    struct iovec part = {(void *)data, size};
    note_write(fd, path, offset, &part, 1, done);
    return done;
}

static int synced(int fd, int (*real)(int))
{
    char buffer[4096];
    const char *path = of_fd(fd, buffer, sizeof buffer);
    if (stopped(path, 0))
        return -1;
    int result = real(fd);
    if (path && result == 0)
        note(SYNC, 0, path, 0, NULL, 0, 0);
    return result;
}
int fsync(int fd)
{
    return synced(fd, real_fsync);
}
int fdatasync(int fd)
{
    return synced(fd, real_fdatasync);
}

int ftruncate64(int fd, off_t size)
{
    char buffer[4096];
    const char *path = of_fd(fd, buffer, sizeof buffer);
    if (stopped(path, 0))
        return -1;
    int result = real_ftruncate(fd, size);
    if (path && result == 0)
        note(TRUNCATE, 0, path, size, NULL, 0, 0);
    return result;
}
int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int posix_fallocate64(int fd, off_t offset, off_t size)
{
    char buffer[4096];
    return stopped(of_fd(fd, buffer, sizeof buffer), 0) ? errno
                                                        : real_posix_fallocate(fd, offset, size);
}
int posix_fallocate(int fd, off_t offset, off_t size)
{
    return posix_fallocate64(fd, offset, size);
}

static void note_open(const char *path, int flags, int existed, int fd)
{
    const char *inside = below(path);
    if (!inside || fd < 0)
        return;
    if ((flags & O_CREAT) && !existed)
        note(CREATE, 0, inside, 0, NULL, 0, 0);
    else if (flags & O_TRUNC)
        note(TRUNCATE, 0, inside, 0, NULL, 0, 0);
}

static int changes(int flags, int existed)
{
    return ((flags & O_CREAT) && !existed) || (flags & O_TRUNC);
}

#define MODE(flags, last)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & O_CREAT) {                                                                       \
        va_list arguments;                                                                         \
        va_start(arguments, last);                                                                 \
        mode = va_arg(arguments, mode_t);                                                          \
        va_end(arguments);                                                                         \
    }

int open64(const char *path, int flags, ...)
{
    MODE(flags, flags)
    int existed = access(path, F_OK) == 0;
    if (changes(flags, existed) && stopped(below(path), 0))
        return -1;
    int fd = real_open(path, flags, mode);
    note_open(path, flags, existed, fd);
    return fd;
}
int open(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return open64(path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...)
{
    MODE(flags, flags)
    int existed = faccessat(folder, path, F_OK, 0) == 0;
    if (folder == AT_FDCWD && changes(flags, existed) && stopped(below(path), 0))
        return -1;
    int fd = real_openat(folder, path, flags, mode);
    if (folder == AT_FDCWD)
        note_open(path, flags, existed, fd);
    return fd;
}

int unlink(const char *path)
{
    stopped(below(path), 1);
    int result = real_unlink(path);
    if (result == 0 && below(path))
        note(UNLINK, 0, below(path), 0, NULL, 0, 0);
    return result;
}
int unlinkat(int folder, const char *path, int flags)
{
    char buffer[8192];
    const char *base = folder == AT_FDCWD ? NULL : of_fd(folder, buffer, 4096);
    stopped(base, 1);
    int result = real_unlinkat(folder, path, flags);
    if (result == 0 && base) {
        size_t used = strlen(base);
        snprintf((char *)base + used, 4096, "/%s", path);
        note((flags & AT_REMOVEDIR) ? RMDIR : UNLINK, 0, base, 0, NULL, 0, 0);
    }
    return result;
}
int rmdir(const char *path)
{
    stopped(below(path), 1);
    int result = real_rmdir(path);
    if (result == 0 && below(path))
        note(RMDIR, 0, below(path), 0, NULL, 0, 0);
    return result;
}
int mkdir(const char *path, mode_t mode)
{
    if (stopped(below(path), 0))
        return -1;
    int result = real_mkdir(path, mode);
    if (result == 0 && below(path))
        note(MKDIR, 0, below(path), 0, NULL, 0, 0);
    return result;
}
static int note_rename(const char *from, const char *to, int result)
{
    if (result == 0 && below(from) && below(to)) {
        struct iovec part = {(void *)below(to), strlen(below(to))};
        note(RENAME, 0, below(from), 0, &part, 1, part.iov_len);
    }
    return result;
}
int rename(const char *from, const char *to)
{
    if (stopped(below(to), 0))
        return -1;
    return note_rename(from, to, real_rename(from, to));
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    if (stopped(below(to), 0))
        return -1;
    int result = real_renameat2(from_folder, from, to_folder, to, flags);
    return flags & RENAME_EXCHANGE ? result : note_rename(from, to, result);
}
