/* Static addresses on the first two NICs, and whether these are up. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "witness.h"

static int set_address(int fd, struct ifreq *nic, unsigned long request, const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    errno = EINVAL;
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1) return -1;
    memcpy(&nic->ifr_addr, &address, sizeof address);
    return ioctl(fd, request, nic);
}

static int wait_for(int fd, struct ifreq *nic)
{
    for (int tries = 0; ioctl(fd, SIOCGIFFLAGS, nic) < 0; tries++) {
        if (tries == 200) return -1;
        sleep_us(50000);
    }
    return 0;
}

static int set_up(int fd, struct ifreq *nic, int up)
{
    if (ioctl(fd, SIOCGIFFLAGS, nic) < 0) return -1;
    nic->ifr_flags = up ? nic->ifr_flags | IFF_UP : nic->ifr_flags & ~IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, nic);
}

static void setup(const char *name, const char *ip)
{
    struct ifreq nic = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(nic.ifr_name, sizeof nic.ifr_name, "%s", name);
    if (wait_for(fd, &nic) < 0 || set_address(fd, &nic, SIOCSIFADDR, ip) < 0 ||
        set_address(fd, &nic, SIOCSIFNETMASK, "255.255.255.0") < 0 || set_up(fd, &nic, 1) < 0)
        failed(name);
    close(fd);
}

/* Linux 6.12 sends through virtio-net while that is put to sleep, and crashes; not where the NIC is down by then. */
void network_up(int up)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int number = 0; number < 2; number++) {
        struct ifreq nic = {0};
        snprintf(nic.ifr_name, sizeof nic.ifr_name, "eth%d", number);
        if (*(number ? options.ip2 : options.ip) && set_up(fd, &nic, up) < 0) failed(nic.ifr_name);
    }
    close(fd);
}

/* Two NICs on one bridge: each answers for its own address only, or the second would see no traffic. */
static void keep_apart(void)
{
    FILE *file = fopen("/proc/sys/net/ipv4/conf/all/arp_ignore", "we");
    if (!file || fputs("1", file) < 0 || fclose(file)) failed("arp_ignore");
}

void network_setup(void)
{
    keep_apart();
    if (*options.ip) setup("eth0", options.ip);
    if (*options.ip2) setup("eth1", options.ip2);
}
