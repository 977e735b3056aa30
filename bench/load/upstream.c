/*
 * What stands behind the proxies: a plain port and a TLS port, each on
 * 127.0.0.1 and ::1. On the plain port the first byte of a connection says
 * what it is for; on the TLS port it is always HTTP.
 *   D  `D` and twice 8 digits: so many MiB are sent, at most so many bytes in each write, then the end
 *   U  `U` and 8 digits: so many MiB are read, then answered with `received` and the end
 *   E  an echo
 *   TLS  a ClientHello: HTTP in TLS, as on the TLS port, so that what passes bytes on to one port can carry it too
 *   other: HTTP. A request is read with its body (Content-Length), then answered with 1 KiB, or with as many
 *      bytes as `/bytes/N` in its path says; `GET /opened` with the number of connections the TLS port has taken.
 *      X-Upstream says which port it was
 * Arguments: the file of its certificate and key. Prints both ports, and ends
 * when its standard input does.
 */
#include "common.h"
#include <openssl/err.h>
#include <openssl/ssl.h>

/* What a TLS record with a ClientHello begins with (RFC 8446, 5.1). */
#define TLS_HANDSHAKE 22

enum role { NEW, HTTP, SOURCE, SINK, ECHO };

struct connection {
  int fd;
  enum role role;
  SSL *ssl;        /* NULL: plain */
  long long bytes; /* SOURCE: still to send. SINK: still to come. HTTP: of the body, still to come. */
  size_t most;     /* SOURCE: in one write */
  long long left;  /* HTTP: of the answer, still to send */
  int last;        /* HTTP: the connection ends with this answer */
  size_t head_length;
  char head[4096];
};

static long opened;
static SSL_CTX *tls;
static int loop;
static char body[1025];

static void watch(struct connection *c, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(loop, operation, c->fd, &event) < 0) die("upstream: epoll_ctl: %s", strerror(errno));
}

static void end(struct connection *c) {
  if (c->ssl) SSL_free(c->ssl);
  close(c->fd);
  free(c);
}

static void feed(struct connection *c) {
  while (c->bytes > 0) {
    ssize_t sent = send(c->fd, block, c->bytes < (long long)c->most ? (size_t)c->bytes : c->most, 0);
    if (sent < 0) {
      if (errno != EAGAIN) end(c);
      return;
    }
    c->bytes -= sent;
  }
  shutdown(c->fd, SHUT_WR);
  watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

/* What is left of an answer, as far as the socket takes it. */
static void send_on(struct connection *c) {
  while (c->left > 0) {
    ERR_clear_error(); /* what went wrong on another connection */
    size_t length = c->left < MEBIBYTE ? (size_t)c->left : MEBIBYTE;
    ssize_t sent = c->ssl ? SSL_write(c->ssl, block, (int)length) : send(c->fd, block, length, 0);
    if (sent > 0) c->left -= sent;
    else if (c->ssl ? SSL_get_error(c->ssl, (int)sent) == SSL_ERROR_WANT_WRITE : errno == EAGAIN) return watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    else c->left = 0; /* broken: the next read ends it */
  }
  watch(c, EPOLLIN, EPOLL_CTL_MOD);
  if (!c->last) return;
  if (c->ssl) SSL_shutdown(c->ssl);
  shutdown(c->fd, SHUT_WR);
}

/* Requests come one after the other: nobody pipelines here, so the head of an answer always fits the socket's buffer. */
static void answer(struct connection *c) {
  char text[2048], number[32];
  const char *content = body, *asked = strstr(c->head, "/bytes/");
  long long bytes = asked ? atoll(asked + 7) : 0;
  if (!strncmp(c->head, "GET /opened ", 12)) {
    snprintf(number, sizeof number, "%ld", opened);
    content = number;
  }
  if (asked) content = "";
  int length = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Upstream: %s\r\nContent-Length: %lld\r\n%s\r\n%s", c->ssl ? "tls" : "plain", asked ? bytes : (long long)strlen(content), c->last ? "Connection: close\r\n" : "", content);
  if (bytes > 0 && bytes < (long long)sizeof text - length) {
    /* What fits goes with the head, in one write as a server would do it. */
    memset(text + length, 'd', (size_t)bytes);
    length += (int)bytes;
    bytes = 0;
  }
  if (c->ssl) SSL_write(c->ssl, text, length);
  else send(c->fd, text, (size_t)length, 0);
  c->head_length = 0;
  c->left = bytes;
  if (bytes > 0 || c->last) send_on(c);
}

static void serve(struct connection *c, const char *data, size_t length) {
  if (c->bytes > 0) {
    c->bytes -= (long long)length;
    if (c->bytes <= 0) answer(c);
    return;
  }
  size_t room = sizeof c->head - 1 - c->head_length, taken = length < room ? length : room;
  memcpy(c->head + c->head_length, data, taken);
  c->head_length += taken;
  c->head[c->head_length] = 0;
  char *end_of_head = strstr(c->head, "\r\n\r\n");
  if (!end_of_head) {
    if (taken == room) die("upstream: a request head of more than %zu bytes", sizeof c->head);
    return;
  }
  *end_of_head = 0;
  const char *field = strcasestr(c->head, "\r\ncontent-length:");
  if (strcasestr(c->head, "\r\ntransfer-encoding:")) die("upstream: a chunked request, which this work does not have: %s", c->head);
  c->last = strcasestr(c->head, "\r\nconnection: close") != NULL;
  size_t beyond = c->head_length - (size_t)(end_of_head + 4 - c->head) + (length - taken);
  c->bytes = field ? atoll(field + 17) - (long long)beyond : 0;
  if (c->bytes <= 0) answer(c);
}

/* Also drives the handshake. Its few KiB never fill a socket's buffer, so there is no waiting to write. */
static void readable_tls(struct connection *c) {
  static char data[65536];
  for (;;) {
    ERR_clear_error();
    int got = SSL_read(c->ssl, data, sizeof data);
    if (got > 0) {
      serve(c, data, (size_t)got);
      continue;
    }
    if (SSL_get_error(c->ssl, got) != SSL_ERROR_WANT_READ) end(c);
    return;
  }
}

/* The end of the stream is not waited for: some proxies close a tunnel at the first half. */
static void sink(struct connection *c) {
  for (;;) {
    ssize_t got = discard(c->fd);
    if (got <= 0) {
      if (got == 0 || errno != EAGAIN) end(c);
      return;
    }
    c->bytes -= got;
    if (c->bytes > 0) continue;
    send(c->fd, "received", 8, 0);
    shutdown(c->fd, SHUT_WR);
    c->role = HTTP;
    return;
  }
}

static void begin_tls(struct connection *c) {
  c->ssl = SSL_new(tls);
  SSL_set_fd(c->ssl, c->fd);
  SSL_set_accept_state(c->ssl);
}

static void readable(struct connection *c) {
  static char data[65536];
  char first = 0;
  if (c->role == NEW && !c->ssl && recv(c->fd, &first, 1, MSG_PEEK) == 1 && first == TLS_HANDSHAKE) begin_tls(c);
  if (c->ssl) return readable_tls(c);
  if (c->role == SINK) return sink(c);
  ssize_t got = recv(c->fd, data, sizeof data, 0);
  if (got <= 0) {
    if (got == 0 || errno != EAGAIN) end(c);
    return;
  }
  if (c->role == NEW) {
    c->role = data[0] == 'E' ? ECHO : data[0] == 'D' ? SOURCE : data[0] == 'U' ? SINK : HTTP;
    if (c->role == SOURCE) {
      data[17] = 0;
      c->most = (size_t)atol(data + 9);
      data[9] = 0;
      c->bytes = atoll(data + 1) * MEBIBYTE;
      watch(c, EPOLLOUT, EPOLL_CTL_MOD);
      return;
    }
    if (c->role == SINK) {
      data[9] = 0;
      c->bytes = atoll(data + 1) * MEBIBYTE - (got - 9);
      return;
    }
  }
  if (c->role == ECHO) send(c->fd, data, (size_t)got, 0);
  if (c->role == HTTP) serve(c, data, (size_t)got);
}

static void accept_all(int listener, int secure) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    struct connection *c = calloc(1, sizeof *c);
    if (!c) die("upstream: out of memory");
    c->fd = fd;
    never_delay(fd);
    if (secure) {
      opened++;
      begin_tls(c);
    }
    watch(c, EPOLLIN, EPOLL_CTL_ADD);
  }
}

int main(int count, char **arguments) {
  static struct connection listeners[4], input;
  int ports[2] = {0, 0};
  if (count != 3) die("upstream: CERT_FILE KEY_FILE");
  allow_many_files();
  memset(block, 'd', sizeof block);
  memset(body, 'x', sizeof body - 1);
  tls = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_use_certificate_chain_file(tls, arguments[1]) != 1 || SSL_CTX_use_PrivateKey_file(tls, arguments[2], SSL_FILETYPE_PEM) != 1) die("upstream: no certificate in %s or no key in %s", arguments[1], arguments[2]);
  loop = epoll_create1(0);
  for (int i = 0; i < 4; i++) {
    int family = i % 2 == 0 ? AF_INET : AF_INET6;
    listeners[i].fd = listen_on(family, &ports[i / 2]);
    if (listeners[i].fd >= 0) watch(&listeners[i], EPOLLIN, EPOLL_CTL_ADD);
    else if (family == AF_INET) die("upstream: cannot listen on 127.0.0.1: %s", strerror(errno));
  }
  watch(&input, EPOLLIN, EPOLL_CTL_ADD);
  printf("%d %d\n", ports[0], ports[1]);
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    int ready = epoll_wait(loop, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      if (c == &input) return 0;
      if (c >= listeners && c < listeners + 4) accept_all(c->fd, c >= listeners + 2);
      else if (c->role == SOURCE && events[i].events & EPOLLOUT) feed(c);
      else if (c->left > 0) send_on(c);
      else readable(c);
    }
  }
}
