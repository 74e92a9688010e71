/* One datagram every interval: how long the guest stood still is the gap between two of them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sys/socket.h>

#include "witness.h"

/* watch.py's BEAT is the other end. */
struct __attribute__((packed)) beat {
    uint32_t magic;
    uint16_t version, id;
    uint64_t boot_mark, seq, time_ns, ram_passes, ram_errors, disk_writes, disk_errors, disk_verified;
    uint32_t ram_mib, interval_us, disk_age_ms, failures;
};

static struct beat next_beat(void)
{
    return (struct beat){
        .magic = 0x54495756, .version = 1, .id = options.id, .boot_mark = boot_mark, .seq = ++counters.seq,
        .time_ns = now_ns(), .ram_passes = counters.ram_passes, .ram_errors = counters.ram_errors,
        .disk_writes = counters.disk_writes, .disk_errors = counters.disk_errors,
        .disk_verified = counters.disk_verified, .ram_mib = counters.ram_mib, .interval_us = options.interval_us,
        .disk_age_ms = disk_age_ms(), .failures = counters.failures,
    };
}

void heartbeat(void *unused)
{
    (void)unused;
    uint64_t interval = options.interval_us * 1000ull, next = now_ns();
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, options.peer, &peer.sin_addr) != 1) return failed("heartbeat");
    for (;;) {
        struct beat beat = next_beat();
        /* Not connected, no answer, no error: a beat that nobody takes is simply lost. */
        sendto(fd, &beat, sizeof beat, 0, (struct sockaddr *)&peer, sizeof peer);
        uint64_t now = now_ns();
        next += interval;
        if (next < now) next = now + interval;  /* after a pause: no burst to catch up */
        sleep_until(next);
    }
}
