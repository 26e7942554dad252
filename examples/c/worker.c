/* A worker of dutch-master in plain C, with a thread for each connection: cc -O2 -pthread -o worker worker.c. Started by hand, it serves on port 8000. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_MAX = 65536, DEPTH_MAX = 16, IDLE_GRACE = 5000, MARGIN = 1500, LINGER = 1000 };

static const uint64_t INTEGER_MAX = 1ull << 53;
static int master = -1;
static atomic_bool ordered, stopping;
static atomic_llong came, ends; /* of the order to go, in ms */
static atomic_int connections;

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- MessagePack: what is read is a slice of a frame ---- */

typedef struct { const uint8_t *at, *end; } slice;
typedef struct { int kind; int64_t number; slice text; } value; /* kind: 'n'il, 'b'oolean, 'i'nteger, 's'tring, 'a'rray, 'm'ap; for the last two number is their size */

static int take(slice *s, size_t n, uint64_t *number) {
  if ((size_t)(s->end - s->at) < n) return 0;
  for (*number = 0; n--;) *number = *number << 8 | *s->at++;
  return 1;
}

static int utf8(slice s) {
  while (s.at < s.end) {
    uint8_t c = *s.at++;
    int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : -1;
    if (more < 0 || s.end - s.at < more) return 0;
    if (more && ((c == 0xe0 && *s.at < 0xa0) || (c == 0xed && *s.at > 0x9f) || (c == 0xf0 && *s.at < 0x90) || (c == 0xf4 && *s.at > 0x8f))) return 0;
    while (more--) if ((*s.at++ & 0xc0) != 0x80) return 0;
  }
  return 1;
}

/* The head of a value; of a string all of it. 0: malformed. */
static int head(slice *s, value *v) {
  uint64_t n = 0;
  if (s->at == s->end) return 0;
  uint8_t t = *s->at++;
  v->kind = 0, v->number = 0;
  if (t < 0x80 || t >= 0xe0) v->kind = 'i', v->number = (int8_t)t;
  else if (t < 0x90) v->kind = 'm', n = t & 15;
  else if (t < 0xa0) v->kind = 'a', n = t & 15;
  else if (t < 0xc0) v->kind = 's', n = t & 31;
  else if (t == 0xc0) v->kind = 'n';
  else if (t == 0xc2 || t == 0xc3) v->kind = 'b', v->number = t & 1;
  else if (t >= 0xcc && t <= 0xd3) {
    int bits = 8 << (t & 3);
    if (!take(s, bits / 8, &n)) return 0;
    v->kind = 'i', v->number = t < 0xd0 ? (int64_t)n : (int64_t)(n << (64 - bits)) >> (64 - bits);
    return (t != 0xcf || n <= INTEGER_MAX) && v->number <= (int64_t)INTEGER_MAX && v->number >= -(int64_t)INTEGER_MAX;
  } else if (t >= 0xd9 && t <= 0xdb) v->kind = 's', v->number = take(s, 1 << (t - 0xd9), &n) ? 0 : -1;
  else if (t == 0xdc || t == 0xdd) v->kind = 'a', v->number = take(s, t == 0xdc ? 2 : 4, &n) ? 0 : -1;
  else if (t == 0xde || t == 0xdf) v->kind = 'm', v->number = take(s, t == 0xde ? 2 : 4, &n) ? 0 : -1;
  else return 0; /* floats, binaries, extensions */
  if (v->kind == 's') {
    v->text = (slice){s->at, s->at + n};
    if (v->number < 0 || (uint64_t)(s->end - s->at) < n || !utf8(v->text)) return 0;
    s->at += n;
  } else if (v->kind == 'a' || v->kind == 'm') {
    if (v->number < 0) return 0;
    v->number = (int64_t)n;
  }
  return 1;
}

static int same(slice a, slice b) { return a.end - a.at == b.end - b.at && !memcmp(a.at, b.at, a.end - a.at); }

/* Goes over one value with all that is in it. 0: malformed. */
static int skip(slice *s, int depth) {
  value v, key;
  if (!head(s, &v)) return 0;
  if (v.kind != 'a' && v.kind != 'm') return 1;
  if (!depth) return 0;
  slice start = *s;
  for (int64_t i = 0; i < v.number; i++) {
    if (v.kind == 'm') {
      if (!head(s, &key) || key.kind != 's') return 0;
      slice before = start; /* no key stands twice */
      for (int64_t j = 0; j < i; j++) {
        value other;
        if (!head(&before, &other) || same(other.text, key.text) || !skip(&before, depth - 1)) return 0;
      }
    }
    if (!skip(s, depth - 1)) return 0;
  }
  return 1;
}

/* The value of a key of a message that is well-formed; nil if there is none. */
static value get(slice message, const char *name) {
  value map, key, v, nil = {.kind = 'n'};
  slice wanted = {(const uint8_t *)name, (const uint8_t *)name + strlen(name)};
  head(&message, &map);
  for (int64_t i = 0; i < map.number; i++) {
    head(&message, &key);
    slice at = message;
    skip(&message, DEPTH_MAX);
    if (!same(key.text, wanted)) continue;
    head(&at, &v);
    if (v.kind == 'a') v.text = at; /* its items */
    return v;
  }
  return nil;
}

static int is(value v, const char *text) { return v.kind == 's' && same(v.text, (slice){(const uint8_t *)text, (const uint8_t *)text + strlen(text)}); }

/* The keys of the messages for a worker, each behind the kind of its value; behind a question mark those that may be missing. */
static const char *const MESSAGES[][2] = {
  {"welcome", "iprotocol iworker igeneration islot isize ?anames ?iheartbeat_ms ?imax_requests ?iorphan_timeout_ms ?afeatures"},
  {"listener", "iseq skey ?sname ?sdata ?maddress ifds"}, {"error", "?iseq scode smessage"},
  {"disconnect", "sreason itimeout_ms"}, {"return-listener", "iseq skey"},
};

/* Whether a message has the keys that it must have, with values that fit. */
static int checked(slice message) {
  value event = get(message, "event");
  if (event.kind != 's') return 0;
  for (size_t i = 0; i < sizeof MESSAGES / sizeof *MESSAGES; i++) {
    char keys[160], *rest = keys;
    if (!is(event, MESSAGES[i][0])) continue;
    strcpy(keys, MESSAGES[i][1]);
    for (char *key = strtok_r(keys, " ", &rest); key; key = strtok_r(NULL, " ", &rest)) {
      int optional = *key == '?';
      value v = get(message, key + optional + 1);
      if (v.kind == 'n' ? !optional : v.kind != key[optional] || (v.kind == 'i' && v.number < 0)) return 0;
    }
  }
  return 1;
}

/* ---- The connection to the master ---- */

static uint8_t out[1024];
static size_t length;
static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;

static void put(uint8_t type, uint64_t n, int bytes) {
  if (length + 1 + bytes > sizeof out) abort();
  out[length++] = type;
  while (bytes--) out[length++] = (uint8_t)(n >> 8 * bytes);
}
static void put_slice(slice text) {
  put(0xdb, text.end - text.at, 4);
  if (length + (text.end - text.at) > sizeof out) abort();
  memcpy(out + length, text.at, text.end - text.at);
  length += text.end - text.at;
}
static void put_text(const char *text) { put_slice((slice){(const uint8_t *)text, (const uint8_t *)text + strlen(text)}); }
static void begin(const char *event, int keys) {
  pthread_mutex_lock(&saying);
  length = 4;
  put(0xdf, keys + 1, 4);
  put_text("event"), put_text(event);
}
static void say(void) { /* what was put since begin; a master that is gone needs no words */
  uint32_t n = htonl(length - 4);
  memcpy(out, &n, 4);
  if (send(master, out, length, MSG_NOSIGNAL) < 0) {}
  pthread_mutex_unlock(&saying);
}

static void say_close(slice key) {
  begin("close", 1);
  put_text("key"), put_slice(key);
  say();
}

static int exactly(uint8_t *to, size_t n) {
  for (ssize_t got; n; to += got, n -= got)
    if ((got = read(master, to, n)) <= 0) return 0;
  return 1;
}

/* The descriptor behind a frame that announced it; -1: something else came. */
static int descriptor(void) {
  uint8_t byte = 1;
  union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int))]; } control;
  struct iovec one = {&byte, 1};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))};
  if (recvmsg(master, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
  struct cmsghdr *part = CMSG_FIRSTHDR(&message);
  int fd = -1;
  if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(part), sizeof fd);
  if (fd >= 0 && (byte != 0 || message.msg_flags & MSG_CTRUNC)) close(fd), fd = -1;
  return fd;
}

/* Reads one message, never past the end of its frame. 0: the master is gone, or breaks the rules. */
static int hear(slice *message, int *fd) {
  static uint8_t body[FRAME_MAX];
  uint8_t size[4];
  *fd = -1;
  if (!exactly(size, 4)) return 0;
  uint32_t n = (uint32_t)size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3];
  value map;
  if (n < 1 || n > FRAME_MAX) goto malformed;
  if (!exactly(body, n)) return 0;
  slice rest = *message = (slice){body, body + n};
  if (!head(&(slice){body, body + n}, &map) || map.kind != 'm' || !skip(&rest, DEPTH_MAX) || rest.at != rest.end) goto malformed;
  if (!checked(*message)) goto malformed;
  if (is(get(*message, "event"), "listener") && (get(*message, "fds").number != 1 || (*fd = descriptor()) < 0)) goto malformed;
  return !is(get(*message, "event"), "error");
malformed:
  begin("error", 2);
  put_text("code"), put_text("malformed"), put_text("message"), put_text("that is no message");
  say();
  return 0;
}

/* Up to the next of these two events; every other one is ignored. After a failure the connection is over. */
static int expect(const char *event, const char *or, slice *message, int *fd) {
  while (hear(message, fd)) {
    value said = get(*message, "event");
    if (is(said, event) || is(said, or)) return 1;
    if (*fd >= 0) close(*fd), say_close(get(*message, "key").text); /* not asked for */
  }
  shutdown(master, SHUT_RDWR);
  return 0;
}

/* ---- HTTP ---- */

/* Waits for bytes; 0: an idle connection has waited long enough, or the time is over. */
static int comes(int fd, int idle) {
  struct pollfd one = {fd, POLLIN, 0};
  while (poll(&one, 1, 50) == 0)
    if (ordered && (now() > ends || (idle && now() > came + IDLE_GRACE))) return 0;
  return 1;
}

static void *converse(void *argument) {
  int fd = (int)(intptr_t)argument, idle = 0, last = 0;
  char request[8192];
  size_t n = 0;
  while (!last && comes(fd, idle && n == 0)) {
    /* Byte by byte, so that nothing behind a request is taken. */
    if (n == sizeof request || read(fd, request + n, 1) != 1) goto gone;
    if (++n < 4 || memcmp(request + n - 4, "\r\n\r\n", 4)) continue;
    last = ordered, idle = 1, n = 0;
    char response[128];
    int size = snprintf(response, sizeof response, "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: %s\r\n\r\nhello from C\n", last ? "close" : "keep-alive");
    if (send(fd, response, size, MSG_NOSIGNAL) != size) goto gone;
  }
  /* Half-close, then read what is still on its way: closing at once could reset the connection. */
  shutdown(fd, SHUT_WR);
  long long until = now() + LINGER;
  struct pollfd one = {fd, POLLIN, 0};
  while (now() < until && poll(&one, 1, (int)(until - now())) > 0 && read(fd, request, sizeof request) > 0) {}
gone:
  close(fd);
  connections--;
  return NULL;
}

/* Takes one connection; 0: nothing waits, another worker was faster. */
static int accept_one(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  pthread_t thread;
  if (fd < 0) return 0;
  connections++;
  if (!pthread_create(&thread, NULL, converse, (void *)(intptr_t)fd)) return !pthread_detach(thread);
  close(fd);
  connections--;
  return 1;
}

static void *accepting(void *argument) {
  struct pollfd one = {(int)(intptr_t)argument, POLLIN, 0};
  while (!stopping)
    if (poll(&one, 1, 50) > 0) accept_one(one.fd);
  return NULL;
}

/* A later order may only shorten the time. */
static void *hear_on(void *unused) {
  slice message;
  int fd;
  while (expect("disconnect", "disconnect", &message, &fd)) {
    long long sooner = now() + get(message, "timeout_ms").number - MARGIN;
    if (sooner < ends) ends = sooner;
  }
  return unused;
}

static int standalone(void) {
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(8000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 511)) return perror("port 8000"), 1;
  accepting((void *)(intptr_t)listener);
  return 0;
}

int main(void) {
  char *path = getenv("DUTCH_MASTER_SOCKET"), *token = getenv("DUTCH_MASTER_TOKEN");
  if (!path) return standalone();
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (!token || strlen(path) >= sizeof address.sun_path) return fputs("no token, or a path that is too long\n", stderr), 1;
  strcpy(address.sun_path, path);
  master = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(master, (struct sockaddr *)&address, sizeof address)) return perror("the master"), 1;
  begin("hello", 4);
  put_text("protocol"), put(0xd3, 1, 8), put_text("token"), put_text(token), put_text("sdk"), put_text("c-example/1"), put_text("pid"), put(0xd3, getpid(), 8);
  say();
  unsetenv("DUTCH_MASTER_SOCKET"), unsetenv("DUTCH_MASTER_TOKEN"), unsetenv("DUTCH_MASTER_WORKER_ID"), unsetenv("DUTCH_MASTER_SLOT");

  slice message;
  int listener, none;
  struct timeval patience = {5, 0}, forever = {0, 0};
  setsockopt(master, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (!expect("welcome", "welcome", &message, &none)) return fputs("no welcome from the master\n", stderr), 1;
  setsockopt(master, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
  value orphan = get(message, "orphan_timeout_ms"), names = get(message, "names"), name = {.kind = 'n'};
  if (names.kind == 'a' && names.number) head(&names.text, &name);
  if (get(message, "protocol").number != 1 || name.kind != 's') return fputs("another version, or no listener is configured\n", stderr), 1;
  begin("listen", 2);
  put_text("seq"), put(0xd3, 1, 8), put_text("name"), put_slice(name.text);
  say();
  if (!expect("listener", "disconnect", &message, &listener)) return fputs("no listener from the master\n", stderr), 1;
  if (listener < 0) {
    begin("disconnect", 0), say();
    return 0;
  }
  uint8_t key[256];
  slice held = get(message, "key").text;
  if (held.end - held.at > (ptrdiff_t)sizeof key) return 1;
  memcpy(key, held.at, held.end - held.at);
  held = (slice){key, key + (held.end - held.at)};

  pthread_t accepter, hearer;
  if (pthread_create(&accepter, NULL, accepting, (void *)(intptr_t)listener)) return 1;
  begin("listening", 0), say();
  long long timeout = 30000;
  int stop = 0;
  if (expect("disconnect", "disconnect", &message, &none)) {
    timeout = get(message, "timeout_ms").number;
    stop = is(get(message, "reason"), "stop");
  } else { /* without a master: serve on for a while, then go */
    while (orphan.kind != 'i') pause();
    struct timespec wait = {orphan.number / 1000, orphan.number % 1000 * 1000000};
    nanosleep(&wait, NULL);
    stop = 1; /* the others may be orphans as well */
  }
  came = now();
  ends = came + timeout - MARGIN;
  ordered = stopping = 1;
  if (!pthread_create(&hearer, NULL, hear_on, NULL)) pthread_detach(hearer);
  pthread_join(accepter, NULL);
  while (stop && accept_one(listener)) {} /* nobody else is left to accept these */
  close(listener); /* this worker's copy alone: never shutdown() */
  say_close(held);
  while (connections && now() < ends + MARGIN / 2) usleep(20000);
  begin("disconnect", 0), say();
  return 0;
}
