/*
 * An open load: requests begin at a fixed rate, whatever becomes of those
 * before them, as from many clients that know nothing of each other. A
 * request takes a connection that is free, or opens one. Prints what it saw as
 * a line of JSON. Arguments are KEY=VALUE:
 *   port         where the proxy listens on 127.0.0.1
 *   rate         requests a second; 0: a closed load instead, of `connections` requests at any time,
 *                which shows the most that the proxy carries
 *   seconds      for which requests begin
 *   warm         seconds of them that do not count
 *   connections  at most at once; beyond that a request waits, and its clock runs
 *   connect      HOST:PORT: each request is a CONNECT on a connection of its own,
 *                which is closed once it is answered; absent: GET on kept connections
 *   target host  of the GET
 * A request's clock starts when it was due. What is not answered two seconds
 * after the end is counted as `unanswered`, and its age then as its latency.
 * `waited` is the part of the time in which this program had no core.
 */
#include "common.h"

enum { LOOPBACK_ADDRESSES = 32, HEAD = 2048, MOST_RATE = 200000 };

struct connection {
  int fd; /* -1: not open */
  int connecting, in_body, kept;
  int status; /* 0: no answer is awaited */
  double due;
  long need;
  size_t head_length;
  char head[HEAD];
  struct connection *next_free;
};

static int port, limit = 8000, loop, timer;
static double rate = 1000, length = 3, warm = 1, first, measure_from, measure_to;
static const char *connect_to = "", *target = "/", *host = "localhost";
static char request[1024];
static size_t request_length;
static struct connection *all, *free_open, *free_closed;
static long under_way, measured, ok, refused, failed, unanswered, in_flight_most;
static double *latencies;
/* Requests that wait for a connection, as a queue of when they were due: begun in order, so a count will do. */
static long started;

static int counts(double due) { return due >= measure_from && due < measure_to; }

static void give_back(struct connection *c) {
  struct connection **list = c->fd < 0 ? &free_closed : &free_open;
  c->next_free = *list;
  *list = c;
}

static void finish(struct connection *c, long *kind) {
  under_way--;
  c->status = 0;
  if (!counts(c->due)) return;
  ++*kind;
  if (kind == &ok) latencies[measured++] = now() - c->due;
}

static void shut(struct connection *c) {
  close(c->fd);
  c->fd = -1;
}

static void broken(struct connection *c) {
  int awaited = c->status != 0;
  if (!awaited) {
    /* A free one: it is taken out of its list. */
    struct connection **at = &free_open;
    while (*at && *at != c) at = &(*at)->next_free;
    if (*at) *at = c->next_free;
  } else finish(c, &failed);
  shut(c);
  give_back(c);
}

static void watch(struct connection *c, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(loop, operation, c->fd, &event) < 0) die("open: epoll_ctl: %s", strerror(errno));
}

static void ask(struct connection *c) {
  c->head_length = 0;
  c->in_body = 0;
  if (send(c->fd, request, request_length, 0) != (ssize_t)request_length) broken(c);
}

static void begin(struct connection *c, double due) {
  static unsigned turn;
  c->due = due;
  c->status = 1;
  if (++under_way > in_flight_most) in_flight_most = under_way;
  if (c->fd >= 0) return ask(c);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("open: socket: %s", strerror(errno));
  never_delay(c->fd);
  /* Many source addresses: one has not enough ports for all that are in TIME_WAIT. */
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + turn++ % LOOPBACK_ADDRESSES)};
  int on = 1;
  setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0) die("open: bind: %s", strerror(errno));
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
    finish(c, &failed);
    shut(c);
    give_back(c);
    return;
  }
  c->connecting = 1;
  watch(c, EPOLLOUT, EPOLL_CTL_ADD);
}

static void answered(struct connection *c) {
  finish(c, c->status == 200 ? &ok : c->status == 503 ? &refused : &failed);
  if (*connect_to || !c->kept) shut(c);
  give_back(c);
}

static void readable(struct connection *c) {
  if (c->status == 0) return broken(c);
  if (c->in_body) {
    ssize_t got = discard(c->fd);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return broken(c);
    if ((c->need -= got) <= 0) answered(c);
    return;
  }
  ssize_t got = recv(c->fd, c->head + c->head_length, sizeof c->head - 1 - c->head_length, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return broken(c);
  c->head_length += (size_t)got;
  c->head[c->head_length] = 0;
  char *end = strstr(c->head, "\r\n\r\n");
  if (!end) return;
  if (strncmp(c->head, "HTTP/1.1 ", 9) != 0) die("open: no answer: %.100s", c->head);
  c->status = atoi(c->head + 9);
  c->kept = strcasestr(c->head, "\r\nconnection: close") == NULL;
  char *field = strcasestr(c->head, "\r\ncontent-length:");
  c->need = (field && field < end ? atol(field + 17) : 0) - (long)(c->head_length - (size_t)(end + 4 - c->head));
  c->in_body = 1;
  if (c->need <= 0) answered(c);
}

/* Starts what is due, and sets the alarm for the next. */
static void pace(void) {
  double time = now(), end = first + length;
  if (rate == 0) {
    while (time < end && under_way < limit) {
      struct connection **list = free_open ? &free_open : &free_closed, *c = *list;
      *list = c->next_free;
      begin(c, time);
    }
    return;
  }
  for (double due; (due = first + started / rate) <= time && due < end; started++) {
    struct connection **list = free_open ? &free_open : &free_closed, *c = *list;
    if (!c) break;
    *list = c->next_free;
    begin(c, due);
  }
  double next = first + started / rate;
  set_alarm(timer, next > time + 0.0005 ? next : time + 0.0005);
}

/* Seconds in which this program could have run, but had no core. */
static double waited(void) {
  unsigned long long ran = 0, ready = 0;
  FILE *file = fopen("/proc/self/schedstat", "r");
  if (!file) return 0;
  if (fscanf(file, "%llu %llu", &ran, &ready) != 2) ready = 0;
  fclose(file);
  return ready / 1e9;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

int main(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    char *value = strchr(arguments[i], '=');
    if (!value) die("open: %s is not KEY=VALUE", arguments[i]);
    *value++ = 0;
    const char *key = arguments[i];
    if (!strcmp(key, "port")) port = atoi(value);
    else if (!strcmp(key, "rate")) rate = atof(value);
    else if (!strcmp(key, "seconds")) length = atof(value);
    else if (!strcmp(key, "warm")) warm = atof(value);
    else if (!strcmp(key, "connections")) limit = atoi(value);
    else if (!strcmp(key, "connect")) connect_to = value;
    else if (!strcmp(key, "target")) target = value;
    else if (!strcmp(key, "host")) host = value;
    else die("open: unknown key %s", key);
  }
  allow_many_files();
  request_length = (size_t)(*connect_to ? snprintf(request, sizeof request, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", connect_to, connect_to)
                                        : snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", target, host));
  latencies = calloc((size_t)((rate > 0 ? rate : MOST_RATE) * (length + 1)) + 1, sizeof *latencies);
  all = calloc((size_t)limit, sizeof *all);
  for (int i = limit - 1; i >= 0; i--) {
    all[i].fd = -1;
    give_back(&all[i]);
  }
  loop = epoll_create1(0);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event alarm = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(loop, EPOLL_CTL_ADD, timer, &alarm);
  first = now();
  measure_from = first + warm;
  measure_to = first + length;
  double end = first + length + 2;
  pace();
  while (now() < end && (now() < measure_to || under_way > 0)) {
    struct epoll_event events[256];
    int ready = epoll_wait(loop, events, 256, 100);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      unsigned long long ticks;
      if (!c) {
        if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("open: timer: %s", strerror(errno));
        continue;
      }
      if (c->fd < 0) continue;
      if (c->connecting) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        c->connecting = 0;
        if (error) broken(c);
        else {
          watch(c, EPOLLIN, EPOLL_CTL_MOD);
          ask(c);
        }
        continue;
      }
      readable(c);
    }
    pace();
  }
  for (int i = 0; i < limit; i++)
    if (all[i].status != 0 && counts(all[i].due)) {
      unanswered++;
      latencies[measured++] = now() - all[i].due;
    }
  /* What was due and never had a connection. */
  long due_in_all = (long)(length * rate);
  if (rate > 0 && due_in_all > started) unanswered += due_in_all - started;
  qsort(latencies, (size_t)measured, sizeof *latencies, by_size);
  double seconds = measure_to - measure_from;
  printf("{\"offered\":%.0f,\"ok\":%.1f,\"refused\":%.1f,\"failed\":%.1f,\"unanswered\":%ld,\"p50\":%.3f,\"p99\":%.3f,\"most\":%ld,\"waited\":%.4f}\n", rate, ok / seconds, refused / seconds, failed / seconds, unanswered,
         measured ? latencies[measured / 2] * 1e3 : 0, measured ? latencies[measured * 99 / 100] * 1e3 : 0, in_flight_most, waited() / length);
}
