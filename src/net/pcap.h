/*
 * A capture of the frames of a net, for tcpdump and Wireshark: pcap with nanoseconds, link type Ethernet. Frames that are
 * left to be segmented stand in it as one, checksums that are left to be computed as they are.
 *
 * pcap_write: one thread at a time. A thread of the capture's own does the writing; what it cannot keep up with is left
 * out, and counted.
 */
#ifndef RINGSIDE_NET_PCAP_H
#define RINGSIDE_NET_PCAP_H

#include <stddef.h>

struct net_frame;
struct pcap;

/* Makes the file anew. NULL: one line for the user in error[0..size). */
struct pcap *pcap_open(const char *path, char *error, size_t size);
void pcap_write(struct pcap *p, const struct net_frame *f);
void pcap_close(struct pcap *p); /* when all is written */

#endif
