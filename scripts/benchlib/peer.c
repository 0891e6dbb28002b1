/* The plain program at each end of a measurement: a server with three ports, and the clients that take the figures.
 *
 *   peer serve ADDR PORT          PORT swallows, PORT+1 gushes, PORT+2 echoes; one connection at a time each
 *   peer send ADDR PORT SECONDS   write until the time is up, then wait for the other end to have it all
 *   peer recv ADDR PORT SECONDS   read for so long; also says how long it got nothing, at worst
 *   peer ping ADDR PORT SECONDS   1-byte round trips over one connection
 *   peer crr  ADDR PORT SECONDS   connect, 1-byte echo, close
 *
 * PORT is that of `serve` in all of them. One more word, `mptcp`, makes the sockets those of Multipath TCP. Prints one
 * line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define CHUNK (256 * 1024)
#define SAMPLES 2000000
static char buffer[CHUNK];
static int protocol = IPPROTO_TCP;

static long long now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_in where(const char *addr, int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, addr, &sa.sin_addr) != 1)
        die(addr);
    return sa;
}

static void serve(const char *addr, int port, int kind)
{
    struct sockaddr_in sa = where(addr, port + kind);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, protocol);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&sa, sizeof sa) || listen(listener, 128))
        die("listen");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (kind == 0)
            while (read(fd, buffer, CHUNK) > 0)
                ;
        else if (kind == 1)
            while (write(fd, buffer, CHUNK) > 0)
                ;
        else {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            while (read(fd, buffer, 1) == 1 && write(fd, buffer, 1) == 1)
                ;
        }
        close(fd);
    }
}

static int dial(const char *addr, int port)
{
    struct sockaddr_in sa = where(addr, port);
    for (int try = 0;; try++) {
        int fd = socket(AF_INET, SOCK_STREAM, protocol);
        if (!connect(fd, (struct sockaddr *)&sa, sizeof sa))
            return fd;
        if (try >= 100)
            die("connect");
        close(fd);
        usleep(100000);
    }
}

static int by_size(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static void ping(const char *addr, int port, long long length)
{
    int one = 1, fd = dial(addr, port + 2);
    int *samples = malloc(SAMPLES * sizeof *samples), count = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    long long begun = now(), last = begun;
    while (last - begun < length && count < SAMPLES) {
        if (write(fd, buffer, 1) != 1 || read(fd, buffer, 1) != 1)
            die("ping");
        long long t = now();
        samples[count++] = t - last;
        last = t;
    }
    qsort(samples, count, sizeof *samples, by_size);
    printf("{\"median_us\": %.2f, \"p99_us\": %.2f, \"count\": %d}\n", samples[count / 2] / 1e3,
           samples[(int)(count * 0.99)] / 1e3, count);
}

static void crr(const char *addr, int port, long long length)
{
    struct sockaddr_in sa = where(addr, port + 2);
    long count = 0;
    close(dial(addr, port + 2));
    long long begun = now();
    while (now() - begun < length) {
        int fd = socket(AF_INET, SOCK_STREAM, protocol);
        if (connect(fd, (struct sockaddr *)&sa, sizeof sa) || write(fd, buffer, 1) != 1 || read(fd, buffer, 1) != 1)
            die("crr");
        close(fd);
        count++;
    }
    printf("{\"per_s\": %.0f, \"count\": %ld}\n", count * 1e9 / (now() - begun), count);
}

static void bulk(const char *addr, int port, long long length, int sending)
{
    struct timeval patience = {.tv_sec = 15};
    int fd = dial(addr, port + !sending);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    long long begun = now(), last = begun, gap = 0, bytes = 0, got;
    while (last - begun < length) {
        got = sending ? write(fd, buffer, CHUNK) : read(fd, buffer, CHUNK);
        if (got <= 0)
            die("bulk");
        long long t = now();
        if (bytes && t - last > gap)
            gap = t - last;
        last = t;
        bytes += got;
    }
    if (sending) { /* what is still in buffers counts once it has arrived */
        shutdown(fd, SHUT_WR);
        while (read(fd, buffer, CHUNK) > 0)
            ;
    }
    double seconds = (now() - begun) / 1e9;
    printf("{\"gbit_s\": %.4f, \"bytes\": %lld, \"seconds\": %.3f, \"gap_ms\": %.1f}\n", bytes * 8 / seconds / 1e9, bytes,
           seconds, gap / 1e6);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && !strcmp(argv[argc - 1], "mptcp")) {
        protocol = IPPROTO_MPTCP;
        argc--;
    }
    if (argc == 4 && !strcmp(argv[1], "serve")) {
        for (int kind = 0; kind < 2; kind++)
            if (!fork()) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                serve(argv[2], atoi(argv[3]), kind);
            }
        serve(argv[2], atoi(argv[3]), 2);
    }
    if (argc != 5) {
        fprintf(stderr, "usage: peer serve ADDR PORT [mptcp] | peer send|recv|ping|crr ADDR PORT SECONDS [mptcp]\n");
        return 2;
    }
    int port = atoi(argv[3]);
    long long length = atof(argv[4]) * 1e9;
    if (!strcmp(argv[1], "send") || !strcmp(argv[1], "recv"))
        bulk(argv[2], port, length, argv[1][0] == 's');
    else if (!strcmp(argv[1], "ping"))
        ping(argv[2], port, length);
    else if (!strcmp(argv[1], "crr"))
        crr(argv[2], port, length);
    else
        return 2;
    return 0;
}
