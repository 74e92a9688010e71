/* What the parts of the witness share. */
#ifndef WITNESS_H
#define WITNESS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_DISKS 8

struct options {
    uint16_t id;
    char ip[32], ip2[32], peer[32];
    uint16_t port;
    uint32_t interval_us;     /* between heartbeats */
    uint32_t ram_mib;         /* size of the RAM pattern */
    uint32_t ram_pause_us;    /* between two MiB of it */
    char disks[MAX_DISKS][32];
    int disk_count;
    uint32_t disk_pause_us;   /* between two writes to a disk */
    char cdrom[32];
    uint32_t tpm;             /* version of the TPM: 1 or 2; 0: none */
    uint32_t vsock;           /* 1: it has the device */
    char share[32];           /* tag of a shared directory */
};

/* What a heartbeat tells.  Each counter has one or more writers and no lock. */
struct counters {
    _Atomic uint64_t seq, ram_passes, ram_errors, disk_writes, disk_errors, disk_verified;
    _Atomic uint32_t ram_mib;   /* 0 until the pattern is complete */
    _Atomic uint32_t failures;  /* parts that could not be set up */
};

extern struct options options;
extern struct counters counters;
extern uint64_t boot_mark;      /* tells this boot from every other */

/* options.c */
void options_read(void);

/* common.c */
enum urgency { FIRST, SOON, NORMAL, LAST };
extern _Atomic int stopping;    /* parts that sleep do not wake up again */
void become(enum urgency urgency);
void start(void (*part)(void *), void *argument, enum urgency urgency);
void failed(const char *what);  /* a part cannot be set up: errno says why */
uint64_t now_ns(void);
void sleep_until(uint64_t ns);
void sleep_us(uint64_t us);
uint64_t mix(uint64_t x);
int open_soon(const char *path, int flags);  /* the drivers probe in the background */

/* console.c */
void console_open(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void console_status(void *unused);
void console_input(void *unused);

/* The other parts, one a file. */
void modules_load(const char *path);
void network_setup(void);
void network_up(int up);
void heartbeat(void *unused);
void echo(void *unused);
void echo_vsock(void *unused);
void ram(void *unused);
void disk(void *number);
void cdrom(void *unused);
void tpm(void *unused);
void share(void *unused);
uint32_t disk_age_ms(void);     /* since the slowest disk's last completed round */
void agent(void *unused);
void power_button(void *unused);
void watchdog(void *unused);
void power_down(int command, const char *why) __attribute__((noreturn));

#endif
