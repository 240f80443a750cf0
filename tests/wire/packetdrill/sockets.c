// SPDX-License-Identifier: Apache-2.0
/* tests/wire/packetdrill/sockets.c: the calls of sockets. Blocking ones loop: try, else wait until something has
 * happened. */
#include "tests/wire/packetdrill/shim.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

static int failed(int error)
{
	errno = error;
	return -1;
}

struct fd *sockets_fd(struct shim *s, int fd)
{
	return fd < 0 || fd >= FDS_MAX || s->fds[fd].kind == FD_FREE ? NULL : &s->fds[fd];
}

/* From 3, as a process' first are. */
int sockets_new(struct shim *s, enum fd_kind kind)
{
	for (int i = 3; i < FDS_MAX; i++)
		if (s->fds[i].kind == FD_FREE) {
			s->fds[i] = (struct fd){.kind = kind};
			for (unsigned k = 0; k < WATCHES_MAX; k++)
				s->fds[i].watches[k].fd = -1;
			return i;
		}
	return failed(EMFILE);
}

static void fd_free(struct fd *f)
{
	free(f->rest);
	*f = (struct fd){0};
}

/* ---- addresses ---- */

static int read_address(const struct sockaddr *from, socklen_t n, struct addr *addr, uint16_t *port)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	if (from->sa_family == AF_INET && n >= sizeof v4) {
		memcpy(&v4, from, sizeof v4);
		*addr = addr_from_ipv4((const uint8_t *)&v4.sin_addr);
		*port = ntohs(v4.sin_port);
	} else if (from->sa_family == AF_INET6 && n >= sizeof v6) {
		memcpy(&v6, from, sizeof v6);
		memcpy(addr->b, &v6.sin6_addr, 16);
		*port = ntohs(v6.sin6_port);
	} else {
		return EINVAL;
	}
	return 0;
}

static void write_address(const struct addr *addr, uint16_t port, struct sockaddr *to, socklen_t *n)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	const bool is_ipv4 = addr_is_ipv4(addr);
	const socklen_t size = is_ipv4 ? sizeof v4 : sizeof v6;
	if (to == NULL || n == NULL)
		return;
	memcpy(&v4.sin_addr, addr_ipv4(addr), 4);
	memcpy(&v6.sin6_addr, addr->b, 16);
	memcpy(to, is_ipv4 ? (void *)&v4 : (void *)&v6, *n < size ? *n : size);
	*n = size;
}

/* ---- events ---- */

static struct fd *fd_of(struct shim *s, const struct tcp_conn *c)
{
	for (int i = 0; i < FDS_MAX; i++)
		if (s->fds[i].kind == FD_CONN && s->fds[i].conn == c)
			return &s->fds[i];
	return NULL;
}

static void keep_rest(struct fd *f)
{
	for (struct bytes b; (b = tcp_peek(f->conn)).n > 0; tcp_consume(f->conn, b.n)) {
		uint8_t *more = realloc(f->rest, f->rest_size + b.n);
		if (more == NULL)
			return;
		f->rest = more;
		memcpy(f->rest + f->rest_size, b.at, b.n);
		f->rest_size += b.n;
	}
}

static int error_of(enum tcp_end end, bool was_connecting)
{
	switch (end) {
	case TCP_END_REFUSED: return ECONNREFUSED;
	case TCP_END_RESET: return was_connecting ? ECONNREFUSED : ECONNRESET;
	case TCP_END_TIMEOUT: return ETIMEDOUT;
	case TCP_END_UNREACHABLE: return EHOSTUNREACH;
	default: return 0;
	}
}

static void forget_accept(struct shim *s, const struct tcp_conn *c)
{
	for (int i = 0; i < FDS_MAX; i++)
		for (unsigned k = 0; k < s->fds[i].accept_count; k++)
			if (s->fds[i].accepts[k] == c) {
				memmove(&s->fds[i].accepts[k], &s->fds[i].accepts[k + 1],
					(s->fds[i].accept_count - k - 1) * sizeof c);
				s->fds[i].accept_count--;
				return;
			}
}

static void has_ended(struct shim *s, struct tcp_conn *c)
{
	struct fd *f = fd_of(s, c);
	if (f == NULL) {
		forget_accept(s, c);
		return;
	}
	keep_rest(f);
	f->error = error_of(tcp_end_reason(c), f->is_connecting);
	f->is_connecting = false;
	f->has_fin = true;
	f->conn = NULL;
}

/* Nobody will read it any more: text for it is answered with RST (RFC 9293 3.6.1, MAY-1). */
static bool is_orphan_with_text(struct shim *s, struct tcp_conn *c)
{
	if (fd_of(s, c) != NULL || tcp_peek(c).n == 0)
		return false;
	for (int i = 0; i < FDS_MAX; i++)
		for (unsigned k = 0; k < s->fds[i].accept_count; k++)
			if (s->fds[i].accepts[k] == c)
				return false;
	return true;
}

void sockets_take_events(struct shim *s)
{
	struct tcp_conn *c;
	uint32_t events;
	while ((c = tcp_next_event(s->tcp, &events)) != NULL) {
		if (events & TCP_EVENT_ACCEPTED) {
			struct fd *l = sockets_fd(s, (int)tcp_tag(c));
			if (l == NULL || l->kind != FD_LISTENER || l->accept_count == ACCEPTS_MAX)
				tcp_abort(c);
			else
				l->accepts[l->accept_count++] = c;
		}
		struct fd *f = fd_of(s, c);
		if (f != NULL && events & TCP_EVENT_CONNECTED)
			f->is_connecting = false;
		if (f != NULL && events & TCP_EVENT_FIN)
			f->has_fin = true;
		if (events & TCP_EVENT_ENDED)
			has_ended(s, c);
		else if (is_orphan_with_text(s, c))
			tcp_abort(c);
	}
}

/* ---- opening ---- */

static int shim_socket(void *userdata, int domain, int type, int protocol)
{
	struct shim *s = userdata;
	if ((domain != AF_INET && domain != AF_INET6) || (type & 0xf) != SOCK_STREAM)
		return failed(EAFNOSUPPORT);
	shim_lock(s);
	const int fd = sockets_new(s, FD_SOCKET);
	if (fd >= 0) {
		s->fds[fd].is_ipv6 = domain == AF_INET6;
		s->fds[fd].is_nonblocking = type & SOCK_NONBLOCK;
	}
	shim_unlock(s);
	return fd;
}

static int shim_bind(void *userdata, int fd, const struct sockaddr *to, socklen_t n)
{
	struct shim *s = userdata;
	shim_lock(s);
	struct fd *f = sockets_fd(s, fd);
	int err = f == NULL ? EBADF : f->kind != FD_SOCKET ? EINVAL : read_address(to, n, &f->local, &f->local_port);
	shim_unlock(s);
	return err != 0 ? failed(err) : 0;
}

static int shim_listen(void *userdata, int fd, int backlog)
{
	struct shim *s = userdata;
	shim_lock(s);
	struct fd *f = sockets_fd(s, fd);
	int err = f == NULL ? EBADF
		: f->kind == FD_LISTENER ? 0
		: f->kind != FD_SOCKET || f->local_port == 0 ? EINVAL
		: -tcp_listen(s->tcp, &f->local, f->local_port, (uint32_t)fd);
	if (err == 0)
		f->kind = FD_LISTENER;
	shim_unlock(s);
	return err != 0 ? failed(err) : 0;
}

static int take_accept(struct shim *s, struct fd *l, struct sockaddr *to, socklen_t *n)
{
	const int fd = sockets_new(s, FD_CONN);
	if (fd < 0)
		return fd;
	struct fd *f = &s->fds[fd];
	struct addr local, remote;
	uint16_t local_port, remote_port;
	f->conn = l->accepts[0];
	f->is_ipv6 = l->is_ipv6;
	memmove(l->accepts, l->accepts + 1, --l->accept_count * sizeof *l->accepts);
	tcp_endpoints(f->conn, &local, &local_port, &remote, &remote_port);
	write_address(&remote, remote_port, to, n);
	return fd;
}

static int shim_accept(void *userdata, int fd, struct sockaddr *to, socklen_t *n)
{
	struct shim *s = userdata;
	int result = -1;
	shim_lock(s);
	for (;;) {
		struct fd *l = sockets_fd(s, fd);
		int err = l == NULL ? EBADF : l->kind != FD_LISTENER ? EINVAL : 0;
		if (err == 0 && l->accept_count > 0) {
			result = take_accept(s, l, to, n);
			break;
		}
		if (err == 0 && l->is_nonblocking)
			err = EAGAIN;
		if (err == 0 && !shim_wait(s))
			err = EDEADLK;
		if (err != 0) {
			errno = err;
			break;
		}
	}
	shim_unlock(s);
	return result;
}

static int start_connect(struct shim *s, struct fd *f, const struct sockaddr *to, socklen_t n)
{
	struct addr remote;
	uint16_t port;
	int err = read_address(to, n, &remote, &port);
	if (err != 0)
		return err;
	if (f->local_port != 0)
		return EADDRNOTAVAIL; /* the stack chooses ports itself */
	if (addr_is_unspecified(&f->local) || addr_is_ipv4(&f->local) != addr_is_ipv4(&remote))
		f->local = addr_is_ipv4(&remote) ? s->local4 : s->local6;
	f->conn = tcp_connect(s->tcp, &f->local, &remote, port, NULL, &err, s->now_us);
	if (f->conn == NULL)
		return -err;
	f->kind = FD_CONN;
	f->is_connecting = true;
	shim_changed(s);
	return 0;
}

static int take_error(struct fd *f)
{
	const int err = f->error;
	f->error = 0;
	return err;
}

static int shim_connect(void *userdata, int fd, const struct sockaddr *to, socklen_t n)
{
	struct shim *s = userdata;
	shim_lock(s);
	struct fd *f = sockets_fd(s, fd);
	int err = f == NULL ? EBADF
		: f->kind == FD_SOCKET ? start_connect(s, f, to, n)
		: f->kind != FD_CONN ? EINVAL
		: f->is_connecting ? EALREADY
		: f->error != 0 ? take_error(f) : EISCONN;
	if (err == 0 && f->is_nonblocking)
		err = EINPROGRESS;
	while (err == 0 && (f = sockets_fd(s, fd)) != NULL && f->is_connecting)
		if (!shim_wait(s))
			err = EDEADLK;
	if (err == 0)
		err = f == NULL ? EBADF : take_error(f);
	shim_unlock(s);
	return err != 0 ? failed(err) : 0;
}

/* ---- reading ---- */

static size_t take_rest(struct fd *f, uint8_t *to, size_t n, bool is_peek)
{
	const size_t left = f->rest_size - f->rest_read, take = n < left ? n : left;
	if (take > 0)
		memcpy(to, f->rest + f->rest_read, take);
	if (!is_peek)
		f->rest_read += take;
	return take;
}

/* A peek sees the first piece only. */
static size_t take_text(struct fd *f, uint8_t *to, size_t n, bool is_peek)
{
	size_t taken = 0;
	if (f->conn == NULL)
		return take_rest(f, to, n, is_peek);
	while (taken < n) {
		const struct bytes b = bytes_first(tcp_peek(f->conn), n - taken);
		if (b.n == 0)
			break;
		memcpy(to + taken, b.at, b.n);
		taken += b.n;
		if (is_peek)
			break;
		tcp_consume(f->conn, b.n);
	}
	return taken;
}

static ssize_t receive(struct shim *s, int fd, void *to, size_t n, int flags)
{
	ssize_t result = -1;
	shim_lock(s);
	for (;;) {
		struct fd *f = sockets_fd(s, fd);
		int err = f == NULL ? EBADF : f->kind != FD_CONN ? ENOTCONN : 0;
		const size_t taken = err != 0 ? 0 : take_text(f, to, n, flags & MSG_PEEK);
		if (taken > 0 || (err == 0 && (n == 0 || f->is_read_shut))) {
			result = (ssize_t)taken;
			break;
		}
		if (err == 0 && f->error != 0) {
			err = take_error(f);
		} else if (err == 0 && f->has_fin) {
			result = 0;
			break;
		}
		if (err == 0 && (f->is_nonblocking || flags & MSG_DONTWAIT))
			err = EAGAIN;
		if (err == 0 && !shim_wait(s))
			err = EDEADLK;
		if (err != 0) {
			errno = err;
			break;
		}
	}
	if (result > 0)
		shim_changed(s); /* the window may have opened */
	shim_unlock(s);
	return result;
}

static ssize_t shim_read(void *userdata, int fd, void *to, size_t n)
{
	return receive(userdata, fd, to, n, 0);
}

static ssize_t shim_recv(void *userdata, int fd, void *to, size_t n, int flags)
{
	return receive(userdata, fd, to, n, flags);
}

static ssize_t shim_recvfrom(void *userdata, int fd, void *to, size_t n, int flags, struct sockaddr *from, socklen_t *m)
{
	return receive(userdata, fd, to, n, flags);
}

/* One after the other; what is there after the first is not waited for. */
static ssize_t receive_vector(struct shim *s, int fd, const struct iovec *v, size_t count, int flags)
{
	ssize_t all = 0;
	for (size_t i = 0; i < count; i++) {
		const ssize_t n = receive(s, fd, v[i].iov_base, v[i].iov_len, flags | (all > 0 ? MSG_DONTWAIT : 0));
		if (n < 0)
			return all > 0 ? all : n;
		all += n;
		if ((size_t)n < v[i].iov_len)
			break;
	}
	return all;
}

static ssize_t shim_readv(void *userdata, int fd, const struct iovec *v, int count)
{
	return receive_vector(userdata, fd, v, (size_t)count, 0);
}

static ssize_t shim_recvmsg(void *userdata, int fd, struct msghdr *m, int flags)
{
	m->msg_controllen = 0;
	m->msg_flags = 0;
	return receive_vector(userdata, fd, m->msg_iov, m->msg_iovlen, flags);
}

/* ---- writing ---- */

static ssize_t transmit(struct shim *s, int fd, const void *from, size_t n, int flags)
{
	size_t taken = 0;
	int err = 0;
	shim_lock(s);
	while (err == 0 && taken < n) {
		struct fd *f = sockets_fd(s, fd);
		err = f == NULL ? EBADF : f->kind != FD_CONN ? EPIPE : take_error(f);
		if (err == 0 && (f->conn == NULL || f->is_write_shut))
			err = EPIPE;
		if (err != 0)
			break;
		const size_t now = tcp_write(f->conn, bytes_of((const uint8_t *)from + taken, n - taken));
		taken += now;
		if (now > 0)
			shim_changed(s);
		else if (f->is_nonblocking || flags & MSG_DONTWAIT)
			err = EAGAIN;
		else if (!shim_wait(s))
			err = EDEADLK;
	}
	shim_unlock(s);
	return taken > 0 || err == 0 ? (ssize_t)taken : failed(err);
}

static ssize_t shim_write(void *userdata, int fd, const void *from, size_t n)
{
	return transmit(userdata, fd, from, n, 0);
}

static ssize_t shim_send(void *userdata, int fd, const void *from, size_t n, int flags)
{
	return transmit(userdata, fd, from, n, flags);
}

static ssize_t shim_sendto(void *userdata, int fd, const void *from, size_t n, int flags, const struct sockaddr *to,
	socklen_t m)
{
	return transmit(userdata, fd, from, n, flags);
}

static ssize_t transmit_vector(struct shim *s, int fd, const struct iovec *v, size_t count, int flags)
{
	ssize_t all = 0;
	for (size_t i = 0; i < count; i++) {
		const ssize_t n = transmit(s, fd, v[i].iov_base, v[i].iov_len, flags);
		if (n < 0)
			return all > 0 ? all : n;
		all += n;
		if ((size_t)n < v[i].iov_len)
			break;
	}
	return all;
}

static ssize_t shim_writev(void *userdata, int fd, const struct iovec *v, int count)
{
	return transmit_vector(userdata, fd, v, (size_t)count, 0);
}

static ssize_t shim_sendmsg(void *userdata, int fd, const struct msghdr *m, int flags)
{
	return transmit_vector(userdata, fd, m->msg_iov, m->msg_iovlen, flags);
}

/* ---- closing ---- */

static int shim_shutdown(void *userdata, int fd, int how)
{
	struct shim *s = userdata;
	shim_lock(s);
	struct fd *f = sockets_fd(s, fd);
	const int err = f == NULL ? EBADF : f->kind != FD_CONN || f->conn == NULL ? ENOTCONN : 0;
	if (err == 0 && how != SHUT_WR)
		f->is_read_shut = true;
	if (err == 0 && how != SHUT_RD) {
		f->is_write_shut = true;
		tcp_close(f->conn);
	}
	shim_changed(s);
	shim_unlock(s);
	return err != 0 ? failed(err) : 0;
}

static void close_listener(struct shim *s, struct fd *f)
{
	tcp_unlisten(s->tcp, &f->local, f->local_port);
	for (unsigned i = 0; i < f->accept_count; i++)
		tcp_abort(f->accepts[i]);
}

/* With text unread the peer is told that it was not (RFC 1122 4.2.2.13). */
static void close_conn(struct fd *f)
{
	struct tcp_conn *c = f->conn;
	f->conn = NULL;
	if (c == NULL)
		return;
	if (f->is_reset_on_close || tcp_peek(c).n > 0)
		tcp_abort(c);
	else
		tcp_close(c);
}

static int shim_close(void *userdata, int fd)
{
	struct shim *s = userdata;
	shim_lock(s);
	struct fd *f = sockets_fd(s, fd);
	const int err = f == NULL ? EBADF : 0;
	if (err == 0 && f->kind == FD_LISTENER)
		close_listener(s, f);
	else if (err == 0 && f->kind == FD_CONN)
		close_conn(f);
	if (err == 0)
		fd_free(f);
	shim_changed(s);
	shim_unlock(s);
	return err != 0 ? failed(err) : 0;
}

void sockets_end(struct shim *s)
{
	for (int i = 0; i < FDS_MAX; i++)
		fd_free(&s->fds[i]);
}

/* ---- readiness ---- */

short sockets_ready(struct shim *s, int fd)
{
	struct fd *f = sockets_fd(s, fd);
	short ready = 0;
	if (f == NULL)
		return POLLNVAL;
	if (f->kind == FD_LISTENER)
		return f->accept_count > 0 ? POLLIN | POLLRDNORM : 0;
	if (f->kind != FD_CONN)
		return POLLOUT | POLLHUP;
	if (f->conn == NULL)
		return (short)(POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLHUP | POLLRDHUP |
			(f->error != 0 ? POLLERR : 0));
	if (f->is_connecting)
		return 0;
	if (tcp_peek(f->conn).n > 0 || f->has_fin)
		ready |= POLLIN | POLLRDNORM;
	if (f->has_fin)
		ready |= POLLRDHUP;
	if (tcp_write_space(f->conn) > 0)
		ready |= POLLOUT | POLLWRNORM;
	return ready;
}

void sockets_fill(struct packetdrill_table *t)
{
	t->socket = shim_socket;
	t->bind = shim_bind;
	t->listen = shim_listen;
	t->accept = shim_accept;
	t->connect = shim_connect;
	t->read = shim_read;
	t->readv = shim_readv;
	t->recv = shim_recv;
	t->recvfrom = shim_recvfrom;
	t->recvmsg = shim_recvmsg;
	t->write = shim_write;
	t->writev = shim_writev;
	t->send = shim_send;
	t->sendto = shim_sendto;
	t->sendmsg = shim_sendmsg;
	t->close = shim_close;
	t->shutdown = shim_shutdown;
}
