/* What a shared directory must keep: open files, what was written to them, what it lists. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "witness.h"

enum { ROUND_US = 250000, TELL_EVERY = 4, COMPLAINTS = 20, BLOCK = 65536, BLOCKS = 16, ENTRIES = 20 };
#define SHARE "/share"

static _Atomic unsigned complaints;

static void wrong(const char *what)
{
    int error = errno;
    counters.failures++;
    if (++complaints <= COMPLAINTS) say("SHARE ERROR %s: %s", what, strerror(error));
}

static int attach(void)
{
    mkdir(SHARE, 0755);
    for (int tries = 0; mount(options.share, SHARE, "virtiofs", 0, NULL) < 0; tries++) {
        if (tries == 600) return -1;
        sleep_us(50000);  /* the driver probes in the background */
    }
    return 0;
}

/* Not by the guest's page cache: what is read comes from the host. */
static int open_own(const char *name, int flags)
{
    char path[64];
    snprintf(path, sizeof path, SHARE "/%s-%u", name, options.id);
    return open(path, flags | O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
}

/* Never at rest: a move meets a write, or a read, on its way. */
static void stream(void *unused)
{
    (void)unused;
    uint64_t *block = NULL;
    int file = open_own("stream", O_TRUNC);
    if (file < 0 || posix_memalign((void **)&block, 4096, BLOCK)) return wrong("the file to stream to");
    for (uint64_t round = 0;; round++) {
        off_t at = round % BLOCKS * BLOCK;
        for (size_t i = 0; i < BLOCK / sizeof *block; i++) block[i] = mix(boot_mark + round + i);
        if (pwrite(file, block, BLOCK, at) != BLOCK) wrong("streaming");
        memset(block, 0, BLOCK);
        if (pread(file, block, BLOCK, at) != BLOCK) wrong("reading what was streamed");
        for (size_t i = 0; i < BLOCK / sizeof *block; i++)
            if (block[i] != mix(boot_mark + round + i)) {
                errno = EILSEQ;
                wrong("what was streamed");
                break;
            }
        sleep_us(5000);
    }
}

static int entries(void)
{
    struct dirent *entry;
    struct stat known;
    int count = 0;
    DIR *listed = opendir(SHARE "/many");
    if (!listed) return -1;
    while ((entry = readdir(listed))) count += fstatat(dirfd(listed), entry->d_name, &known, 0) == 0;
    closedir(listed);
    return count - 2;
}

static void fill(void)
{
    char path[64];
    mkdir(SHARE "/many", 0755);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(path, sizeof path, SHARE "/many/%d", i);
        int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (file < 0) wrong(path);
        close(file);
    }
}

static void touch(void)
{
    int file = open(SHARE "/comes-and-goes", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || close(file) < 0 || rename(SHARE "/comes-and-goes", SHARE "/renamed") < 0
        || unlink(SHARE "/renamed") < 0)
        wrong("a file that comes and goes");
}

void share(void *unused)
{
    (void)unused;
    uint64_t *block = NULL;
    if (attach() < 0) return failed(SHARE);
    fill();
    int file = open_own("rounds", O_TRUNC);
    if (file < 0 || posix_memalign((void **)&block, 4096, 4096)) return wrong("the file of rounds");
    start(stream, NULL, NORMAL);
    for (uint64_t round = 0;; round++) {
        if (round && (pread(file, block, 4096, 0) != 4096 || block[0] != boot_mark + round - 1)) wrong("the open file");
        memset(block, 0, 4096);
        block[0] = boot_mark + round;
        if (pwrite(file, block, 4096, 0) != 4096) wrong("writing to the open file");
        if (entries() != ENTRIES) wrong("what the directory lists");
        touch();
        if (round % TELL_EVERY == 0) say("share round %llu", (unsigned long long)round);
        sleep_us(ROUND_US);
    }
}
