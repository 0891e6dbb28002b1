/* A program with a seccomp filter of its own, besides that of nuse: what it says must be the same on any stack. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refuse(unsigned flags, int nr, unsigned verdict) {
    struct sock_filter code[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0}, /* seccomp_data.nr */
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, nr},
        {BPF_RET | BPF_K, 0, 0, verdict},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    struct sock_fprog program = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void on_sigsys(int number, siginfo_t *info, void *context) {
    printf("SIGSYS for socket: %d\n", info->si_syscall == SYS_socket);
}

int main(int argc, char **argv) {
    struct sockaddr_in any = {.sin_family = AF_INET};
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(argv[1], "errno")) {
        printf("filter %d\n", refuse(0, SYS_listen, SECCOMP_RET_ERRNO | EPERM));
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        printf("socket %d bind %d\n", fd >= 0, bind(fd, (void *)&any, sizeof any));
        int result = listen(fd, 1);
        printf("listen %d %d\n", result, errno == EPERM);
    } else if (!strcmp(argv[1], "trap")) {
        sigaction(SIGSYS, &action, NULL);
        printf("filter %d\n", refuse(SECCOMP_FILTER_FLAG_TSYNC, SYS_socket, SECCOMP_RET_TRAP));
        socket(AF_INET, SOCK_STREAM, 0);
    } else if (!strcmp(argv[1], "kill")) {
        printf("filter %d\n", refuse(0, SYS_socket, SECCOMP_RET_KILL_PROCESS));
        socket(AF_INET, SOCK_STREAM, 0);
    } else if (!strcmp(argv[1], "strict")) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        write(1, "reads and writes\n", fd >= 0 ? 17 : 0);
        syscall(SYS_exit, 0);
    } else if (!strcmp(argv[1], "listener")) {
        int fd = refuse(SECCOMP_FILTER_FLAG_NEW_LISTENER, SYS_mkdir, SECCOMP_RET_USER_NOTIF);
        printf("listener %s\n", fd >= 0 ? "yes" : errno == EBUSY ? "EBUSY" : "no");
        printf("socket %d\n", socket(AF_INET, SOCK_STREAM, 0) >= 0);
    }
    return 0;
}
