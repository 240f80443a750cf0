// SPDX-License-Identifier: Apache-2.0
/* tests/sim/sim_options.h: what makes one history of the simulator: drawn from a seed, then changed by
 * NAME=VALUE. One table: the drawing, the command line, the shrinking and the help grow from it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* name, the value that is no burden (the shrinker tries it), what it is; "‰": of segments or of occasions */
#define SIM_OPTIONS(_)                                                                         \
	_(ipv6, 0, "1: IPv6")                                                                  \
	_(talks, 1, "connections between the two, 4 at most")                                  \
	_(simultaneous, 0, "1: both sides open, none listens")                                 \
	_(write0, 0, "bytes that side 0 (which opens) writes")                                 \
	_(write1, 0, "bytes that side 1 writes")                                               \
	_(receive0, 65535, "receive_bytes_max of side 0")                                      \
	_(receive1, 65535, "of side 1")                                                        \
	_(send0, 65535, "send_bytes_max of side 0")                                            \
	_(send1, 65535, "of side 1")                                                           \
	_(buffers0, 1500, "buffer_bytes_max of side 0, in mbufs")                              \
	_(buffers1, 1500, "of side 1")                                                         \
	_(half_open, 6, "half_open_max of side 1; 0: it sends SYN cookies only")              \
	_(mtu0, 1500, "the MTU side 0 believes in")                                            \
	_(mtu1, 1500, "of side 1")                                                             \
	_(clamp, 0, "a middlebox lowers the MSS option to this")                               \
	_(strip, 0, "a middlebox removes options of SYNs: 1 timestamps, 2 window scale, 4 SACK") \
	_(path_mtu, 0, "the path narrows to this; too-big ICMP tells")                         \
	_(path_mtu_ms, 0, "when it does")                                                      \
	_(silent, 0, "1: no ICMP tells: a black hole for what is larger")                      \
	_(wrap0, 0, "near 2^32 with side 0: 1 its sequence numbers, 2 its timestamps")         \
	_(wrap1, 0, "with side 1")                                                             \
	_(delay_us, 1000, "one way")                                                           \
	_(jitter_us, 0, "added to the delay, order kept")                                      \
	_(reorder, 0, "‰ delayed further, up to twice the delay")                              \
	_(rate, 0, "bytes a millisecond of the bottleneck; 0: no limit")                       \
	_(queue, 0, "bytes that wait before the bottleneck; more are dropped")                 \
	_(loss, 0, "‰ lost, each by itself")                                                   \
	_(burst, 0, "‰ that begin a burst of losses")                                          \
	_(burst_ms, 0, "how long a burst lasts, at most")                                      \
	_(duplication, 0, "‰ that arrive twice")                                               \
	_(corruption, 0, "‰ with a bit flipped, in the segment or in an address of its IP header") \
	_(blackout_ms, 0, "nothing passes for so long, once")                                  \
	_(chaining, 0, "‰ that arrive in chained mbufs")                                       \
	_(hold_us, 0, "how long a driver holds what it sends, at most")                        \
	_(poll_us, 0, "the sides look only so often: more in a burst")                         \
	_(slow_reader, 0, "‰ of reads after which there is a pause")                           \
	_(slow_writer, 0, "‰ of writes after which there is a pause")                          \
	_(pause_ms, 0, "its length at most")                                                   \
	_(starve, 0, "‰ of steps at which a pool of one side runs dry until the next")         \
	_(icmp, 0, "‰ of segments that draw an ICMP error, true or forged")                    \
	_(forge, 0, "‰ of segments that draw a blind RST, SYN or text from an attacker")       \
	_(ecn, 0, "ECN is on: 1 at side 0, 2 at side 1, 3 at both")                            \
	_(mark, 0, "‰ of the segments that ECN may mark that are marked")                      \
	_(bleach, 0, "1: a middlebox clears the ECN flags of SYNs")                            \
	_(reno, 0, "NewReno instead of CUBIC: 1 at side 0, 2 at side 1, 3 at both")            \
	_(keepalive_ms, 0, "both sides ask after so much silence; 0: never")                   \
	_(vanish_ms, 0, "when the link is cut for good; 0: it is not")                         \
	_(wait_fin, 0, "1: side 0, 2: side 1 closes only when the other has")                  \
	_(abort_after, 0, "a side resets after so many bytes read, plus one; 0: none")         \
	_(abort_side, 0, "which")

struct sim_options {
	uint64_t seed;
#define SIM_OPTION(name, quiet, help) uint32_t name;
	SIM_OPTIONS(SIM_OPTION)
#undef SIM_OPTION
};

/* As the seed has it. */
void sim_options_draw(struct sim_options *o, uint64_t seed);
/* "loss=20"; false: no such option or no number. */
bool sim_options_set(struct sim_options *o, const char *text);
/* The arguments that give these options: seed and what differs from it. */
void sim_options_print(const struct sim_options *o, FILE *to);
void sim_options_help(FILE *to);

/* For the shrinker: the options by number. */
extern const unsigned sim_option_count;
uint32_t *sim_option_at(struct sim_options *o, unsigned i);
uint32_t sim_option_quiet(unsigned i);

/* xorshift64*: the same history on every machine. */
static inline uint32_t sim_draw(uint64_t *state, uint32_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return below == 0 ? 0 : (uint32_t)((*state * 0x2545f4914f6cdd1dull) >> 33) % below;
}
static inline bool sim_chance(uint64_t *state, uint32_t per_thousand)
{
	return per_thousand != 0 && sim_draw(state, 1000) < per_thousand;
}
static inline uint64_t sim_random_init(uint64_t seed, uint64_t use)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + use * 0xd1342543de82ef95ull + 0x632be59bd9b4e019ull;
	x ^= x >> 31;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 29;
	return x == 0 ? 1 : x;
}
