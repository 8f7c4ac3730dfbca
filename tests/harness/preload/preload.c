/*
 * Faults at system calls, for tests: a library that LD_PRELOAD puts between a program and libc.
 *
 * P2P_FAULTS names a file of 64-bit words, `struct control` below, which is mapped: the test changes it while
 * the program runs, and reads the counts though the program was killed. P2P_FAULTS_JOURNAL names a file that
 * all changes below the folder P2P_FAULTS_FOLDER are appended to (absolute, without symbolic links, as the
 * program itself names it). Without P2P_FAULTS nothing changes.
 *
 * Counts are of the whole process. Counted are: writes to regular files, syncs, sends (write and send calls
 * on sockets), and changes of names and lengths (rename, unlink, truncate). Not counted: descriptors 0 to 2
 * (a log in a file would drown the rest), pipes, and event descriptors.
 *
 * What it cannot see, as compared with strace on our programs: writes to mapped memory (only SQLite's -shm
 * file, which a restart builds anew), and raw system calls. rustix makes raw ones, but we use it for limits,
 * user ids, signals, terminals and the clock since boot alone; all writes, syncs and sends of std, tokio, QUIC
 * and SQLite come by here, and the wall clock too.
 * Descriptors copied by dup are not followed into the journal; none of our files is written by a copy.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { NONE = 0, WRITE = 1, SYNC = 2, SEND = 4, NAME = 8 };
enum how { BEFORE = 0, HALF = 1, AFTER = 2, LIVE = 3 };

/* The words of the mapped file; tests/harness/preload/mod.rs has the same order. */
static struct control {
    _Atomic uint64_t loaded;         /* 1: this library is in the process */
    _Atomic uint64_t calls;          /* calls so far of the kinds in kill_kinds */
    _Atomic uint64_t syncs;          /* syncs so far */
    _Atomic uint64_t kill_at;        /* end at this call, from 1; 0: never */
    _Atomic uint64_t kill_kinds;     /* which kinds count, a sum of enum kind */
    _Atomic uint64_t kill_how;       /* enum how: before the call, half-way in a write, behind it */
    _Atomic uint64_t killed;         /* 1: ended by us */
    _Atomic uint64_t sync_fail_from; /* syncs with these numbers, from 1, fail with EIO ... */
    _Atomic uint64_t sync_fail_to;   /* ... and are not done */
    _Atomic uint64_t no_space;       /* not 0: writes to files fail with ENOSPC */
    _Atomic uint64_t hang;           /* not 0: syncs do not return */
    _Atomic int64_t clock_shift_s;   /* added to the wall clock */
} idle, *control = &idle;

enum { FILES_MAX = 4096, JOURNAL_FD = 900 };
enum record { OPEN = 1, DATA, LENGTH, SYNCED, RENAMED, UNLINKED };

static int journal = -1;
static const char *folder;
static size_t folder_len;
static char followed[FILES_MAX]; /* descriptors of files below the folder */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER; /* the journal's order is the order of the calls */

__attribute__((constructor)) static void load(void) {
    const char *path = getenv("P2P_FAULTS"), *log = getenv("P2P_FAULTS_JOURNAL");
    if (!path)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED)
        abort();
    control = map;
    control->loaded = 1;
    folder = getenv("P2P_FAULTS_FOLDER");
    if (!log || !folder)
        return;
    folder_len = strlen(folder);
    fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    journal = fcntl(fd, F_DUPFD_CLOEXEC, JOURNAL_FD); /* out of the way of the program's own numbers */
    if (journal < 0)
        abort();
    syscall(SYS_close, fd);
}

static void end(void) {
    control->killed = 1;
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Counts a call; does not return if the process ends before it. */
static enum how count(enum kind kind) {
    if (!(kind & control->kill_kinds) || ++control->calls != control->kill_at)
        return LIVE;
    if (control->kill_how == BEFORE || (control->kill_how == HALF && !(kind & (WRITE | SEND))))
        end();
    return (enum how)control->kill_how;
}

/* Behind a call: ends the process if this was the one. */
static long done(enum how how, long result) {
    int error = errno;
    if (how != LIVE)
        end();
    errno = error;
    return result;
}

static enum kind kind_of(int fd) {
    struct stat st;
    if (fd <= 2 || fd == journal || fstat(fd, &st) != 0)
        return NONE;
    return S_ISREG(st.st_mode) ? WRITE : S_ISSOCK(st.st_mode) ? SEND : NONE;
}

static int is_followed(int fd) { return journal >= 0 && fd >= 0 && fd < FILES_MAX && followed[fd]; }

static void note(enum record what, int fd, int64_t at, const struct iovec *data, int parts, size_t len) {
    int64_t head[4] = {what, fd, at, (int64_t)len};
    struct iovec all[parts + 1];
    all[0] = (struct iovec){head, sizeof head};
    for (int i = 0; i < parts; i++) {
        all[i + 1] = data[i];
        if (all[i + 1].iov_len > len)
            all[i + 1].iov_len = len;
        len -= all[i + 1].iov_len;
    }
    syscall(SYS_writev, journal, all, parts + 1);
}

/* All writes; `at` is -1 for the file's own position. */
static ssize_t put(int fd, const struct iovec *data, int parts, off_t at) {
    enum kind kind = kind_of(fd);
    enum how how = count(kind);
    struct iovec part[parts > 0 ? parts : 1];
    if (how == HALF && parts > 0) {
        size_t left = 0;
        for (int i = 0; i < parts; i++)
            left += data[i].iov_len;
        left /= 2;
        for (int i = 0; i < parts; i++) {
            part[i] = data[i];
            if (part[i].iov_len > left)
                part[i].iov_len = left;
            left -= part[i].iov_len;
        }
        data = part;
    }
    if (kind == WRITE && control->no_space) {
        errno = ENOSPC;
        return done(how, -1);
    }
    int noted = kind == WRITE && is_followed(fd);
    if (noted)
        pthread_mutex_lock(&order);
    long n = at < 0 ? syscall(SYS_writev, fd, data, parts)
                    : syscall(SYS_pwritev, fd, data, parts, (long)at, 0L);
    if (noted) {
        int error = errno;
        if (n > 0)
            note(DATA, fd, at < 0 ? lseek(fd, 0, SEEK_CUR) - n : at, data, parts, (size_t)n);
        pthread_mutex_unlock(&order);
        errno = error;
    }
    return done(how, n);
}

#define ONE(buf, len) (&(struct iovec){(void *)(uintptr_t)(buf), (len)}), 1
ssize_t write(int fd, const void *buf, size_t len) { return put(fd, ONE(buf, len), -1); }
ssize_t writev(int fd, const struct iovec *v, int n) { return put(fd, v, n, -1); }
ssize_t pwrite(int fd, const void *buf, size_t len, off_t at) { return put(fd, ONE(buf, len), at); }
ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at) { return put(fd, ONE(buf, len), at); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) { return put(fd, v, n, at); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at) { return put(fd, v, n, at); }

static int sync_file(int fd, long call) {
    enum how how = count(SYNC);
    uint64_t number = ++control->syncs;
    struct timespec pause_time = {0, 10000000};
    while (control->hang)
        nanosleep(&pause_time, NULL);
    if (number >= control->sync_fail_from && number <= control->sync_fail_to) {
        errno = EIO;
        return done(how, -1);
    }
    if (!is_followed(fd))
        return done(how, syscall(call, fd));
    pthread_mutex_lock(&order);
    long result = syscall(call, fd);
    if (result == 0)
        note(SYNCED, fd, 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return done(how, result);
}
int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t length) {
    enum how how = count(fd > 2 ? NAME : NONE);
    int noted = is_followed(fd);
    if (noted)
        pthread_mutex_lock(&order);
    long result = syscall(SYS_ftruncate, fd, length);
    if (noted) {
        if (result == 0)
            note(LENGTH, fd, length, NULL, 0, 0);
        pthread_mutex_unlock(&order);
    }
    return done(how, result);
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

/* Sends; a datagram is never cut in half, for no network does that. */
ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to, socklen_t to_len) {
    int type = 0;
    socklen_t size = sizeof type;
    enum how how = count(kind_of(fd));
    if (how == HALF && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM)
        len /= 2;
    return done(how, syscall(SYS_sendto, fd, buf, len, flags, to, to_len));
}
ssize_t send(int fd, const void *buf, size_t len, int flags) { return sendto(fd, buf, len, flags, NULL, 0); }
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    enum how how = count(kind_of(fd));
    return done(how, syscall(SYS_sendmsg, fd, message, flags));
}
int sendmmsg(int fd, struct mmsghdr *messages, unsigned int n, int flags) {
    enum how how = count(kind_of(fd));
    return done(how, syscall(SYS_sendmmsg, fd, messages, n, flags));
}

/* Whether the path is the folder or below it. */
static int is_ours(const char *path) {
    return journal >= 0 && strncmp(path, folder, folder_len) == 0
           && (path[folder_len] == '/' || path[folder_len] == 0);
}

static int open_file(int dir, const char *path, int flags, mode_t mode) {
    int ours = is_ours(path);
    if (ours)
        pthread_mutex_lock(&order);
    int fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && fd < FILES_MAX)
        followed[fd] = ours;
    if (ours) {
        if (fd >= 0)
            note(OPEN, fd, flags, ONE(path, strlen(path)), strlen(path));
        pthread_mutex_unlock(&order);
    }
    return fd;
}

static int named_file(enum record what, const char *old, const char *new) {
    enum how how = count(NAME);
    int ours = is_ours(old);
    struct iovec paths[2] = {{(void *)(uintptr_t)old, strlen(old) + 1}, {(void *)(uintptr_t)new, strlen(new)}};
    if (ours)
        pthread_mutex_lock(&order);
    long result = what == RENAMED ? syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0)
                                  : syscall(SYS_unlinkat, AT_FDCWD, old, 0);
    if (ours) {
        int error = errno;
        if (result == 0)
            note(what, 0, 0, paths, 2, paths[0].iov_len + paths[1].iov_len);
        pthread_mutex_unlock(&order);
        errno = error;
    }
    return done(how, result);
}
int rename(const char *old, const char *new) { return named_file(RENAMED, old, new); }
int unlink(const char *path) { return named_file(UNLINKED, path, ""); }

#define MODE(flags) ({ va_list rest; va_start(rest, flags); mode_t mode = \
    (flags) & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; va_end(rest); mode; })
int open(const char *path, int flags, ...) { return open_file(AT_FDCWD, path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return open_file(AT_FDCWD, path, flags, MODE(flags)); }
int openat(int dir, const char *path, int flags, ...) { return open_file(dir, path, flags, MODE(flags)); }
int openat64(int dir, const char *path, int flags, ...) { return open_file(dir, path, flags, MODE(flags)); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += control->clock_shift_s;
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}
time_t time(time_t *now) {
    struct timeval precise;
    gettimeofday(&precise, NULL);
    return now ? (*now = precise.tv_sec) : precise.tv_sec;
}
