/* What the load generator, the upstream and the relay share. Linux, loopback, one thread each. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEBIBYTE (1 << 20)

static char block[MEBIBYTE];

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

/* Bytes that nobody looks at are dropped in the kernel: the load must cost less than what it measures. */
static inline ssize_t discard(int fd) { return recv(fd, block, sizeof block, MSG_TRUNC); }

static inline void never_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* A timer of `now`, as an absolute time. */
static inline void set_alarm(int timer, double due) {
  struct itimerspec alarm = {.it_value = {.tv_sec = (time_t)due, .tv_nsec = (long)((due - (time_t)due) * 1e9)}};
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &alarm, NULL);
}

/* A socket that listens on the loopback address of this family, -1 if it cannot; on a port that was free if `port` is 0. */
static inline int listen_on(int family, int *port) {
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(*port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
  socklen_t length = family == AF_INET ? sizeof v4 : sizeof v6;
  int on = 1, fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, address, length) < 0 || listen(fd, 4096) < 0) {
    close(fd);
    return -1;
  }
  if (family == AF_INET) {
    getsockname(fd, (struct sockaddr *)&v4, &length);
    *port = ntohs(v4.sin_port);
  }
  return fd;
}

static void allow_many_files(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  signal(SIGPIPE, SIG_IGN);
}

#endif
