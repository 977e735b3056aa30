/*
 * The load: drives one work against one port and prints what it saw as a line
 * of JSON. Arguments are KEY=VALUE:
 *   mode         requests, download, upload or idle
 *   port         where the proxy, or in a direct run the upstream, listens on 127.0.0.1
 *   connect      HOST:PORT to ask for with CONNECT; absent: bytes go as they are
 *   connections  at once
 *   operations   requests: how many in all; download, upload: MiB in each stream; idle: tunnels
 *   each         requests on one connection before it is replaced; 0: it is kept
 *   rate         requests a second; 0: as fast as they come. A paced request's clock starts when
 *                it was due, also if it had to wait for a connection. Connections that are kept are
 *                opened, and used once, before the first is due, unless `opening` is 1
 *   chunk        download, upload: bytes in each write of whoever sends
 *   wait         download: microseconds that the reader waits between two bursts; 0: it reads as fast as it can
 *   burst        download: bytes that it reads between two waits
 *   tls          download: 1: inside the tunnel is TLS, in records of 16 KiB
 *   close        requests: client: it closes a connection at the end of its last answer, and does not wait for the upstream to do it
 *   opening      requests: 1: the first request of a connection that is kept counts too, with the time to open it
 *   echo         BYTES of an echo instead of HTTP
 *   target host  of the HTTP request, and `body`: bytes of a POST
 *   upstream     plain or tls: which port of the upstream has to have answered
 */
#include "common.h"
#include <math.h>
#include <openssl/ssl.h>

static int port, connections = 1, each, in_tls, client_closes, opening;
static long operations = 1, echo_bytes, body_bytes, chunk = MEBIBYTE, wait_time, burst = 65536;
static double rate;
static const char *mode = "requests", *connect_to = "", *target = "/", *host = "localhost", *upstream = "plain";

/* A connected socket, blocking; with `connect`, already through the proxy. */
static int open_socket(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("load: cannot connect to 127.0.0.1:%d: %s", port, strerror(errno));
  never_delay(fd);
  return fd;
}

static size_t connect_request(char *out, size_t size) {
  return (size_t)snprintf(out, size, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", connect_to, connect_to);
}

static void check_status(const char *head) {
  if (strncmp(head, "HTTP/1.", 7) != 0 || strncmp(head + 8, " 200", 4) != 0) die("load: not a 200: %.200s", head);
}

static void send_all(int fd, const char *data, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, data, length, 0);
    if (sent < 0) die("load: write: %s", strerror(errno));
    data += sent;
    length -= (size_t)sent;
  }
}

static int open_tunnel(void) {
  int fd = open_socket();
  if (!*connect_to) return fd;
  char text[4096];
  send_all(fd, text, connect_request(text, sizeof text));
  size_t length = 0;
  do {
    /* One byte at a time: what follows the head is the tunnel's. */
    if (length + 1 >= sizeof text || recv(fd, text + length, 1, 0) != 1) die("load: CONNECT was not answered");
    text[++length] = 0;
  } while (length < 4 || memcmp(text + length - 4, "\r\n\r\n", 4) != 0);
  check_status(text);
  return fd;
}

/* Streams: a process for each, with blocking calls. */

static void download(void) {
  int fd = open_tunnel();
  char order[32];
  send_all(fd, order, (size_t)snprintf(order, sizeof order, "D%08ld%08ld", operations, chunk));
  long long total = 0, next_wait = burst;
  for (ssize_t got; (got = recv(fd, block, wait_time ? 65536 : sizeof block, MSG_TRUNC)) != 0;) {
    if (got < 0) die("load: download: %s", strerror(errno));
    total += got;
    if (!wait_time || total < next_wait) continue;
    next_wait += burst;
    usleep((useconds_t)wait_time);
  }
  if (total != operations * (long long)MEBIBYTE) die("load: %lld bytes of %ld MiB arrived", total, operations);
}

/* As most tunnels have it. Who the upstream is does not matter here, so its certificate is not looked at. */
static void download_tls(void) {
  SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
  SSL_set_fd(ssl, open_tunnel());
  if (SSL_connect(ssl) != 1) die("load: no TLS inside the tunnel");
  long long bytes = operations * (long long)MEBIBYTE, total = 0;
  int got = SSL_write(ssl, block, snprintf(block, sizeof block, "GET /bytes/%lld HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", bytes, host));
  /* The head is a record of its own. */
  if (got > 0) got = SSL_read(ssl, block, sizeof block - 1);
  if (got <= 0) die("load: no answer inside TLS");
  block[got] = 0;
  check_status(block);
  while ((got = SSL_read(ssl, block, sizeof block)) > 0) total += got;
  if (total != bytes) die("load: %lld bytes of %ld MiB arrived in TLS", total, operations);
}

static void upload(void) {
  int fd = open_tunnel();
  char order[16], answer[16] = "";
  send_all(fd, order, (size_t)snprintf(order, sizeof order, "U%08ld", operations));
  for (long long left = operations * (long long)MEBIBYTE; left > 0; left -= chunk) send_all(fd, block, (size_t)(left < chunk ? left : chunk));
  if (recv(fd, answer, 8, MSG_WAITALL) != 8 || strcmp(answer, "received") != 0) die("load: the upload was not received whole");
  if (recv(fd, answer, 1, 0) != 0) die("load: the upload was not ended");
}

static void streams(void (*run)(void)) {
  double start = now();
  for (int i = 0; i < connections; i++) {
    if (fork() == 0) {
      run();
      _exit(0);
    }
  }
  for (int status; wait(&status) > 0;)
    if (status != 0) exit(1);
  printf("{\"seconds\":%.6f}\n", now() - start);
}

/* Tunnels that were used once and then say nothing, until standard input ends. */
static void idle(void) {
  for (long i = 0; i < operations; i++) {
    int fd = open_tunnel();
    char byte = 'E';
    send_all(fd, &byte, 1);
    if (recv(fd, &byte, 1, 0) != 1) die("load: tunnel %ld was closed", i + 1);
  }
  printf("{}\n");
  fflush(stdout);
  while (read(0, block, sizeof block) > 0) continue;
}

/* Requests: one thread, epoll. */

enum state { FREE, CONNECTING, ANSWER_HEAD, ANSWER_BODY, LAST_BYTES };

struct connection {
  int fd; /* -1: not open */
  enum state state;
  double started;
  int served;
  const char *out;
  size_t out_left;
  long need;
  size_t head_length;
  char head[8192];
};

static int loop, timer;
static long begun, finished, measured;
static double first, *latencies;
static char *request_keep, *request_last;
static size_t keep_length, last_length;
static char tunnel_request[1024];

static size_t make_request(char **out, int last) {
  *out = malloc((size_t)(echo_bytes + body_bytes) + 2048);
  if (echo_bytes) {
    memset(*out, 'E', (size_t)echo_bytes);
    return (size_t)echo_bytes;
  }
  int length = sprintf(*out, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n%s", body_bytes ? "POST" : "GET", target, host, last ? "Connection: close\r\n" : "");
  if (body_bytes) length += sprintf(*out + length, "Content-Type: application/octet-stream\r\nContent-Length: %ld\r\n", body_bytes);
  length += sprintf(*out + length, "\r\n");
  memset(*out + length, 'p', (size_t)body_bytes);
  return (size_t)(length + body_bytes);
}

static void watch(struct connection *c, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(loop, operation, c->fd, &event) < 0) die("load: epoll_ctl: %s", strerror(errno));
}

static void flush_out(struct connection *c) {
  ssize_t sent = send(c->fd, c->out, c->out_left, 0);
  if (sent < 0 && errno != EAGAIN) die("load: write: %s", strerror(errno));
  if (sent > 0) {
    c->out += sent;
    c->out_left -= (size_t)sent;
  }
  watch(c, c->out_left ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void put(struct connection *c, const char *data, size_t length, enum state next) {
  c->out = data;
  c->out_left = length;
  c->state = next;
  c->head_length = 0;
  ssize_t sent = send(c->fd, data, length, 0);
  if (sent < 0 && errno != EAGAIN) die("load: write: %s", strerror(errno));
  if (sent == (ssize_t)length) {
    c->out_left = 0;
    return;
  }
  if (sent > 0) {
    c->out += sent;
    c->out_left -= (size_t)sent;
  }
  watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

static void ask(struct connection *c) {
  int last = each && c->served == each - 1;
  c->need = echo_bytes;
  put(c, last ? request_last : request_keep, last ? last_length : keep_length, echo_bytes ? ANSWER_BODY : ANSWER_HEAD);
}

static void begin(struct connection *c, double started) {
  begun++;
  c->started = started;
  if (c->fd >= 0) return ask(c);
  c->fd = open_socket();
  c->served = 0;
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  watch(c, EPOLLIN, EPOLL_CTL_ADD);
  if (*connect_to) put(c, tunnel_request, strlen(tunnel_request), CONNECTING);
  else ask(c);
}

static void done(struct connection *c) {
  finished++;
  /* Connections that are kept are opened once, and what that took is not what a request takes. */
  if (each || opening || c->served > 0) latencies[measured++] = now() - c->started;
  c->state = FREE;
  c->served++;
  if (rate == 0 && begun < operations) begin(c, now());
}

static void closed(struct connection *c) {
  if (c->state != LAST_BYTES) die("load: the connection was closed in the middle of %s", c->state == CONNECTING ? "CONNECT" : c->state == FREE ? "nothing" : "an answer");
  close(c->fd);
  c->fd = -1;
  done(c);
}

/* The answer is whole. On a connection's last request the end of the stream belongs to it. */
static void answered(struct connection *c) {
  if (!each || c->served < each - 1) return done(c);
  c->state = LAST_BYTES;
  if (client_closes) closed(c);
}

static void head_received(struct connection *c) {
  char *end = strstr(c->head, "\r\n\r\n");
  if (!end) return;
  check_status(c->head);
  if (c->state == CONNECTING) return ask(c);
  char *answerer = strcasestr(c->head, "\r\nx-upstream: ");
  if (!answerer || strncmp(answerer + 14, upstream, strlen(upstream)) != 0) die("load: not answered by the upstream's %s port: %.300s", upstream, c->head);
  char *field = strcasestr(c->head, "\r\ncontent-length:");
  if (!field) die("load: an answer without Content-Length: %.300s", c->head);
  c->need = atol(field + 17) - (long)(c->head_length - (size_t)(end + 4 - c->head));
  c->state = ANSWER_BODY;
  if (c->need <= 0) answered(c);
}

static void readable(struct connection *c) {
  if (c->state == CONNECTING || c->state == ANSWER_HEAD) {
    ssize_t got = recv(c->fd, c->head + c->head_length, sizeof c->head - 1 - c->head_length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return closed(c);
    c->head_length += (size_t)got;
    c->head[c->head_length] = 0;
    return head_received(c);
  }
  ssize_t got = discard(c->fd);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return closed(c);
  c->need -= got;
  if (c->state == ANSWER_BODY && c->need <= 0) answered(c);
}

/* Starts what is due, as far as there are free connections, and sets the alarm for the next. */
static void pace(struct connection *all) {
  double time = now();
  for (int i = 0; i < connections && begun < operations && first + begun / rate <= time; i++)
    if (all[i].state == FREE) begin(&all[i], first + begun / rate);
  if (begun >= operations) return;
  double due = first + begun / rate;
  if (due <= time) return; /* no connection is free: the next answer comes back here */
  set_alarm(timer, due);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

/* Of microseconds, sorted: how many there are in each bucket, of which bucket N is about 1.02^N. Those of several runs can be added. */
static void print_histogram(void) {
  char separator = '{';
  for (long i = 0, next; i < measured; i = next) {
    long bucket = lround(log(latencies[i] * 1e6) / log(1.02));
    for (next = i + 1; next < measured && lround(log(latencies[next] * 1e6) / log(1.02)) == bucket;) next++;
    printf("%c\"%ld\":%ld", separator, bucket, next - i);
    separator = ',';
  }
  printf(measured ? "}" : "{}");
}

/* Until so many are finished. */
static void serve(struct connection *all, long all_of_them, int paced) {
  while (finished < all_of_them) {
    struct epoll_event events[256];
    int count = epoll_wait(loop, events, 256, 30000);
    if (count == 0) die("load: nothing happened for 30 s, %ld of %ld done", finished, all_of_them);
    for (int i = 0; i < count; i++) {
      struct connection *c = events[i].data.ptr;
      unsigned long long ticks;
      if (!c) {
        if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("load: timer: %s", strerror(errno));
        continue;
      }
      if (events[i].events & EPOLLOUT) flush_out(c);
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    }
    if (paced) pace(all);
  }
}

static void requests(void) {
  struct connection *all = calloc((size_t)connections, sizeof *all);
  latencies = calloc((size_t)(operations + connections), sizeof *latencies);
  keep_length = make_request(&request_keep, 0);
  last_length = make_request(&request_last, !client_closes);
  connect_request(tunnel_request, sizeof tunnel_request);
  loop = epoll_create1(0);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event alarm = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(loop, EPOLL_CTL_ADD, timer, &alarm);
  for (int i = 0; i < connections; i++) all[i].fd = -1;
  if (rate > 0 && !each && !opening) {
    /* What is due while they are opened would wait for them, and count. */
    for (int i = 0; i < connections; i++) begin(&all[i], now());
    serve(all, connections, 0);
    begun = finished = 0;
  }
  first = now();
  if (rate > 0) pace(all);
  else
    for (int i = 0; i < connections && begun < operations; i++) begin(&all[i], now());
  serve(all, operations, rate > 0);
  double seconds = now() - first;
  qsort(latencies, (size_t)measured, sizeof *latencies, by_size);
  printf("{\"seconds\":%.6f,\"p50\":%.1f,\"p99\":%.1f,\"histogram\":", seconds, latencies[measured / 2] * 1e6, latencies[measured * 99 / 100] * 1e6);
  print_histogram();
  printf("}\n");
}

int main(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    char *value = strchr(arguments[i], '=');
    if (!value) die("load: %s is not KEY=VALUE", arguments[i]);
    *value++ = 0;
    const char *key = arguments[i];
    if (!strcmp(key, "mode")) mode = value;
    else if (!strcmp(key, "port")) port = atoi(value);
    else if (!strcmp(key, "connect")) connect_to = value;
    else if (!strcmp(key, "connections")) connections = atoi(value);
    else if (!strcmp(key, "operations")) operations = atol(value);
    else if (!strcmp(key, "each")) each = atoi(value);
    else if (!strcmp(key, "rate")) rate = atof(value);
    else if (!strcmp(key, "chunk")) chunk = atol(value);
    else if (!strcmp(key, "wait")) wait_time = atol(value);
    else if (!strcmp(key, "burst")) burst = atol(value);
    else if (!strcmp(key, "tls")) in_tls = atoi(value);
    else if (!strcmp(key, "close")) client_closes = !strcmp(value, "client");
    else if (!strcmp(key, "opening")) opening = atoi(value);
    else if (!strcmp(key, "echo")) echo_bytes = atol(value);
    else if (!strcmp(key, "target")) target = value;
    else if (!strcmp(key, "host")) host = value;
    else if (!strcmp(key, "upstream")) upstream = value;
    else if (!strcmp(key, "body")) body_bytes = atol(value);
    else die("load: unknown key %s", key);
  }
  allow_many_files();
  memset(block, 'U', sizeof block);
  if (!strcmp(mode, "download")) streams(in_tls ? download_tls : download);
  else if (!strcmp(mode, "upload")) streams(upload);
  else if (!strcmp(mode, "idle")) idle();
  else if (!strcmp(mode, "requests")) requests();
  else die("load: unknown mode %s", mode);
}
