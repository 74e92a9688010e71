/* As much of a QEMU guest agent as libvirt needs to see one alive. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "witness.h"

#define PORT_NAME "org.qemu.guest_agent.0"

/* Fills in the device of the agent's port; false if the guest has none. */
static int find_port(char *device, size_t size)
{
    glob_t names;
    int found = 0;
    if (glob("/sys/class/virtio-ports/*/name", 0, NULL, &names)) return 0;
    for (size_t i = 0; i < names.gl_pathc && !found; i++) {
        char name[64] = "";
        FILE *file = fopen(names.gl_pathv[i], "re");
        if (!file) continue;
        found = fgets(name, sizeof name, file) && !strncmp(name, PORT_NAME, strlen(PORT_NAME));
        fclose(file);
        int port = strlen(names.gl_pathv[i]) - strlen("/sys/class/virtio-ports//name");
        snprintf(device, size, "/dev/%.*s", port, names.gl_pathv[i] + strlen("/sys/class/virtio-ports/"));
    }
    globfree(&names);
    return found;
}

/* The value of "key" in flat JSON, without an opening quote; "" if there is none. */
static const char *value_of(const char *json, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(json, quoted);
    if (!at) return "";
    at += strlen(quoted);
    return at + strspn(at, " \t\r\n:\"");
}

static void reply(int fd, const char *text)
{
    char line[512];
    int size = snprintf(line, sizeof line, "%s\n", text);
    for (int done = 0; done < size;) {
        ssize_t put = write(fd, line + done, size - done);
        if (put < 0 && errno != EINTR && errno != EAGAIN) return;
        if (put > 0) done += put;
        else sleep_us(10000);
    }
}

static void shut_down(const char *request)
{
    int reboots = !strncmp(value_of(request, "mode"), "reboot", 6);
    power_down(reboots ? RB_AUTOBOOT : RB_POWER_OFF, "guest agent");
}

/* Sleeps until it is woken up; 0 then.  Like the real agent it answers nothing where that works. */
static int suspend(void)
{
    int fd = open("/sys/power/state", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    network_up(0);
    int failure = write(fd, "mem", 3) == 3 ? 0 : errno;
    network_up(1);
    close(fd);
    return failure;
}

/* As the kernel's driver of the panic device does (Linux drivers/misc/pvpanic); the guest is stopped at once. */
static void panic(void)
{
    if (ioperm(0x505, 1, 1)) say("no panic: %s", strerror(errno));
    else outb(1, 0x505);
}

/* How often each device has interrupted, in the kernel's own lines. */
static void interrupts(void)
{
    char line[256];
    FILE *file = fopen("/proc/interrupts", "re");
    if (!file) return failed("/proc/interrupts");
    while (fgets(line, sizeof line, file))
        if (strstr(line, "nvme") || strstr(line, "virtio")) {
            say("irq %.*s", (int)strcspn(line, "\n"), line);
            sleep_us(100000);  /* the console loses what it can't take at once */
        }
    fclose(file);
    say("irq end");
}

/* Says that it ran the program; "/refuse" fails, "/hang" goes on for ever, "/panic" doesn't come back. */
static void run_program(const char *request, char *text, size_t size)
{
    const char *path = value_of(request, "path"), *arguments = value_of(request, "arg");
    arguments += strspn(arguments, "[\" ");
    say("exec %.*s %.*s", (int)strcspn(path, "\""), path, (int)strcspn(arguments, "\""), arguments);
    if (!strncmp(path, "/panic", 6)) panic();
    if (!strncmp(path, "/interrupts", 11)) interrupts();
    int pid = !strncmp(path, "/refuse", 7) ? 2 : !strncmp(path, "/hang", 5) ? 3 : 1;
    snprintf(text, size, "{\"return\": {\"pid\": %d}}", pid);
}

static void program_status(const char *request, char *text, size_t size)
{
    int pid = atoi(value_of(request, "pid"));
    if (pid == 3) snprintf(text, size, "{\"return\": {\"exited\": false}}");
    else snprintf(text, size, "{\"return\": {\"exited\": true, \"exitcode\": %d}}", pid - 1);
}

static void answer(int fd, const char *request)
{
    const char *execute = value_of(request, "execute");
    size_t length = strcspn(execute, "\"");
    char command[64], text[256];
    snprintf(command, sizeof command, "%.*s", (int)length, execute);
    if (!strcmp(command, "guest-sync") || !strcmp(command, "guest-sync-delimited")) {
        const char *sentinel = strcmp(command, "guest-sync") ? "\xff" : "";
        snprintf(text, sizeof text, "%s{\"return\": %lld}", sentinel, atoll(value_of(request, "id")));
    } else if (!strcmp(command, "guest-ping")) {
        snprintf(text, sizeof text, "{\"return\": {}}");
    } else if (!strcmp(command, "guest-info")) {
        snprintf(text, sizeof text, "{\"return\": {\"version\": \"witness\", \"supported_commands\": []}}");
    } else if (!strcmp(command, "guest-exec")) {
        run_program(request, text, sizeof text);
    } else if (!strcmp(command, "guest-exec-status")) {
        program_status(request, text, sizeof text);
    } else if (!strcmp(command, "guest-shutdown")) {
        shut_down(request);
    } else if (!strcmp(command, "guest-suspend-ram")) {
        int failure = suspend();
        if (!failure) return;
        snprintf(text, sizeof text, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"suspend: %s\"}}",
                 strerror(failure));
    } else {
        snprintf(text, sizeof text, "{\"error\": {\"class\": \"CommandNotFound\", "
                 "\"desc\": \"The command %s has not been found\"}}", command);
    }
    reply(fd, text);
}

/* Requests are whole JSON objects, wherever the lines break; 0xff begins anew. */
struct parser {
    char text[4096];
    size_t length;
    int depth, in_string, escaped;
};

static int feed(struct parser *parser, unsigned char byte)
{
    if (byte == 0xff || parser->length == sizeof parser->text - 1) memset(parser, 0, sizeof *parser);
    if (byte == 0xff || (!parser->depth && byte != '{')) return 0;
    parser->text[parser->length++] = byte;
    if (parser->in_string) {
        if (!parser->escaped && byte == '"') parser->in_string = 0;
        parser->escaped = !parser->escaped && byte == '\\';
        return 0;
    }
    if (byte == '"') parser->in_string = 1;
    if (byte == '{') parser->depth++;
    return byte == '}' && !--parser->depth;
}

void agent(void *unused)
{
    (void)unused;
    char device[64], buffer[512];
    struct parser parser = {0};
    if (!find_port(device, sizeof device)) return;
    int fd = open_soon(device, O_RDWR);
    if (fd < 0) return failed(device);
    for (;;) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got <= 0) sleep_us(50000);  /* nobody is connected on the host */
        for (ssize_t i = 0; i < got; i++) {
            if (!feed(&parser, buffer[i])) continue;
            answer(fd, parser.text);
            memset(&parser, 0, sizeof parser);
        }
    }
}
