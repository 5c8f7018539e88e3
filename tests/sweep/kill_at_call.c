/* Loaded into the daemon by a test (LD_PRELOAD): counts its system calls by kind, and ends it by SIGKILL
 * just before one of them.
 *
 * CALLS_FILE   a file of one 64-bit count for each kind, in the order of the list below
 * CALLS_KILL   KIND:N, the call before which the process is killed; or KIND:N:ERRNO, the one that fails
 * CALLS_DISK   set: writes to pipes, sockets and the like are not counted, for no disk can refuse them
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, PWRITE, FTRUNCATE, FSYNC, FDATASYNC, RENAME, UNLINK, MKDIR, SYMLINK, CHMOD, SENDMSG, KINDS };
static const char *const names[KINDS] = { "open", "write", "pwrite", "ftruncate", "fsync", "fdatasync",
                                          "rename", "unlink", "mkdir", "symlink", "chmod", "sendmsg" };

static _Atomic uint64_t *counts;
static int kind = -1;
static uint64_t at;
static int error;
static int disk;

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("CALLS_FILE"), *kill_at = getenv("CALLS_KILL");
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    int fd = file ? real_open(file, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    if (kill_at) {
        const char *colon = strchr(kill_at, ':');
        for (int k = 0; colon && k < KINDS; k++)
            if (strlen(names[k]) == (size_t)(colon - kill_at) && !strncmp(names[k], kill_at, colon - kill_at))
                kind = k;
        char *end = NULL;
        at = colon ? strtoull(colon + 1, &end, 10) : 0;
        error = end && *end == ':' ? atoi(end + 1) : 0;
    }
    disk = getenv("CALLS_DISK") != NULL;
    /* What the daemon starts is not counted. */
    unsetenv("LD_PRELOAD");
    unsetenv("CALLS_FILE");
    unsetenv("CALLS_KILL");
    unsetenv("CALLS_DISK");
    void *map = mmap(NULL, sizeof(uint64_t) * KINDS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        counts = map;
}

/* Whether this call is the one that is to fail. */
static int meet(int k)
{
    if (!counts)
        return 0;
    uint64_t n = ++counts[k];
    if (k != kind || n != at)
        return 0;
    if (!error) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    errno = error;
    return 1;
}

static int has_mode(int flags)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

#define CALL(k, type, name, parameters, arguments)                  \
    type name parameters                                            \
    {                                                               \
        static type(*real) parameters;                              \
        if (!real)                                                  \
            *(void **)&real = dlsym(RTLD_NEXT, #name);              \
        return meet(k) ? (type)-1 : real arguments;                 \
    }

#define OPENING(name)                                               \
    int name(const char *path, int flags, ...)                      \
    {                                                               \
        static int (*real)(const char *, int, ...);                 \
        if (!real)                                                  \
            *(void **)&real = dlsym(RTLD_NEXT, #name);              \
        va_list more;                                               \
        va_start(more, flags);                                      \
        mode_t mode = has_mode(flags) ? va_arg(more, mode_t) : 0;   \
        va_end(more);                                               \
        return meet(OPEN) ? -1 : real(path, flags, mode);           \
    }

OPENING(open)
OPENING(open64)
#define WRITING(name, type)                                         \
    ssize_t name(int fd, type what, COUNT(name) count)              \
    {                                                               \
        static ssize_t (*real)(int, type, COUNT(name));             \
        struct stat file;                                           \
        if (!real)                                                  \
            *(void **)&real = dlsym(RTLD_NEXT, #name);              \
        int counted = !disk || (!fstat(fd, &file) && S_ISREG(file.st_mode)); \
        return counted && meet(WRITE) ? -1 : real(fd, what, count); \
    }
#define COUNT(name) COUNT_##name
#define COUNT_write size_t
#define COUNT_writev int

WRITING(write, const void *)
WRITING(writev, const struct iovec *)
CALL(PWRITE, ssize_t, pwrite64, (int fd, const void *bytes, size_t count, off64_t from), (fd, bytes, count, from))
CALL(FTRUNCATE, int, ftruncate64, (int fd, off64_t length), (fd, length))
CALL(FSYNC, int, fsync, (int fd), (fd))
CALL(FDATASYNC, int, fdatasync, (int fd), (fd))
CALL(RENAME, int, rename, (const char *from, const char *to), (from, to))
CALL(UNLINK, int, unlink, (const char *path), (path))
CALL(UNLINK, int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
CALL(MKDIR, int, mkdir, (const char *path, mode_t mode), (path, mode))
CALL(SYMLINK, int, symlink, (const char *to, const char *path), (to, path))
CALL(CHMOD, int, chmod, (const char *path, mode_t mode), (path, mode))
CALL(CHMOD, int, fchmod, (int fd, mode_t mode), (fd, mode))
CALL(SENDMSG, ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
