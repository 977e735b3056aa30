/*
 * A long way to the upstream: passes bytes on, each so many milliseconds after
 * it came, in both directions. Ends of streams take as long. Opening a
 * connection takes no time: the kernel answers for the listener at once.
 * Arguments: the milliseconds, and the ports on 127.0.0.1 to pass on to. Prints
 * the port that stands for each, and ends when its standard input does.
 */
#include "common.h"

/* On its way in one direction of one connection; beyond it nothing is read. */
#define MOST (16 * MEBIBYTE)

struct side;

struct chunk {
  struct chunk *next;     /* to the same side */
  struct chunk *next_due; /* of all */
  struct side *to;
  double due;
  int arrived;
  size_t length, sent; /* length 0: the end of the stream */
  char data[];
};

struct side {
  int fd; /* -1: done with, in both directions */
  struct side *other;
  struct chunk *first, *last;
  size_t queued;  /* bytes in chunks to this side */
  int under_way;  /* chunks to it that have not arrived */
  int ended, shut; /* it has sent its end; it has been sent the end */
  int blocked;
};

static int loop, timer;
static double delay;
static struct chunk *first_due, *last_due;

static void watch(struct side *s) {
  struct epoll_event event = {.events = (!s->ended && s->other->queued < MOST ? EPOLLIN : 0) | (s->blocked ? EPOLLOUT : 0), .data.ptr = s};
  if (s->fd >= 0 && epoll_ctl(loop, EPOLL_CTL_MOD, s->fd, &event) < 0) die("relay: epoll_ctl: %s", strerror(errno));
}

static void drop(struct side *s) {
  if (s->fd >= 0) close(s->fd);
  s->fd = -1;
}

static void broken(struct side *s) {
  drop(s);
  drop(s->other);
}

static void finish_chunk(struct side *s) {
  struct chunk *done = s->first;
  s->first = done->next;
  s->queued -= done->length;
  free(done);
}

/* Both sides go with the last chunk that was on its way; what a reset leaves behind when nothing was stays until the end. */
static void free_if_done(struct side *s) {
  struct side *pair[2] = {s, s->other};
  if (pair[0]->fd >= 0 || pair[1]->fd >= 0 || pair[0]->under_way || pair[1]->under_way) return;
  for (int i = 0; i < 2; i++) {
    while (pair[i]->first) finish_chunk(pair[i]);
    free(pair[i]);
  }
}

/* What has arrived, as far as the socket takes it. */
static void deliver(struct side *s) {
  s->blocked = 0;
  while (s->fd >= 0 && s->first && s->first->arrived) {
    struct chunk *c = s->first;
    if (c->length == 0) {
      shutdown(s->fd, SHUT_WR);
      s->shut = 1;
    } else {
      ssize_t sent = send(s->fd, c->data + c->sent, c->length - c->sent, 0);
      if (sent < 0 && errno != EAGAIN) return broken(s);
      if (sent > 0) c->sent += (size_t)sent;
      if (c->sent < c->length) {
        s->blocked = 1;
        break;
      }
    }
    finish_chunk(s);
  }
  if (s->shut && s->ended) drop(s);
  watch(s);
  watch(s->other);
}

static void take(struct side *from) {
  static char data[MEBIBYTE / 4];
  ssize_t got = recv(from->fd, data, sizeof data, 0);
  if (got < 0) {
    if (errno != EAGAIN) broken(from);
    return;
  }
  struct chunk *c = calloc(1, sizeof *c + (size_t)got);
  if (!c) die("relay: out of memory");
  struct side *to = c->to = from->other;
  c->due = now() + delay;
  c->length = (size_t)got;
  memcpy(c->data, data, (size_t)got);
  if (to->first) to->last->next = c;
  else to->first = c;
  to->last = c;
  to->queued += c->length;
  to->under_way++;
  if (first_due) last_due->next_due = c;
  else first_due = c;
  last_due = c;
  if (got == 0) from->ended = 1;
  if (from->ended && from->shut) drop(from);
  watch(from);
}

/* Chunks come in the order in which they are due, because all take as long. */
static void arrive(void) {
  for (double time = now(); first_due && first_due->due <= time;) {
    struct side *to = first_due->to;
    first_due->arrived = 1;
    first_due = first_due->next_due;
    to->under_way--;
    if (to->fd >= 0) deliver(to);
    free_if_done(to);
  }
  if (first_due) set_alarm(timer, first_due->due);
}

static struct side *new_side(int fd) {
  struct side *s = calloc(1, sizeof *s);
  if (!s) die("relay: out of memory");
  s->fd = fd;
  never_delay(fd);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  struct epoll_event event = {.events = 0, .data.ptr = s};
  if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) < 0) die("relay: epoll_ctl: %s", strerror(errno));
  return s;
}

static void accept_all(int listener, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
    int onward = socket(AF_INET, SOCK_STREAM, 0);
    if (onward < 0 || connect(onward, (struct sockaddr *)&address, sizeof address) < 0) die("relay: cannot connect to port %d: %s", port, strerror(errno));
    struct side *client = new_side(fd), *upstream = new_side(onward);
    client->other = upstream;
    upstream->other = client;
    watch(client);
    watch(upstream);
  }
}

int main(int count, char **arguments) {
  enum { PORTS = 2 };
  static struct side listeners[2 * PORTS], input, alarm;
  int targets[PORTS], ports[PORTS] = {0, 0};
  if (count != 2 + PORTS) die("relay: MILLISECONDS PORT PORT");
  delay = atof(arguments[1]) / 1e3;
  allow_many_files();
  loop = epoll_create1(0);
  for (int i = 0; i < 2 * PORTS; i++) {
    targets[i / 2] = atoi(arguments[2 + i / 2]);
    listeners[i].fd = listen_on(i % 2 == 0 ? AF_INET : AF_INET6, &ports[i / 2]);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listeners[i]};
    if (listeners[i].fd >= 0) epoll_ctl(loop, EPOLL_CTL_ADD, listeners[i].fd, &event);
    else if (i % 2 == 0) die("relay: cannot listen on 127.0.0.1: %s", strerror(errno));
  }
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &alarm};
  epoll_ctl(loop, EPOLL_CTL_ADD, timer, &event);
  event.data.ptr = &input;
  epoll_ctl(loop, EPOLL_CTL_ADD, 0, &event);
  printf("%d %d\n", ports[0], ports[1]);
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    unsigned long long ticks;
    int ready = epoll_wait(loop, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      struct side *s = events[i].data.ptr;
      if (s == &input) return 0;
      if (s >= listeners && s < listeners + 2 * PORTS) accept_all(s->fd, targets[(s - listeners) / 2]);
      else if (s == &alarm) {
        if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("relay: timer: %s", strerror(errno));
      } else if (s->fd >= 0) {
        if (events[i].events & EPOLLOUT) deliver(s);
        if (s->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take(s);
      }
    }
    arrive();
  }
}
