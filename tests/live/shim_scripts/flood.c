/* Floods the shim from some threads: `flood KIND THREADS`, or makes as many calls as it is told: `flood name 1 COUNT`. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char *kind;
static long count = -1;

static void *work(void *unused)
{
    int stream = socket(AF_INET, SOCK_STREAM, 0), datagram = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)}, name;
    socklen_t length;
    char text[100] = {0};
    struct iovec piece = {text, sizeof text};
    struct mmsghdr many[1024] = {0};

    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    for (int i = 0; i < 1024; i++)
        many[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &piece, .msg_iovlen = 1};
    for (; count; count -= count > 0) {
        if (!strcmp(kind, "name")) {
            length = sizeof name;
            getsockname(stream, (void *)&name, &length);
        } else if (!strcmp(kind, "bad"))
            bind(stream, (void *)-1, 16);
        else if (!strcmp(kind, "send"))
            sendto(datagram, text, sizeof text, 0, (void *)&to, sizeof to);
        else
            sendmmsg(datagram, many, 1024, 0);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    kind = argv[1];
    if (argc > 3)
        count = atol(argv[3]);
    for (int i = 1; i < atoi(argv[2]); i++)
        pthread_create(&thread, NULL, work, NULL);
    work(NULL);
    return 0;
}
