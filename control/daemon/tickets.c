// SPDX-License-Identifier: Apache-2.0
/* control/daemon/tickets.c: the ticket keys of the node's relays: made here, changed here, lost with the last of us. */
#include "control/daemon/control.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "control/shm/tickets.h"

static bool has_relay(const struct control *c)
{
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++)
		if (c->relays[i].fd >= 0 && c->relays[i].instance[0] != '\0')
			return true;
	return false;
}

static void send_keys(struct control *c, int peer)
{
	static const char message[] = "{\"type\":\"tickets\"}";
	if (c->tickets_fd < 0)
		return;
	int rc = link_send(c->relays[peer].fd, bytes_of(message, sizeof message - 1), &c->tickets_fd, 1);
	if (rc == 0)
		return;
	/* It is seen to be gone in the next turn, comes back and is told anew. */
	log_warn("tickets", "a relay did not take the ticket keys", "instance=%s error=\"%s\"",
		c->relays[peer].instance, strerror(-rc));
	shutdown(c->relays[peer].fd, SHUT_RDWR);
}

/* The table has changed: a new object, and all are told. */
static void publish(struct control *c)
{
	int fd = tickets_seal(&c->tickets);
	if (fd < 0) {
		log_error("tickets", "no memory object for the ticket keys", "error=\"%s\"", strerror(-fd));
		return;
	}
	if (c->tickets_fd >= 0)
		close(c->tickets_fd);
	c->tickets_fd = fd;
	log_info("tickets", "keys of session tickets are in force", "keys=%u", c->tickets.count);
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++)
		if (c->relays[i].fd >= 0 && c->relays[i].instance[0] != '\0')
			send_keys(c, i);
}

void tickets_rotate(struct control *c)
{
	const struct tickets_plan plan = {
		.rotation_seconds = c->config->tls.ticket_rotation, .lifetime_seconds = c->config->tls.ticket_lifetime};
	uint64_t now = tls_ticket_now();
	/* Not before a relay is there: it may bring the keys of the control before us. */
	if (now == c->tickets_turned || !has_relay(c))
		return;
	c->tickets_turned = now;
	if (tickets_turn(&c->tickets, &plan, now) || c->tickets_fd < 0)
		publish(c);
}

void tickets_greet(struct control *c, int peer, int fd)
{
	struct tls_ticket_keys brought;
	int before = c->tickets_fd;
	bool has_news = fd >= 0 && tickets_read(fd, &brought) == 0 && tickets_merge(&c->tickets, &brought);
	c->tickets_turned = 0; /* whatever the second */
	tickets_rotate(c);
	if (c->tickets_fd != before)
		return; /* the relay has been told with all others */
	if (has_news)
		publish(c);
	else
		send_keys(c, peer);
}
