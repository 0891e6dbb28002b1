/* What a system call costs: `calls ADDR PORT ROUNDS` prints, for each, the median in nanoseconds, as one line of JSON.
 *
 * ADDR is an own address; a connection to itself over it is what the calls on a TCP socket are about. Then comes
 * `"data": N`, so many calls on its data were made in between, and the program waits for a line on stdin before it ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long *samples;
static int rounds;
static const char *comma = "";

static long long now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void need(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

static int by_size(const void *a, const void *b)
{
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

static void report(const char *name)
{
    qsort(samples, rounds, sizeof *samples, by_size);
    printf("%s\"%s\": %lld", comma, name, samples[rounds / 2]);
    comma = ", ";
}

/* The time of CALL only, with BEFORE and AFTER around it each time. */
#define MEASURE(name, before, call, after)                 \
    do {                                                   \
        for (int round = 0; round < rounds; round++) {     \
            before;                                        \
            long long start = now();                       \
            need((call) >= 0, name);                       \
            samples[round] = now() - start;                \
            after;                                         \
        }                                                  \
        report(name);                                      \
    } while (0)

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    rounds = atoi(argv[3]);
    samples = calloc(rounds, sizeof *samples);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))}, other;
    need(inet_pton(AF_INET, argv[1], &here.sin_addr) == 1, "address");
    socklen_t size;
    int one = 1, value, fd;
    char byte = 1, room[256];
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    struct tcp_info info;

    int listener = socket(AF_INET, SOCK_STREAM, 0);
    need(listener >= 0, "socket");
    need(!setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "reuseaddr");
    need(!bind(listener, (struct sockaddr *)&here, sizeof here), "bind");
    need(!listen(listener, 16), "listen");
    int client = socket(AF_INET, SOCK_STREAM, 0);
    need(!connect(client, (struct sockaddr *)&here, sizeof here), "connect");
    int server = accept(listener, NULL, NULL);
    need(server >= 0, "accept");
    int pair[2];
    need(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in anywhere = {.sin_family = AF_INET, .sin_addr = here.sin_addr};
    need(!bind(udp, (struct sockaddr *)&anywhere, sizeof anywhere), "bind udp");
    size = sizeof other;
    need(!getsockname(udp, (struct sockaddr *)&other, &size), "getsockname udp");

    printf("{");
    MEASURE("getppid", , syscall(SYS_getppid), );
    MEASURE("socket", , (fd = socket(AF_INET, SOCK_STREAM, 0)), close(fd));
    MEASURE("bind", (fd = socket(AF_INET, SOCK_STREAM, 0)), bind(fd, (struct sockaddr *)&anywhere, sizeof anywhere),
            close(fd));
    MEASURE("getsockname", size = sizeof other, getsockname(client, (struct sockaddr *)room, &size), );
    MEASURE("getpeername", size = sizeof other, getpeername(client, (struct sockaddr *)room, &size), );
    MEASURE("setsockopt TCP_NODELAY", , setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), );
    MEASURE("getsockopt SO_ERROR", size = sizeof value, getsockopt(client, SOL_SOCKET, SO_ERROR, &value, &size), );
    MEASURE("getsockopt TCP_INFO", size = sizeof info, getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &size), );
    MEASURE("sendto UDP", , sendto(udp, &byte, 1, 0, (struct sockaddr *)&other, sizeof other),
            need(recv(udp, room, sizeof room, 0) == 1, "recv udp"));
    MEASURE("foreign sendmsg", , sendmsg(pair[0], &message, 0), need(read(pair[1], room, 1) == 1, "read"));
    MEASURE("foreign recvmsg", need(write(pair[0], &byte, 1) == 1, "write"), recvmsg(pair[1], &message, 0), );
    MEASURE("foreign sendto", , sendto(pair[0], &byte, 1, 0, NULL, 0), need(read(pair[1], room, 1) == 1, "read"));
    printf("%s\"data\": ", comma);
    fflush(stdout);
    need(read(0, room, 1) == 1, "first line on stdin");
    for (int round = 0; round < rounds; round++) {
        need(send(client, room, 64, 0) == 64, "send");
        need(recv(server, room, 64, 0) == 64, "recv");
        need(write(server, room, 64) == 64, "write");
        need(read(client, room, 64) == 64, "read");
    }
    printf("%d}\n", 4 * rounds);
    fflush(stdout);
    need(read(0, room, 1) == 1, "second line on stdin");
    return 0;
}
