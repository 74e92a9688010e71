/* /init: mounts what the parts need, starts them, and waits for ctrl-alt-del. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "witness.h"

static void mount_on(const char *type, const char *path)
{
    mkdir(path, 0755);
    if (mount(type, path, type, 0, NULL) < 0 && errno != EBUSY) failed(path);
}

/* Not worth waiting for the kernel's entropy: the clocks of two boots differ, too. */
static void draw_boot_mark(void)
{
    struct timespec time;
    uint64_t drawn = 0;
    clock_gettime(CLOCK_REALTIME, &time);
    if (getrandom(&drawn, sizeof drawn, GRND_INSECURE) < 0) failed("getrandom");
    boot_mark = mix(drawn ^ mix(time.tv_sec * 1000000000ull + time.tv_nsec) ^ __builtin_ia32_rdtsc());
}

void power_down(int command, const char *why)
{
    say("%s: %s", why, command == RB_POWER_OFF ? "powering off" : "rebooting");
    stopping = 1;
    usleep(150000);  /* no I/O is under way when the kernel shuts the devices down, and the console has drained */
    sync();
    reboot(command);
    for (;;) pause();
}

static void start_parts(void)
{
    start(console_status, NULL, NORMAL);
    start(console_input, NULL, NORMAL);
    start(heartbeat, NULL, FIRST);
    start(echo, NULL, SOON);
    if (options.vsock) start(echo_vsock, NULL, SOON);
    start(agent, NULL, NORMAL);
    start(power_button, NULL, NORMAL);
    start(watchdog, NULL, NORMAL);
    start(ram, NULL, NORMAL);
    for (intptr_t number = 0; number < options.disk_count; number++) start(disk, (void *)number, NORMAL);
    if (*options.cdrom) start(cdrom, NULL, NORMAL);
    if (options.tpm) start(tpm, NULL, NORMAL);
    if (*options.share) start(share, NULL, NORMAL);
}

int main(void)
{
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);  /* inherited by every thread: only sigwait() sees it */
    signal(SIGPIPE, SIG_IGN);

    mount_on("devtmpfs", "/dev");
    mount_on("proc", "/proc");
    mount_on("sysfs", "/sys");
    console_open();
    options_read();
    draw_boot_mark();
    say("boot id=%u mark=%016llx", options.id, (unsigned long long)boot_mark);
    reboot(RB_DISABLE_CAD);  /* ctrl-alt-del becomes SIGINT */
    modules_load("/modules/list");
    if (options.vsock) modules_load("/modules/vsock");
    network_setup();
    start_parts();

    int got;
    while (sigwait(&interrupt, &got) || got != SIGINT) continue;
    power_down(RB_AUTOBOOT, "ctrl-alt-del");
}
