/* A clock that can be set for some processes only: preloaded, it adds to the time of day the seconds that
 * are in the file $SET_CLOCK_FILE (a text number), and leaves the monotonic clock alone.
 *
 * Ray's C++ code keeps the kernel's clock: it waits until a time of day, and the kernel, whose clock was not
 * set, would end each such wait at once, or hours late. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int is_ray(void *caller) {
    Dl_info info;
    if (!dladdr(caller, &info) || !info.dli_fname) return 0;
    return strstr(info.dli_fname, "raylet") || strstr(info.dli_fname, "gcs_server");
}

static long offset(void) {
    const char *path = getenv("SET_CLOCK_FILE");
    char text[32] = {0};
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? atol(text) : 0;
}

static int tell(clockid_t id, struct timespec *now, void *caller) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    int is_time_of_day = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    if (!result && is_time_of_day && !is_ray(caller)) now->tv_sec += offset();
    return result;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    return tell(id, now, __builtin_return_address(0));
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    if (tell(CLOCK_REALTIME, &precise, __builtin_return_address(0))) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    tell(CLOCK_REALTIME, &now, __builtin_return_address(0));
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
