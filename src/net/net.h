/*
 * Networks: what is behind a network card. A struct net joins a NIC (an emulated card) with a backend (the host's side:
 * libslirp, a tap device, a socket), and does in software what one asks for and the other cannot do: checksums,
 * segmentation. It keeps frames that the NIC has no room for, within bounds, and writes a capture when asked to.
 *
 * Frames are Ethernet frames without FCS. They carry a description of work left to be done, with the meaning that
 * struct virtio_net_hdr has (virtio 1.2, 5.1.6).
 *
 * Everything here is called on the I/O thread, under vm->lock (net_open, net_close, net_attach, net_detach: or while the
 * machine is built or torn down). A net outlives resets; NICs come and go.
 */
#ifndef RINGSIDE_NET_H
#define RINGSIDE_NET_H

#include <net/if.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

struct loop;
struct timer_queue;

#define NET_MAX 8u                     /* NICs of a machine */
#define NET_FRAME_MAX (65536u + 128)   /* largest frame that is left to be segmented, headers and VLAN tags included */
#define NET_ETHERNET_HEADER 14u
#define NET_FRAME_MTU 1500u

/* ---- frames ---- */

enum net_flags {
	NET_NEEDS_CSUM = 1, /* the checksum of [csum_start, end) is to be put at csum_start + csum_offset, where the sum of
			     * the pseudo header stands now */
	NET_CSUM_VALID = 2, /* the checksums need not be verified */
};

enum net_gso { NET_GSO_NONE = 0, NET_GSO_TCP4 = 1, NET_GSO_TCP6 = 4, NET_GSO_UDP = 5, NET_GSO_ECN = 0x80 };

struct net_offload {
	uint8_t flags, gso;   /* enum net_flags; enum net_gso, the last with TCP only */
	uint16_t header_len;  /* a hint: Ethernet to TCP or UDP header */
	uint16_t gso_size;    /* payload of one segment */
	uint16_t csum_start, csum_offset;
};

struct net_frame {
	const struct iovec *iov; /* the guest may change what is in it all the time: copy before looking twice */
	unsigned iov_count;
	uint32_t len; /* bytes in iov, exactly */
	struct net_offload offload;
};

/* What a side can be given: sets. */
enum net_can { NET_CAN_CSUM = 1, NET_CAN_TSO4 = 2, NET_CAN_TSO6 = 4, NET_CAN_ECN = 8, NET_CAN_USO = 16 };

/* ---- configuration ---- */

enum net_kind { NET_USER, NET_TAP, NET_SOCKET };
enum net_model { NET_MODEL_VIRTIO, NET_MODEL_E1000 };

#define NET_FORWARDS_MAX 32u

/* A port of the host, handed on to a port of the guest. */
struct net_forward {
	bool udp;
	struct in_addr host, guest; /* guest 0.0.0.0: the first address that DHCP gives */
	uint16_t host_port, guest_port;
};

struct net_config {
	enum net_kind kind;
	enum net_model model;
	uint8_t mac[6];
	unsigned queues;      /* pairs of a virtio card's; 0: one */
	uint16_t mtu;         /* that the card tells its driver; 0: nothing */
	char pcap[PATH_MAX];  /* "": no capture */
	struct net_user_config {
		unsigned number; /* of those before it in the same machine: gives it addresses of its own */
		bool restricted, no_ipv6;
		unsigned forwards;
		struct net_forward forward[NET_FORWARDS_MAX];
		char hostname[256], tftp[PATH_MAX], bootfile[128];
	} user;
	char tap[IFNAMSIZ];
	struct net_socket_config {
		bool listen;
		union {
			struct sockaddr any;
			struct sockaddr_in in;
			struct sockaddr_in6 in6;
			struct sockaddr_un un;
		} address;
		socklen_t address_len;
	} socket;
	int fd; /* tap, socket: one that is open already; -1: none */
};

/* ---- the net ---- */

struct net;

struct net_host { /* what backends need of the VM */
	struct loop *loop;
	struct timer_queue *timers;
};

/* NULL: one line for the user in error[0..size). */
struct net *net_open(const struct net_host *host, const struct net_config *config, char *error, size_t size);
void net_close(struct net *n); /* the NIC is gone */

/* ---- the NIC's side ---- */

struct net_nic_ops {
	/* A frame for the guest, with nothing left to do but what the NIC can be given. False: no room now; the NIC calls
	 * net_receive_ready when there may be. True: taken, or dropped by a card that is off. */
	bool (*receive)(void *nic, const struct net_frame *f);
	void (*receive_end)(void *nic);           /* after some: time to interrupt */
	void (*sendable)(void *nic);              /* net_can_send was false, and is true now */
	void (*link_changed)(void *nic, bool up); /* NULL: does not care */
};

void net_attach(struct net *n, const struct net_nic_ops *ops, void *nic);
void net_detach(struct net *n); /* drops what waits for the NIC */
/* What the guest's driver takes, a set of enum net_can: nothing at first. */
void net_set_can_receive(struct net *n, unsigned can);
void net_receive_ready(struct net *n);

/* A frame from the guest, any length and any description: what is malformed is dropped. With net_can_send false it is
 * dropped, too. After a batch: net_send_end. */
bool net_can_send(const struct net *n);
void net_send(struct net *n, const struct net_frame *f);
void net_send_end(struct net *n);

const struct net_config *net_configuration(const struct net *n);
bool net_link_up(const struct net *n);

/* ---- the backend's side ---- */

struct net_ops {
	const char *name;
	/* NULL: errors as net_open has them. */
	void *(*open)(struct net *n, const struct net_host *host, const struct net_config *config, char *error, size_t size);
	void (*close)(void *backend);
	unsigned can_send; /* what `send` can be given: a set of enum net_can */
	/* Room for a frame of NET_FRAME_MAX bytes, in segments if can_send says so. NULL: always. */
	bool (*sendable)(void *backend);
	void (*send)(void *backend, const struct net_frame *f);
	void (*send_end)(void *backend);                     /* NULL: nothing to do */
	void (*receive_ready)(void *backend);                /* net_can_deliver was false, and is true now. NULL likewise */
	void (*set_can_deliver)(void *backend, unsigned can); /* what the guest's driver takes. NULL likewise */
};

extern const struct net_ops net_user_ops, net_tap_ops, net_socket_ops;

/* False: frames delivered now are kept, but not many. */
bool net_can_deliver(const struct net *n);
void net_deliver(struct net *n, const struct net_frame *f);
void net_deliver_end(struct net *n);
void net_sendable(struct net *n);
void net_set_link(struct net *n, bool up); /* up at first */
unsigned net_guest_mtu(const struct net *n); /* 1500, or as configured */

#endif
