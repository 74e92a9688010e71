/* The serial console: a line a second, an echo of every line typed, and whatever the parts have to say. */
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "witness.h"

static int console = -1;

/* Not blocking: whoever holds the other end and does not read loses lines, and holds up nobody here. */
void console_open(void)
{
    console = open("/dev/console", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}

/* One write a line, so that lines of two threads do not mix. */
void say(const char *format, ...)
{
    char line[512] = "witness: ";
    size_t start = strlen(line);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line + start, sizeof line - start - 1, format, arguments);
    va_end(arguments);
    size_t end = start + length < sizeof line - 2 ? start + length : sizeof line - 2;
    line[end] = '\n';
    if (write(console, line, end + 1) < 0) return;  /* nobody to tell */
}

/* What Linux takes the time from: it changes its mind where a clock jumps or runs badly. */
static const char *clock_source(void)
{
    static char name[32];
    int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, name, sizeof name - 1);
    if (fd >= 0) close(fd);
    name[got > 0 ? got : 0] = 0;
    name[strcspn(name, "\n")] = 0;
    return name;
}

void console_status(void *unused)
{
    (void)unused;
    for (;; sleep_us(1000000))
        say("clock=%s seq=%llu ram_errors=%llu disk_errors=%llu ram_passes=%llu disk_writes=%llu", clock_source(),
            (unsigned long long)counters.seq, (unsigned long long)counters.ram_errors,
            (unsigned long long)counters.disk_errors, (unsigned long long)counters.ram_passes,
            (unsigned long long)counters.disk_writes);
}

void console_input(void *unused)
{
    (void)unused;
    char line[256];
    struct pollfd input = {.fd = console, .events = POLLIN};
    for (;;) {
        ssize_t got = poll(&input, 1, -1) > 0 ? read(console, line, sizeof line) : -1;
        if (got <= 0) { sleep_us(100000); continue; }
        say("echo %.*s", (int)(line[got - 1] == '\n' ? got - 1 : got), line);
    }
}
