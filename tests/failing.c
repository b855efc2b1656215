/* Loaded before the C library (LD_PRELOAD): makes one call of the system, or one allocation, fail.

   Counted are the calls on what lies below the folder $FAILING_BELOW, by path or by open file, and, on demand, the
   allocations of at least `at_least` bytes. What is counted, and the order, is in a page that forked children share. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 4096

struct shared {
    long calls, allocations; /* counted so far */
    long fail_call, fail_allocation; /* the one that fails, from 1 on; 0: none */
    long error, lasting; /* its errno, or minus the signal that comes before it; whether those that follow fail as well */
    long at_least; /* bytes: smaller allocations are not counted; 0: none is */
    long failed; /* how many did */
    char what[512]; /* the first that did */
};

static struct shared *shared;
static const char *below;
static size_t length;
static unsigned char watched[FILES]; /* by file descriptor */
static int on;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }
#define REAL(type, name, ...) static type (*next)(__VA_ARGS__); if (!next) next = real(#name)

__attribute__((constructor)) static void begin(void) {
    below = getenv("FAILING_BELOW");
    length = below ? strlen(below) : 0;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    on = length && shared != MAP_FAILED;
}

struct shared *failing(void) { return shared; }

static int file(int fd) { return on && fd >= 0 && fd < FILES && watched[fd]; }

static int path(int at, const char *name) {
    if (!on || !name) return 0;
    if (name[0] != '/') return at != AT_FDCWD && file(at);
    return !strncmp(name, below, length) && (name[length] == '/' || !name[length]);
}

/* Whether this call fails; errno is set. */
static int fails(const char *call, const char *name, int fd) {
    long n = __atomic_add_fetch(&shared->calls, 1, __ATOMIC_SEQ_CST);
    if (!shared->fail_call || n < shared->fail_call || (n > shared->fail_call && !shared->lasting)) return 0;
    if (!shared->failed++) {
        char link[64], held[400] = "";
        if (!name && fd >= 0) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            static ssize_t (*look)(const char *, char *, size_t);
            if (!look) look = real("readlink");
            ssize_t got = look(link, held, sizeof held - 1);
            held[got > 0 ? got : 0] = 0;
            name = held;
        }
        snprintf(shared->what, sizeof shared->what, "%s %s", call, name ? name : "");
    }
    if (shared->error < 0) {
        raise(-shared->error);
        return 0;
    }
    errno = shared->error;
    return 1;
}

static int opened(int fd) {
    if (fd >= 0 && fd < FILES) watched[fd] = 1;
    return fd;
}

#define OPEN(name) \
    int name(const char *p, int flags, ...) { \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        REAL(int, name, const char *, int, ...); \
        if (!path(AT_FDCWD, p)) return next(p, flags, mode); \
        return fails("open", p, -1) ? -1 : opened(next(p, flags, mode)); \
    }
#define OPENAT(name) \
    int name(int at, const char *p, int flags, ...) { \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        REAL(int, name, int, const char *, int, ...); \
        if (!path(at, p)) return next(at, p, flags, mode); \
        return fails("open", p, -1) ? -1 : opened(next(at, p, flags, mode)); \
    }
#define FOPEN(name) \
    FILE *name(const char *p, const char *mode) { \
        REAL(FILE *, name, const char *, const char *); \
        if (!path(AT_FDCWD, p)) return next(p, mode); \
        if (fails("fopen", p, -1)) return NULL; \
        FILE *file = next(p, mode); \
        if (file) opened(fileno(file)); \
        return file; \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64) FOPEN(fopen) FOPEN(fopen64)

/* A close that fails has closed: Linux says so. */
int close(int fd) {
    REAL(int, close, int);
    if (!file(fd)) return next(fd);
    int failed = fails("close", NULL, fd), error = errno;
    watched[fd] = 0;
    int done = next(fd);
    if (failed) errno = error;
    return failed ? -1 : done;
}

/* Calls on an open file, on a path, and on a path beside one. */
#define ON_FILE(type, name, bad, args, ...) \
    type name args { REAL(type, name, TYPES args); \
        return file(fd) && fails(#name, NULL, fd) ? bad : next(__VA_ARGS__); }
#define TYPES(...) __VA_ARGS__
ON_FILE(ssize_t, read, -1, (int fd, void *b, size_t n), fd, b, n)
ON_FILE(ssize_t, pread, -1, (int fd, void *b, size_t n, off_t o), fd, b, n, o)
ON_FILE(ssize_t, pread64, -1, (int fd, void *b, size_t n, off64_t o), fd, b, n, o)
ON_FILE(ssize_t, write, -1, (int fd, const void *b, size_t n), fd, b, n)
ON_FILE(ssize_t, pwrite, -1, (int fd, const void *b, size_t n, off_t o), fd, b, n, o)
ON_FILE(ssize_t, pwrite64, -1, (int fd, const void *b, size_t n, off64_t o), fd, b, n, o)
ON_FILE(int, fsync, -1, (int fd), fd)
ON_FILE(int, fdatasync, -1, (int fd), fd)
ON_FILE(int, ftruncate, -1, (int fd, off_t n), fd, n)
ON_FILE(int, ftruncate64, -1, (int fd, off64_t n), fd, n)
ON_FILE(int, flock, -1, (int fd, int how), fd, how)
ON_FILE(int, fstat, -1, (int fd, struct stat *s), fd, s)
ON_FILE(int, fstat64, -1, (int fd, struct stat64 *s), fd, s)
ON_FILE(off_t, lseek, -1, (int fd, off_t o, int w), fd, o, w)
ON_FILE(off64_t, lseek64, -1, (int fd, off64_t o, int w), fd, o, w)
ON_FILE(int, fchmod, -1, (int fd, mode_t m), fd, m)
ON_FILE(DIR *, fdopendir, NULL, (int fd), fd)
ON_FILE(ssize_t, copy_file_range, -1, (int fd, off64_t *a, int to, off64_t *b, size_t n, unsigned f), fd, a, to, b, n, f)

#define ON_PATH(type, name, bad, args, ...) \
    type name args { REAL(type, name, TYPES args); \
        return path(AT_FDCWD, p) && fails(#name, p, -1) ? bad : next(__VA_ARGS__); }
ON_PATH(int, stat, -1, (const char *p, struct stat *s), p, s)
ON_PATH(int, stat64, -1, (const char *p, struct stat64 *s), p, s)
ON_PATH(int, lstat, -1, (const char *p, struct stat *s), p, s)
ON_PATH(int, lstat64, -1, (const char *p, struct stat64 *s), p, s)
ON_PATH(int, access, -1, (const char *p, int m), p, m)
ON_PATH(int, mkdir, -1, (const char *p, mode_t m), p, m)
ON_PATH(int, rmdir, -1, (const char *p), p)
ON_PATH(int, unlink, -1, (const char *p), p)
ON_PATH(int, rename, -1, (const char *p, const char *to), p, to)
ON_PATH(int, link, -1, (const char *p, const char *to), p, to)
ON_PATH(int, symlink, -1, (const char *to, const char *p), to, p)
ON_PATH(int, truncate, -1, (const char *p, off_t n), p, n)
ON_PATH(int, chmod, -1, (const char *p, mode_t m), p, m)
ON_PATH(ssize_t, readlink, -1, (const char *p, char *b, size_t n), p, b, n)

#define ON_PLACE(type, name, bad, args, ...) \
    type name args { REAL(type, name, TYPES args); \
        return path(at, p) && fails(#name, p, -1) ? bad : next(__VA_ARGS__); }
ON_PLACE(int, fstatat, -1, (int at, const char *p, struct stat *s, int f), at, p, s, f)
ON_PLACE(int, fstatat64, -1, (int at, const char *p, struct stat64 *s, int f), at, p, s, f)
ON_PLACE(int, statx, -1, (int at, const char *p, int f, unsigned m, struct statx *s), at, p, f, m, s)
ON_PLACE(int, faccessat, -1, (int at, const char *p, int m, int f), at, p, m, f)
ON_PLACE(int, mkdirat, -1, (int at, const char *p, mode_t m), at, p, m)
ON_PLACE(int, unlinkat, -1, (int at, const char *p, int f), at, p, f)
ON_PLACE(int, renameat, -1, (int at, const char *p, int to, const char *q), at, p, to, q)
ON_PLACE(int, linkat, -1, (int at, const char *p, int to, const char *q, int f), at, p, to, q, f)
ON_PLACE(ssize_t, readlinkat, -1, (int at, const char *p, char *b, size_t n), at, p, b, n)
ON_PLACE(int, utimensat, -1, (int at, const char *p, const struct timespec t[2], int f), at, p, t, f)

DIR *opendir(const char *p) {
    REAL(DIR *, opendir, const char *);
    if (!path(AT_FDCWD, p)) return next(p);
    if (fails("opendir", p, -1)) return NULL;
    DIR *folder = next(p);
    if (folder) opened(dirfd(folder));
    return folder;
}

int closedir(DIR *folder) {
    REAL(int, closedir, DIR *);
    int fd = dirfd(folder);
    if (fd >= 0 && fd < FILES) watched[fd] = 0;
    return next(folder);
}

#define READDIR(type, name) \
    type *name(DIR *folder) { REAL(type *, name, DIR *); \
        return file(dirfd(folder)) && fails("readdir", NULL, dirfd(folder)) ? NULL : next(folder); }
READDIR(struct dirent, readdir) READDIR(struct dirent64, readdir64)

#define FCNTL(name) \
    int name(int fd, int what, ...) { \
        va_list rest; va_start(rest, what); void *more = va_arg(rest, void *); va_end(rest); \
        REAL(int, name, int, int, ...); \
        if (file(fd) && fails("fcntl", NULL, fd)) return -1; \
        int done = next(fd, what, more); \
        if ((what == F_DUPFD || what == F_DUPFD_CLOEXEC) && done >= 0 && done < FILES) watched[done] = file(fd); \
        return done; \
    }
FCNTL(fcntl) FCNTL(fcntl64)

static int allocation_fails(size_t bytes);

#define MMAP(name, offset) \
    void *name(void *at, size_t bytes, int prot, int flags, int fd, offset o) { \
        REAL(void *, name, void *, size_t, int, int, int, offset); \
        if (file(fd) && fails("mmap", NULL, fd)) return MAP_FAILED; \
        if (fd < 0 && allocation_fails(bytes)) return MAP_FAILED; \
        return next(at, bytes, prot, flags, fd, o); \
    }
MMAP(mmap, off_t) MMAP(mmap64, off64_t)

/* Allocations. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int allocation_fails(size_t bytes) {
    if (!on || !shared->at_least || bytes < (size_t)shared->at_least) return 0;
    long n = __atomic_add_fetch(&shared->allocations, 1, __ATOMIC_SEQ_CST);
    if (!shared->fail_allocation || n < shared->fail_allocation || (n > shared->fail_allocation && !shared->lasting))
        return 0;
    if (!shared->failed++) snprintf(shared->what, sizeof shared->what, "allocation of %zu bytes", bytes);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t n) { return allocation_fails(n) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t of) { return allocation_fails(n * of) ? NULL : __libc_calloc(n, of); }
void *realloc(void *old, size_t n) { return allocation_fails(n) ? NULL : __libc_realloc(old, n); }
void *memalign(size_t at, size_t n) { return allocation_fails(n) ? NULL : __libc_memalign(at, n); }
void *aligned_alloc(size_t at, size_t n) { return memalign(at, n); }
int posix_memalign(void **out, size_t at, size_t n) {
    void *got = memalign(at, n);
    if (!got) return ENOMEM;
    *out = got;
    return 0;
}
