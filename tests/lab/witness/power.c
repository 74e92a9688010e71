/* The ACPI power button and the watchdog. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <linux/input.h>
#include <poll.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "witness.h"

enum { MAX_INPUTS = 16, PET_US = 2000000 };

static int open_inputs(struct pollfd *inputs)
{
    glob_t paths;
    int count = 0;
    if (glob("/dev/input/event*", 0, NULL, &paths)) return 0;
    for (size_t i = 0; i < paths.gl_pathc && count < MAX_INPUTS; i++) {
        int fd = open(paths.gl_pathv[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0) inputs[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    globfree(&paths);
    return count;
}

void power_button(void *unused)
{
    (void)unused;
    struct pollfd inputs[MAX_INPUTS];
    struct input_event event;
    int count = open_inputs(inputs);
    if (!count) return failed("power button");
    while (poll(inputs, count, -1) > 0)
        for (int i = 0; i < count; i++)
            while (read(inputs[i].fd, &event, sizeof event) == sizeof event)
                if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
                    power_down(RB_POWER_OFF, "power button");
    failed("power button");
}

void watchdog(void *unused)
{
    (void)unused;
    int fd = open("/dev/watchdog", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;  /* most shapes have none */
    say("watchdog");
    for (;; sleep_us(PET_US))
        if (write(fd, "", 1) < 0) return failed("watchdog");
}
