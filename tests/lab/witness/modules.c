/* Loads kernel modules of the initramfs in the order that build.sh listed them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "witness.h"

static void load(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/modules/%s.ko", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)) failed(path);
    close(fd);
}

void modules_load(const char *path)
{
    char name[64];
    FILE *list = fopen(path, "re");
    if (!list) return failed(path);
    while (fgets(name, sizeof name, list)) {
        name[strcspn(name, "\n")] = 0;
        load(name);
    }
    fclose(list);
}
