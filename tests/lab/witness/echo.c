/* Echo on port 7 of TCP and, if the guest has it, of vsock, a thread a connection. */
#define _GNU_SOURCE
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "witness.h"

static void repeat(int fd)
{
    char buffer[4096];
    for (;;) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got <= 0) break;
        for (ssize_t done = 0, put; done < got; done += put)
            if ((put = write(fd, buffer + done, got - done)) <= 0) break;
    }
    close(fd);
}

static void serve(void *connection)
{
    int one = 1, fd = (intptr_t)connection;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    repeat(fd);
}

/* Each line has its number: the console loses one now and then. */
static void serve_vsock(void *connection)
{
    static atomic_uint ended;
    repeat((intptr_t)connection);
    say("vsock connections ended: %u", ++ended);
}

static void listen_at(const void *address, socklen_t size, void (*part)(void *))
{
    int fd = socket(((const struct sockaddr *)address)->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, address, size) < 0 || listen(fd, 64) < 0) return failed("echo");
    for (;;) {
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) { sleep_us(10000); continue; }
        start(part, (void *)(intptr_t)connection, SOON);
    }
}

void echo(void *unused)
{
    (void)unused;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(7)};
    listen_at(&any, sizeof any, serve);
}

void echo_vsock(void *unused)
{
    (void)unused;
    struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 7};
    listen_at(&any, sizeof any, serve_vsock);
}
