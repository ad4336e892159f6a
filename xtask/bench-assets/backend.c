/* The backend of the benchmark: HTTP/1.1 with keep-alive and pipelining, one thread, no allocation per request.
 *
 * usage: backend PORT
 *
 * GET /    answers 128 bytes
 * GET /N   answers N bytes, up to 16 MiB
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <errno.h>

enum { SMALL = 128, BIG = 16 << 20, CONNECTIONS = 16384, REQUEST = 8192, HEAD = 128, EVENTS = 256 };

struct connection {
  size_t have;              /* bytes of requests that came and are not answered */
  size_t head_at, head_end; /* what is left of the response's head */
  size_t body_left;         /* what is left of its body */
  int waits_to_write;
  char head[HEAD];
  char request[REQUEST];
};

static struct connection *connections[CONNECTIONS];
static char body[BIG];
static int epoll;

static void watch(int fd, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  epoll_ctl(epoll, operation, fd, &event);
}

static void answer(struct connection *c, size_t length) {
  c->head_at = 0;
  c->head_end = (size_t)snprintf(c->head, sizeof c->head,
      "HTTP/1.1 200 OK\r\nServer: backend\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", length);
  c->body_left = length;
}

/* 1: all written, 0: the socket is full, -1: the connection is gone. */
static int flush(int fd, struct connection *c) {
  while (c->head_at < c->head_end || c->body_left > 0) {
    size_t head = c->head_end - c->head_at;
    struct iovec parts[2] = {{c->head + c->head_at, head}, {body, c->body_left}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t wrote = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (wrote < 0) return errno == EAGAIN ? 0 : -1;
    size_t of_head = (size_t)wrote < head ? (size_t)wrote : head;
    c->head_at += of_head;
    c->body_left -= (size_t)wrote - of_head;
  }
  return 1;
}

/* Answers the first complete request. 1: answered, 0: none is complete or the socket is full, -1: gone. */
static int serve_one(int fd, struct connection *c) {
  char *end = memmem(c->request, c->have, "\r\n\r\n", 4);
  if (!end) return c->have == REQUEST ? -1 : 0;
  char *path = memchr(c->request, ' ', (size_t)(end - c->request));
  unsigned long wanted = path ? strtoul(path + 2, NULL, 10) : 0;
  answer(c, wanted > 0 && wanted <= BIG ? wanted : SMALL);
  size_t used = (size_t)(end + 4 - c->request);
  c->have -= used;
  if (c->have > 0) memmove(c->request, c->request + used, c->have);
  return flush(fd, c);
}

static int serve(int fd, struct connection *c) {
  if (c->waits_to_write) {
    int flushed = flush(fd, c);
    if (flushed <= 0) return flushed;
    c->waits_to_write = 0;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
  } else {
    ssize_t got = recv(fd, c->request + c->have, REQUEST - c->have, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    c->have += (size_t)got;
  }
  int served;
  while ((served = serve_one(fd, c)) == 1) {}
  if (served == 0 && (c->head_at < c->head_end || c->body_left > 0)) {
    c->waits_to_write = 1;
    watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
  }
  return served;
}

static void drop(int fd) {
  free(connections[fd]);
  connections[fd] = NULL;
  close(fd);
}

static void accept_all(int listener) {
  int fd, on = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= CONNECTIONS || !(connections[fd] = calloc(1, sizeof(struct connection)))) {
      close(fd);
      continue;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(fd, EPOLL_CTL_ADD, EPOLLIN);
  }
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: backend PORT\n");
    return 2;
  }
  memset(body, 'x', sizeof body);
  signal(SIGPIPE, SIG_IGN);
  int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET,
      .sin_port = htons((uint16_t)atoi(arguments[1])),
      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
    perror("backend: listen");
    return 1;
  }
  epoll = epoll_create1(0);
  watch(listener, EPOLL_CTL_ADD, EPOLLIN);
  struct epoll_event events[EVENTS];
  for (;;) {
    int ready = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) accept_all(listener);
      else if (serve(fd, connections[fd]) < 0) drop(fd);
    }
  }
}
