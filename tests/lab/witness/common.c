/* Threads, time and complaints. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "witness.h"

struct counters counters;
uint64_t boot_mark;
_Atomic int stopping;

struct job {
    void (*part)(void *);
    void *argument;
    enum urgency urgency;
};

void become(enum urgency urgency)
{
    static const struct { int policy, priority; } urgencies[] = {
        [FIRST] = {SCHED_FIFO, 50}, [SOON] = {SCHED_FIFO, 20}, [NORMAL] = {SCHED_OTHER, 0}, [LAST] = {SCHED_IDLE, 0},
    };
    struct sched_param param = {.sched_priority = urgencies[urgency].priority};
    if (sched_setscheduler(0, urgencies[urgency].policy, &param) < 0) failed("sched_setscheduler");
}

static void *run(void *argument)
{
    struct job job = *(struct job *)argument;
    free(argument);
    become(job.urgency);
    job.part(job.argument);
    return NULL;
}

void start(void (*part)(void *), void *argument, enum urgency urgency)
{
    struct job *job = malloc(sizeof *job);
    *job = (struct job){part, argument, urgency};
    pthread_t thread;
    if ((errno = pthread_create(&thread, NULL, run, job))) failed("pthread_create");
    else pthread_detach(thread);
}

void failed(const char *what)
{
    int error = errno;
    counters.failures++;
    say("FAILED %s: %s", what, strerror(error));
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

void sleep_until(uint64_t ns)
{
    struct timespec at = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    while (stopping) pause();
}

void sleep_us(uint64_t us)
{
    sleep_until(now_ns() + us * 1000);
}

/* splitmix64's finisher: neighbours in, strangers out. */
uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

int open_soon(const char *path, int flags)
{
    for (int tries = 0;; tries++) {
        int fd = open(path, flags | O_CLOEXEC);
        if (fd >= 0 || tries == 600) return fd;
        sleep_us(50000);
    }
}
