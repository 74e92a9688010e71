/* TCP echo on port 7, a thread a connection. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "witness.h"

static void serve(void *connection)
{
    int fd = (intptr_t)connection;
    char buffer[4096];
    for (;;) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got <= 0) break;
        for (ssize_t done = 0, put; done < got; done += put)
            if ((put = write(fd, buffer + done, got - done)) <= 0) break;
    }
    close(fd);
}

void echo(void *unused)
{
    (void)unused;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(7)};
    if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0 || listen(fd, 64) < 0) return failed("echo");
    for (;;) {
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) { sleep_us(10000); continue; }
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        start(serve, (void *)(intptr_t)connection, SOON);
    }
}
