/* The kernel's command line, as far as it is the witness's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "witness.h"

struct options options = {
    .id = 1, .peer = "192.168.122.1", .port = 7007, .interval_us = 2000, .ram_mib = 64, .ram_pause_us = 20000,
    .disk_pause_us = 30000,
};

static void take_disks(char *list)
{
    char *rest;
    for (char *path = strtok_r(list, ",", &rest); path; path = strtok_r(NULL, ",", &rest))
        if (options.disk_count < MAX_DISKS)
            snprintf(options.disks[options.disk_count++], sizeof options.disks[0], "%s", path);
}

static void take(const char *name, char *value)
{
    unsigned long number = strtoul(value, NULL, 10);
#define IS(text) (!strcmp(name, text))
#define COPY(to) snprintf(to, sizeof to, "%s", value)
    if (IS("id")) options.id = number;
    else if (IS("ip")) COPY(options.ip);
    else if (IS("ip2")) COPY(options.ip2);
    else if (IS("peer")) COPY(options.peer);
    else if (IS("port")) options.port = number;
    else if (IS("interval")) options.interval_us = number;
    else if (IS("ram")) options.ram_mib = number;
    else if (IS("ram_pause")) options.ram_pause_us = number;
    else if (IS("disks")) take_disks(value);
    else if (IS("disk_pause")) options.disk_pause_us = number;
    else if (IS("cdrom")) COPY(options.cdrom);
    else if (IS("tpm")) options.tpm = number;
    else if (IS("vsock")) options.vsock = number;
    else if (IS("share")) COPY(options.share);
    else say("FAILED option witness.%s: unknown", name), counters.failures++;
}

void options_read(void)
{
    char line[4096] = "", *rest;
    FILE *file = fopen("/proc/cmdline", "re");
    if (!file || !fgets(line, sizeof line, file)) failed("/proc/cmdline");
    if (file) fclose(file);
    for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        char *value = strchr(word, '=');
        if (strncmp(word, "witness.", 8) || !value) continue;
        *value++ = 0;
        take(word + 8, value);
    }
}
