// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/packet_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define ETHER "\2\0\0\0\0\1\2\0\0\0\0\2"
#define TCP   "\x9c\x40\0\x19\0\0\0\7\0\0\1\0\x50\x18\1\xf5\0\0\0\0hello"

static const struct {
	const char *bytes;
	size_t n;
	const char *line;
} packets[] = {
#define PACKET(bytes, line) {bytes, sizeof bytes - 1, line}
	PACKET(ETHER "\x08\0\x45\0\0\x2d\0\0\0\0\x40\6\0\0\xc6\x33\x64\x0a\xc0\0\2\x19" TCP,
		"IP 198.51.100.10.40000 > 192.0.2.25.25: tcp [P.] seq 7 ack 256 win 501 length 5"),
	PACKET(ETHER "\x86\xdd\x60\0\0\0\0\x19\6\x40\x20\1\x0d\xb8\0\0\0\2\0\0\0\0\0\0\0\x10\x20\1\x0d\xb8\0\0\0\1\0\0\0\0\0\0\0\x25" TCP,
		"IP6 2001:db8:0:2::10.40000 > 2001:db8:0:1::25.25: tcp [P.] seq 7 ack 256 win 501 length 5"),
	PACKET(ETHER "\x08\0\x45\0\0\x2d\0\0\0\1\x40\6\0\0\xc6\x33\x64\x0a\xc0\0\2\x19" TCP, /* a later fragment */
		"IP 198.51.100.10 > 192.0.2.25: protocol 6 length 25"),
	PACKET(ETHER "\x08\0\x45\0\0\x1c\0\0\0\0\x40\1\0\0\xc6\x33\x64\x0a\xc0\0\2\x19\x08\0\0\0\0\0\0\0",
		"IP 198.51.100.10 > 192.0.2.25: icmp type 8 code 0 length 8"),
	PACKET(ETHER "\x08\6\0\1\x08\0\6\4\0\1\2\0\0\0\0\2\xc0\0\2\1\0\0\0\0\0\0\xc0\0\2\x19", "ARP who has 192.0.2.25, tell 192.0.2.1"),
	PACKET(ETHER "\x08\6\0\1\x08\0\6\4\0\2\2\0\0\0\0\2\xc0\0\2\1\0\0\0\0\0\0\xc0\0\2\x19", "ARP 192.0.2.1 is at 02:00:00:00:00:02"),
	PACKET(ETHER "\x88\xcc\0", "ethertype 0x88cc length 100"),
	PACKET("", "ethertype 0x0000 length 100"),
};
#define PACKETS (sizeof packets / sizeof *packets)

static void assert_line(struct bytes frame, const char *line)
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);
	packet_line(to, frame, 100);
	fclose(to);
	if (line != NULL)
		assert_string_equal(text, line);
	free(text);
}

static void packets_are_told_on_a_line(void **state)
{
	for (size_t i = 0; i < PACKETS; i++)
		assert_line(bytes_of(packets[i].bytes, packets[i].n), packets[i].line);
}

/* Each in a block of its own length, so that reading on is found out (by ASan). */
static void packets_cut_anywhere_do_no_harm(void **state)
{
	for (size_t i = 0; i < PACKETS; i++)
		for (size_t n = 0; n <= packets[i].n; n++) {
			uint8_t *copy = malloc(n + 1);
			memcpy(copy, packets[i].bytes, n);
			uint8_t *exact = realloc(copy, n == 0 ? 1 : n);
			assert_line(bytes_of(exact, n), NULL);
			free(exact);
		}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_are_told_on_a_line),
		cmocka_unit_test(packets_cut_anywhere_do_no_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
