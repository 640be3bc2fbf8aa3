// Counts what a process does to the files of one folder, and makes the n-th operation go wrong (LD_PRELOAD).
//
// Orders stand in a page that forks share: whoever forks sets `pid` to the child that is to suffer, or the child does.
// shim.py mirrors the structure and the two lists of names.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode {
    GO,           // count only
    KILL_BEFORE,  // SIGKILL before the operation
    KILL_WITHIN,  // SIGKILL when half of the bytes are written; after an operation that has no half
    FAIL,         // report `error`, do nothing
    FAIL_DONE,    // report `error`, although it was done
    HALF,         // write half of the bytes and say so
    LOSE,         // write 100 bytes less, and report success
    STOP,         // SIGSTOP before every operation, for whoever forked to look around
};
enum kind { OPEN, READ, WRITE, SYNC, RENAME, LINK, UNLINK, TRUNCATE, MKDIR };  // READ: a file or folder is opened for it

struct control {
    int pid;      // whose operations count; 0: nobody's
    int mode, at, error;
    int kinds;    // bits: kinds that may go wrong
    int forever;  // from the n-th on
    int count;    // operations so far
    int kind;     // of the last one, and its paths
    int returned; // for the child: how many saves have returned
    char folder[512], path[512], target[512];
};

static struct control *control;

// Take a new page of orders, for this process and its forks.
struct control *fault_control(void) {
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return control = page == MAP_FAILED ? NULL : page;
}

static int inside(const char *path) {
    size_t length = strlen(control->folder);
    return path && length && !strncmp(path, control->folder, length) && (path[length] == '/' || !path[length]);
}

// Count an operation; return what is to become of it, with errno set.
static enum mode meet(enum kind kind, const char *path, const char *target) {
    if (!control || control->pid != getpid() || !(inside(path) || inside(target))) return GO;
    int n = ++control->count;
    control->kind = kind;
    snprintf(control->path, sizeof control->path, "%s", path);
    snprintf(control->target, sizeof control->target, "%s", target ? target : "");
    if (control->mode == STOP) raise(SIGSTOP);
    int hit = n == control->at || (control->forever && n > control->at);
    if (!hit || !(control->kinds >> kind & 1) || control->mode == STOP) return GO;
    if (control->mode == KILL_BEFORE) kill(getpid(), SIGKILL);
    errno = control->error;
    return control->mode;
}

static enum mode meet_file(enum kind kind, int file) {
    if (!control || control->pid != getpid()) return GO;
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return GO;
    path[length] = 0;
    return meet(kind, path, NULL);
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define DIE_IF(fate) do { if ((fate) == KILL_WITHIN) kill(getpid(), SIGKILL); } while (0)

// An operation without halves, which returns -1 when it fails.
#define AROUND(name, meeting, ...)                                                  \
    NEXT(name);                                                                     \
    enum mode fate = meeting;                                                       \
    if (fate == FAIL) return -1;                                                    \
    int result = next(__VA_ARGS__);                                                 \
    DIE_IF(fate);                                                                   \
    if (fate == FAIL_DONE) { errno = control->error; return -1; }                   \
    return result

// One that writes `size` bytes.
#define WRITING(name, file, size, half, ...)                                        \
    NEXT(name);                                                                     \
    enum mode fate = meet_file(WRITE, file);                                        \
    if (fate == FAIL) return -1;                                                    \
    size_t all = (size);                                                            \
    size_t part = fate == LOSE ? (all > 100 ? all - 100 : 0) : all / 2;             \
    (void)part;                                                                     \
    if (fate == KILL_WITHIN || fate == HALF || fate == LOSE) {                      \
        ssize_t done = half;                                                        \
        DIE_IF(fate);                                                               \
        return fate == LOSE ? (ssize_t)all : done;                                  \
    }                                                                               \
    ssize_t result = next(__VA_ARGS__);                                             \
    if (fate == FAIL_DONE) { errno = control->error; return -1; }                   \
    return result

ssize_t write(int file, const void *data, size_t size) {
    WRITING(write, file, size, next(file, data, part), file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    WRITING(pwrite, file, size, next(file, data, part, at), file, data, size, at);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    WRITING(pwrite64, file, size, next(file, data, part, at), file, data, size, at);
}
ssize_t writev(int file, const struct iovec *parts, int count) {  // half: the first of its parts
    WRITING(writev, file, parts->iov_len, next(file, parts, 1), file, parts, count);
}
ssize_t sendfile(int out, int in, off_t *at, size_t size) {
    WRITING(sendfile, out, size, next(out, in, at, part), out, in, at, size);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) {
    WRITING(sendfile64, out, size, next(out, in, at, part), out, in, at, size);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    WRITING(copy_file_range, out, size, next(in, from, out, to, part, flags), in, from, out, to, size, flags);
}

static enum kind to_open(int flags) { return flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) ? OPEN : READ; }

static mode_t permissions(int flags, va_list more) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}
#define OPENING(name, path, ...)                                                    \
    va_list more;                                                                   \
    va_start(more, flags);                                                          \
    mode_t bits = permissions(flags, more);                                         \
    va_end(more);                                                                   \
    AROUND(name, meet(to_open(flags), path, NULL), __VA_ARGS__, flags, bits)

int open(const char *path, int flags, ...) { OPENING(open, path, path); }
int open64(const char *path, int flags, ...) { OPENING(open64, path, path); }
int openat(int at, const char *path, int flags, ...) { OPENING(openat, path, at, path); }
int openat64(int at, const char *path, int flags, ...) { OPENING(openat64, path, at, path); }

#define STREAM(name, kind, path, ...)                                               \
    NEXT(name);                                                                     \
    enum mode fate = meet(kind, path, NULL);                                        \
    if (fate == FAIL || fate == FAIL_DONE) return NULL;                             \
    void *result = next(__VA_ARGS__);                                               \
    DIE_IF(fate);                                                                   \
    return result

FILE *fopen(const char *path, const char *mode) { STREAM(fopen, *mode == 'r' ? READ : OPEN, path, path, mode); }
FILE *fopen64(const char *path, const char *mode) { STREAM(fopen64, *mode == 'r' ? READ : OPEN, path, path, mode); }
DIR *opendir(const char *path) { STREAM(opendir, READ, path, path); }

int fsync(int file) { AROUND(fsync, meet_file(SYNC, file), file); }
int fdatasync(int file) { AROUND(fdatasync, meet_file(SYNC, file), file); }
int rename(const char *from, const char *to) { AROUND(rename, meet(RENAME, from, to), from, to); }
int renameat(int a, const char *from, int b, const char *to) { AROUND(renameat, meet(RENAME, from, to), a, from, b, to); }
int link(const char *from, const char *to) { AROUND(link, meet(LINK, from, to), from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    AROUND(linkat, meet(LINK, from, to), a, from, b, to, flags);
}
int unlink(const char *path) { AROUND(unlink, meet(UNLINK, path, NULL), path); }
int unlinkat(int at, const char *path, int flags) { AROUND(unlinkat, meet(UNLINK, path, NULL), at, path, flags); }
int ftruncate(int file, off_t size) { AROUND(ftruncate, meet_file(TRUNCATE, file), file, size); }
int ftruncate64(int file, off64_t size) { AROUND(ftruncate64, meet_file(TRUNCATE, file), file, size); }
int mkdir(const char *path, mode_t bits) { AROUND(mkdir, meet(MKDIR, path, NULL), path, bits); }
