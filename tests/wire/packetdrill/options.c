// SPDX-License-Identifier: Apache-2.0
/* tests/wire/packetdrill/options.c: getsockopt, setsockopt, fcntl, ioctl, as far as the stack has what they speak of;
 * else ENOPROTOOPT. */
#include "tests/wire/packetdrill/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <sys/ioctl.h>

/* <netinet/tcp.h> has a struct tcp_info of its own. */
enum { OPTION_NODELAY = 1, OPTION_MAXSEG = 2, OPTION_INFO = 11 };

/* What TCP_INFO of Linux begins with; scripts look into it. */
struct linux_info {
	uint8_t state, ca_state, retransmits, probes, backoff, options, wscales, flags;
	uint32_t rto, ato, snd_mss, rcv_mss;
	uint32_t unacked, sacked, lost, retrans, fackets;
	uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv;
	uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
	uint32_t rcv_rtt, rcv_space, total_retrans;
};

static int failed(int error)
{
	errno = error;
	return -1;
}

/* Linux's numbers of the states. */
static uint8_t state_number(const char *name)
{
	static const char *const names[] = {"", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2",
		"TIME-WAIT", "CLOSED", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING"};
	for (uint8_t i = 1; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return 7;
}

static uint32_t segments(size_t bytes, uint32_t mss)
{
	return mss == 0 ? 0 : (uint32_t)((bytes + mss - 1) / mss);
}

static struct linux_info info_of(const struct fd *f)
{
	struct tcp_info info;
	if (f->conn == NULL)
		return (struct linux_info){.state = f->kind == FD_LISTENER ? 10 : 7};
	tcp_get_info(f->conn, &info);
	return (struct linux_info){
		.state = state_number(info.state),
		.rto = info.rto_us,
		.snd_mss = info.mss,
		.unacked = segments(info.send_queue, info.mss),
		.rtt = info.srtt_us,
		.rttvar = info.rttvar_us,
		.snd_ssthresh = segments(info.ssthresh, info.mss),
		.snd_cwnd = info.cwnd / (info.mss == 0 ? 1 : info.mss),
		.total_retrans = (uint32_t)info.retransmits,
	};
}

static int give(const void *value, size_t size, void *to, socklen_t *n)
{
	if (*n > size)
		*n = (socklen_t)size;
	memcpy(to, value, *n);
	return 0;
}

static int get_option(struct fd *f, int level, int option, void *to, socklen_t *n)
{
	int value;
	struct linux_info info = info_of(f);
	if (level == SOL_SOCKET && option == SO_ERROR) {
		value = f->error;
		f->error = 0;
	} else if (level == SOL_SOCKET && option == SO_TYPE) {
		value = SOCK_STREAM;
	} else if (level == SOL_SOCKET && option == SO_ACCEPTCONN) {
		value = f->kind == FD_LISTENER;
	} else if (level == IPPROTO_TCP && option == OPTION_NODELAY) {
		value = 1; /* Nagle's algorithm is not there */
	} else if (level == IPPROTO_TCP && option == OPTION_MAXSEG) {
		value = (int)info.snd_mss;
	} else if (level == IPPROTO_TCP && option == OPTION_INFO) {
		return give(&info, sizeof info, to, n);
	} else {
		return ENOPROTOOPT;
	}
	return give(&value, sizeof value, to, n);
}

static int shim_getsockopt(void *userdata, int fd, int level, int option, void *to, socklen_t *n)
{
	struct shim *s = userdata;
	shim_lock(s);
	struct fd *f = sockets_fd(s, fd);
	const int err = f == NULL ? EBADF : get_option(f, level, option, to, n);
	shim_unlock(s);
	return err != 0 ? failed(err) : 0;
}

static int set_option(struct fd *f, int level, int option, const void *from, socklen_t n)
{
	struct linger linger;
	int value = 0;
	if (n >= sizeof value)
		memcpy(&value, from, sizeof value);
	if (level == SOL_SOCKET && option == SO_LINGER && n >= sizeof linger) {
		memcpy(&linger, from, sizeof linger);
		f->is_reset_on_close = linger.l_onoff && linger.l_linger == 0;
		return 0;
	}
	if (level == SOL_SOCKET && (option == SO_REUSEADDR || option == SO_REUSEPORT))
		return 0; /* nothing to forbid here */
	if (level == IPPROTO_TCP && option == OPTION_NODELAY)
		return value ? 0 : ENOPROTOOPT;
	return ENOPROTOOPT;
}

static int shim_setsockopt(void *userdata, int fd, int level, int option, const void *from, socklen_t n)
{
	struct shim *s = userdata;
	shim_lock(s);
	struct fd *f = sockets_fd(s, fd);
	const int err = f == NULL ? EBADF : set_option(f, level, option, from, n);
	shim_unlock(s);
	return err != 0 ? failed(err) : 0;
}

static int shim_fcntl(void *userdata, int fd, int command, ...)
{
	struct shim *s = userdata;
	va_list arguments;
	va_start(arguments, command);
	const int flags = command == F_SETFL ? va_arg(arguments, int) : 0;
	va_end(arguments);
	shim_lock(s);
	struct fd *f = sockets_fd(s, fd);
	int result = 0;
	if (f == NULL)
		result = failed(EBADF);
	else if (command == F_GETFL)
		result = O_RDWR | (f->is_nonblocking ? O_NONBLOCK : 0);
	else if (command == F_SETFL)
		f->is_nonblocking = flags & O_NONBLOCK;
	else
		result = failed(EINVAL);
	shim_unlock(s);
	return result;
}

static int ask(struct fd *f, unsigned long request, int *answer)
{
	struct tcp_info info;
	if (f == NULL)
		return EBADF;
	if (f->kind != FD_CONN)
		return EINVAL;
	if (f->conn == NULL) {
		*answer = request == SIOCINQ ? (int)(f->rest_size - f->rest_read) : 0;
		return request == SIOCINQ || request == SIOCOUTQ ? 0 : EINVAL;
	}
	tcp_get_info(f->conn, &info);
	switch (request) {
	case SIOCINQ: *answer = (int)info.receive_queue; return 0;
	case SIOCOUTQ: *answer = (int)info.send_queue; return 0;
	default: return EINVAL;
	}
}

static int shim_ioctl(void *userdata, int fd, unsigned long request, ...)
{
	struct shim *s = userdata;
	va_list arguments;
	va_start(arguments, request);
	int *answer = va_arg(arguments, int *);
	va_end(arguments);
	shim_lock(s);
	const int err = ask(sockets_fd(s, fd), request, answer);
	shim_unlock(s);
	return err != 0 ? failed(err) : 0;
}

void options_fill(struct packetdrill_table *t)
{
	t->getsockopt = shim_getsockopt;
	t->setsockopt = shim_setsockopt;
	t->fcntl = shim_fcntl;
	t->ioctl = shim_ioctl;
}
