// SPDX-License-Identifier: Apache-2.0
/* control/link.h: what control and relays say to each other on control's unix socket (paths.control_socket).
 *
 * SOCK_SEQPACKET, one JSON object a message, LINK_MESSAGE_MAX bytes at most, with descriptors as SCM_RIGHTS.
 * Neither side's worker cores know of it: the relay's main thread speaks here. Either side may go and come
 * back at any time; the relay connects again every second and says hello again.
 *
 *   relay   {"type":"hello","version":1,"instance":"main","pid":123}            + [stats memfd, tickets memfd if it has one]
 *   control {"type":"tickets"}                                                  + [tickets memfd]
 *           (keys of session tickets, control/shm/tickets.h; before the first generation and when they change)
 *   control {"type":"generation","number":7}                                    + [policy memfd, keys memfd]
 *   relay   {"type":"applied","number":7}   or {"type":"refused","number":7,"error":"…"}
 *
 *   relay   {"type":"resolve","token":5,"domain":"example.test","port":25}      MX and addresses (RFC 5321 5.1)
 *           {"type":"resolve","token":6,"host":"mx.example.test","port":25}     addresses of one host
 *   control {"type":"resolved","token":5,"outcome":"ok","ttl":300,"targets":[{"host":"mx1.example.test",
 *            "address":"192.0.2.1","preference":10},…]}       in the order to be tried
 *           {"type":"resolved","token":5,"outcome":"defer|fail","code":451,"enhanced":"4.4.3","text":"…"}
 *
 *   relay   {"type":"resolve","token":7,"address":"192.0.2.9"}                  confirmed reverse DNS (RFC 8601 2.7.3)
 *   control {"type":"named","token":7,"name":"client.example.test"}             or "": it has none
 *
 *   control {"type":"request","token":9,"op":"queue.list",…}
 *   relay   {"type":"response","token":9,"ok":true,…} or {"…","ok":false,"error":"…"}
 *
 * Requests (a selection is any of "domain", "reason", "sender", "state", "queue_id"):
 *   queue.list    selection, "after": place, "limit": n     -> "items":[{queue_id,item,state,size,received,sender,
 *                 domain,recipients,site,profile,tries,next_try,last_try,expires,reason,resident}],"more":bool
 *                 (times in seconds since 1970 with fraction; a place is "QUEUEID.ITEM", behind that item, or
 *                 "QUEUEID", behind the whole mail; items come in the order of both)
 *   queue.content "queue_id","offset"                        -> "data": base64, "size", "content_size"
 *   queue.retry | queue.hold | queue.release | queue.remove  selection -> "changed": n
 *   status                                                   -> "generation","uptime","cores",
 *                                                               "connections","queue":{…},"spool":{…}
 *   offload       "backend": inline|mb|engine                -> "offload": the same, for new TLS handshakes from now on
 *   records.reopen                                           (control got SIGHUP)
 *   connections.list "state","peer": prefix,"port","direction": in|out,"after","limit","all": bool -> "items":[{id,core,direction,
 *                 state,local,local_port,remote,remote_port,rtt_us,rttvar_us,rto_us,cwnd,ssthresh,mss,send_window,
 *                 receive_window,retransmits,bytes_in,bytes_out,send_queue,receive_queue,idle,age,phase,listener,name,
 *                 domain,tls,cipher}] (seconds but for …_us; the last seven where known), "next": the next page's "after",
 *                 if there is more; without "after" also "counts":[{core,connections,half_open,time_wait}]
 *                 all: also half-open ones and those in TIME-WAIT, without id and numbers, "until": when they end
 *   connections.end "id"                                     ends it with RST
 *   trace.start   "peer": prefix, "port", "count": events, "seconds"   -> "id"; one at a time
 *   trace.read    "id" -> "events":[{time_us,core,local,local_port,remote,remote_port,"event": in|out|drop|state|timer|cc,…}],
 *                 "lost": how many there was no room for, "over": no more come
 *   trace.stop    "id"
 *   capture.start "port": its name, "bytes": of each packet, "filter":[[code,jt,jf,k],…], "count", "seconds" -> "id"
 *   capture.read  "id" -> "packets":[{time_us,core,out,length,"data": base64}],"lost","over"
 *   capture.stop  "id"
 *                 (count and seconds are 10,000 and 60 where left out; who does not read for 10 s has lost it)
 */
#pragma once

#define LINK_VERSION	 1
#define LINK_MESSAGE_MAX (192 * 1024)
#define LINK_FDS_MAX	 2

#include "base/bytes.h"

/* Control: listens at `path` (0600, an old socket is removed); the descriptor (non-blocking) or -errno
 * (-EADDRINUSE: another control listens there; -EEXIST: something else than a socket is there). */
int link_listen(const char *path);
/* Control: takes the next relay that connected; its descriptor (non-blocking) or -errno (-EAGAIN: none). */
int link_accept(int listener);
/* Relay: connects; the descriptor (non-blocking) or -errno. */
int link_connect(const char *path);
/* Sends one message with `fd_count` descriptors; 0 or -errno (-EAGAIN: the peer is slow; -EPIPE: gone;
 * -EMSGSIZE: longer than LINK_MESSAGE_MAX; -EINVAL: empty). The descriptors stay the caller's. */
int link_send(int fd, struct bytes json, const int *fds, unsigned fd_count);
/* Receives one message into `to` of LINK_MESSAGE_MAX bytes; its length, 0: the peer is gone, or -errno
 * (-EAGAIN: nothing there; -EMSGSIZE: too long, or too many descriptors: that message is dropped). Descriptors
 * received are the caller's to close; they are close-on-exec. Nothing is added behind the message. */
long link_receive(int fd, char *to, int fds[LINK_FDS_MAX], unsigned *fd_count);
