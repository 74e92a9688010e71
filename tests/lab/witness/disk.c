/* Writes a ring of blocks to every disk, past the guest's cache, and reads them back; rereads a CD-ROM. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <unistd.h>

#include "witness.h"

enum { BLOCK = 4096, WORDS = BLOCK / 8, CD_BYTES = 65536, COMPLAINTS = 20 };
#define RING_BYTES (64ull << 20)
#define MAGIC 0x4b53494454495756ull

static _Atomic uint64_t last_round_ns[MAX_DISKS + 1];  /* the last one is the CD-ROM's; 0: not begun */

struct ring {
    const char *path;
    int fd, number;
    uint64_t slots, seq;
    uint8_t *known;  /* which slots this boot has written: the others may hold an older boot's blocks */
    uint64_t *expected, *found;
};

uint32_t disk_age_ms(void)
{
    uint64_t oldest = UINT64_MAX, now = now_ns();
    for (int i = 0; i <= MAX_DISKS; i++) {
        uint64_t at = last_round_ns[i];
        if (at && at < oldest) oldest = at;
    }
    return oldest < now ? (now - oldest) / 1000000 : 0;
}

static void disk_error(const char *path, const char *what, uint64_t block, int error)
{
    if (++counters.disk_errors <= COMPLAINTS)
        say("DISK ERROR %s %s block %llu: %s", path, what, (unsigned long long)block,
            error ? strerror(error) : "not what was written");
}

static void *aligned(size_t size)
{
    void *memory = NULL;
    return posix_memalign(&memory, BLOCK, size) ? NULL : memory;
}

/* What slot seq % slots holds once block `seq` is written. */
static void expect(struct ring *ring, uint64_t seq)
{
    uint64_t slot = seq % ring->slots, sum = 0, *word = ring->expected;
    uint64_t seed = mix(boot_mark ^ mix(seq << 8 | ring->number));
    uint64_t head[] = {MAGIC, boot_mark, ring->number, slot, seq};
    memcpy(word, head, sizeof head);
    for (size_t i = sizeof head / sizeof *head; i < WORDS - 1; i++) word[i] = seed + i;
    for (size_t i = 0; i < WORDS - 1; i++) sum = (sum << 1 | sum >> 63) ^ word[i];
    word[WORDS - 1] = sum;
}

static int whole(ssize_t done)
{
    if (done >= 0 && done != BLOCK) errno = EIO;
    return done == BLOCK;
}

static void write_block(struct ring *ring, uint64_t seq)
{
    uint64_t slot = seq % ring->slots;
    expect(ring, seq);
    ring->known[slot] = whole(pwrite(ring->fd, ring->expected, BLOCK, slot * BLOCK)) && !fdatasync(ring->fd);
    if (ring->known[slot]) counters.disk_writes++;
    else disk_error(ring->path, "write", slot, errno);
}

static void verify_block(struct ring *ring, uint64_t seq)
{
    uint64_t slot = seq % ring->slots;
    if (!ring->known[slot]) return;
    expect(ring, seq);
    memset(ring->found, 0, BLOCK);
    if (!whole(pread(ring->fd, ring->found, BLOCK, slot * BLOCK))) disk_error(ring->path, "read", slot, errno);
    else if (memcmp(ring->expected, ring->found, BLOCK)) disk_error(ring->path, "compare", slot, 0);
    else counters.disk_verified++;
}

/* One of the blocks that this boot wrote and has not written over. */
static uint64_t older(const struct ring *ring)
{
    uint64_t written = ring->seq < ring->slots ? ring->seq : ring->slots;
    return ring->seq - mix(boot_mark ^ ring->seq) % written;
}

static int ring_open(struct ring *ring)
{
    uint64_t size = 0;
    ring->fd = open_soon(ring->path, O_RDWR | O_DIRECT);
    if (ring->fd < 0 || ioctl(ring->fd, BLKGETSIZE64, &size) < 0) return -1;
    ring->slots = (size < RING_BYTES ? size : RING_BYTES) / BLOCK;
    ring->known = calloc(ring->slots, 1);
    ring->expected = aligned(BLOCK);
    ring->found = aligned(BLOCK);
    errno = ring->slots ? errno : ENOSPC;
    return ring->slots && ring->known && ring->expected && ring->found ? 0 : -1;
}

void disk(void *number)
{
    struct ring ring = {.number = (intptr_t)number, .path = options.disks[(intptr_t)number]};
    if (ring_open(&ring) < 0) return failed(ring.path);
    say("disk %s %llu blocks", ring.path, (unsigned long long)ring.slots);
    for (;;) {
        last_round_ns[ring.number] = now_ns();
        write_block(&ring, ++ring.seq);
        verify_block(&ring, ring.seq);
        verify_block(&ring, older(&ring));
        sleep_us(options.disk_pause_us);
    }
}

void cdrom(void *unused)
{
    (void)unused;
    uint8_t *first = aligned(CD_BYTES), *again = aligned(CD_BYTES);
    int fd = open_soon(options.cdrom, O_RDONLY | O_DIRECT);
    ssize_t size = fd < 0 ? -1 : pread(fd, first, CD_BYTES, 0);
    if (size <= 0) return failed(options.cdrom);
    say("cdrom %s %zd bytes", options.cdrom, size);
    for (;; sleep_us(100000)) {
        last_round_ns[MAX_DISKS] = now_ns();
        if (pread(fd, again, CD_BYTES, 0) != size) disk_error(options.cdrom, "read", 0, errno);
        else if (memcmp(first, again, size)) disk_error(options.cdrom, "compare", 0, 0);
        else counters.disk_verified++;
    }
}
